//! Writes that are watched: how many events a second reach the watchers, and how late they are.
//!
//! Each value begins with the time at which it was sent (or due), so each event tells its own lag. Versions of a key count
//! from 1 without gaps, so each event also tells whether one before it was lost, doubled or out of order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use duet_etcd_api::etcdserverpb::watch_request::RequestUnion;
use duet_etcd_api::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use duet_etcd_api::mvccpb::Event;
use tokio::sync::Notify;

use super::args::Operation;
use super::lane::{Caller, Lane, Rpc, Stream};
use super::load::{PAUSE_AFTER_ERROR, deadline, default_connections, lanes, on_a_thread, status_in_words};
use super::proc_stat::cpu_time;
use super::report::{Recorder, Report, count};
use super::schedule::{Schedule, Window};
use super::workload::{Random, noise};
use crate::error::Failure;

/// Writers of the keys that everybody watches: enough that a write's own way is not what is measured.
const FAN_OUT_WRITERS: usize = 16;
/// Writers of the keys that are watched by one each.
const LAG_WRITERS: usize = 256;
/// The time at the beginning of a value.
const STAMP_BYTES: usize = 8;
/// Digits of a key's number.
const DIGITS: usize = 9;
/// An etcd that is still busy with what came before may take long to open a watch.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Events still under way at the end are waited for so long; then they are lost.
const LAST_EVENTS: Duration = Duration::from_secs(5);
/// How often it is looked whether they are there.
const POLL: Duration = Duration::from_millis(5);

/// A watched load.
#[derive(Clone, Debug)]
pub struct WatchPlan {
    /// `Watch`: all watch the same keys, and a write is done when all have its event. `WatchLag`: each watches one key.
    pub operation: Operation,
    /// Where.
    pub endpoints: Vec<String>,
    /// Watchers, each a stream of its own.
    pub watchers: usize,
    /// Bytes in a value.
    pub value_size: usize,
    /// How long it is measured.
    pub seconds: Duration,
    /// How long it runs before.
    pub warmup: Duration,
    /// Writes a second in an open loop.
    pub rate: Option<u64>,
    /// Deadline of one write, and of its events.
    pub timeout: Duration,
}

impl WatchPlan {
    const fn is_fan_out(&self) -> bool {
        matches!(self.operation, Operation::Watch)
    }

    const fn keys(&self) -> usize {
        if self.is_fan_out() { FAN_OUT_WRITERS } else { self.watchers }
    }
}

/// What writers and watchers share.
struct Shared {
    plan: WatchPlan,
    prefix: String,
    noise: Bytes,
    recorder: RefCell<Recorder>,
    began: Instant,
    measure_from: Instant,
    end: Instant,
    schedule: Option<Arc<Schedule>>,
    keys: Vec<Key>,
    received: Cell<u64>,
    stored_bytes: Cell<u64>,
}

/// A watched key.
#[derive(Default)]
struct Key {
    acknowledged: Cell<u64>,
    /// Watchers that have the newest event.
    seen_by: Cell<usize>,
    seen_by_all: Notify,
}

/// Runs a watched load on a thread of its own; the operations of its report are events, their latency the lag.
pub async fn run(plan: WatchPlan, window: Window) -> Result<Report, Failure> {
    on_a_thread(async move || {
        let report = run_here(plan, &window).await;
        window.close();
        report
    })
    .await
}

async fn run_here(plan: WatchPlan, window: &Window) -> Result<Report, Failure> {
    // Keys of their own for each run: versions count from 1.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let writers = if plan.is_fan_out() { FAN_OUT_WRITERS } else { LAG_WRITERS };
    let watch_lanes = lanes(&plan.endpoints, default_connections(plan.watchers).max(plan.endpoints.len()));
    let write_lanes = lanes(&plan.endpoints, default_connections(writers).max(plan.endpoints.len()));
    let prefix = format!("duet-watch-{run}/");
    let streams = open_all(&plan, &prefix, &watch_lanes).await?;
    let began = Instant::now();
    let shared = Rc::new(Shared {
        prefix,
        noise: noise(plan.value_size.max(STAMP_BYTES)),
        recorder: RefCell::default(),
        began,
        measure_from: began + plan.warmup,
        end: began + plan.warmup + plan.seconds,
        schedule: plan.rate.map(Schedule::new),
        keys: std::iter::repeat_with(Key::default).take(plan.keys()).collect(),
        received: Cell::new(0),
        stored_bytes: Cell::new(0),
        plan,
    });
    let watchers: Vec<_> =
        streams.into_iter().map(|stream| tokio::task::spawn_local(watch(shared.clone(), stream))).collect();
    let pacer = shared.schedule.clone().map(|schedule| schedule.pace(Some(shared.end)));
    let writers: Vec<_> = (0..writers)
        .map(|index| {
            let lane = write_lanes[index % write_lanes.len()].clone();
            tokio::task::spawn_local(write(shared.clone(), lane, index))
        })
        .collect();
    tokio::time::sleep_until(shared.measure_from.into()).await;
    window.open();
    let cpu_before = cpu_time(std::process::id());
    tokio::time::sleep_until(shared.end.into()).await;
    let cpu = cpu_time(std::process::id()).saturating_sub(cpu_before);
    for writer in writers {
        writer.await.ok();
    }
    if let Some(pacer) = pacer {
        pacer.join().ok();
    }
    shared.settle().await;
    for watcher in watchers {
        watcher.abort();
    }
    Ok(report(&shared, cpu))
}

