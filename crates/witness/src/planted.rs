//! Bugs that can be planted in the witness, to test the tests (docs/testing.md).

duet_planted::bugs! {
    "witness"

    /// The server replaces a record whatever its version.
    ServerOverwrites,
    /// A create replaces a record that is there.
    CreateReplaces,
    /// Writes of one commit are compared with the records before it, not with each other.
    BatchSeesOldVersions,
    /// The server answers a write before it is durable.
    RepliesBeforeCommit,
    /// The server takes a damaged record for an absent one when it writes.
    DamagedRecordReplaced,
    /// The server starts without having checked its whole file.
    RecordsUnchecked,
    /// The server answers that there is no record when it cannot be read.
    DamagedIsAbsent,
    /// A write without a condition is taken for a create.
    UnconditionalTaken,
    /// The server asks for no token.
    TokenUnchecked,
    /// The token of any pair opens every record.
    AnyTokenTaken,
    /// A token that was ended opens its record all the same.
    EndedTokenTaken,
    /// The server looks at the token only before it has received the whole write.
    TokenCheckedTooEarly,
    /// A pair may ask as often as it likes.
    PairUnlimited,
    /// A restored backup brings its records along unasked.
    OldRecordsRestored,
    /// A backup that is cut off or damaged is restored.
    BackupUnchecked,
    /// A record that belongs to another cluster is read.
    OtherClusterRead,
    /// The checksum of a stored record is not verified.
    RecordChecksumUnchecked,
    /// Every write of a record has the same version.
    VersionRepeats,
    /// The record of another pair with the same name is read.
    OtherPairRead,
    /// A write to a witness directory replaces a record whatever its version.
    DirectoryOverwrites,
    /// The lock of a witness directory is not respected.
    DirectoryUnlocked,
    /// A directory without its marker (an unmounted share) is taken for a witness without records.
    MarkerUnchecked,
    /// A damaged record in a witness directory is taken for an absent one.
    DamagedFileIsAbsent,
    /// A witness directory answers before the record's bytes are durable.
    RecordUnsynced,
    /// A witness directory answers before the record's name is durable.
    RecordNameUnsynced,
    /// A record is read from a witness directory before its name is durable.
    ReadUnsynced,
    /// A writer that slept past its deadline under the lock writes all the same.
    SleeperWrites,
    /// The answer of something that is no witness is believed.
    StrangerBelieved,
    /// The answer to another request is believed.
    EchoUnchecked,
    /// An answer off the list counts as a mismatch: certainly not done.
    UnexpectedIsMismatch,
    /// A write that was not answered counts as a mismatch: certainly not done.
    SilenceIsMismatch,
    /// An error of the witness counts as an absent record.
    ErrorIsAbsent,
    /// A foreign store's refusal counts as a mismatch, though the write may have been done before.
    RefusalBelieved,
    /// A foreign store's missing bucket, or a proxy's page, counts as an absent record.
    AnyNotFoundIsAbsent,
    /// The checksum of a record and its lineage is not verified.
    LineageUnchecked,
}
