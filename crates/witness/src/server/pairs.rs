//! The pairs a server knows: who may touch which record, how often, and when each was here last.
//!
//! A name that was registered needs its token, always. Other names are served only by a server that is open. All of it is in
//! memory, about 120 bytes for each pair; the fingerprints are in the data file too.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::ServeError;
use super::limits::PAIR_REST_SECONDS;
use super::store::Store;
use crate::ClusterName;
use crate::planted::Bug;
use crate::token::Fingerprint;

/// The tokens of a pair: one, and the one before it until it is ended. None: the pair is not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tokens {
    pub current: Option<Fingerprint>,
    pub previous: Option<Fingerprint>,
}

impl Tokens {
    /// A new token beside the one until now, which holds until it is ended: two appliances do not change theirs at one moment.
    pub fn rotated(self, new: Fingerprint) -> Self {
        Self { current: Some(new), previous: self.current }
    }

    /// The newest alone.
    pub fn newest(self) -> Self {
        if Bug::EndedTokenTaken.planted() { self } else { Self { previous: None, ..self } }
    }

    /// As the data file has them.
    pub fn encode(self) -> Vec<u8> {
        [self.current, self.previous].into_iter().flatten().flat_map(|one| one.0).collect()
    }

    /// Those of a pair whose tokens cannot be read: nobody has them.
    pub fn nobodys() -> Self {
        Self { current: Some(Fingerprint([0; Fingerprint::BYTES])), previous: None }
    }

    /// `None` if these are no tokens.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (all, rest) = bytes.as_chunks::<{ Fingerprint::BYTES }>();
        let good = rest.is_empty() && (1..=2).contains(&all.len());
        let one = |place: usize| all.get(place).copied().map(Fingerprint);
        good.then(|| Self { current: one(0), previous: one(1) })
    }

    fn accept(&self, presented: Fingerprint) -> bool {
        let of = |one: Option<Fingerprint>| one == Some(presented);
        of(self.current) || of(self.previous)
    }
}

/// Why a request is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It has no token.
    NoToken,
    /// Its token is not that of a pair of this name.
    WrongToken,
    /// The pair asks too often.
    TooOften,
}

/// A pair for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairSeen {
    /// The cluster's name.
    pub name: String,
    /// Tokens it may use: none if it is not registered, two while an old one still holds.
    pub tokens: u8,
    /// Whether there is a record.
    pub record: bool,
    /// Seconds since its last request; `None`: none since the server was started.
    pub last_request_seconds: Option<u32>,
    /// Seconds since its last write.
    pub last_write_seconds: Option<u32>,
}

/// What is kept for one pair.
#[derive(Default)]
struct Pair {
    tokens: Tokens,
    record: bool,
    /// Seconds of the server's life, plus one; 0 is never.
    requested: u32,
    written: u32,
    /// Requests it may make at once.
    left: u32,
}

/// All pairs.
pub(super) struct Pairs {
    open: bool,
    /// Requests a second that a registered pair may make in the long run.
    rate: u32,
    started: Instant,
    table: Mutex<HashMap<Box<str>, Pair>>,
}

impl Pairs {
    pub fn new(open: bool, rate: u32) -> Self {
        Self { open, rate, started: Instant::now(), table: Mutex::default() }
    }

    /// Those that the data file holds.
    pub fn load(open: bool, rate: u32, store: &Store, directory: &Path) -> Result<Self, ServeError> {
        let pairs = Self::new(open, rate);
        store.load(&pairs).map_err(|error| {
            let message = error.to_string();
            ServeError::Disk { directory: directory.to_owned(), message }
        })?;
        Ok(pairs)
    }

    /// Requests a second that a registered pair may make.
    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// Whether names that are not registered are served.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a request for this pair's record is to be carried out. Only the pair's own requests count against its
    /// share: a stranger cannot use it up.
    pub fn admit(&self, name: &ClusterName, presented: Option<Fingerprint>) -> Result<(), Refused> {
        let now = self.now();
        let mut table = self.table();
        let pair = table.get_mut(name.as_str());
        if !Self::may(self.open, pair.as_deref(), presented) {
            return Err(if presented.is_none() { Refused::NoToken } else { Refused::WrongToken });
        }
        let Some(pair) = pair else { return Ok(()) };
        let rested = if pair.requested == 0 { PAIR_REST_SECONDS } else { now - pair.requested.min(now) };
        let most = self.rate.saturating_mul(PAIR_REST_SECONDS);
        pair.left = pair.left.saturating_add(rested.saturating_mul(self.rate)).min(most);
        pair.requested = now;
        // Whoever runs an open server trusts all who reach it.
        if pair.tokens.current.is_some() && !Bug::PairUnlimited.planted() {
            pair.left = pair.left.checked_sub(1).ok_or(Refused::TooOften)?;
        }
        Ok(())
    }

    /// Whether that is still so, at the moment when a write is handed over: receiving it took its time.
    pub fn still_admits(&self, name: &ClusterName, presented: Option<Fingerprint>) -> bool {
        Self::may(self.open, self.table().get(name.as_str()), presented)
    }

    fn may(open: bool, pair: Option<&Pair>, presented: Option<Fingerprint>) -> bool {
        if Bug::TokenUnchecked.planted() {
            return true;
        }
        match pair.filter(|pair| pair.tokens.current.is_some()) {
            Some(_) if Bug::AnyTokenTaken.planted() => presented.is_some(),
            Some(pair) => presented.is_some_and(|presented| pair.tokens.accept(presented)),
            None => open,
        }
    }

    /// The tokens of a pair; none if it is not registered.
    pub fn tokens(&self, name: &str) -> Tokens {
        self.table().get(name).map(|pair| pair.tokens).unwrap_or_default()
    }

