//! Marks on rare paths: a simulation that never gets there proves nothing about them.

use std::collections::BTreeMap;

macro_rules! marks {
    ($($name:ident = $words:literal,)*) => {
        /// A path worth reaching.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[allow(missing_docs, reason = "the words are below")]
        pub enum Mark { $($name,)* }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it stands for.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

marks! {
    Elect = "a won promotion waited for a promise",
    ElectBegan = "an appliance that waited for its promise began",
    TakeWon = "a TAKE was applied and its reply came",
    TakeLearned = "a TAKE without a reply was found applied",
    GivenUp = "a primary ended because its disk was stuck",
    TakeTooLate = "a TAKE was applied and never used",
    PrimaryTook = "a primary dropped its secondary by the witness",
    Leave = "the secondary left by agreement",
    Rejoin = "a secondary was let in again",
    Renewed = "a pair was renewed",
    Moved = "a pair moved to another witness",
    FormerMarked = "a former witness was left with the new configuration",
    Handover = "a handover was completed",
    ColdSolo = "of two starting appliances one began alone",
    ColdPair = "of two starting appliances with equal data one began with both in sync",
    BeginAlone = "an appliance began alone, without witness and peer",
    Part = "a position was left at the witness",
    Equality = "an appliance that equals the other's last position took over",
    Note = "a note was left at the witness",
    NoteCleared = "a note was cleared by the successor",
    Tent = "a tent was stored",
    TentDropped = "a tent died with a newer configuration",
    Deposed = "a primary learned that it was deposed",
    TailCut = "entries nobody had acknowledged were truncated",
    SyncLoss = "a crash lost entries that were not durable",
    TornTail = "a start cut a torn tail off the log",
    DiskFailure = "a process ended because its disk failed",
    DamageFound = "a start refused because the disk had lost or changed what was durable",
    LossUnnoticed = "a start could not notice alone that the disk had lost its last writes",
    Retry = "a secondary asked to be sent entries again",
    Copy = "a full copy was installed",
    CopyDropped = "a full copy came too late and was dropped",
    Refill = "an empty witness was refilled",
    SwapConflict = "a conditional write met another revision",
    Unknown = "a write's outcome became unknown",
    UnknownKept = "a write of unknown outcome turned out to be written",
    LeaseRead = "a read was answered under a lease",
    SoloRead = "a read was answered by an appliance alone",
    SecondaryRead = "a secondary answered a read by a read index",
    ReadAskedAgain = "a question for a read index was asked again",
    ReadCancelled = "a permit ran out while a read was under way",
    LeaseExpired = "a lease ran out",
    LeaseRenewed = "a lease was renewed",
    LeaseFullAgain = "a promotion gave a lease its full time again",
    WatchMoved = "a watch went on at the other appliance",
    WatchAhead = "a watch waited for a revision its appliance had not reached",
    WatchCompacted = "a watch was refused because its start was compacted",
    WatchOverrun = "a watch was too slow for the recent events and read the history",
    WatchProgress = "a watch was told how far it is",
    OrderFound = "the order of a small history was found by its values alone",
    StoppedUnnoted = "a soft shutdown ended without the witness",
    WaitBehind = "an appliance waited because it is behind (R7)",
    WaitOtherHistory = "an appliance waited because its history differs (R11)",
    WaitPeerWentOn = "an appliance waited because the other went on",
    WaitAgreed = "an appliance waited because it had agreed to leave",
    WaitParted = "an appliance waited because it had parted and the witness was silent",
    WaitMoving = "an appliance waited because it did not know whether a move was in force",
    WaitSetBack = "an appliance waited because the witness was set back",
    WaitSilent = "an appliance waited for either of witness and peer",
    WaitAbsent = "an appliance waited because the witness had no record",
    WaitDamaged = "an appliance waited because its disk had lost writes",
    Converged = "the pair converged after all faults were healed",
}

/// How often each was reached.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<Mark, u64>);

impl Marks {
    /// It was reached.
    pub fn reach(&mut self, mark: Mark) {
        *self.0.entry(mark).or_default() += 1;
    }

    /// How often it was reached.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0.get(&mark).copied().unwrap_or_default()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(*mark).or_default() += count;
        }
    }

    /// Those never reached.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}
