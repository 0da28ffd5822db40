//! The writer thread: takes what waits, commits it at once, answers.

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, Table};
use tokio::sync::{mpsc, oneshot};

use std::sync::atomic::Ordering;

use super::super::limits::{MAX_BATCH, MAX_RECORDS};
use super::super::meter::Meter;
use super::super::pairs::Tokens;
use super::data_file::{DataFile, PAIRS, RECORDS};
use super::{Condition, Written};
use crate::planted::Bug;
use crate::stored::Stored;
use crate::{ClusterName, Version};

/// A write on its way to the writer thread.
pub(super) enum Request {
    /// A record is created or replaced.
    Record { cluster: ClusterName, condition: Condition, bytes: Bytes, reply: oneshot::Sender<Written> },
    /// A pair is registered, or gets other tokens.
    Tokens { cluster: ClusterName, tokens: Tokens, reply: oneshot::Sender<()> },
    /// A pair and its record are removed.
    Removal { cluster: ClusterName, reply: oneshot::Sender<()> },
}

/// What to tell when the commit is durable. Who has gone does not hear it; the write is done all the same.
enum Reply {
    Record(oneshot::Sender<Written>, Written),
    Done(oneshot::Sender<()>),
}

impl Reply {
    fn send(self) {
        let _ = match self {
            Self::Record(reply, outcome) => reply.send(outcome).is_ok(),
            Self::Done(reply) => reply.send(()).is_ok(),
        };
    }
}

/// Works requests until nobody can send any more.
pub(super) fn write_all(
    file: &DataFile,
    meter: &Meter,
    mut requests: mpsc::Receiver<Request>,
) -> Result<(), redb::Error> {
    let mut batch = Vec::new();
    while requests.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        let writes = batch.len() as u64;
        let replies = commit(file, batch.drain(..))?;
        meter.commits.fetch_add(1, Ordering::Relaxed);
        meter.writes.fetch_add(writes, Ordering::Relaxed);
        assert_eq!(replies.len() as u64, writes, "every write is answered");
        replies.into_iter().for_each(Reply::send);
        batch.shrink_to(MAX_BATCH / 16);
    }
    Ok(())
}

/// Carries out the writes in their order in one transaction; durable when this returns.
fn commit(file: &DataFile, batch: impl Iterator<Item = Request>) -> Result<Vec<Reply>, redb::Error> {
    let mut replies = Vec::new();
    let mut transaction = file.database.begin_write()?;
    if Bug::RepliesBeforeCommit.planted() {
        let _ = transaction.set_durability(redb::Durability::None);
    }
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut pairs = transaction.open_table(PAIRS)?;
        for request in batch {
            replies.push(match request {
                Request::Record { cluster, condition, bytes, reply } => {
                    Reply::Record(reply, write(file, &mut records, &cluster, &condition, bytes)?)
                }
                Request::Tokens { cluster, tokens, reply } => {
                    pairs.insert(cluster.as_str(), tokens.encode().as_slice())?;
                    Reply::Done(reply)
                }
                Request::Removal { cluster, reply } => {
                    pairs.remove(cluster.as_str())?;
                    records.remove(cluster.as_str())?;
                    Reply::Done(reply)
                }
            });
        }
    }
    // redb's default durability: `fsync` before it returns.
    transaction.commit()?;
    Ok(replies)
}

/// Writes one record, if it is the one that is expected.
fn write(
    file: &DataFile,
    table: &mut Table<'_, &str, &[u8]>,
    cluster: &ClusterName,
    condition: &Condition,
    bytes: Bytes,
) -> Result<Written, redb::Error> {
    let decode = |stored: redb::AccessGuard<'_, &[u8]>| Stored::decode(cluster, stored.value());
    let stored = if Bug::BatchSeesOldVersions.planted() {
        file.database.begin_read()?.open_table(RECORDS)?.get(cluster.as_str())?.map(decode)
    } else {
        table.get(cluster.as_str())?.map(decode)
    };
    let found = match stored {
        Some(Ok(stored)) => Some(stored.version),
        Some(Err(_)) if Bug::DamagedRecordReplaced.planted() => None,
        Some(Err(error)) => return Ok(Written::Unusable(error)),
        None => None,
    };
    let expected = match condition {
        Condition::Absent => None,
        Condition::Version(version) => Some(version),
    };
    let careless = Bug::ServerOverwrites.planted() && found.is_some() && expected.is_some()
        || Bug::CreateReplaces.planted() && expected.is_none();
    if found.as_ref() != expected && !careless {
        return Ok(Written::Mismatch);
    }
    if found.is_none() && table.len()? >= MAX_RECORDS {
        return Ok(Written::Full);
    }
    let version = Version::draw().map_err(|reason| redb::Error::Io(std::io::Error::other(reason)))?;
    let stored = Stored { version: version.clone(), bytes };
    table.insert(cluster.as_str(), stored.encode(cluster).as_slice())?;
    Ok(Written::Swapped(version))
}