    /// What the data file holds from now on.
    pub fn set_tokens(&self, name: &str, tokens: Tokens) {
        self.table().entry(name.into()).or_default().tokens = tokens;
    }

    /// The data file holds nothing of this pair any more.
    pub fn forget(&self, name: &str) {
        self.table().remove(name);
    }

    /// There is a record of this pair.
    pub fn note_record(&self, name: &str) {
        self.table().entry(name.into()).or_default().record = true;
    }

    /// Its record was written just now.
    pub fn note_write(&self, name: &ClusterName) {
        let now = self.now();
        let mut table = self.table();
        if let Some(pair) = table.get_mut(name.as_str()) {
            (pair.record, pair.written) = (true, now);
        } else {
            let pair = Pair { record: true, requested: now, written: now, ..Pair::default() };
            table.insert(name.as_str().into(), pair);
        }
    }

    /// How many are registered.
    pub fn registered(&self) -> usize {
        self.table().values().filter(|pair| pair.tokens.current.is_some()).count()
    }

    /// How many were here within so many seconds.
    pub fn seen_within(&self, seconds: u32) -> usize {
        let since = self.now().saturating_sub(seconds);
        self.table().values().filter(|pair| pair.requested > since).count()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<PairSeen> {
        let now = self.now();
        let ago = |then: u32| (then > 0).then(|| now - then.min(now));
        let table = self.table();
        let mut list: Vec<_> = table
            .iter()
            .map(|(name, pair)| PairSeen {
                name: name.to_string(),
                tokens: u8::from(pair.tokens.current.is_some()) + u8::from(pair.tokens.previous.is_some()),
                record: pair.record,
                last_request_seconds: ago(pair.requested),
                last_write_seconds: ago(pair.written),
            })
            .collect();
        drop(table);
        list.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        list
    }

    /// Seconds of this server's life, plus one.
    fn now(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs() + 1).unwrap_or(u32::MAX)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Box<str>, Pair>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(byte: u8) -> Fingerprint {
        Fingerprint([byte; Fingerprint::BYTES])
    }

    fn tokens(current: u8, previous: Option<u8>) -> Tokens {
        Tokens { current: Some(print(current)), previous: previous.map(print) }
    }

    #[test]
    fn tokens_are_read_as_they_were_written() {
        for written in [tokens(1, None), tokens(1, Some(2))] {
            assert_eq!(Tokens::decode(&written.encode()), Some(written));
        }
        for bad in [0, 1, 15, 17, 31, 33, 48] {
            assert_eq!(Tokens::decode(&vec![1; bad]), None, "{bad} bytes");
        }
    }

    #[test]
    fn an_old_token_holds_until_it_is_ended() {
        let rotated = tokens(1, None).rotated(print(2));
        assert_eq!(rotated, tokens(2, Some(1)));
        assert_eq!(rotated.newest(), tokens(2, None));
        assert_eq!(rotated.rotated(print(3)), tokens(3, Some(2)), "two at most");
    }

    #[test]
    fn a_registered_name_needs_its_own_token_even_where_others_need_none() {
        for open in [false, true] {
            let pairs = Pairs::new(open, 20);
            let (one, two, free) = ("one".parse().unwrap(), "two".parse().unwrap(), "free".parse().unwrap());
            pairs.set_tokens("one", tokens(1, None));
            pairs.set_tokens("two", tokens(2, Some(3)));
            assert_eq!(pairs.admit(&one, Some(print(1))), Ok(()));
            assert_eq!(pairs.admit(&one, None), Err(Refused::NoToken));
            for other in [2, 3, 4] {
                assert_eq!(pairs.admit(&one, Some(print(other))), Err(Refused::WrongToken));
                assert!(!pairs.still_admits(&one, Some(print(other))));
            }
            assert!(pairs.admit(&two, Some(print(2))).is_ok() && pairs.admit(&two, Some(print(3))).is_ok());
            pairs.note_record("free");
            assert_eq!(pairs.admit(&free, None), if open { Ok(()) } else { Err(Refused::NoToken) });
            pairs.set_tokens("two", tokens(5, None));
            assert!(!pairs.still_admits(&two, Some(print(2))), "it was replaced meanwhile");
            pairs.forget("one");
            assert_eq!(pairs.admit(&one, Some(print(1))).is_ok(), open, "it is not registered any more");
            assert_eq!((pairs.registered(), pairs.list().len()), (1, 2));
        }
    }

    #[test]
    fn a_pair_that_asks_too_often_is_held_back_and_a_stranger_does_not_use_up_its_share() {
        let pairs = Pairs::new(false, 20);
        let name = "pair".parse().unwrap();
        pairs.set_tokens("pair", tokens(1, None));
        let at_once = 20 * PAIR_REST_SECONDS;
        for _ in 0..10 * at_once {
            assert_eq!(pairs.admit(&name, Some(print(9))), Err(Refused::WrongToken));
        }
        let mut answered = 0;
        while pairs.admit(&name, Some(print(1))).is_ok() {
            answered += 1;
            assert!(answered < 100 * at_once, "it ends");
        }
        assert!(answered >= at_once, "{answered}");
        assert_eq!(pairs.admit(&name, Some(print(1))), Err(Refused::TooOften));
        // As time goes by.
        pairs.table().get_mut("pair").unwrap().requested = 0;
        assert_eq!(pairs.admit(&name, Some(print(1))), Ok(()));
    }

    #[test]
    fn a_pair_is_small() {
        assert!(size_of::<(Box<str>, Pair)>() <= 80, "{}", size_of::<(Box<str>, Pair)>());
    }
}
