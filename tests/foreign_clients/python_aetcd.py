"""Ordinary use of Python's `aetcd` (asyncio), and its use while the primary leaves and dies.

See program.rs for the lines that begin with `> `.
"""

import asyncio
import io
import sys
import time

import aetcd

ENDPOINTS = [endpoint.rsplit(":", 1) for endpoint in sys.argv[1].split(",")]
PATIENCE = 40  # seconds


def connect(number):
    host, port = ENDPOINTS[number % len(ENDPOINTS)]
    return aetcd.Client(host=host, port=int(port), timeout=5)


async def ask(event):
    print(f"> {event}", flush=True)
    answer = (await asyncio.to_thread(sys.stdin.readline)).strip()
    assert answer == "done", f"{event}: {answer}"


async def keys_and_values(etcd):
    await etcd.put(b"k/a", b"1")
    await etcd.put(b"k/b", b"2")
    got = await etcd.get(b"k/a")
    assert (got.value, got.key, got.version) == (b"1", b"k/a", 1)
    assert await etcd.get(b"k/nothing") is None
    assert (await etcd.put(b"k/a", b"3", prev_kv=True)).prev_kv.value == b"1"
    assert [kv.value for kv in await etcd.get_prefix(b"k/", sort_order="descend")] == [b"2", b"3"]
    assert [kv.key for kv in await etcd.get_range(b"k/a", b"k/b")] == [b"k/a"]
    assert await etcd.replace(b"k/a", b"3", b"4") and not await etcd.replace(b"k/a", b"3", b"5")
    assert (await etcd.delete(b"k/a", prev_kv=True)).prev_kv.value == b"4"
    assert (await etcd.delete_prefix(b"k/")).deleted == 1


async def transactions(etcd):
    await etcd.put(b"t/1", b"one")
    done, answers = await etcd.transaction(
        compare=[etcd.transactions.value(b"t/1") == b"one", etcd.transactions.version(b"t/1") > 0],
        success=[etcd.transactions.put(b"t/2", b"two"), etcd.transactions.get(b"t/1")],
        failure=[etcd.transactions.delete(b"t/1")],
    )
    assert done and answers[1][0][0] == b"one"
    done, _ = await etcd.transaction(
        compare=[etcd.transactions.create(b"t/2") == 0],
        success=[],
        failure=[etcd.transactions.delete(b"t/2")],
    )
    assert not done and await etcd.get(b"t/2") is None


async def leases(etcd):
    lease = await etcd.lease(60)
    await etcd.put(b"l/1", b"x", lease=lease)
    assert 0 < await lease.remaining_ttl() <= 60 and await lease.keys() == [b"l/1"]
    assert (await lease.refresh()).TTL == 60
    await lease.revoke()
    assert await etcd.get(b"l/1") is None


async def locks(etcd, other):
    async with etcd.lock(b"work", ttl=30) as lock:
        assert await lock.is_acquired()
        assert not await other.lock(b"work", ttl=30).acquire(timeout=1)


async def watches(etcd):
    watch = await etcd.watch_prefix(b"w/", prev_kv=True)
    await etcd.put(b"w/1", b"a")
    await etcd.put(b"w/1", b"b")
    await etcd.delete(b"w/1")
    events = []
    async for event in watch:
        events.append((event.kind, event.kv.value))
        if len(events) == 3:
            break
    assert events == [("PUT", b"a"), ("PUT", b"b"), ("DELETE", b"")], events
    await watch.cancel()


async def maintenance(etcd):
    status = await etcd.status()
    assert status.version.startswith("3.") and status.leader is not None
    members = [member async for member in etcd.members()]
    assert len(members) == len(ENDPOINTS)
    await etcd.defragment()
    assert await etcd.hash() is not None
    await etcd.put(b"snapshot/me", b"here")
    snapshot = io.BytesIO()
    await etcd.snapshot(snapshot)
    assert b"snapshot/me" in snapshot.getvalue()


async def follow(prefix, revision, seen):
    """Follows a prefix from one endpoint to the other, from the revision after the last event."""
    number = 0
    while True:
        try:
            async with connect(number) as etcd:
                watch = await etcd.watch_prefix(prefix, start_revision=revision)
                async for event in watch:
                    revision = event.kv.mod_revision + 1
                    await seen.put(event.kv.key)
        except Exception as error:
            print(f"watch: {error!r}", flush=True)
        number += 1
        await asyncio.sleep(0.05)


async def through_everything():
    async with connect(0) as etcd:
        start = (await etcd.put(b"run/start", b"")).header.revision
    seen = asyncio.Queue()
    follower = asyncio.create_task(follow(b"run/key/", start + 1, seen))
    written, number = [], 0

    async def write(count):
        nonlocal number
        for _ in range(count):
            key = f"run/key/{len(written):04}".encode()
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    async with connect(number) as etcd:
                        # Written once, however often it is asked for: an answer may have been lost.
                        await etcd.transaction(
                            compare=[etcd.transactions.create(key) == 0],
                            success=[etcd.transactions.put(key, b"x")],
                            failure=[],
                        )
                        assert (await etcd.get(key)).value == b"x"
                    break
                except Exception as error:
                    print(f"write: {error!r}", flush=True)
                    assert time.monotonic() < deadline, f"{key} cannot be written"
                    number += 1
                    await asyncio.sleep(0.05)
            written.append(key)

    for event in ["switchover", "crash", "revive", "stop", "revive"]:
        await write(5)
        await ask(event)
        await write(5)
    got = [await asyncio.wait_for(seen.get(), PATIENCE) for _ in written]
    assert got == written, f"the watch saw {got}"
    follower.cancel()


async def main():
    for number in range(len(ENDPOINTS)):
        async with connect(number) as etcd, connect(number + 1) as other:
            await keys_and_values(etcd)
            await transactions(etcd)
            await leases(etcd)
            await locks(etcd, other)
            await etcd.delete_prefix(b"work")
            await watches(etcd)
            await maintenance(etcd)
    await through_everything()
    print("> end", flush=True)


asyncio.run(main())
