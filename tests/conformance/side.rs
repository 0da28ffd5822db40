//! One server in the course of a sequence: what it was asked, by whom, and what has to be known of it to compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::auth_client::AuthClient;
use pb::kv_client::KvClient;
use pb::watch_request::RequestUnion;
use tonic::transport::Channel;

use crate::caller::{Caller, Token, caller};
use crate::play::PASSWORD;
use crate::servers::CALL;
use crate::step::{Answer, Step, said};
use crate::terms::Terms;
use crate::user_step::UserStep;
use crate::watching::{Told, Watching};

/// How long the two may take to come to the same: an event, or what the secondary has yet to apply.
pub const SETTLING: Duration = Duration::from_secs(10);

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(2);

/// How long one request for progress waits for its answer.
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// Apart enough that no sequence meets another one's leases.
const LEASES_APART: i64 = 1000;

/// Whoever does what keeps a sequence with users going; not one of its own users.
pub const STEWARD: &str = "steward";

/// Between the ids of two streams' watches as they are told.
const STREAMS_APART: i64 = 1000;

/// One server in the course of a sequence.
pub struct Side {
    channels: Vec<Channel>,
    /// Steps until now: they go round the channels.
    steps: usize,
    terms: Terms,
    /// The newest revision it told.
    revision: i64,
    /// Streams of watches: the present one, and before it those of former users.
    streams: Vec<Watching>,
    /// Who asks; nobody at first.
    who: &'static str,
    /// Of each user the token of its last login.
    tokens: BTreeMap<String, Token>,
    /// The steward's token while users are on.
    steward: Option<Token>,
}

impl Side {
    pub async fn begin(channels: &[Channel], number: i64, prefix: Bytes) -> Side {
        let first = usize::try_from(number).unwrap() % channels.len();
        let channels: Vec<Channel> =
            channels.iter().cycle().skip(first).take(channels.len()).cloned().collect();
        let all = pb::RangeRequest { key: Bytes::from_static(b"?"), ..Default::default() };
        let answer = KvClient::new(channels[0].clone()).range(all).await.unwrap().into_inner();
        let revision = answer.header.unwrap().revision;
        let terms = Terms { prefix, revision, lease: number * LEASES_APART };
        let streams = vec![Watching::open(caller(&channels[0], &Token::default()), terms.clone())];
        let tokens = BTreeMap::new();
        Side { channels, steps: 0, terms, revision, streams, who: "", tokens, steward: None }
    }

    /// What goes along with the next step.
    fn token(&self) -> Token {
        // Without users an old etcd refuses what it has not made, a new one takes everything.
        if self.who.is_empty() || self.steward.is_none() {
            return Token::default();
        }
        self.tokens.get(self.who).cloned().unwrap_or_else(|| Token::of("nobody.made.it"))
    }

    fn steward(&self, channel: &Channel) -> Caller {
        caller(channel, &self.steward.clone().unwrap_or_default())
    }

    /// A user at every server of this side, by its last login.
    pub fn callers(&self, name: &str) -> Vec<Caller> {
        let token = if name.is_empty() { Token::default() } else { self.tokens[name].clone() };
        self.channels.iter().map(|channel| caller(channel, &token)).collect()
    }

    fn watching(&self) -> &Watching {
        self.streams.last().expect("there is one from the beginning")
    }

    /// What is watched from now on is watched by whoever asks now.
    fn open_stream(&mut self) {
        let caller = caller(&self.channels[0], &self.token());
        self.streams.push(Watching::open(caller, self.terms.clone()));
    }

    pub fn told(&self) -> Told {
        let streams = self.streams.iter().zip(0..);
        let all = streams.flat_map(|(stream, number)| {
            stream.told().into_iter().map(move |(id, told)| (id + number * STREAMS_APART, told))
        });
        all.collect()
    }

    async fn log_in(&mut self, request: &pb::AuthenticateRequest) -> Answer {
        let channel = &self.channels[self.steps % self.channels.len()];
        let answer = AuthClient::new(channel.clone()).authenticate(request.clone()).await;
        said(answer, |answer| {
            self.tokens.insert(request.name.clone(), Token::of(&answer.token));
            answer.token = form(&answer.token);
            (answer.header, self.terms.header_back(&mut answer.header)).0
        })
    }

