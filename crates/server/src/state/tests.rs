//! The log's thread and the state machine on a real directory, without core and peer.

use bytes::Bytes;
use duet_mvcc::{EventLimits, KeyRange, PutRequest, RangeRequest};
use duet_protocol::{ApplianceId, ClusterId, Conf, DiskId, Epoch, OwnState};
use duet_storage::{LogOptions, Parts, RealDisk, RecoverOptions};
use tokio::sync::oneshot;

use super::*;
use crate::log_writer::{Job, LogQueue, LogWriter};

struct Bench {
    machine: Arc<Machine>,
    inbox: Arc<Inbox>,
    tail: Arc<Tail>,
    queue: Arc<LogQueue>,
    fate: Fate,
    parts: Parts,
}

fn open(folder: &std::path::Path) -> Bench {
    let disk = Arc::new(RealDisk);
    let path = folder.join("data");
    if DataDir::is_blank(disk.as_ref(), &path).unwrap() {
        let own = OwnState::blank(ClusterId(1), ApplianceId::A, DiskId(1));
        drop(DataDir::create(disk.clone(), &path, &own).unwrap());
    }
    let data = DataDir::open(disk, &path).unwrap();
    let options = RecoverOptions { log: LogOptions::default(), cache_bytes: 1 << 20 };
    let mut parts = data.recover(options).unwrap();
    parts.own_state.conf = Conf::solo(Epoch(1), ApplianceId::A, DiskId(1));
    parts.own_state.max_epoch = Epoch(1);
    parts.own_state_file.save(&parts.own_state).unwrap();
    let (permit, inbox) = (Arc::<PermitCell>::default(), Arc::<Inbox>::default());
    let tail = Arc::new(Tail::new(parts.recovered.last().lsn));
    let fate = Fate::new(permit.clone(), inbox.clone());
    let machine = MachineParts {
        space: Arc::default(),
        permit,
        inbox: inbox.clone(),
        tail: tail.clone(),
        log: parts.log.reader(),
        data: Arc::new(data),
        state: parts.store.clone(),
    };
    let machine = Arc::new(Machine::new(machine).unwrap());
    Bench { machine, inbox, tail, queue: Arc::default(), fate, parts }
}

fn entries(after: Position, count: usize) -> Vec<Entry> {
    let mut position = after;
    (0..count)
        .map(|index| {
            let key = Bytes::from(format!("key{}", index % 7));
            let value = Bytes::from(format!("{}", position.lsn));
            let command = Command::Put(PutRequest { key, value, ..PutRequest::default() }).encode();
            let entry = Entry::following(&position, Epoch(1), command);
            position = entry.position();
            entry
        })
        .collect()
}

fn wait_for(inbox: &Inbox, wanted: &Input) -> Vec<Input> {
    let mut seen = Vec::new();
    for _ in 0..1_000 {
        seen.extend(inbox.take(Duration::from_millis(10), false).inputs);
        if seen.contains(wanted) {
            return seen;
        }
    }
    panic!("{wanted:?} did not come, only {seen:?}");
}

#[test]
fn appends_that_have_gathered_become_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { machine, inbox, tail, queue, fate, parts } = open(folder.path());
    let all = entries(Position::EMPTY, 100);
    for entry in &all {
        tail.push(std::slice::from_ref(entry));
        queue.push(Job::Append { generation: 0, entries: vec![entry.clone()] });
    }
    let thread =
        LogWriter::start(parts.log, queue.clone(), tail.clone(), inbox.clone(), machine, &fate).unwrap();
    let flushed = Input::Flushed { generation: 0, lsn: Lsn(100) };
    assert_eq!(wait_for(&inbox, &flushed), std::slice::from_ref(&flushed), "one sync for all");
    assert_eq!(tail.volatile_bytes(), 0);

    // A truncation quotes its own generation, and what follows it too.
    queue.push(Job::Truncate { generation: 1, last: Lsn(60) });
    tail.truncate(1, Lsn(60));
    let more = entries(all[59].position(), 3);
    tail.push(&more);
    queue.push(Job::Append { generation: 1, entries: more });
    wait_for(&inbox, &Input::Flushed { generation: 1, lsn: Lsn(63) });
    queue.close();
    thread.join().unwrap();
    assert!(!fate.has_ended());
}

