//! What a recorder hands over.

use std::fmt;

use duet_protocol::{ApplianceId, Digest, Epoch, Lsn};

use crate::operation::Operation;
use crate::{KeyValue, Keys, Time};

/// Everything that was seen of a pair from its first write on.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients asked, in any order.
    pub operations: Vec<Operation>,
    /// Every change of the data from revision 2 on (a new store is at revision 1), in order: what one watch of everything
    /// from the start shows when all is over, or what a simulation knows.
    pub changes: Vec<Change>,
    /// What watches were told.
    pub watches: Vec<Watch>,
    /// What appliances told of themselves.
    pub reports: Vec<Report>,
    /// What appliances applied, each life in order; a black-box recorder has none.
    pub applied: Vec<Applied>,
    /// Shortly before the end nothing failed any more.
    pub quiet: Option<Quiet>,
}

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its revision; the changes of one transaction share it.
    pub revision: i64,
    /// The key.
    pub key: String,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// It was set; how it is now.
    Put(KeyValue),
    /// It was deleted.
    Delete,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ChangeKind::Put(now) => write!(f, "{} = {now} at revision {}", self.key, self.revision),
            ChangeKind::Delete => write!(f, "{} deleted at revision {}", self.key, self.revision),
        }
    }
}

/// One watch: from its creation to its end, or to the end of the connection that carried it.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Who watched.
    pub client: u32,
    /// Where it was asked.
    pub appliance: ApplianceId,
    /// What was watched.
    pub keys: Keys,
    /// The first revision it must show. For a watch "from now on": the revision in the answer to its creation, plus one.
    pub from: i64,
    /// Whether each event was to come with what the key held before.
    pub with_previous: bool,
    /// What it was told, in the order in which it came.
    pub events: Vec<WatchEvent>,
    /// Everything up to this revision was surely shown: by a progress notification, or because the recorder waited for it.
    pub complete_to: i64,
}

/// One event of a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// When it came.
    pub at: Time,
    /// Which message of the stream brought it; a revision is never split over two.
    pub message: u64,
    /// What it shows.
    pub change: Change,
    /// What the key held before, if that was asked for and there was something.
    pub previous: Option<KeyValue>,
}

/// What an appliance tells of itself at one moment. Everything but `appliance` and `at` may be missing.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who.
    pub appliance: ApplianceId,
    /// When it was told.
    pub at: Time,
    /// Its last entry: LSN, epoch, and the digest of the history up to it.
    pub last: Option<(Lsn, Epoch, Digest)>,
    /// Applied up to here, which gave this revision.
    pub applied: Option<(Lsn, i64)>,
    /// Hash of the data.
    pub hash: Option<DataHash>,
}

/// Hash of the data at a revision, as `HashKV` gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHash {
    /// Of everything up to here.
    pub revision: i64,
    /// Compacted up to here.
    pub compacted: i64,
    /// The hash.
    pub hash: u32,
}

/// An appliance applied an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Who.
    pub appliance: ApplianceId,
    /// Counts its starts and the copies it installed: within a life LSNs follow one another.
    pub life: u64,
    /// The entry.
    pub lsn: Lsn,
    /// Digest of the history up to it.
    pub digest: Digest,
    /// The revision of the data after it.
    pub revision: i64,
}

/// The time without faults at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiet {
    /// One primary has served without a break since.
    pub since: Time,
    /// When the last change was surely seen.
    pub until: Time,
}
