//! Bugs that can be planted in what serves clients, to test the tests (docs/testing.md).

duet_planted::bugs! {
    "serving"

    /// A promotion leaves every lease the deadline of the last one.
    PromotionKeepsDeadlines,
    /// Time in which the process stood still counts against leases.
    StandstillCounts,
    /// A lease that was granted after a standstill gets that time on top.
    StandstillForgivenToAll,
    /// A lease that has run out is renewed.
    ExpiredIsRenewed,
    /// A renewal is answered, and changes nothing.
    RenewalForgotten,
    /// A revocation that failed is not tried again.
    RevocationForgotten,
    /// A watch goes on with live events although the ring has moved on.
    OverrunIgnored,
    /// A watch that falls behind begins before what it was shown.
    OverrunGoesBack,
    /// Live events below what a watch is due are shown.
    LiveShownTwice,
    /// A watch is in step after one piece of the history.
    InStepTooEarly,
    /// A watch from now on begins with the present revision.
    NowIsIncluded,
    /// The ring takes the place of a store that was replaced for one without a gap.
    GapForgotten,
    /// The ring believes to hold the batch that it dropped last.
    RingCoversDropped,
    /// A read shares a question to the primary that was sent before the read came.
    ReadJoinsQuestionUnderWay,
    /// Nobody is told that the ring does not hold everything.
    GapNotTold,
}