#[test]
fn after_a_restart_the_log_is_replayed_on_top_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let all = entries(Position::EMPTY, 1_000);
    let digest = {
        let Bench { machine, inbox, tail, mut parts, .. } = open(folder.path());
        parts.log.append(&all).unwrap();
        parts.log.sync().unwrap();
        tail.push(&all);
        while machine.apply_some(Lsn(600)).unwrap() < Lsn(600) {}
        machine.checkpoint().unwrap();
        wait_for(&inbox, &Input::Checkpointed(Lsn(600)));
        while machine.apply_some(Lsn(1_000)).unwrap() < Lsn(1_000) {}
        machine.store.read().state_digest().unwrap()
    };
    let Bench { machine, inbox, fate, .. } = open(folder.path());
    assert_eq!(machine.applied.lock().lsn, Lsn(600));
    let threads = machine.start(&fate).unwrap();
    machine.apply_to(Lsn(1_000));
    wait_for(&inbox, &Input::Applied(Lsn(1_000)));
    assert_eq!(machine.store.read().state_digest().unwrap(), digest);
    machine.close();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(machine.state.applied().lsn, Lsn(1_000), "the end writes a checkpoint");
}

#[test]
fn writers_are_answered_in_order_and_the_abandoned_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { machine, tail, .. } = open(folder.path());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    *machine.event_sink.write() =
        Some(Box::new(move |batch| sink.lock().extend(batch.events.iter().map(|event| event.revision.main))));
    let all = entries(Position::EMPTY, 10);
    tail.push(&all);
    let (answers, mut answered): (Vec<_>, Vec<_>) = (0..8).map(|_| oneshot::channel()).unzip();
    machine.waiters.accepted(Lsn(3), answers.into_iter());
    machine.apply_some(Lsn(8)).unwrap();
    for (revision, answer) in (4..).zip(answered.iter_mut().take(6)) {
        let applied = answer.try_recv().unwrap().unwrap();
        assert_eq!(
            applied.revision, revision,
            "the first revision is 2, the first writer's entry is the third"
        );
    }
    machine.waiters.abandon(Lsn(9));
    assert_eq!(answered[7].try_recv().unwrap(), Err(crate::WriteError::Unknown));
    assert!(answered[6].try_recv().is_err(), "entry 9 is still to be applied");
    machine.apply_some(Lsn(9)).unwrap();
    assert!(answered[6].try_recv().unwrap().is_ok());
    assert_eq!(*seen.lock(), (2..=10).collect::<Vec<i64>>());
    let request = RangeRequest { key: Bytes::from_static(b"key1"), ..RangeRequest::default() };
    assert_eq!(machine.store.read().range(&request).unwrap().kvs[0].value, "8");
}

#[test]
fn a_checkpoint_is_never_reported_before_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { machine, inbox, tail, .. } = open(folder.path());
    tail.push(&entries(Position::EMPTY, 8));
    // Entries are applied, and then the thread finds no time to answer their writers.
    let held = machine.waiters.hold();
    let applying = {
        let machine = machine.clone();
        std::thread::spawn(move || machine.apply_some(Lsn(8)).unwrap())
    };
    while machine.applied.lock().lsn < Lsn(8) {
        std::thread::yield_now();
    }
    machine.checkpoint().unwrap();
    let seen = wait_for(&inbox, &Input::Checkpointed(Lsn(8)));
    assert_eq!(seen, [Input::Applied(Lsn(8)), Input::Checkpointed(Lsn(8))]);
    drop(held);
    applying.join().unwrap();
}

#[test]
fn while_a_copy_is_installed_readers_keep_to_the_state_they_know() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { machine, inbox, tail, mut parts, .. } = open(folder.path());
    let all = entries(Position::EMPTY, 10);
    tail.push(&all);
    machine.apply_some(Lsn(10)).unwrap();
    machine.checkpoint().unwrap();
    let (answer, mut answered) = oneshot::channel();
    machine.waiters.accepted(Lsn(11), std::iter::once(answer));

    let position = Position { lsn: Lsn(100), ..all[9].position() };
    let copy = machine.data.receive_snapshot().unwrap().finish(position, None).unwrap();
    let everything = KeyRange::new(Bytes::from_static(&[0]), Bytes::from_static(&[0]));
    let limits = EventLimits { max_events: 100, max_bytes: 1 << 20 };
    let reader = machine.store.read();
    let installing = {
        let machine = machine.clone();
        std::thread::spawn(move || machine.install(copy, position, &mut parts.log).unwrap())
    };
    while machine.state.applied() != position {
        std::thread::yield_now();
    }
    // The new state is in place, the old store still answers: from what it was made of.
    let batch = reader.events(&everything, 2, limits).unwrap();
    assert_eq!((batch.events.len(), batch.next_revision), (10, 12));
    drop(reader);
    installing.join().unwrap();

    assert_eq!(machine.store.read().revision(), 1);
    assert_eq!(
        wait_for(&inbox, &Input::SnapshotInstalled(position)).last(),
        Some(&Input::SnapshotInstalled(position))
    );
    assert_eq!(
        answered.try_recv().unwrap(),
        Err(crate::WriteError::Unknown),
        "it came in the copy, or never"
    );
    assert_eq!(machine.waiters.count(), 0);
}
