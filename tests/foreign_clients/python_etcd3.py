"""Ordinary use of Python's `etcd3`, and its use while the primary leaves and dies.

The client knows one endpoint; like the programs that use it, this one makes a new client at the other
endpoint when a call fails. See program.rs for the lines that begin with `> `.
"""

import io
import queue
import sys
import threading
import time

import etcd3

ENDPOINTS = [endpoint.rsplit(":", 1) for endpoint in sys.argv[1].split(",")]
PATIENCE = 40  # seconds


def connect(number):
    host, port = ENDPOINTS[number % len(ENDPOINTS)]
    return etcd3.client(host=host, port=int(port), timeout=5)


def ask(event):
    print(f"> {event}", flush=True)
    answer = sys.stdin.readline().strip()
    assert answer == "done", f"{event}: {answer}"


def keys_and_values(etcd):
    etcd.put("k/a", "1")
    etcd.put("k/b", "2")
    value, meta = etcd.get("k/a")
    assert (value, meta.key, meta.version) == (b"1", b"k/a", 1)
    assert etcd.get("k/nothing") == (None, None)
    assert etcd.put("k/a", "3", prev_kv=True).prev_kv.value == b"1"
    assert [value for value, _ in etcd.get_prefix("k/", sort_order="descend")] == [b"2", b"3"]
    assert [meta.key for _, meta in etcd.get_prefix("k/", keys_only=True)] == [b"k/a", b"k/b"]
    assert [value for value, _ in etcd.get_range("k/a", "k/b")] == [b"3"]
    assert etcd.get("k/a", serializable=True)[0] is not None
    assert etcd.put_if_not_exists("k/c", "x") and not etcd.put_if_not_exists("k/c", "y")
    assert etcd.replace("k/c", "x", "z") and not etcd.replace("k/c", "x", "w")
    assert etcd.delete("k/c") and not etcd.delete("k/c")
    assert etcd.delete_prefix("k/").deleted == 2


def transactions(etcd):
    etcd.put("t/1", "one")
    done, answers = etcd.transaction(
        compare=[etcd.transactions.value("t/1") == "one", etcd.transactions.version("t/1") > 0],
        success=[etcd.transactions.put("t/2", "two"), etcd.transactions.get("t/1")],
        failure=[etcd.transactions.delete("t/1")],
    )
    assert done and answers[1][0][0] == b"one"
    done, answers = etcd.transaction(
        compare=[etcd.transactions.create("t/2") == 0],
        success=[],
        failure=[etcd.transactions.get("t/2"), etcd.transactions.delete("t/2")],
    )
    assert not done and answers[0][0][0] == b"two" and etcd.get("t/2")[0] is None


def leases(etcd):
    lease = etcd.lease(60)
    etcd.put("l/1", "x", lease=lease)
    assert 0 < lease.remaining_ttl <= 60 and lease.granted_ttl == 60 and lease.keys == [b"l/1"]
    assert lease.refresh()[0].TTL == 60
    lease.revoke()
    assert etcd.get("l/1")[0] is None
    short = etcd.lease(1)
    etcd.put("l/2", "x", lease=short)
    until("a key goes with its lease", lambda: etcd.get("l/2")[0] is None)


def locks(etcd, other):
    with etcd.lock("work", ttl=30) as lock:
        assert lock.is_acquired()
        assert not other.lock("work", ttl=30).acquire(timeout=1)
    assert other.lock("work", ttl=30).acquire(timeout=10)


def watches(etcd):
    events, cancel = etcd.watch_prefix("w/", prev_kv=True)
    etcd.put("w/1", "a")
    etcd.put("w/1", "b")
    etcd.delete("w/1")
    first, second, third = next(events), next(events), next(events)
    assert (type(first).__name__, first.key, first.value) == ("PutEvent", b"w/1", b"a")
    assert (second.value, second.prev_value) == (b"b", b"a")
    assert (type(third).__name__, third.prev_value) == ("DeleteEvent", b"b")
    cancel()
    again, cancel = etcd.watch("w/1", start_revision=second.mod_revision)
    assert next(again).value == b"b"
    cancel()
    revision = etcd.put("w/2", "x").header.revision
    etcd.compact(revision)

    too_old, cancel = etcd.watch("w/1", start_revision=first.mod_revision)
    try:
        next(too_old)
        raise AssertionError("a watch below the compacted revision goes on")
    except etcd3.exceptions.RevisionCompactedError as error:
        assert error.compacted_revision == revision


def maintenance(etcd):
    status = etcd.status()
    assert status.version.startswith("3.") and status.leader is not None and status.raft_index > 0
    members = list(etcd.members)
    assert len(members) == len(ENDPOINTS) and all(member.client_urls for member in members)
    assert list(etcd.list_alarms()) == []
    etcd.defragment()
    assert etcd.hash() is not None
    etcd.put("snapshot/me", "here")
    snapshot = io.BytesIO()
    etcd.snapshot(snapshot)
    assert b"snapshot/me" in snapshot.getvalue()


def until(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"does not come: {what}"
        time.sleep(0.05)


class Watcher(threading.Thread):
    """Follows a prefix from one endpoint to the other, from the revision after the last event."""

    def __init__(self, prefix, revision):
        super().__init__(daemon=True)
        self.prefix, self.next, self.seen, self.number = prefix, revision, queue.Queue(), 0

    def run(self):
        while True:
            try:
                etcd = connect(self.number)
                events, _ = etcd.watch_prefix(self.prefix, start_revision=self.next)
                for event in events:
                    self.seen.put((event.mod_revision, event.key))
                    self.next = event.mod_revision + 1
            except Exception as error:  # of grpc or of the client: both endpoints take turns
                print(f"watch: {error!r}", flush=True)
                self.number += 1
                time.sleep(0.05)


def through_everything():
    start = connect(0).put("run/start", "").header.revision
    watcher = Watcher("run/key/", start + 1)
    watcher.start()
    written, number = [], 0

    def write(count):
        nonlocal number
        for _ in range(count):
            key = f"run/key/{len(written):04}"
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    # Written once, however often it is asked for: an answer may have been lost.
                    client = connect(number)
                    client.put_if_not_exists(key, "x")
                    assert client.get(key)[0] == b"x"
                    break
                except Exception as error:
                    print(f"write: {error!r}", flush=True)
                    assert time.monotonic() < deadline, f"{key} cannot be written"
                    number += 1
                    time.sleep(0.05)
            written.append(key.encode())

    for event in ["switchover", "crash", "revive", "stop", "revive"]:
        write(5)
        ask(event)
        write(5)
    got = [watcher.seen.get(timeout=PATIENCE) for _ in written]
    assert [key for _, key in got] == written, f"the watch saw {got}"
    assert [revision for revision, _ in got] == sorted({revision for revision, _ in got})
    # The one endpoint or the other may not have caught up yet for a client that reads there alone.
    keys = [meta.key for _, meta in connect(number).get_prefix("run/key/", sort_order="ascend")]
    assert keys == written


def main():
    for number in range(len(ENDPOINTS)):
        etcd = connect(number)
        keys_and_values(etcd)
        transactions(etcd)
        leases(etcd)
        locks(etcd, connect(number + 1))
        etcd.delete_prefix("/locks/")
        watches(etcd)
        maintenance(etcd)
    through_everything()
    print("> end", flush=True)


main()
