//! Random acts, and the history a store makes of them that does one after the other.

use duet_checkers::{Answer, Compare, Condition, Keys, Outcome, Request, Step, Time, Txn};
use duet_protocol::ApplianceId::{A, B};
use proptest::prelude::*;

use crate::support::{SECOND, Story, When};

/// Between two operations of the store.
const STEP: Time = SECOND / 10;
/// Time to live of every lease.
const TTL: i64 = 3;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Put,
    Delete,
    Get,
    GetOld(u8),
    GetAll,
    /// Put if it is absent, else read.
    Create,
    /// Put two keys if the first holds what was written last.
    Exchange,
    Grant,
    PutWithLease,
    KeepAlive,
    Revoke,
    Watch(u8),
    Report,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Answered,
    DoneUnheard,
    NeverDone,
    Refused,
}

#[derive(Clone, Debug)]
pub struct Act {
    pub kind: Kind,
    pub fate: Fate,
    pub client: u32,
    pub key: u8,
    /// So long before it is done it is asked, and so long after it is answered, in steps.
    pub before: u64,
    pub after: u64,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Put),
        2 => Just(Kind::Delete),
        4 => Just(Kind::Get),
        2 => any::<u8>().prop_map(Kind::GetOld),
        1 => Just(Kind::GetAll),
        2 => Just(Kind::Create),
        1 => Just(Kind::Exchange),
        1 => Just(Kind::Grant),
        2 => Just(Kind::PutWithLease),
        1 => Just(Kind::KeepAlive),
        1 => Just(Kind::Revoke),
        1 => any::<u8>().prop_map(Kind::Watch),
        1 => Just(Kind::Report),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Answered),
        1 => Just(Fate::DoneUnheard),
        1 => Just(Fate::NeverDone),
        1 => Just(Fate::Refused),
    ]
}

pub fn act() -> impl Strategy<Value = Act> {
    (kind(), fate(), 0..5_u32, 0..4_u8, 0..12_u64, 0..12_u64)
        .prop_map(|(kind, fate, client, key, before, after)| Act { kind, fate, client, key, before, after })
}

/// Plays acts; what comes of it is a good history.
#[derive(Default)]
pub struct Play {
    story: Story,
    now: Time,
    /// Lease and when it ends.
    leases: Vec<(i64, Time)>,
    granted: i64,
    values: u64,
}

impl Play {
    pub fn of(acts: &[Act]) -> Story {
        let mut play = Self { story: Story::new(), now: 2 * SECOND, ..Self::default() };
        for act in acts {
            play.now += STEP;
            play.expire();
            play.take(act);
        }
        play.now += 2 * SECOND;
        play.story.watch(Keys::Prefix(String::new()), 1, play.now);
        play.story.report(A, play.now);
        play.story.report(B, play.now);
        play.story
    }

    fn expire(&mut self) {
        let over: Vec<(i64, Time)> =
            self.leases.iter().copied().filter(|(_, end)| *end <= self.now).collect();
        for (lease, _) in over {
            self.story.end_lease(lease);
            self.leases.retain(|(it, _)| *it != lease);
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("value {}", self.values)
    }

    fn request(&mut self, act: &Act) -> Option<Request> {
        let key = format!("k/{}", act.key);
        let lease = self.leases.first().map(|(lease, _)| *lease);
        let value = self.value();
        let put = |key: &str, value: &str, lease| Step::Put { key: key.into(), value: value.into(), lease };
        Some(match act.kind {
            Kind::Put => Request::Txn(Txn::put(key, value)),
            Kind::Delete => Request::Txn(Txn::delete(key)),
            Kind::Get => Request::Txn(Txn::get(key)),
            Kind::GetAll => Request::Txn(Txn::of(Step::Get(Keys::Prefix("k/".into())))),
            Kind::Create => Request::Txn(Txn {
                conditions: vec![Condition { key: key.clone(), compare: Compare::CreateRevision(0) }],
                then: vec![put(&key, &value, 0)],
                otherwise: vec![Step::Get(Keys::One(key))],
            }),
            Kind::Exchange => {
                let held =
                    self.story.state_at(self.story.revision()).get(&key).map(|held| held.value.clone());
                Request::Txn(Txn {
                    conditions: vec![Condition { key: key.clone(), compare: Compare::Value(held?) }],
                    then: vec![put(&key, &value, 0), put("k/x", &value, 0)],
                    otherwise: vec![],
                })
            }
            Kind::Grant => Request::Grant { lease: self.granted + 1, ttl: TTL },
            Kind::PutWithLease => Request::Txn(Txn::of(put(&key, &value, lease?))),
            Kind::KeepAlive => Request::KeepAlive { lease: lease? },
            Kind::Revoke => Request::Revoke { lease: lease? },
            Kind::GetOld(_) | Kind::Watch(_) | Kind::Report => return None,
        })
    }

    fn take(&mut self, act: &Act) {
        let when = When {
            client: act.client,
            from: self.now - act.before * STEP + 1,
            to: self.now + act.after * STEP + 1,
        };
        let back = |steps: u8| i64::from(steps) % self.story.revision();
        match act.kind {
            // It is seen when it is done, so the past is not older than it was when it was asked.
            Kind::GetOld(steps) => {
                let revision = self.story.revision() - back(steps);
                self.story.get_old(when, &format!("k/{}", act.key), revision);
            }
            Kind::Watch(steps) => {
                let from = self.story.revision() - back(steps);
                self.story.watch(Keys::Prefix("k/".into()), from, when.to);
            }
            Kind::Report => self.story.report(if act.key < 2 { A } else { B }, when.to),
            _ => {
                let Some(request) = self.request(act) else { return };
                self.ask(act.fate, when, request);
            }
        }
    }

    fn ask(&mut self, fate: Fate, when: When, request: Request) {
        match fate {
            Fate::NeverDone | Fate::Refused => {
                self.story.ask_in_vain(when, request, fate == Fate::Refused);
                return;
            }
            Fate::Answered | Fate::DoneUnheard => {}
        }
        let ttl = TTL.unsigned_abs() * SECOND;
        match &request {
            Request::Grant { lease, .. } => {
                self.granted = *lease;
                self.leases.push((*lease, self.now + ttl));
            }
            Request::KeepAlive { lease } => {
                self.leases
                    .iter_mut()
                    .filter(|(it, _)| it == lease)
                    .for_each(|(_, end)| *end = self.now + ttl);
            }
            Request::Revoke { lease } => self.leases.retain(|(it, _)| it != lease),
            _ => {}
        }
        if fate == Fate::DoneUnheard {
            self.story.ask_unheard(when, request);
            return;
        }
        let renewal = matches!(request, Request::KeepAlive { .. });
        let index = self.story.ask(when, request);
        if renewal {
            let answer = Answer::Lease { revision: self.story.revision(), ttl: Some(TTL) };
            self.story.history.operations[index].outcome = Outcome::Acknowledged { at: when.to, answer };
        }
    }
}
