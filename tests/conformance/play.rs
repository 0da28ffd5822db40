//! A sequence of steps, each done at both servers, whose answers must be equal.

use std::fmt::{Display, Formatter};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::watch_request::RequestUnion;
use tonic::transport::Channel;

use crate::servers::{CALL, Servers};
use crate::step::{Answer, LEASES, Step};
use crate::terms::{FROM_KEY, Terms};
use crate::watching::{Told, Watching};

/// How long the two may take to come to the same: an event, or what the secondary has yet to apply.
const SETTLING: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// How long one request for progress waits for its answer.
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// How long something may come that should not.
const SILENCE: Duration = Duration::from_millis(60);

/// Apart enough that no sequence meets another one's leases.
const LEASES_APART: i64 = 1000;

/// Numbers of sequences: each has keys and leases of its own, also when it is tried again.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// Two answers that should be equal.
#[derive(Debug)]
pub struct Difference {
    pub step: String,
    pub etcd: String,
    pub duet: String,
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}\n  etcd: {}\n  Duet: {}", self.step, self.etcd, self.duet)
    }
}

/// One server in the course of a sequence.
struct Side {
    channels: Vec<Channel>,
    /// Steps until now: they go round the channels.
    steps: usize,
    terms: Terms,
    /// The newest revision it told.
    revision: i64,
    watching: Watching,
}

impl Side {
    async fn begin(channels: &[Channel], number: i64, prefix: Bytes) -> Side {
        let first = usize::try_from(number).unwrap() % channels.len();
        let channels: Vec<Channel> =
            channels.iter().cycle().skip(first).take(channels.len()).cloned().collect();
        let all = pb::RangeRequest { key: Bytes::from_static(b"?"), ..Default::default() };
        let answer = KvClient::new(channels[0].clone()).range(all).await.unwrap().into_inner();
        let revision = answer.header.unwrap().revision;
        let terms = Terms { prefix, revision, lease: number * LEASES_APART };
        let watching = Watching::open(channels[0].clone(), terms.clone());
        Side { channels, steps: 0, terms, revision, watching }
    }

