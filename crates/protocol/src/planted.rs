//! Bugs that can be planted in the core, to test the tests (docs/testing.md). Most take one rule of docs/protocol.md
//! away, among them every trap of its last list.

duet_planted::bugs! {
    "protocol"

    /// Trap 1: the responder holds what it agreed to as its configuration, not as a tent.
    AgreedIsConf,
    /// Trap 2: a tent that leaves a member out does not bar it from TAKE.
    TentBarsNoMember,
    /// Trap 21: a tent does not bar one that equals the other's last position.
    TentBarsNoEqual,
    /// Trap 3: a won TAKE overrides a newer tent.
    WonOverTent,
    /// Trap 3: a record read at the witness overrides a newer tent.
    RecordOverTent,
    /// Trap 4: a follower looks at its own configuration only, not at the newer one of the witness.
    RecordIgnored,
    /// Trap 5: the responder does not compare the base of a proposal with its configuration.
    BaseUnchecked,
    /// Trap 6: the responder agrees to an epoch that it has used or heard of already.
    UsedEpochAgreed,
    /// Trap 7: the coordinator acts on its proposal without waiting for STORED.
    ActsBeforeStored,
    /// Trap 8: the responder acts on what it agreed to before it is told that it is in force.
    ActsBeforeTold,
    /// Trap 9: a proposal outlives the change of configuration that ends the role it was made in.
    ProposalOutlivesRole,
    /// Trap 10: a proposal is sent before its epoch is durable.
    ProposesBeforeSaving,
    /// Trap 10: TAKE is sent before its epoch is durable.
    TakesBeforeSaving,
    /// Trap 11: a cold start with both in sync is agreed to although the positions differ.
    UnequalColdPair,
    /// Trap 12: a secondary is let in before it has everything that was acknowledged.
    RejoinsBehind,
    /// Trap 13: a proposed rejoin does not count from the proposal on: the primary acknowledges alone.
    RejoinNotCountedIn,
    /// Trap 14: a won TAKE does not wait for the promise to run out.
    BeginsDuringPromise,
    /// Trap 15: a restarted appliance presumes no promise.
    NoPromiseAtStart,
    /// Trap 15: a restarted appliance presumes the shortest promise, not the longest it may have given.
    ShortPromiseAtStart,
    /// Trap 16: BEGIN ALONE does not wait for the promise to run out.
    BeginsAloneDuringPromise,
    /// Trap 17: a lease counts from the receipt of the answer, not from the sending of the heartbeat.
    LeaseFromReceipt,
    /// A lease lasts as long as the longest promise, however short the one was that was given.
    LeaseBeyondPromise,
    /// Trap 18: having parted does not bar BEGIN ALONE.
    PartingForgotten,
    /// Trap 19: positions are compared by their bare LSN.
    BareLsnIsEqual,
    /// Trap 20: equality counts although the witness does not hold the newest configuration.
    OldRecordIsEqual,
    /// Trap 22: a write that changes the witness's configuration keeps `part`.
    PartKept,
    /// Trap 23: a TAKE that met another revision counts as won.
    MismatchIsSuccess,
    /// A TAKE that was not answered counts as won.
    SilenceIsSuccess,
    /// Trap 24: a solo primary sends entries before they are durable here.
    SoloSendsUndurable,
    /// Trap 24: a solo primary names an entry in its heartbeat that a crash may take back.
    SoloNamesUndurable,
    /// Trap 25: a secondary cuts its log to the end of each message, not only at a conflict.
    CutsToMessage,
    /// Trap 26: an append of an older epoch is taken.
    OldAppendTaken,
    /// Trap 27: one that is neither member nor equal asks the witness to be primary.
    TakenByAnybody,
    /// Trap 28: a primary that goes on under a pair counts its whole log as committed.
    RejoinCommitsAll,
    /// A disk that was never in sync vouches for what is in force.
    BlankVouches,
    /// P11: STORED counts for whatever is pending, not only for the very proposal it answers.
    AnyStoredCounts,
    /// A primary hands over before the secondary has its whole log.
    HandsOverBehind,
    /// A new attempt takes the least epoch above its configuration, used before or not.
    EpochUsedTwice,
    /// A proposed leave is taken back when it is not answered, although the peer may hold the tent.
    LeaveCancelled,
    /// The answer to an earlier request to the witness counts for the present one.
    AnyTicketCounts,
    /// The record of another pair is believed.
    ForeignRecordRead,
    /// An appliance that has stopped still wins its promotion.
    StoppedWins,
    /// A promotion is won in the middle of installing a full copy.
    WinsWhileInstalling,
    /// PART is sent before having parted is durable.
    PartsBeforeSaving,
    /// The note written before an appliance parted counts for its last position.
    EarlierNoteCounts,
    /// A note also sets `part`, which entitles the other.
    NoteWritesPart,
    /// A note also writes the own configuration.
    NoteWritesConf,
    /// R4: the note of a former primary is never cleared.
    NoteNeverCleared,
    /// The note of one that is back in sync is kept.
    NoteOfReturnedKept,
    /// R3: a soft shutdown leaves no note.
    NoteSkipped,
    /// An empty witness is refilled with a pair that is older than its loss.
    RefillsUnderOldPair,
    /// An empty witness is refilled by an appliance that is alone.
    RefillsAlone,
    /// A refilled witness counts its revisions from the beginning again.
    RefillRepeatsRevisions,
    /// An own floor is raised to the last LSN, committed or not.
    FloorOfUncommitted,
    /// The floor of the peer is raised to what the primary has, not to what the peer has.
    FloorOfUnmatched,
    /// A log below its floor is not taken for damaged.
    FloorIgnored,
    /// A log without the position at which its own appliance parted is not taken for damaged.
    LostPartIgnored,
    /// A blank disk equals an empty position.
    EmptyIsEqual,
    /// A member of the in-sync set is known by its name alone: a blank disk inherits its rights.
    MemberByName,
    /// A primary counts its own entries as durable as soon as they are appended.
    AppendCountsAsFlushed,
    /// A secondary acknowledges entries before they are durable.
    AcknowledgesBeforeFlush,
    /// A primary with a secondary in sync commits what is durable here alone.
    PairCommitsAlone,
    /// Acknowledgements are not held back for a secondary that is nearly equal.
    ClosingCommits,
    /// A flush from before a truncation counts for what was written in its place.
    StaleFlushCounts,
    /// The answer to a heartbeat of a former life gives a lease.
    FormerLifeAnswers,
    /// The acknowledgement of another disk than the member's counts.
    OtherDiskAnswers,
    /// What a former disk of the peer held counts for its new one.
    OtherDiskInherits,
    /// An overtaken wish to have entries again counts as a loss.
    OvertakenAnswerCounts,
    /// P10: a secondary in sync that lacks committed entries is not seen as damaged.
    PeerDamageUnseen,
    /// What the peer held before a reconnect is not proved anew.
    MatchKeptOverReconnect,
    /// A secondary answers heartbeats without binding itself by a promise.
    PromiseNotGiven,
    /// Tail rule: own entries above the primary's base are kept.
    DeadTailKept,
    /// A secondary does not compare the entry before an append with its own.
    PreviousUnchecked,
    /// A secondary applies up to the primary's committed LSN what it has not proved equal.
    AppliesUnproved,
    /// A full copy is installed over entries that the log shares with the primary's.
    CopyOverShared,
    /// The log is trimmed while a copy is on its way.
    TrimsDuringCopy,
    /// The log is trimmed past the state machine's checkpoint.
    TrimsPastCheckpoint,
    /// A primary goes on serving reads while it hands over.
    ServesWhileOffering,
    /// A new primary serves reads before it has applied what its log held.
    ReadsBeforeApplied,
    /// A primary with a secondary in sync serves reads without a lease.
    ReadsWithoutLease,
    /// A primary answers a question for a read index whether or not it may read itself.
    ReadIndexWithoutPermit,
    /// A primary tells its secondary of committed entries that it has not applied itself.
    TellsUnapplied,
    /// A read index is taken from an answer to a former life's question.
    FormerLifeReads,
    /// A secondary answers reads from a state of which it does not know yet that it is the primary's.
    ReadsUnproved,
    /// Trap 22: an agreement on another witness that is not known to be in force bars from nothing.
    MoveBarsNobody,
    /// P12: the record of a witness entitles although the newest configuration names another one.
    FormerWitnessEntitles,
    /// A dropped agreement on another witness is not superseded.
    StrayMoveForgotten,
    /// A witness that was set back to an older record than it held is believed.
    SetBackBelieved,
    /// A hint of a former life that the peer is leaving never wears off.
    StrayLeaveBelieved,
}
