//! Bugs that can be planted in the data model, to test the tests (docs/testing.md). Several are of the kinds that etcd
//! had in the field.

use crate::{RangeRequest, Store};

duet_planted::bugs! {
    "mvcc"

    /// A watch that begins below the compacted revision gets a history with gaps instead of a refusal.
    WatchBelowCompaction,
    /// A watch that begins at the compacted revision itself is refused.
    WatchRefusedAtCompaction,
    /// A full batch of events ends in the middle of a revision, whose rest is lost.
    WatchSplitsRevision,
    /// The history skips what a checkpoint under way is writing.
    WatchMissesFrozen,
    /// The history shows what a checkpoint under way has written twice, from the engine and from memory.
    WatchDoublesFrozen,
    /// The previous value of an event depends on how far a compaction has come.
    PreviousOfCompacted,
    /// A revoked lease stays and can be revoked again.
    LeaseRevokedTwice,
    /// Revoking a lease deletes its keys in an order of its own on each appliance.
    RevokeInRandomOrder,
    /// A put without a lease leaves the key on the lease of the former put.
    LeaseNotDetached,
    /// After a restart no key hangs on its lease any more.
    LeaseKeysLostAtRestore,
    /// After a restart every lease has the shortest time to live.
    LeaseTtlLostAtRestore,
    /// After a restart the revision is that of the newest live key: the number of a later delete is used again.
    RevisionReusedAfterRestart,
    /// A compaction that was under way is not taken up after a restart.
    CompactionForgotten,
    /// After a restart the compacted revision is forgotten, what it hid is served.
    CompactedLostAtRestore,
    /// A checkpoint names a revision that its records do not reach: applied index saved apart from its entry.
    MetaAheadOfRecords,
    /// The conditions of a nested transaction see the changes of the operations before it.
    CompareAfterChange,
    /// The puts of a transaction are not checked before its ranges, so that the client sees another error.
    PutsUnchecked,
    /// A range inside a transaction does not see what the transaction has written.
    TxnReadsOldRevision,
    /// A transaction that fails half way leaves what it had changed.
    RollbackForgotten,
    /// Deleting a range spares its last key.
    DeleteSparesLast,
    /// A range contains its end.
    RangeEndIncluded,
    /// A compaction drops the version that readers at the compacted revision still see.
    CompactionDropsLatest,
    /// A compaction at a delete drops the delete, which a watch from there must still see.
    CompactionDropsDelete,
    /// A second compaction goes on where the first one was, and leaves what lies before.
    CompactionGoesOn,
    /// A revision that does not exist yet can be compacted.
    FutureCompacted,
    /// The hash of the history depends on how far a compaction has come.
    HashSeesRemoval,
    /// A slot of the cache that has gone to another record is believed.
    CacheUnchecked,
    /// The count of a range ends at its limit.
    CountIsLimited,
    /// The limit of a range is applied before its filters.
    LimitBeforeFilter,
    /// A read below the compacted revision is answered with what happens to be left.
    ReadsBelowCompaction,
    /// Joining two leaves of the index loses the keys of the second.
    JoinLosesLeaf,
    /// A key inserted at the middle of a full leaf goes to the wrong half.
    SplitMisplacesKey,
    /// Finishing a checkpoint drops what was applied meanwhile.
    FinishDropsActive,
    /// A checkpoint does not say that dead records are still to be removed.
    DeletesWithoutMark,
    /// The permissions for what is nested in a transaction are not asked for.
    NestedTxnUnchecked,
    /// A permission that was taken from a role is still in what its permissions were merged to.
    RevokedPermissionKept,
    /// Users and roles are not in the checkpoints.
    AuthLostAtRestore,
}

impl Store {
    /// What [`Bug::RevisionReusedAfterRestart`] takes for the revision.
    pub(crate) fn newest_live_revision(&self) -> i64 {
        let all = RangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\0".as_slice().into(),
            ..RangeRequest::default()
        };
        let live = self.range(&all).map(|response| response.kvs).unwrap_or_default();
        live.iter().map(|key_value| key_value.mod_revision).max().unwrap_or(1)
    }
}
