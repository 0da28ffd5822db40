//! Everybody who uses the pair: clients, watchers, and who asks the appliances how they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duet_checkers::{Answer, Change, DataHash, History, Keys, Operation, Quiet, Report, StepAnswer};
use duet_etcd_api::etcdserverpb as pb;
use duet_protocol::ApplianceId::{self, A, B};
use duet_protocol::{Digest, Epoch, Lsn};
use duet_server::StatusReport;
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, Pair};
use crate::random::Random;
use crate::recorder::Recorder;
use crate::watchers::{Scribe, Stream, Watcher};
use crate::workload::Session;

/// Clients that use keys, leases, watches.
const KEY_CLIENTS: u32 = 6;
const LEASE_CLIENTS: u32 = 2;
const WATCHED: [&str; 4] = ["", "", "k/", "r/"];
/// Between two looks at the appliances' status.
const REPORTS: Duration = Duration::from_millis(100);
/// Leases of 3 s must be gone after this much quiet (the checkers allow 10 s more than their time).
const LEASES_END: Duration = Duration::from_secs(14);

/// Everybody who uses the pair.
pub struct Crowd {
    pub recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    last: tokio::sync::watch::Sender<Option<i64>>,
    sessions: Vec<JoinHandle<()>>,
    scribe: JoinHandle<Vec<Change>>,
    watchers: Vec<JoinHandle<()>>,
    reporter: JoinHandle<()>,
}

impl Crowd {
    pub fn gather(pair: &Pair, random: &mut Random, start: Instant) -> Self {
        let recorder = Arc::new(Recorder::new(start));
        let stop = Arc::<AtomicBool>::default();
        let urls = [A, B].map(|id| pair.client_url(id));
        let mut sessions = Vec::new();
        for number in 0..KEY_CLIENTS {
            let session = Session::new(number, &urls, random.fork(), &recorder, &stop);
            sessions.push(tokio::spawn(session.use_keys()));
        }
        for number in KEY_CLIENTS..KEY_CLIENTS + LEASE_CLIENTS {
            let session = Session::new(number, &urls, random.fork(), &recorder, &stop);
            sessions.push(tokio::spawn(session.use_leases()));
        }
        let last = tokio::sync::watch::Sender::new(None);
        let mut numbers = KEY_CLIENTS + LEASE_CLIENTS..;
        let seen = tokio::sync::watch::Sender::new(0);
        let mut number = || numbers.next().expect("a number");
        let compactor = Session::new(number(), &urls, random.fork(), &recorder, &stop);
        sessions.push(tokio::spawn(compactor.compact(seen.subscribe())));
        let scribe = Scribe {
            number: number(),
            urls: urls.clone(),
            recorder: recorder.clone(),
            seen,
            last: last.subscribe(),
        };
        let scribe = tokio::spawn(scribe.write_down());
        let watcher = |(number, prefix): (u32, &str)| Watcher {
            number,
            urls: urls.clone(),
            keys: Keys::Prefix(prefix.to_owned()),
            random: random.fork(),
            recorder: recorder.clone(),
            last: last.subscribe(),
        };
        let watchers: Vec<Watcher> = numbers.zip(WATCHED).map(watcher).collect();
        let watchers = watchers.into_iter().map(|watcher| tokio::spawn(watcher.watch())).collect();
        let reporter = tokio::spawn(report(urls, recorder.clone(), stop.clone()));
        Self { recorder, stop, last, sessions, scribe, watchers, reporter }
    }

    /// Waits until so many writes are acknowledged that are asked from now on.
    pub async fn writes_go_on(&self, pair: &Pair, count: usize) {
        let since = self.recorder.now();
        let is_new_write = |operation: &&Operation| {
            let answer = operation.acknowledged().map(|(_, answer)| answer);
            operation.invoked >= since
                && matches!(answer, Some(Answer::Txn { steps, .. }) if steps.contains(&StepAnswer::Put))
        };
        let probe = async || {
            let written = self.recorder.history().operations.iter().filter(is_new_write).count();
            (written >= count).then_some(())
        };
        pair.until(&format!("{count} new writes are acknowledged"), probe).await;
    }

