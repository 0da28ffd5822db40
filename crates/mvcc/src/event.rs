//! What watchers see: one event for every change, in the order of the history.
//!
//! Events share their bytes with the store's own record of the change, so handing one to a thousand watchers
//! copies nothing.

use crate::{request::KeyValue, revision::Revision};

/// What happened to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Set.
    Put,
    /// Deleted.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Where in history; `revision.main` is `key_value.mod_revision`.
    pub revision: Revision,
    /// The content after a put; only key and mod revision after a delete.
    pub key_value: KeyValue,
}

/// How much of the history one call of [`Store::events`](crate::Store::events) may answer.
///
/// Revisions are never split, so one large revision may go beyond both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLimits {
    /// Stop after the revision in which this many events were gathered.
    pub max_events: usize,
    /// Stop after the revision in which this many bytes of keys and values were gathered.
    pub max_bytes: usize,
}

impl Default for EventLimits {
    /// etcd sends history in batches of at most 1000; 1 MiB keeps one answer below gRPC's usual message limit.
    fn default() -> EventLimits {
        EventLimits { max_events: 1000, max_bytes: 1 << 20 }
    }
}

/// A stretch of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    /// The events of the watched range, whole revisions only. May be empty although more follow.
    pub events: Vec<Event>,
    /// Where to go on. The history is exhausted when this is above the store's revision.
    pub next_revision: i64,
}
