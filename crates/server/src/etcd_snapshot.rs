//! A snapshot of the state in etcd's form: the file of a bbolt database with etcd's buckets, as `etcdctl snapshot`
//! saves, checks and restores it. It is also how a site moves to an etcd.
//!
//! Made from a frozen state store, beside which writes go on. Its rows are gone through twice, because what comes first in
//! the file is known last; no more than a few pages are in memory. Members are not in it: whoever restores it names
//! new ones.

pub(crate) mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use duet_bbolt::{Layout, Writer};
use duet_mvcc::{
    AlarmKind, AuthError, DecodeError, EmptySource, RestoreError, Revision, Store, to_etcd_form,
    to_etcd_revision,
};
use duet_protocol::PerAppliance;
use duet_storage::{StateError, StateSnapshot};
use sha2::Digest;

/// Bytes of rows that are read from the state store at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Buckets that etcd expects to be there and that are empty here.
const EMPTY_BUCKETS: [&str; 3] = ["cluster", "members", "members_removed"];

/// Rows of a bucket, by their keys.
type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Buckets by their names.
type Buckets = BTreeMap<&'static str, Rows>;

/// Why there is no snapshot, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the state cannot be understood: {0}")]
    Restore(#[from] RestoreError),
    #[error("a record cannot be understood: {0}")]
    Record(#[from] DecodeError),
    #[error("the users cannot be understood: {0}")]
    Users(#[from] AuthError),
    #[error("a key of the state store is no revision")]
    Key,
    #[error("nobody takes it")]
    NotTaken,
}

/// See the module.
pub(crate) struct EtcdSnapshot {
    rows: StateSnapshot,
    /// Everything but the history, by bucket.
    rest: Buckets,
    revision: i64,
    layout: Layout,
}

impl EtcdSnapshot {
    /// Goes through the rows for the first time.
    pub(crate) fn prepare(rows: StateSnapshot, members: PerAppliance<u64>) -> Result<Self, ExportError> {
        let store = match rows.meta() {
            Some(meta) => Store::restore(Arc::new(EmptySource), &meta, std::iter::empty())?,
            None => Store::new(Arc::new(EmptySource)),
        };
        let rest = everything_but_history(&store, &rows, members)?;
        let layout = Layout { root: 0, pages: 0 };
        let mut snapshot = Self { rows, rest, revision: store.revision(), layout };
        snapshot.layout = snapshot.pass(|_| Ok(()))?;
        Ok(snapshot)
    }

    /// Length of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// The revision that it holds.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Gives the file to `out`, from its beginning to its end.
    pub(crate) fn write(
        mut self,
        mut out: impl FnMut(&[u8]) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        out(&self.layout.header())?;
        let layout = self.pass(out)?;
        assert!(layout == self.layout, "both passes over a frozen state give the same");
        Ok(())
    }

    fn pass(&mut self, out: impl FnMut(&[u8]) -> Result<(), ExportError>) -> Result<Layout, ExportError> {
        let mut writer = Writer::new(out);
        let mut history = writer.bucket(b"key");
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.rows.rewind();
        loop {
            let chunk = self.rows.next_chunk(CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            for (revision, record) in chunk {
                let revision = Revision::from_key(&revision).ok_or(ExportError::Key)?;
                to_etcd_form(revision, &record, &mut key, &mut value)?;
                history.put(&key, &value)?;
            }
        }
        history.finish()?;
        for (name, rows) in &self.rest {
            let mut bucket = writer.bucket(name.as_bytes());
            for (key, value) in rows {
                bucket.put(key, value)?;
            }
            bucket.finish()?;
        }
        writer.finish()
    }
}

fn everything_but_history(
    store: &Store,
    rows: &StateSnapshot,
    members: PerAppliance<u64>,
) -> Result<Buckets, ExportError> {
    let mut rest: Buckets = EMPTY_BUCKETS.map(|name| (name, Rows::new())).into();
    let position = rows.position();
    let voters = format!("{{\"voters\":[{},{}],\"auto_leave\":false}}", members.a, members.b);
    let mut meta = BTreeMap::from([
        (b"consistent_index".to_vec(), position.lsn.0.to_be_bytes().to_vec()),
        (b"term".to_vec(), position.epoch.0.to_be_bytes().to_vec()),
        (b"confState".to_vec(), voters.into_bytes()),
    ]);
    if store.compacted_revision() > 0 {
        // Scheduled and not finished: rows that the compaction has not removed yet are removed by etcd when it starts.
        let compacted = to_etcd_revision(Revision::new(store.compacted_revision(), 0));
        meta.insert(b"scheduledCompactRev".to_vec(), compacted);
    }
    rest.insert("meta", meta);
    let leases = store.lease_ttls().into_iter();
    rest.insert("lease", leases.map(|(id, ttl)| (id.to_be_bytes().to_vec(), lease(id, ttl))).collect());
    let alarms = store.alarms().map(|alarm| {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        };
        (message(&[(1, alarm.member), (2, kind)]), Vec::new())
    });
    rest.insert("alarm", alarms.collect());
    rest.extend(users::buckets(store.auth())?);
    Ok(rest)
}

/// The message `leasepb.Lease`: its id and its time to live. A restored lease has its full time again.
fn lease(id: i64, ttl: i64) -> Vec<u8> {
    message(&[(1, id.cast_unsigned()), (2, ttl.cast_unsigned())])
}

/// A protobuf message of numbers; what is 0 is left out.
fn message(fields: &[(u8, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, number) in fields.iter().filter(|(_, number)| *number != 0) {
        bytes.push(field << 3);
        prost::encoding::encode_varint(*number, &mut bytes);
    }
    bytes
}

/// Cuts a file into chunks of one length, with its checksum behind it, as etcd sends it.
pub(crate) struct Chunks<Out> {
    send: Out,
    chunk: Vec<u8>,
    chunk_bytes: usize,
    left: u64,
    hash: sha2::Sha256,
}

impl<Out> Chunks<Out>
where
    Out: FnMut(Bytes, u64) -> Result<(), ExportError>,
{
    /// `send` gets each chunk, and how many bytes of the file follow it.
    pub(crate) fn new(file_bytes: u64, chunk_bytes: usize, send: Out) -> Self {
        Self { send, chunk: Vec::new(), chunk_bytes, left: file_bytes, hash: sha2::Sha256::new() }
    }

    pub(crate) fn add(&mut self, mut bytes: &[u8]) -> Result<(), ExportError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk_bytes - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == self.chunk_bytes {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.hash.update(&self.chunk);
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.left -= chunk.len() as u64;
        (self.send)(chunk, self.left)
    }

    /// Sends what is left and the checksum.
    pub(crate) fn finish(mut self) -> Result<(), ExportError> {
        self.flush()?;
        assert!(self.left == 0, "the whole file has been sent");
        (self.send)(Bytes::copy_from_slice(&self.hash.finalize()), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_in_chunks_with_its_checksum_behind_it() {
        let mut sent = Vec::new();
        let mut chunks = Chunks::new(10, 4, |chunk: Bytes, left| {
            sent.push((chunk, left));
            Ok(())
        });
        for part in [&b"abc"[..], b"", b"defghij"] {
            chunks.add(part).unwrap();
        }
        chunks.finish().unwrap();
        let parts: Vec<(&[u8], u64)> =
            sent[..3].iter().map(|(chunk, left)| (chunk.as_ref(), *left)).collect();
        assert_eq!(parts, [(&b"abcd"[..], 6), (b"efgh", 2), (b"ij", 0)]);
        // sha256 of "abcdefghij".
        assert_eq!(sent[3].0[..4], [0x72, 0x39, 0x93, 0x61]);
        assert_eq!((sent[3].0.len(), sent[3].1, sent.len()), (32, 0, 4));
    }

    #[test]
    fn messages_are_protobuf() {
        assert_eq!(lease(300, 60), [8, 172, 2, 16, 60]);
        assert_eq!(lease(-1, 2).len(), 1 + 10 + 2);
        assert_eq!(message(&[(1, 0), (2, 1)]), [16, 1]);
    }
}