    /// Waits until every appliance has applied what was told.
    async fn caught_up(&self) {
        let request =
            pb::RangeRequest { key: Bytes::from_static(b"?"), serializable: true, ..Default::default() };
        let start = Instant::now();
        for channel in &self.channels {
            loop {
                let answer =
                    KvClient::new(channel.clone()).range(request.clone()).await.unwrap().into_inner();
                if answer.header.unwrap().revision >= self.revision {
                    break;
                }
                assert!(start.elapsed() < SETTLING, "an appliance does not catch up");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Waits until every appliance has applied a compaction, which has no revision of its own.
    async fn compacted(&self, revision: i64) {
        let below = revision - 1;
        if below < 1 {
            return;
        }
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"?"),
            serializable: true,
            revision: below,
            ..Default::default()
        };
        let start = Instant::now();
        for channel in &self.channels {
            while KvClient::new(channel.clone()).range(request.clone()).await.is_ok() {
                assert!(start.elapsed() < SETTLING, "an appliance does not compact");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn take(&mut self, step: &Step) -> String {
        self.steps += 1;
        if step.reads_here() {
            self.caught_up().await;
        }
        let channel = &self.channels[self.steps % self.channels.len()];
        match step {
            Step::Watch(request) => {
                let created = self.watching.created();
                self.watching.ask(RequestUnion::CreateRequest(self.terms.watch(request))).await;
                self.answered(|watching| watching.created() > created).await
            }
            Step::CancelWatch(id) => {
                let request = pb::WatchCancelRequest { watch_id: *id };
                self.watching.ask(RequestUnion::CancelRequest(request)).await;
                // No answer to the end of what is not there.
                self.answered(|watching| !watching.running().contains(id)).await
            }
            Step::Progress => self.progress().await,
            other => {
                let answer = tokio::time::timeout(CALL, other.call(channel, &self.terms)).await;
                let Ok(Answer { words, revision }) = answer else { return "no answer".to_owned() };
                self.revision = self.revision.max(revision.unwrap_or(0));
                if let (Step::Compact(request), Some(_)) = (step, revision) {
                    self.compacted(self.terms.revision(request.revision)).await;
                }
                words
            }
        }
    }

    async fn answered(&self, holds: impl Fn(&Watching) -> bool) -> String {
        let start = Instant::now();
        while !holds(&self.watching) {
            if start.elapsed() > SETTLING {
                return "no answer".to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
        "answered".to_owned()
    }

    /// Asks until there is an answer: etcd gives none while a watch has not caught up.
    async fn progress(&self) -> String {
        let before = self.watching.progress();
        if self.watching.running().is_empty() {
            return "nobody to tell".to_owned();
        }
        for _ in 0..SETTLING.as_millis() / ASKED_AGAIN.as_millis() {
            self.watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
            let answer = self.answered(|watching| watching.progress() > before);
            if tokio::time::timeout(ASKED_AGAIN, answer).await.is_ok() {
                return "answered".to_owned();
            }
        }
        "no answer".to_owned()
    }
}

/// See the module.
pub struct Play {
    etcd: Side,
    duet: Side,
}

impl Play {
    /// A sequence with keys of its own.
    pub async fn begin(servers: &Servers) -> Play {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        Self::with_prefix(servers, number, Bytes::from(format!("{number:06}/"))).await
    }

    /// A sequence whose keys are all there are: for what concerns the whole store.
    pub async fn with_the_whole_store(servers: &Servers) -> Play {
        Self::with_prefix(servers, NEXT.fetch_add(1, Ordering::SeqCst), Bytes::new()).await
    }

    async fn with_prefix(servers: &Servers, number: i64, prefix: Bytes) -> Play {
        let etcd = Side::begin(&servers.etcd, number, prefix.clone()).await;
        let duet = Side::begin(&servers.duet, number, prefix).await;
        Play { etcd, duet }
    }

    /// Does one step at both.
    pub async fn try_step(&mut self, step: &Step) -> Result<String, Difference> {
        if matches!(step, Step::Compact(_) | Step::CancelWatch(_)) {
            // What a watch is told must not depend on which of the two comes first.
            tokio::time::sleep(SILENCE).await;
            self.try_settle().await?;
        }
        let (etcd, duet) = tokio::join!(self.etcd.take(step), self.duet.take(step));
        if etcd == duet { Ok(etcd) } else { Err(Difference { step: step.to_string(), etcd, duet }) }
    }

    /// Waits until all watches were told the same.
    pub async fn try_settle(&mut self) -> Result<(), Difference> {
        let start = Instant::now();
        loop {
            let (etcd, duet) = (self.etcd.watching.told(), self.duet.watching.told());
            if etcd == duet {
                return Ok(());
            }
            if start.elapsed() > SETTLING {
                let step = "what the watches were told".to_owned();
                let shown = |told| format!("{told:#?}");
                return Err(Difference { step, etcd: shown(etcd), duet: shown(duet) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The end: watches have told everything, and nothing comes after that.
    pub async fn try_end(mut self) -> Result<(), Difference> {
        self.try_step(&Step::Progress).await?;
        self.try_settle().await?;
        tokio::time::sleep(SILENCE).await;
        let checked = self.try_settle().await;
        self.tidy_up().await;
        checked
    }

    /// Leaves nothing behind.
    pub async fn tidy_up(&mut self) {
        let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: FROM_KEY.into(), prev_kv: false };
        for step in LEASES.map(Step::Revoke).chain([Step::Delete(all)]) {
            tokio::join!(self.etcd.take(&step), self.duet.take(&step));
        }
    }

    /// Does one step at both, which must say the same; what they say.
    pub async fn step(&mut self, step: Step) -> String {
        self.try_step(&step).await.unwrap_or_else(|difference| panic!("{difference}"))
    }

    /// The same, and they must say so in these words, so that both do not fail alike.
    pub async fn step_says(&mut self, step: Step, words: &str) {
        let said = self.step(step.clone()).await;
        assert!(said.contains(words), "{step}\n  both say: {said}\n  expected: {words}");
    }

    /// Both, where they are meant to differ.
    pub async fn step_differs(&mut self, step: Step) -> Difference {
        let (etcd, duet) = tokio::join!(self.etcd.take(&step), self.duet.take(&step));
        assert_ne!(etcd, duet, "{step}: not a difference any more");
        Difference { step: step.to_string(), etcd, duet }
    }

    /// [`Play::try_settle`]; what the watches were told.
    pub async fn settle(&mut self) -> Told {
        self.try_settle().await.unwrap_or_else(|difference| panic!("{difference}"));
        self.etcd.watching.told()
    }

    /// What the watches of both were told until now.
    pub fn told(&self) -> (Told, Told) {
        (self.etcd.watching.told(), self.duet.watching.told())
    }

    /// [`Play::try_end`].
    pub async fn end(self) {
        self.try_end().await.unwrap_or_else(|difference| panic!("{difference}"));
    }
}
