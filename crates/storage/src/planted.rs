//! Bugs that can be planted in the storage, to test the tests (docs/testing.md).

duet_planted::bugs! {
    "storage"

    /// The log is reported durable without having been synced.
    SyncSkipped,
    /// After a failed sync the log goes on: a later success is believed.
    SyncTriedAgain,
    /// The next group goes into the block whose records were synced already.
    SyncedBlockRewritten,
    /// A segment gets its name before its header is durable.
    SegmentUnsynced,
    /// The name of a new segment is not made durable.
    SegmentNameUnsynced,
    /// Trimming removes a segment whose last entry is still wanted.
    TrimsOneTooFar,
    /// The log goes on right behind what a crash left torn.
    TornTailGoesOn,
    /// A truncation changes what readers see, and nothing on disk.
    TruncationForgotten,
    /// Damage before records that were durable is cut like a torn tail.
    DamageIsCut,
    /// A record counts although it was written behind another one than it follows now.
    ChainUnchecked,
    /// The digest chain of the entries is not verified at a start.
    DigestUnchecked,
    /// A segment missing in the middle is taken for the beginning of the log.
    MissingSegmentIgnored,
    /// A start believes what the system has in memory of an earlier, failed sync.
    MemoryBelieved,
    /// A start does not make durable the names that an earlier process left.
    NamesUnsyncedAtOpen,
    /// A newest segment that was cut short is taken for whole.
    ShortSegmentTaken,
    /// The checksum of a record is not verified.
    ChecksumUnchecked,
    /// A record of an earlier life of a recycled file counts.
    FormerLifeRead,
    /// A reader does not compare the LSN of the record it finds with the one it wants.
    ReaderBelievesPlaces,
    /// A file made ahead is used before its zeros are durable.
    SpareUnsynced,
    /// A segment is recycled before its removal is durable.
    RecycledUnsynced,
    /// A generation of the own state gets its name before its bytes are durable.
    OwnStateUnsynced,
    /// The own state is reported saved before its name is durable.
    OwnStateNameUnsynced,
    /// A loaded own state is acted on although its name may not be durable.
    OwnStateUnsyncedAtLoad,
    /// The generation before is loaded when the newest one is damaged.
    OlderGenerationLoaded,
    /// Saving removes the present own state before the next one has its name.
    OwnStateOverwritten,
    /// After a failed save the next one is believed.
    OwnStateTriedAgain,
    /// The checksum of the own state is not verified.
    OwnStateChecksumUnchecked,
    /// The lock of the data directory is held by somebody else and not respected.
    LockNotTaken,
    /// A new data directory is marked as complete before it is.
    CompleteTooEarly,
    /// A small file is replaced before its new content is durable.
    ReplacedUnsynced,
    /// A data directory of a newer format is opened.
    NewerFormatOpened,
    /// Creating an appliance takes a directory that holds one already.
    DataOverwritten,
    /// Log and state that contradict each other are put to work.
    LostWritesIgnored,
    /// A log that contradicts the state has its torn tail cut before it is refused.
    ChangesBeforeRefusal,
    /// Log and state are compared by LSN alone.
    HistoriesUncompared,
    /// A copy is installed without the marker that makes a crash in between harmless.
    MarkerSkipped,
    /// The marker of an installation is removed before the log begins anew.
    MarkerRemovedEarly,
    /// A start does not complete an installation that was cut short.
    InstallationForgotten,
    /// The log begins anew before the copy is durably in place.
    IncomingUnsynced,
    /// The applied position is saved in a transaction of its own, before the rows.
    AppliedApart,
    /// A checkpoint is reported before it is durable.
    CommitNotDurable,
    /// After an error of the engine the state store goes on.
    EngineTriedAgain,
    /// The engine's syncs do not reach the disk.
    EngineUnsynced,
    /// A copy lacks the first row after each chunk.
    CopyLosesRow,
    /// The checksum of a row of the state store is not verified.
    RowChecksumIgnored,
    /// Nobody notices that rows of the state store are missing.
    TallyIgnored,
}