    /// After users changed: the steward's token is renewed if it has ended, and a revision comes that whoever has it
    /// knows the change.
    async fn users_changed(&mut self, step: &UserStep) {
        match step {
            UserStep::Disable => {
                self.steward = None;
                self.open_stream();
            }
            UserStep::Enable => {
                let request = pb::AuthenticateRequest { name: STEWARD.into(), password: PASSWORD.into() };
                let answer = AuthClient::new(self.channels[0].clone()).authenticate(request).await;
                self.steward = answer.ok().map(|answer| Token::of(&answer.into_inner().token));
            }
            _ => {}
        }
        let put = pb::PutRequest { key: Bytes::from_static(b"?"), ..Default::default() };
        let answer = KvClient::new(self.steward(&self.channels[0])).put(put).await.unwrap().into_inner();
        self.revision = answer.header.unwrap().revision;
    }

    /// Turns users off and forgets them all.
    pub async fn remove_users(&mut self) {
        let mut auth = AuthClient::new(self.steward(&self.channels[0]));
        auth.auth_disable(pb::AuthDisableRequest {}).await.unwrap();
        let mut auth = AuthClient::new(self.channels[0].clone());
        for name in auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users {
            auth.user_delete(pb::AuthUserDeleteRequest { name }).await.unwrap();
        }
        for role in auth.role_list(pb::AuthRoleListRequest {}).await.unwrap().into_inner().roles {
            auth.role_delete(pb::AuthRoleDeleteRequest { role }).await.unwrap();
        }
        (self.who, self.steward) = ("", None);
    }

    /// Waits until every appliance has applied what was told.
    pub async fn caught_up(&self) {
        let request =
            pb::RangeRequest { key: Bytes::from_static(b"?"), serializable: true, ..Default::default() };
        let start = Instant::now();
        for channel in &self.channels {
            loop {
                let mut kv = KvClient::new(self.steward(channel));
                let answer = kv.range(request.clone()).await.unwrap().into_inner();
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
            while KvClient::new(self.steward(channel)).range(request.clone()).await.is_ok() {
                assert!(start.elapsed() < SETTLING, "an appliance does not compact");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    pub async fn take(&mut self, step: &Step) -> String {
        self.steps += 1;
        // What an appliance knows of users by itself counts for more than reads.
        if step.reads_here() || self.steward.is_some() {
            self.caught_up().await;
        }
        match step {
            Step::Watch(request) => {
                let created = self.watching().created();
                self.watching().ask(RequestUnion::CreateRequest(self.terms.watch(request))).await;
                self.answered(|watching| watching.created() > created).await
            }
            Step::CancelWatch(id) => {
                let request = pb::WatchCancelRequest { watch_id: *id };
                self.watching().ask(RequestUnion::CancelRequest(request)).await;
                // No answer to the end of what is not there.
                self.answered(|watching| !watching.running().contains(id)).await
            }
            Step::Progress => self.progress().await,
            Step::As(name) => {
                self.who = name;
                self.open_stream();
                "done".to_owned()
            }
            other => self.call(other).await,
        }
    }

    /// A step that is one call.
    async fn call(&mut self, step: &Step) -> String {
        let caller = caller(&self.channels[self.steps % self.channels.len()], &self.token());
        let terms = self.terms.clone();
        let answer = async {
            match step {
                Step::LogIn(request) => self.log_in(request).await,
                other => other.call(caller, &terms).await,
            }
        };
        let answer = tokio::time::timeout(CALL, answer).await;
        let Ok(Answer { words, revision: Some(revision) }) = answer else {
            return answer.map_or("no answer".to_owned(), |refused| refused.words);
        };
        self.revision = self.revision.max(revision);
        match step {
            Step::Compact(request) => self.compacted(self.terms.revision(request.revision)).await,
            Step::Users(step) if step.changes() => self.users_changed(step).await,
            _ => {}
        }
        words
    }

    async fn answered(&self, holds: impl Fn(&Watching) -> bool) -> String {
        let start = Instant::now();
        while !holds(self.watching()) {
            if start.elapsed() > SETTLING {
                return "no answer".to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
        "answered".to_owned()
    }

    /// Asks until there is an answer: etcd gives none while a watch has not caught up.
    async fn progress(&self) -> String {
        let before = self.watching().progress();
        if self.watching().running().is_empty() {
            return "nobody to tell".to_owned();
        }
        for _ in 0..SETTLING.as_millis() / ASKED_AGAIN.as_millis() {
            self.watching().ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
            let answer = self.answered(|watching| watching.progress() > before);
            if tokio::time::timeout(ASKED_AGAIN, answer).await.is_ok() {
                return "answered".to_owned();
            }
        }
        "no answer".to_owned()
    }
}

/// A token without what is drawn for each.
fn form(token: &str) -> String {
    let form = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' => 'a',
        '0'..='9' => '0',
        other => other,
    };
    let text: String = token.chars().map(form).collect();
    // The last part is a number of any length.
    text.trim_end_matches('0').to_owned()
}
