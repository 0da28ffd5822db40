//! Records that no completed checkpoint holds yet.
//!
//! Owns two layers: the active one grows with every command, the frozen one is being written by a checkpoint. Main
//! revisions are dense and the changes of each are numbered from 0, so a record's place in its layer is arithmetic.
//! Invariant: frozen, then active, is one gapless run of main revisions up to the current one.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    planted::Bug,
    revision::{REVISION_KEY_BYTES, Revision, count_of},
};

/// Memory that a pending record takes besides its bytes: its place in the layer and the shared buffer's header.
const RECORD_OVERHEAD_BYTES: usize = 88;

/// A run of main revisions with their records.
#[derive(Debug, Default)]
struct Layer {
    /// Main revision of the first record; meaningless while empty.
    first: i64,
    /// Where each main revision's records begin.
    starts: Vec<usize>,
    records: Arc<Vec<(Revision, Bytes)>>,
    bytes: usize,
}

impl Layer {
    fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    fn push(&mut self, revision: Revision, record: Bytes) {
        if self.is_empty() {
            self.first = revision.main;
        }
        let next = self.first + count_of(self.starts.len());
        if revision.main == next {
            self.starts.push(self.records.len());
        }
        let start = self.starts.last().copied().unwrap_or_default();
        assert!(revision.main + 1 == self.first + count_of(self.starts.len()), "main revisions are dense");
        assert!(revision.sub == count_of(self.records.len() - start), "changes of a revision are dense");
        self.bytes += record.len() + RECORD_OVERHEAD_BYTES;
        // Only a frozen layer is shared, so this never copies.
        Arc::make_mut(&mut self.records).push((revision, record));
    }

    /// Drops the records of the last main revision if it is this one.
    fn drop_last(&mut self, main: i64) {
        if self.is_empty() || self.first + count_of(self.starts.len()) - 1 != main {
            return;
        }
        let start = self.starts.pop().unwrap_or_default();
        for (revision, record) in Arc::make_mut(&mut self.records).drain(start..) {
            assert!(revision.main == main, "only the last revision is dropped");
            self.bytes -= record.len() + RECORD_OVERHEAD_BYTES;
        }
    }

    /// The position of the first record at or after a revision.
    fn position(&self, revision: Revision) -> usize {
        if self.is_empty() || revision.main < self.first {
            return 0;
        }
        let ahead = usize::try_from(revision.main - self.first).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(ahead) else { return self.records.len() };
        let end = self.starts.get(ahead + 1).copied().unwrap_or(self.records.len());
        let sub = usize::try_from(revision.sub.max(0)).unwrap_or(usize::MAX);
        start.saturating_add(sub).min(end)
    }

    fn get(&self, revision: Revision) -> Option<Bytes> {
        let (found, record) = self.records.get(self.position(revision))?;
        (*found == revision).then(|| record.clone())
    }
}

/// Both layers.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    frozen: Option<Layer>,
    active: Layer,
}

impl Pending {
    pub(crate) fn push(&mut self, revision: Revision, record: Bytes) {
        self.active.push(revision, record);
    }

    /// Takes back the records of a transaction that failed.
    pub(crate) fn roll_back(&mut self, main: i64) {
        self.active.drop_last(main);
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.frozen.iter().chain(std::iter::once(&self.active)).filter(|layer| !layer.is_empty())
    }

    /// The first main revision in memory; everything before it is in the engine only.
    pub(crate) fn first_main(&self) -> Option<i64> {
        self.layers().next().map(|layer| layer.first)
    }

    pub(crate) fn get(&self, revision: Revision) -> Option<Bytes> {
        let layer = if !self.active.is_empty() && revision.main >= self.active.first {
            &self.active
        } else {
            self.frozen.as_ref()?
        };
        layer.get(revision)
    }

    /// All records at or after a revision, ascending.
    pub(crate) fn iter_from(&self, revision: Revision) -> impl Iterator<Item = &(Revision, Bytes)> {
        let missed = usize::from(Bug::WatchMissesFrozen.planted() && self.frozen.is_some());
        self.layers().skip(missed).flat_map(move |layer| &layer.records[layer.position(revision)..])
    }

    /// Freezes the active layer and shares its records.
    pub(crate) fn freeze(&mut self) -> Arc<Vec<(Revision, Bytes)>> {
        assert!(self.frozen.is_none(), "one checkpoint at a time: the former one must be finished first");
        let layer = std::mem::take(&mut self.active);
        let records = Arc::clone(&layer.records);
        self.frozen = Some(layer);
        records
    }

    /// Drops the frozen layer, which the engine holds now.
    pub(crate) fn drop_frozen(&mut self) {
        if Bug::FinishDropsActive.planted() {
            self.active = Layer::default();
        }
        assert!(self.frozen.take().is_some(), "a checkpoint is finished once, after it was begun");
    }

    pub(crate) fn len(&self) -> usize {
        self.layers().map(|layer| layer.records.len()).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layers().map(|layer| layer.bytes).sum()
    }

    /// What the records take in the engine, with their keys.
    pub(crate) fn row_bytes(&self) -> usize {
        self.bytes() - self.len() * RECORD_OVERHEAD_BYTES + self.len() * REVISION_KEY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn records_are_found_in_both_layers() {
        let mut pending = Pending::default();
        pending.push(Revision::new(5, 0), record("a"));
        pending.push(Revision::new(5, 1), record("b"));
        pending.push(Revision::new(6, 0), record("c"));
        assert_eq!(pending.freeze().len(), 3);
        pending.push(Revision::new(7, 0), record("d"));
        pending.push(Revision::new(8, 0), record("e"));
        pending.push(Revision::new(8, 1), record("f"));

        assert_eq!(pending.get(Revision::new(5, 1)), Some(record("b")));
        assert_eq!(pending.get(Revision::new(8, 0)), Some(record("e")));
        for missing in [(4, 0), (5, 2), (6, 1), (9, 0), (8, 2)] {
            assert_eq!(pending.get(Revision::new(missing.0, missing.1)), None);
        }
        let from = |main, sub| pending.iter_from(Revision::new(main, sub)).count();
        assert_eq!(
            [from(0, 0), from(5, 1), from(6, 0), from(7, 0), from(8, 1), from(9, 0)],
            [6, 5, 4, 3, 1, 0]
        );

        pending.roll_back(8);
        assert_eq!(pending.len(), 4);
        pending.drop_frozen();
        assert_eq!((pending.first_main(), pending.len()), (Some(7), 1));
        pending.roll_back(7);
        assert_eq!((pending.first_main(), pending.bytes()), (None, 0));
    }
}
