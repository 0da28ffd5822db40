// Ordinary use of Node's `etcd3`, and its use while the primary leaves and dies. This client knows both endpoints and
// chooses by itself. See program.rs for the lines that begin with `> `.

const assert = require('node:assert');
const readline = require('node:readline');
const { Etcd3 } = require('etcd3');

const PATIENCE = 40_000; // milliseconds
const endpoints = process.argv[2].split(',');
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function ask(event) {
  console.log(`> ${event}`);
  const { value } = await lines.next();
  assert.strictEqual(value, 'done', event);
}

async function keysAndValues(etcd) {
  await etcd.put('k/a').value('1');
  await etcd.put('k/b').value(2);
  assert.strictEqual(await etcd.get('k/a').string(), '1');
  assert.strictEqual(await etcd.get('k/b').number(), 2);
  assert.strictEqual(await etcd.get('k/nothing').string(), null);
  assert.deepStrictEqual(await etcd.getAll().prefix('k/').strings(), { 'k/a': '1', 'k/b': '2' });
  assert.deepStrictEqual(await etcd.getAll().prefix('k/').sort('Key', 'Descend').limit(1).keys(), ['k/b']);
  assert.strictEqual(await etcd.getAll().prefix('k/').count(), 2);
  assert.ok(await etcd.get('k/a').exists());
  const space = etcd.namespace('k/');
  assert.strictEqual(await space.get('a').string(), '1');
  assert.strictEqual((await etcd.delete().prefix('k/')).deleted, '2');
}

async function transactions(etcd) {
  await etcd.delete().prefix('t/');
  await etcd.put('t/1').value('one');
  const { succeeded } = await etcd
    .if('t/1', 'Value', '==', 'one')
    .and('t/2', 'Create', '==', 0)
    .then(etcd.put('t/2').value('two'))
    .else(etcd.delete().key('t/1'))
    .commit();
  assert.ok(succeeded);
  // Software transactions: read, compute, write if nothing changed meanwhile.
  await etcd.put('t/sum').value(0);
  await Promise.all(
    [1, 2, 3, 4].map((each) =>
      etcd.stm({ retries: 20 }).transact(async (stm) => {
        const sum = await stm.get('t/sum').number();
        await stm.put('t/sum').value(sum + each);
      }),
    ),
  );
  assert.strictEqual(await etcd.get('t/sum').number(), 10);
}

async function leases(etcd) {
  const lease = etcd.lease(30);
  await lease.put('l/1').value('x');
  await lease.keepaliveOnce();
  const id = await lease.grant();
  assert.deepStrictEqual((await etcd.leaseClient.leaseTimeToLive({ ID: id, keys: true })).grantedTTL, '30');
  await lease.revoke();
  assert.strictEqual(await etcd.get('l/1').string(), null);
}

async function locksAndElections(etcd) {
  const lock = etcd.lock('work').ttl(30);
  await lock.acquire();
  await assert.rejects(etcd.lock('work').ttl(30).acquire());
  await lock.release();
  assert.strictEqual(await etcd.lock('work').do(async () => 'inside'), 'inside');
  const election = etcd.election('chair', 30);
  const campaign = election.campaign('first');
  await new Promise((resolve, reject) => campaign.on('elected', resolve).on('error', reject));
  assert.strictEqual(await election.leader(), 'first');
  await campaign.resign();
}

async function watches(etcd) {
  const watcher = await etcd.watch().prefix('w/').withPreviousKV().create();
  const seen = [];
  const three = new Promise((resolve) => {
    const add = (kind) => (kv, previous) => {
      seen.push([kind, kv.value.toString(), previous && previous.value.toString()]);
      if (seen.length === 3) resolve();
    };
    watcher.on('put', add('put')).on('delete', add('delete'));
  });
  await etcd.put('w/1').value('a');
  await etcd.put('w/1').value('b');
  await etcd.delete().key('w/1');
  await three;
  assert.deepStrictEqual(seen.map(([kind, value]) => [kind, value]), [['put', 'a'], ['put', 'b'], ['delete', '']]);
  assert.strictEqual(seen[1][2], 'a');
  await watcher.cancel();
}

async function cluster(etcd) {
  const { members } = await etcd.cluster.memberList({});
  assert.strictEqual(members.length, endpoints.length);
  const { version } = await etcd.maintenance.status();
  assert.match(version, /^3\./);
}

async function throughEverything(etcd) {
  const { header } = await etcd.put('run/start').value('');
  const watcher = await etcd
    .watch()
    .prefix('run/key/')
    .startRevision(String(BigInt(header.revision) + 1n))
    .create();
  const seen = [];
  watcher.on('put', (kv) => seen.push(kv.key.toString()));
  watcher.on('error', (error) => console.log(`watch: ${error}`));
  const written = [];
  const write = async (count) => {
    for (let each = 0; each < count; each += 1) {
      const key = `run/key/${String(written.length).padStart(4, '0')}`;
      const deadline = Date.now() + PATIENCE;
      for (;;) {
        try {
          // Written once, however often it is asked for: an answer may have been lost.
          await etcd.if(key, 'Create', '==', 0).then(etcd.put(key).value('x')).commit();
          assert.strictEqual(await etcd.get(key).string(), 'x');
          break;
        } catch (error) {
          console.log(`write: ${error}`);
          assert.ok(Date.now() < deadline, `${key} cannot be written`);
          await pause(50);
        }
      }
      written.push(key);
    }
  };
  for (const event of ['switchover', 'crash', 'revive', 'stop', 'revive']) {
    await write(5);
    await ask(event);
    await write(5);
  }
  const deadline = Date.now() + PATIENCE;
  while (seen.length < written.length && Date.now() < deadline) await pause(50);
  assert.deepStrictEqual(seen, written);
}

async function main() {
  for (const hosts of endpoints) {
    const etcd = new Etcd3({ hosts });
    await keysAndValues(etcd);
    await transactions(etcd);
    await leases(etcd);
    await locksAndElections(etcd);
    await watches(etcd);
    await cluster(etcd);
    etcd.close();
  }
  await throughEverything(new Etcd3({ hosts: endpoints }));
  console.log('> end');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