/// Opens one stream for each watcher and waits until the server says that it watches.
async fn open_all(plan: &WatchPlan, prefix: &str, lanes: &[Rc<Lane>]) -> Result<Vec<Stream>, Failure> {
    let mut streams = Vec::new();
    for index in 0..plan.watchers {
        let lane = &lanes[index % lanes.len()];
        let opened = async {
            let mut caller = lane.caller().await?;
            deadline(OPEN_DEADLINE, open(&mut caller, plan, prefix, index)).await
        };
        streams.push(opened.await.map_err(|error| {
            Failure::new(format!("watcher {} of {}: {error}", index + 1, plan.watchers), "try fewer watchers")
        })?);
    }
    Ok(streams)
}

async fn open(
    caller: &mut Caller,
    plan: &WatchPlan,
    prefix: &str,
    index: usize,
) -> Result<Stream, tonic::Status> {
    let (key, range_end) = if plan.is_fan_out() {
        (Bytes::from(prefix.to_owned()), end_of(prefix))
    } else {
        (key(prefix, index), Bytes::new())
    };
    let create = WatchCreateRequest { key, range_end, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut stream = caller.open(Rpc::Watch, &request).await?;
    let first: WatchResponse = stream.next().await?;
    if first.created && !first.canceled {
        Ok(stream)
    } else {
        Err(tonic::Status::unknown("the watch was refused"))
    }
}

fn key(prefix: &str, index: usize) -> Bytes {
    Bytes::from(format!("{prefix}{index:0DIGITS$}"))
}

/// The number at the end of a key.
fn index_of(key: &[u8]) -> Option<usize> {
    let digits = key.len().checked_sub(DIGITS).and_then(|start| key.get(start..))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The end of all keys that begin with `prefix`, which ends with a slash.
fn end_of(prefix: &str) -> Bytes {
    Bytes::from(prefix.trim_end_matches('/').to_owned() + "0")
}

impl Shared {
    async fn next_start(&self) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => schedule.next().await,
            None => Some(Instant::now()).filter(|now| *now < self.end),
        }
    }

    fn counts(&self, start: Instant) -> bool {
        start >= self.measure_from && start < self.end
    }

    fn failure(&self, what: String) {
        self.recorder.borrow_mut().failure(what);
    }

    fn stamped(&self, at: Instant) -> Bytes {
        let size = self.noise.len();
        let mut value = BytesMut::with_capacity(size);
        value.put_u64(u64::try_from((at - self.began).as_nanos()).unwrap_or(u64::MAX));
        value.extend_from_slice(&self.noise[STAMP_BYTES.min(size)..]);
        value.freeze()
    }

    /// An event at a watcher whose newest version of this key is `last`.
    fn take(&self, event: &Event, versions: &mut [u64], now: Instant) {
        let Some((kv, index)) = event.kv.as_ref().and_then(|kv| Some((kv, index_of(&kv.key)?))) else {
            return self.failure("an event without a key".into());
        };
        let slot = if self.plan.is_fan_out() { index } else { 0 };
        let version = u64::try_from(kv.version).unwrap_or(0);
        let (Some(last), Some(key)) = (versions.get_mut(slot), self.keys.get(index)) else {
            return self.failure("an event of a key that nobody wrote".into());
        };
        if let Some(wrong) = out_of_line(*last, version) {
            self.failure(wrong.into());
        }
        *last = version;
        self.received.set(self.received.get() + 1);
        key.seen_by.set(key.seen_by.get() + 1);
        if key.seen_by.get() == self.plan.watchers {
            key.seen_by_all.notify_one();
        }
        let stamp = kv.value.first_chunk::<STAMP_BYTES>().map_or(0, |stamp| u64::from_be_bytes(*stamp));
        let sent = self.began + Duration::from_nanos(stamp);
        if self.counts(sent) {
            self.recorder.borrow_mut().success(now.saturating_duration_since(sent), now);
        }
    }

    /// Waits for the last events; says how many never came, if every write was acknowledged.
    async fn settle(&self) {
        let each = if self.plan.is_fan_out() { self.plan.watchers as u64 } else { 1 };
        let wanted = || self.keys.iter().map(|key| key.acknowledged.get()).sum::<u64>() * each;
        let start = Instant::now();
        while self.received.get() < wanted() && start.elapsed() < LAST_EVENTS {
            tokio::time::sleep(POLL).await;
        }
        for _ in self.received.get()..wanted() {
            self.failure("an event that never came".into());
        }
    }
}