    /// Everybody goes home; what they saw.
    pub async fn dismiss(self, pair: &mut Pair) -> History {
        pair.until_paired().await;
        self.stop.store(true, Ordering::SeqCst);
        for session in self.sessions {
            session.await.unwrap();
        }
        self.reporter.await.unwrap();
        let since = self.recorder.now();
        until_no_lease_holds_a_key(pair).await;
        let until = self.recorder.now();
        let (primary, secondary) = pair.until_in_sync().await;
        let last = primary.revision;
        self.last.send_replace(Some(last));
        for (watcher, prefix) in self.watchers.into_iter().zip(WATCHED) {
            let done = tokio::time::timeout(PATIENCE, watcher).await;
            assert!(done.is_ok(), "a watch of {prefix:?} does not show revision {last}");
            done.unwrap().unwrap();
        }
        for status in [&primary, &secondary] {
            let id = if status.appliance == "A" { A } else { B };
            self.recorder.report(whole_report(pair, id, status, self.recorder.now()).await);
        }
        let changes = tokio::time::timeout(PATIENCE, self.scribe).await;
        let changes = changes.unwrap_or_else(|_| panic!("the scribe does not see revision {last}")).unwrap();
        for id in [A, B] {
            let left = everything(pair, &self.recorder, id, last).await;
            self.recorder.watch(left.watch);
        }
        let mut history = std::mem::take(&mut *self.recorder.history());
        history.changes = changes;
        // A request that its client gave up may be carried out as long as an appliance holds it: what it does now comes after
        // everything that is judged.
        history.changes.retain(|change| change.revision <= last);
        for watch in &mut history.watches {
            watch.events.retain(|event| event.change.revision <= last);
        }
        history.quiet = Some(Quiet { since, until });
        history
    }
}

/// Notes each appliance's position again and again.
async fn report(urls: [String; 2], recorder: Arc<Recorder>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        for (appliance, url) in [A, B].into_iter().zip(&urls) {
            if let Ok(status) = duet::status::ask(url, Duration::from_millis(500)).await {
                let last = Some(position(&status));
                recorder.report(Report { appliance, at: recorder.now(), last, applied: None, hash: None });
            }
        }
        tokio::time::sleep(REPORTS).await;
    }
}

fn position(status: &StatusReport) -> (Lsn, Epoch, Digest) {
    let digest = u128::from_str_radix(&status.digest, 16).expect("32 hexadecimal digits");
    (Lsn(status.lsn), Epoch(status.epoch), Digest(digest.to_be_bytes()))
}

/// Of an appliance that has applied everything it has.
async fn whole_report(pair: &Pair, appliance: ApplianceId, status: &StatusReport, at: u64) -> Report {
    let request = pb::HashKvRequest { revision: status.revision };
    let hash = pair.client(appliance).maintenance().hash_kv(request).await.unwrap().into_inner();
    let hash = DataHash { revision: status.revision, compacted: hash.compact_revision, hash: hash.hash };
    let applied = Some((Lsn(status.applied), status.revision));
    Report { appliance, at, last: Some(position(status)), applied, hash: Some(hash) }
}

/// Waits until every lease has ended, or should have.
async fn until_no_lease_holds_a_key(pair: &Pair) {
    let begun = Instant::now();
    while begun.elapsed() < LEASES_END {
        let primary = pair.until_any_primary().await;
        let data = pair.client(primary).everything().await.unwrap_or_default();
        if !data.is_empty() && !data.keys().any(|key| key.starts_with("lease/")) {
            return;
        }
        tokio::time::sleep(REPORTS).await;
    }
}

/// Every change that is not compacted, as an appliance shows it.
async fn everything(pair: &Pair, recorder: &Recorder, id: ApplianceId, last: i64) -> Stream {
    let all = Keys::Prefix(String::new());
    let request = pb::HashKvRequest { revision: last };
    let hash = pair.client(id).maintenance().hash_kv(request).await.unwrap().into_inner();
    let from = hash.compact_revision.max(0) + 1;
    let mut stream = Stream::open(pair.client(id), id, u32::MAX, &all, from).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, stream.follow_to(recorder, last)).await;
    assert!(done.is_ok(), "{id} does not show everything up to revision {last}");
    stream.watch.complete_to = last;
    stream
}
