//! When each simple token was last used here.
//!
//! As in etcd a token ends when it is not used for a while, and lives on while it is. Each appliance counts for itself,
//! with its own monotonic clock. One that it sees for the first time (made at the other, or before a restart here) is taken
//! over if it was made not too long ago; one that has run out here stays so.

use std::collections::BTreeMap;
use std::time::Duration;

use duet_mvcc::UserId;
use duet_protocol::Instant;
use parking_lot::Mutex;

/// Tokens that are remembered, the ones that have run out included. Each takes some 50 bytes.
const REMEMBERED: usize = 65_536;

/// Age in seconds up to which a token is taken over that was never seen here: a client whose appliance fails need not log in
/// again within a day, and a token that was forgotten somewhere is worth nothing afterwards.
const TAKEN_OVER_SECONDS: u64 = 24 * 60 * 60;

/// A token: when it was made, by the wall clock of the appliance that made it, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Made {
    /// In seconds since 1970.
    pub(super) at: u64,
    pub(super) user: UserId,
}

#[derive(Default)]
struct Known {
    last_use: BTreeMap<Made, Instant>,
    /// Tokens made up to then may have been forgotten to make room: no such one is taken over any more.
    forgotten_until: u64,
}

/// See the module.
pub(super) struct UsedTokens {
    ttl: Duration,
    known: Mutex<Known>,
}

impl UsedTokens {
    pub(super) fn new(ttl: Duration) -> UsedTokens {
        UsedTokens { ttl, known: Mutex::default() }
    }

    /// A token was made here.
    pub(super) fn made(&self, token: Made, now: Instant) {
        let mut known = self.known.lock();
        known.make_room(self.ttl, now, token.at);
        known.last_use.insert(token, now);
    }

    /// A genuine token is used; whether it is still good. `day` is the wall clock's time in seconds.
    pub(super) fn used(&self, token: Made, now: Instant, day: u64) -> bool {
        let mut known = self.known.lock();
        if let Some(last) = known.last_use.get_mut(&token) {
            let good = now.since(*last) <= self.ttl;
            if good {
                *last = now;
            }
            return good;
        }
        if day.saturating_sub(token.at) > TAKEN_OVER_SECONDS || token.at <= known.forgotten_until {
            return false;
        }
        known.make_room(self.ttl, now, day);
        known.last_use.insert(token, now);
        true
    }
}

impl Known {
    fn make_room(&mut self, ttl: Duration, now: Instant, day: u64) {
        if self.last_use.len() < REMEMBERED {
            return;
        }
        // What has run out and is too old to be taken over again need not be remembered.
        self.last_use.retain(|token, last| {
            day.saturating_sub(token.at) <= TAKEN_OVER_SECONDS || now.since(*last) <= ttl
        });
        while self.last_use.len() >= REMEMBERED
            && let Some((oldest, _)) = self.last_use.pop_first()
        {
            self.forgotten_until = self.forgotten_until.max(oldest.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 1_800_000_000;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn made(at: u64) -> Made {
        Made { at, user: UserId(7) }
    }

    #[test]
    fn a_token_lives_while_it_is_used_and_stays_ended() {
        let used = UsedTokens::new(Duration::from_mins(5));
        used.made(made(DAY), at(1000));
        for second in (1000..3000).step_by(299) {
            assert!(used.used(made(DAY), at(second), DAY));
        }
        assert!(!used.used(made(DAY), at(4000), DAY));
        assert!(!used.used(made(DAY), at(4001), DAY), "a try in vain is no use");
    }

    #[test]
    fn a_token_made_elsewhere_is_taken_over_within_a_day() {
        let used = UsedTokens::new(Duration::from_mins(5));
        let age = |seconds| made(DAY - seconds);
        assert!(used.used(age(TAKEN_OVER_SECONDS), at(1), DAY));
        assert!(!used.used(age(TAKEN_OVER_SECONDS + 1), at(1), DAY));
        assert!(used.used(made(DAY + 3600), at(1), DAY), "made where the clock is ahead");
        assert!(used.used(age(TAKEN_OVER_SECONDS), at(300), DAY + 3600), "it goes on once it was taken over");
        assert!(!used.used(age(TAKEN_OVER_SECONDS), at(900), DAY));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_comes_back_to_life() {
        let used = UsedTokens::new(Duration::from_mins(5));
        let ended = made(DAY);
        used.made(ended, at(1));
        for number in 1..=REMEMBERED as u64 {
            used.made(made(DAY + number), at(500));
        }
        assert!(used.known.lock().last_use.len() <= REMEMBERED);
        assert!(!used.used(ended, at(1000), DAY + 100));
        assert!(used.used(made(DAY + REMEMBERED as u64), at(501), DAY));
    }
}
