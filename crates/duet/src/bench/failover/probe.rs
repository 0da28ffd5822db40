//! Dense writes while something happens: when each succeeded, which failed, and whether all that succeeded are there
//! afterwards.
//!
//! Each write has a key of its own, so that one that is lost is missed. A writer whose request fails or takes longer than
//! its patience turns to the next endpoint.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};

use super::super::lane::{Lane, Rpc};
use super::super::load::{deadline, on_a_thread};
use super::super::schedule::Schedule;
use super::super::workload::noise;
use crate::error::Failure;

/// One question after what was written.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Keys in one answer.
const PAGE: i64 = 10_000;

/// How to probe.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// Where.
    pub endpoints: Vec<String>,
    /// Keys begin with this, and it ends with a slash.
    pub prefix: String,
    /// Requests under way at the same time.
    pub writers: usize,
    /// Writes a second.
    pub rate: u64,
    /// How long a writer waits for an answer.
    pub patience: Duration,
    /// Bytes in a value.
    pub value_size: usize,
}

/// What the writers saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When each write that succeeded was answered, in order.
    pub successes: Vec<Instant>,
    /// Keys whose write was acknowledged.
    pub acknowledged: Vec<Bytes>,
    /// What else became of writes: kinds and numbers.
    pub failures: BTreeMap<String, u64>,
}

/// Writers at work.
pub struct Probe {
    schedule: Arc<Schedule>,
    began: Instant,
    /// When the last success was, in nanoseconds since the beginning.
    last_success: Arc<AtomicU64>,
    work: tokio::task::JoinHandle<Result<Seen, Failure>>,
}

impl Probe {
    /// Sets writers to work until they are stopped.
    pub fn start(plan: ProbePlan) -> Self {
        let schedule = Schedule::new(plan.rate);
        let (began, last_success) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        schedule.clone().pace(None);
        let (due, last) = (schedule.clone(), last_success.clone());
        let work = tokio::spawn(on_a_thread(async move || Ok(write_all(plan, due, began, last).await)));
        Self { schedule, began, last_success, work }
    }

    /// How long ago the last success was.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_nanos(self.last_success.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }

    /// Stops the writers; gives what they saw.
    pub async fn stop(self) -> Result<Seen, Failure> {
        self.schedule.end();
        self.work.await.unwrap_or_else(|_| Err(Failure::new("the writers broke off", "please report it")))
    }
}

async fn write_all(
    plan: ProbePlan,
    schedule: Arc<Schedule>,
    began: Instant,
    last_success: Arc<AtomicU64>,
) -> Seen {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let value = noise(plan.value_size);
    let writers: Vec<_> = (0..plan.writers)
        .map(|writer| {
            let lane = Lane::new(plan.endpoints.clone(), writer);
            let (seen, value, schedule) = (seen.clone(), value.clone(), schedule.clone());
            let (prefix, patience, last) = (plan.prefix.clone(), plan.patience, last_success.clone());
            tokio::task::spawn_local(async move {
                let mut number = 0;
                while schedule.next().await.is_some() {
                    let key = Bytes::from(format!("{prefix}{writer:03}/{number:07}"));
                    number += 1;
                    let put = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
                    match attempt(&lane, &put, patience).await {
                        Ok(()) => {
                            let now = Instant::now();
                            let nanos = u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX);
                            last.store(nanos, Ordering::Relaxed);
                            let mut seen = seen.borrow_mut();
                            seen.successes.push(now);
                            seen.acknowledged.push(key);
                        }
                        Err(kind) => {
                            *seen.borrow_mut().failures.entry(kind).or_default() += 1;
                            lane.turn_away();
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.ok();
    }
    seen.take()
}

async fn attempt(lane: &Lane, put: &PutRequest, patience: Duration) -> Result<(), String> {
    let whole = async {
        let mut caller = lane.caller().await?;
        deadline(patience, caller.call(Rpc::Put, put)).await
    };
    let silent = |_| Err(format!("no answer within {} s", patience.as_secs_f64()));
    tokio::time::timeout(patience, whole).await.unwrap_or_else(silent)
}

/// Which of `acknowledged` are not there: read linearizably, page by page.
pub async fn lost(
    endpoints: Vec<String>,
    prefix: String,
    acknowledged: Vec<Bytes>,
) -> Result<Vec<Bytes>, Failure> {
    on_a_thread(async move || {
        let lane = Lane::new(endpoints, 0);
        let there = read_all(&lane, &prefix).await.map_err(|error| {
            Failure::new(format!("what was written could not be read again: {error}"), "try again")
        })?;
        Ok(missing(acknowledged, &there))
    })
    .await
}

fn missing(acknowledged: Vec<Bytes>, there: &HashSet<Bytes>) -> Vec<Bytes> {
    acknowledged.into_iter().filter(|key| !there.contains(key)).collect()
}

async fn read_all(lane: &Lane, prefix: &str) -> Result<HashSet<Bytes>, String> {
    let range_end = Bytes::from(prefix.trim_end_matches('/').to_owned() + "0");
    let (mut there, mut from) = (HashSet::new(), Bytes::from(prefix.to_owned()));
    loop {
        let request = RangeRequest {
            key: from.clone(),
            range_end: range_end.clone(),
            keys_only: true,
            limit: PAGE,
            ..Default::default()
        };
        let mut caller = lane.caller().await?;
        let answer: RangeResponse = deadline(ASK_DEADLINE, caller.ask(Rpc::Range, &request)).await?;
        let last = answer.kvs.last().map(|kv| kv.key.clone());
        there.extend(answer.kvs.into_iter().map(|kv| kv.key));
        match last.filter(|_| answer.more) {
            // The key right after the last one.
            Some(last) => from = Bytes::from([last.as_ref(), &[0]].concat()),
            None => return Ok(there),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_is_missed() {
        let key = |name: &'static str| Bytes::from_static(name.as_bytes());
        let there: HashSet<Bytes> = [key("a"), key("c"), key("d")].into();
        assert_eq!(missing(vec![key("a"), key("b"), key("c")], &there), [key("b")]);
        assert!(missing(Vec::new(), &there).is_empty());
    }
}
