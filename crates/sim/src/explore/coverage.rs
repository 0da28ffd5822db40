//! Which rules and branches an exploration has reached. One that was never reached was never checked.

use std::collections::BTreeMap;

/// What a sound exploration reaches.
pub const EXPECTED: &[&str] = &[
    "write appended",
    "entries taken by the secondary",
    "entries sent before they are durable here",
    "crash lost an entry that was sent",
    "crash lost an appended entry",
    "crash undid a truncation",
    "committed by both",
    "committed alone",
    "append refused as deposed",
    "append adopted a configuration",
    "acknowledgement with a retry",
    "acknowledgement of a former life ignored",
    "truncated at a conflict",
    "truncated by the tail rule",
    "lease obtained",
    "TAKE asked by a primary",
    "TAKE asked by a follower",
    "TAKE won by a primary",
    "TAKE won by a follower: begins",
    "TAKE won by a follower: elect",
    "TAKE won, refused for a newer tent",
    "TAKE asked by equality",
    "TAKE refused: not entitled",
    "TAKE refused: two witnesses",
    "TAKE learned by reading",
    "TAKE learned by FIRM",
    "elect begins",
    "begin alone",
    "adopted from the witness",
    "adoption from the witness refused for a newer tent",
    "adopted from the peer's FIRM",
    "handed over: begins by FIRM",
    "PART written",
    "SYNC written",
    "NOTE written",
    "Leave stored by the responder",
    "Rejoin stored by the responder",
    "Move stored by the responder",
    "Handover stored by the responder",
    "ColdSolo stored by the responder",
    "ColdPair stored by the responder",
    "Leave in force",
    "Rejoin in force",
    "Move in force",
    "former witness marked",
    "Handover in force",
    "ColdSolo in force",
    "ColdPair in force",
    "STORED ignored",
    "PROP refused",
    "PROP answered again",
    "PROP adopted its base",
    "cancel",
    "closing",
    "empty witness refilled",
    "copy sent",
    "copy installed",
    "crash while a copy is installed",
    "rejoin proposed while the secondary lacks the last entry",
    "read while the lease is needed",
];

/// Counts by name.
#[derive(Default, Clone, Debug)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// One more.
    pub fn mark(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// How often.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// What was expected and not reached.
    pub fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|what| self.count(what) == 0).collect()
    }

    /// All, the expected ones first.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = EXPECTED.iter().map(|&what| (what, self.count(what))).collect();
        all.extend(
            self.0.iter().filter(|(what, _)| !EXPECTED.contains(what)).map(|(&what, &count)| (what, count)),
        );
        all
    }
}
