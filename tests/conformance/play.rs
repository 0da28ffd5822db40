//! A sequence of steps, each done at both servers, whose answers must be equal.

use std::fmt::{Display, Formatter};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;

use crate::caller::Caller;
use crate::requests::log_in;
use crate::servers::Servers;
use crate::side::{LOOK, SETTLING, STEWARD, Side};
use crate::step::{LEASES, Step};
use crate::terms::FROM_KEY;
use crate::user_step::UserStep;
use crate::watching::Told;

/// How long something may come that should not.
const SILENCE: Duration = Duration::from_millis(60);

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

/// May do everything.
pub const ROOT: &str = "root";

/// The password of every user that a sequence begins with.
pub const PASSWORD: &str = "pw";

/// See the module.
pub struct Play {
    etcd: Side,
    duet: Side,
    has_users: bool,
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

    /// A sequence while users are on: `root`, who may do everything, asks first. Users are the whole store's, so no other
    /// sequence may run beside it.
    pub async fn with_users(servers: &Servers) -> Play {
        let mut play = Self::begin(servers).await;
        play.has_users = true;
        for name in [STEWARD, ROOT] {
            let request = pb::AuthUserAddRequest {
                name: name.to_owned(),
                password: PASSWORD.to_owned(),
                ..Default::default()
            };
            play.step(Step::Users(UserStep::Add(request))).await;
            let (user, role) = (name.to_owned(), ROOT.to_owned());
            play.step(Step::Users(UserStep::GrantRole { user, role })).await;
        }
        play.step(Step::Users(UserStep::Enable)).await;
        play.step(log_in(ROOT, PASSWORD)).await;
        play.step(Step::As(ROOT)).await;
        play
    }

    async fn with_prefix(servers: &Servers, number: i64, prefix: Bytes) -> Play {
        let etcd = Side::begin(&servers.etcd, number, prefix.clone()).await;
        let duet = Side::begin(&servers.duet, number, prefix).await;
        Play { etcd, duet, has_users: false }
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
            let (etcd, duet) = (self.etcd.told(), self.duet.told());
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
        let checked = self.try_finish().await;
        self.tidy_up().await;
        checked
    }

    async fn try_finish(&mut self) -> Result<(), Difference> {
        self.try_step(&Step::Progress).await?;
        self.try_settle().await?;
        tokio::time::sleep(SILENCE).await;
        self.try_settle().await
    }

    /// Leaves nothing behind.
    pub async fn tidy_up(&mut self) {
        if self.has_users {
            tokio::join!(self.etcd.remove_users(), self.duet.remove_users());
        }
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

    /// Both, where Duet is meant to say these words and some versions of etcd say others.
    pub async fn step_says_here(&mut self, step: Step, words: &str) {
        let (etcd, duet) = tokio::join!(self.etcd.take(&step), self.duet.take(&step));
        assert!(duet.contains(words), "{step}\n  Duet: {duet}\n  expected: {words}\n  etcd: {etcd}");
    }

    /// A user who has logged in, or nobody, at the etcd and at each appliance.
    pub fn callers(&self, name: &str) -> (Vec<Caller>, Vec<Caller>) {
        (self.etcd.callers(name), self.duet.callers(name))
    }

    /// [`Play::try_settle`]; what the watches were told.
    pub async fn settle(&mut self) -> Told {
        self.try_settle().await.unwrap_or_else(|difference| panic!("{difference}"));
        self.etcd.told()
    }

    /// What the watches of both were told until now.
    pub fn told(&self) -> (Told, Told) {
        (self.etcd.told(), self.duet.told())
    }

    /// [`Play::try_end`].
    pub async fn end(self) {
        self.try_end().await.unwrap_or_else(|difference| panic!("{difference}"));
    }
}
