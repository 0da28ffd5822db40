//! Copies over a connection, without a core.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use duet_protocol::{ApplianceId, ClusterId, DiskId, Epoch, Input, Lsn, OwnState, Position};
use duet_storage::{Batch, DataDir, LogOptions, RealDisk, RecoverOptions, RowKey, StateStore};
use parking_lot::Mutex;

use super::send::last_frames;
use super::*;
use crate::fatal::Fate;
use crate::inbox::Inbox;
use crate::peer::codec::{self, CopyFrame};
use crate::peer::frame;
use crate::peer::hello::{Hello, Purpose};

const POSITION: Position = Position { lsn: Lsn(7), ..Position::EMPTY };

fn receiver(folder: &std::path::Path) -> (Arc<DataDir>, Arc<CopyReceiver>) {
    let own = OwnState::blank(ClusterId(1), ApplianceId::B, DiskId(2));
    let data = Arc::new(DataDir::create(Arc::new(RealDisk), &folder.join("data"), &own).unwrap());
    (data.clone(), Arc::new(CopyReceiver::new(data)))
}

/// Begins to receive on a thread; the sender's end, and what is told to the core.
fn begin(receiver: &Arc<CopyReceiver>) -> (TcpStream, Arc<Inbox>, std::thread::JoinHandle<()>) {
    begin_from(receiver, DiskId(1))
}

fn begin_from(
    receiver: &Arc<CopyReceiver>,
    disk: DiskId,
) -> (TcpStream, Arc<Inbox>, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let inbox = Arc::<Inbox>::default();
    let (receiver, told) = (receiver.clone(), inbox.clone());
    let fate = Fate::new(Arc::default(), Arc::default());
    let thread = std::thread::spawn(move || receiver.receive(&stream, disk, &told, &fate));
    (sender, inbox, thread)
}

/// Sends a copy from its first row.
fn send_all(sender: &mut TcpStream, frames: Vec<CopyFrame>) {
    assert_eq!(codec::read_copy(frame::read(sender).unwrap()), Ok(CopyFrame::Have(None)));
    for copy_frame in [CopyFrame::Begin { goes_on: false }].into_iter().chain(frames) {
        let mut buffer = Vec::new();
        frame::write(&mut buffer, |body| codec::write_copy(body, &copy_frame));
        sender.write_all(&buffer).unwrap();
    }
}

#[test]
fn a_record_larger_than_a_frame_arrives_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (data, receiver) = receiver(folder.path());
    let meta: Vec<u8> = (0..=250).cycle().take(frame::FRAME_BYTES + 1_000).collect();
    let meta = Bytes::from(meta);
    let (mut sender, inbox, thread) = begin(&receiver);
    send_all(&mut sender, last_frames(Epoch(1), POSITION, 0, Some(meta.clone())).unwrap());
    thread.join().unwrap();
    let told = inbox.take(Duration::ZERO, false).inputs;
    assert_eq!(told, [Input::SnapshotReceived { epoch: Epoch(1), position: POSITION }]);
    let options = RecoverOptions { log: LogOptions::default(), cache_bytes: 1 << 20 };
    let ready = receiver.take().unwrap().ready;
    let parts = data.install_over_damage(ready, options).unwrap();
    assert_eq!(parts.store.meta(), Some(meta));
}

#[test]
fn a_part_of_the_record_that_is_missing_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, receiver) = receiver(folder.path());
    let (mut sender, inbox, thread) = begin(&receiver);
    let mut frames = last_frames(Epoch(1), POSITION, 0, Some(Bytes::from(vec![1; CHUNK_BYTES + 1]))).unwrap();
    frames.remove(1);
    send_all(&mut sender, frames);
    thread.join().unwrap();
    assert!(inbox.take(Duration::ZERO, false).inputs.is_empty() && receiver.take().is_none());
}

#[test]
fn no_copy_arrives_over_one_that_is_still_needed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, receiver) = receiver(folder.path());
    let (mut sender, _, thread) = begin(&receiver);
    send_all(&mut sender, last_frames(Epoch(1), POSITION, 0, None).unwrap());
    thread.join().unwrap();
    let copy = receiver.take().unwrap();
    // The core has taken it, and it is not installed yet.
    let (_sender, inbox, thread) = begin(&receiver);
    thread.join().unwrap();
    assert!(inbox.take(Duration::ZERO, false).inputs.is_empty(), "refused at once");
    drop(copy);
    let (mut sender, inbox, thread) = begin(&receiver);
    send_all(&mut sender, last_frames(Epoch(2), POSITION, 0, None).unwrap());
    thread.join().unwrap();
    assert_eq!(inbox.take(Duration::ZERO, false).inputs.len(), 1);
}

#[test]
fn a_stop_does_not_wait_for_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (_, receiver) = receiver(folder.path());
    let (_sender, _, thread) = begin(&receiver);
    while !receiver.is_busy() {
        std::thread::yield_now();
    }
    let began = std::time::Instant::now();
    receiver.close();
    thread.join().unwrap();
    assert!(began.elapsed() < STALL / 2);
    let (_sender, _, thread) = begin(&receiver);
    thread.join().unwrap();
    assert!(began.elapsed() < STALL / 2, "nothing more is taken");
}