/// What is wrong with a version after `last`.
const fn out_of_line(last: u64, version: u64) -> Option<&'static str> {
    match version {
        _ if version == last + 1 => None,
        _ if version > last => Some("an event was left out"),
        _ if version == last => Some("an event came twice"),
        _ => Some("an event came out of order"),
    }
}

async fn watch(shared: Rc<Shared>, mut stream: Stream) {
    let mut versions = vec![0; if shared.plan.is_fan_out() { shared.keys.len() } else { 1 }];
    loop {
        match stream.next::<WatchResponse>().await {
            Ok(response) if response.canceled => return shared.failure("a watch was cancelled".into()),
            Ok(response) => {
                let now = Instant::now();
                for event in &response.events {
                    shared.take(event, &mut versions, now);
                }
            }
            Err(status) => return shared.failure(format!("a watch ended: {}", status_in_words(&status))),
        }
    }
}

async fn write(shared: Rc<Shared>, lane: Rc<Lane>, writer: usize) {
    let mut random = Random::of_client(writer as u64);
    while let Some(start) = shared.next_start().await {
        let index = if shared.plan.is_fan_out() { writer } else { random.below(shared.keys.len()) };
        let watched = &shared.keys[index];
        if shared.plan.is_fan_out() {
            watched.seen_by.set(0);
        }
        let put = PutRequest {
            key: key(&shared.prefix, index),
            value: shared.stamped(start),
            ..Default::default()
        };
        let size = (put.key.len() + put.value.len()) as u64;
        let outcome = async {
            let mut caller = lane.caller().await?;
            deadline(shared.plan.timeout, caller.call(Rpc::Put, &put)).await?;
            watched.acknowledged.set(watched.acknowledged.get() + 1);
            if shared.counts(start) {
                shared.stored_bytes.set(shared.stored_bytes.get() + size);
            }
            if shared.plan.is_fan_out() {
                let all = tokio::time::timeout(shared.plan.timeout, watched.seen_by_all.notified()).await;
                all.map_err(|_| "a write that not all watchers saw in time".to_owned())?;
            }
            Ok::<_, String>(())
        };
        if let Err(error) = outcome.await {
            shared.failure(error);
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

fn report(shared: &Shared, cpu: Duration) -> Report {
    let recorder = shared.recorder.borrow();
    let (plan, seconds) = (&shared.plan, shared.plan.seconds.as_secs_f64());
    let events = recorder.successes();
    Report {
        operation: plan.operation.name(),
        clients: plan.watchers,
        connections: default_connections(plan.watchers),
        value_size: plan.value_size,
        keys: shared.keys.len(),
        rate: plan.rate,
        seconds,
        operations: events,
        ops_per_second: count(events) / seconds.max(1e-9),
        latency_ms: recorder.latency(),
        errors: recorder.errors().clone(),
        not_begun: shared.schedule.as_ref().map_or(0, |schedule| schedule.not_begun(shared.end)),
        longest_gap_ms: recorder.longest_gap().as_secs_f64() * 1e3,
        stored_bytes: shared.stored_bytes.get(),
        client_cpu_us_per_op: cpu.as_secs_f64() * 1e6 / count(events.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_order_of_events_is_named() {
        assert_eq!(out_of_line(0, 1), None);
        assert_eq!(out_of_line(4, 5), None);
        assert_eq!(out_of_line(4, 6), Some("an event was left out"));
        assert_eq!(out_of_line(4, 4), Some("an event came twice"));
        assert_eq!(out_of_line(4, 2), Some("an event came out of order"));
    }

    #[test]
    fn keys_tell_their_number_and_lie_below_the_end_of_their_prefix() {
        let key = key("duet-watch-3/", 41);
        assert_eq!(index_of(&key), Some(41));
        assert_eq!(index_of(b"short"), None);
        assert!(key < end_of("duet-watch-3/") && key.starts_with(b"duet-watch-3/"));
    }
}
