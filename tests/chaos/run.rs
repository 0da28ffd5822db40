//! One run: a pair, its clients, storms from a seed, then peace; and the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duet_checkers::{
    Change, DataHash, History, Keys, Operation, Outcome, Quiet, Report, Request, Txn, check, linearizability,
};
use duet_etcd_api::etcdserverpb as pb;
use duet_protocol::ApplianceId::{self, A, B};
use duet_protocol::{Digest, Epoch, Lsn};
use duet_server::StatusReport;
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, Pair, Witness};
use crate::nemesis::Nemesis;
use crate::random::Random;
use crate::recorder::Recorder;
use crate::schedule;
use crate::support::small_disk::SmallDisk;
use crate::watchers::{Stream, Watcher};
use crate::workload::{REGISTERS, Session};

/// Clients that use keys, leases, watches.
const KEY_CLIENTS: u32 = 6;
const LEASE_CLIENTS: u32 = 2;
const WATCHED: [&str; 4] = ["", "", "k/", "r/"];
/// Between two looks at the appliances' status.
const REPORTS: Duration = Duration::from_millis(100);
/// Room for two segments of the log, the spare one and the state store.
const SMALL_DISK_MIB: u32 = 300;
/// Leases of 3 s must be gone after this much quiet (the checkers allow 10 s more than their time).
const LEASES_END: Duration = Duration::from_secs(14);
/// Steps of the search for an order, for each register.
const BUDGET: usize = 300_000;
/// Fewer acknowledged operations than this prove nothing.
const LEAST: usize = 300;

/// Tells how to repeat a run that fails.
struct Confession<'a> {
    seed: u64,
    seconds: u64,
    nemesis: &'a mut Nemesis,
}

impl Drop for Confession<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, seconds) = (self.seed, self.seconds);
            println!("what was done to the pair:\n{}", self.nemesis.diary.join("\n"));
            println!(
                "again: DUET_CHAOS_SEED={seed} DUET_CHAOS_SECONDS={seconds} cargo test --test chaos -- --nocapture storms"
            );
        }
    }
}

/// Storms for so many seconds, then the verdict.
pub async fn run(seed: u64, seconds: u64) {
    println!("seed {seed}, storms for {seconds} s");
    let mut random = Random::new(seed);
    let mut pair = Pair::lay_out_with_lines(Witness::Server).await;
    pair.make_armable();
    let small = random.pick(&[A, B]);
    let disk = SmallDisk::mount(&pair.data(small), SMALL_DISK_MIB);
    match disk {
        Some(_) => println!("the disk of {small} is a small one"),
        None => println!("skipped: a disk that is truly full needs root; refusals stand in for it"),
    }
    pair.start_new().await;
    let start = Instant::now();
    let mut nemesis = Nemesis::new(start, disk.map(|disk| (small, disk)));
    let confession = Confession { seed, seconds, nemesis: &mut nemesis };
    let crowd = Crowd::gather(&pair, &mut random, start);
    while start.elapsed() < Duration::from_secs(seconds) {
        let storm = schedule::storm(&mut random);
        confession.nemesis.storm(&mut pair, &storm).await;
    }
    for (what, times) in &confession.nemesis.tally {
        println!("{times:>5} {what}");
    }
    let history = crowd.dismiss(&mut pair).await;
    judge(&history);
}

/// Everybody who uses the pair.
struct Crowd {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    last: tokio::sync::watch::Sender<Option<i64>>,
    sessions: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
    reporter: JoinHandle<()>,
}

impl Crowd {
    fn gather(pair: &Pair, random: &mut Random, start: Instant) -> Self {
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
        let watcher = |(number, prefix): (u32, &str)| Watcher {
            number,
            urls: urls.clone(),
            keys: Keys::Prefix(prefix.to_owned()),
            random: random.fork(),
            recorder: recorder.clone(),
            last: last.subscribe(),
        };
        let numbers = KEY_CLIENTS + LEASE_CLIENTS..;
        let watchers: Vec<Watcher> = numbers.zip(WATCHED).map(watcher).collect();
        let watchers = watchers.into_iter().map(|watcher| tokio::spawn(watcher.watch())).collect();
        let reporter = tokio::spawn(report(urls, recorder.clone(), stop.clone()));
        Self { recorder, stop, last, sessions, watchers, reporter }
    }

    /// Everybody goes home; what they saw.
    async fn dismiss(self, pair: &mut Pair) -> History {
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
        let truth = everything(pair, &self.recorder, A, last).await;
        let copy = everything(pair, &self.recorder, B, last).await;
        let mut history = std::mem::take(&mut *self.recorder.history());
        history.changes =
            truth.watch.events.iter().map(|event| event.change.clone()).collect::<Vec<Change>>();
        history.watches.extend([truth.watch, copy.watch]);
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

/// Every change there ever was, as an appliance shows it.
async fn everything(pair: &Pair, recorder: &Recorder, id: ApplianceId, last: i64) -> Stream {
    let all = Keys::Prefix(String::new());
    let mut stream = Stream::open(pair.client(id), id, u32::MAX, &all, 1).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, stream.follow_to(recorder, last)).await;
    assert!(done.is_ok(), "{id} does not show everything up to revision {last}");
    stream.watch.complete_to = last;
    stream
}

fn judge(history: &History) {
    let operations = &history.operations;
    let count =
        |is: fn(&Outcome) -> bool| operations.iter().filter(|operation| is(&operation.outcome)).count();
    let acknowledged = count(|outcome| matches!(outcome, Outcome::Acknowledged { .. }));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    let events: usize = history.watches.iter().map(|watch| watch.events.len()).sum();
    println!(
        "{acknowledged} operations acknowledged, {unknown} unknown, {} failed; {} changes; {} watches were \
         shown {events} events; {} reports",
        operations.len() - acknowledged - unknown,
        history.changes.len(),
        history.watches.len(),
        history.reports.len(),
    );
    let violations: Vec<String> = check(history).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "broken promises:\n{}", violations.join("\n"));
    let registers: Vec<Operation> =
        operations.iter().filter(|operation| is_about_a_register(operation)).cloned().collect();
    match linearizability::check(&registers, BUDGET) {
        Ok(found) => println!("an order by values alone: {found:?}"),
        Err(violation) => panic!("broken promise: {violation}"),
    }
    assert!(acknowledged > LEAST, "so few operations prove nothing: {acknowledged}");
    assert!(events > 0 && !history.reports.is_empty());
}

fn is_about_a_register(operation: &Operation) -> bool {
    let Request::Txn(Txn { then, .. }) = &operation.request else { return false };
    let [step] = &then[..] else { return false };
    match step {
        duet_checkers::Step::Get(Keys::One(key)) | duet_checkers::Step::Delete(Keys::One(key)) => {
            key.starts_with(REGISTERS)
        }
        duet_checkers::Step::Put { key, .. } => key.starts_with(REGISTERS),
        _ => false,
    }
}