/// A state of some rows, and what sends it.
fn sender(folder: &std::path::Path) -> CopySender {
    let state = StateStore::open(Arc::new(RealDisk), &folder.join("data.redb"), 1 << 20).unwrap();
    let puts = (0..ROWS).map(|row| (key(row), Bytes::from(vec![7; VALUE_BYTES]))).collect();
    let meta = Some(Bytes::from_static(b"meta"));
    state.commit(&Batch { puts, meta, applied: POSITION, ..Batch::default() }).unwrap();
    let me = Hello {
        purpose: Purpose::Copy,
        cluster_name: "test".to_owned(),
        cluster: None,
        appliance: ApplianceId::A,
        disk: DiskId(1),
        client_url: String::new(),
    };
    CopySender {
        me,
        peer: String::new(),
        state,
        inbox: Arc::default(),
        fate: Fate::new(Arc::default(), Arc::default()),
        superseded: Mutex::default(),
        progress: Arc::default(),
        rate: None,
    }
}

const ROWS: u64 = 3_000;
const VALUE_BYTES: usize = 1_000;

fn key(row: u64) -> RowKey {
    u128::from(row).to_be_bytes()
}

/// Sends a copy whose connection breaks after so many bytes; how many rows were sent.
fn send_until(
    sender: &CopySender,
    receiver: &Arc<CopyReceiver>,
    from: DiskId,
    bytes: usize,
) -> Result<u64, CopyError> {
    let (mut far, _, thread) = begin_from(receiver, from);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut between, _) = listener.accept().unwrap();
    let (mut answers, mut back) = (far.try_clone().unwrap(), between.try_clone().unwrap());
    let backward = std::thread::spawn(move || std::io::copy(&mut answers, &mut back).ok());
    let forward = std::thread::spawn(move || {
        std::io::copy(&mut (&mut between).take(bytes as u64), &mut far).ok();
        far.flush().ok();
        for stream in [&far, &between] {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    });
    let sent = sender.send_on(&mut near, Epoch(1), &AtomicBool::new(false));
    drop(near);
    for thread in [forward, thread] {
        thread.join().unwrap();
    }
    backward.join().unwrap();
    sent
}

/// What has arrived is the sender's state.
fn assert_arrived(sender: &CopySender, receiver: &CopyReceiver, data: &DataDir) {
    let options = RecoverOptions { log: LogOptions::default(), cache_bytes: 1 << 20 };
    let parts = data.install_over_damage(receiver.take().unwrap().ready, options).unwrap();
    let all = |store: &StateStore| (store.scan(&[], usize::MAX).unwrap(), store.meta(), store.applied());
    assert!(all(&parts.store) == all(&sender.state), "the same rows, record and position");
}

#[test]
fn an_interrupted_copy_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, (data, receiver)) = (sender(folder.path()), receiver(folder.path()));
    let one = 1_300_000;
    assert!(send_until(&sender, &receiver, DiskId(1), one).is_err());
    assert!(receiver.take().is_none());
    assert!(send_until(&sender, &receiver, DiskId(1), one).is_err(), "again, and a bit further");
    let rows = send_until(&sender, &receiver, DiskId(1), usize::MAX).unwrap();
    assert!(0 < rows && rows < ROWS / 2, "{rows} rows of {ROWS} were sent at last");
    assert_arrived(&sender, &receiver, &data);
}

#[test]
fn an_interrupted_copy_begins_again_after_a_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, (data, receiver)) = (sender(folder.path()), receiver(folder.path()));
    assert!(send_until(&sender, &receiver, DiskId(1), 1_300_000).is_err());
    let applied = Position { lsn: Lsn(8), ..POSITION };
    sender.state.commit(&Batch { deletes: vec![key(3)], applied, ..Batch::default() }).unwrap();
    let rows = send_until(&sender, &receiver, DiskId(1), usize::MAX).unwrap();
    assert_eq!(rows, ROWS - 1);
    assert_arrived(&sender, &receiver, &data);
}

#[test]
fn a_copy_from_another_disk_does_not_go_on_behind_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, (data, receiver)) = (sender(folder.path()), receiver(folder.path()));
    assert!(send_until(&sender, &receiver, DiskId(1), 1_300_000).is_err());
    let rows = send_until(&sender, &receiver, DiskId(3), usize::MAX).unwrap();
    assert_eq!(rows, ROWS);
    assert_arrived(&sender, &receiver, &data);
}

#[test]
fn how_far_a_copy_is_can_be_asked_while_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, (_, receiver)) = (sender(folder.path()), receiver(folder.path()));
    assert_eq!(sender.progress.report(), None);
    assert!(send_until(&sender, &receiver, DiskId(1), 1_300_000).is_err());
    let report = sender.progress.report().unwrap();
    assert!(0 < report.bytes && report.bytes <= report.of, "{report:?}");
    let all = ROWS * (VALUE_BYTES as u64 + 16 + 4);
    assert_eq!(report.of, all, "keys, values and checksums");
}

#[test]
fn a_copy_takes_as_long_as_its_rate_says() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, (data, receiver)) = (sender(folder.path()), receiver(folder.path()));
    let bytes = sender.state.snapshot().unwrap().bytes();
    let sender = CopySender { rate: std::num::NonZeroU64::new(bytes * 4), ..sender };
    let began = std::time::Instant::now();
    assert_eq!(send_until(&sender, &receiver, DiskId(1), usize::MAX).unwrap(), ROWS);
    assert!(began.elapsed() >= Duration::from_millis(250), "a quarter of a second's bytes");
    assert_arrived(&sender, &receiver, &data);
}
