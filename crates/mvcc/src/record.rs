//! Records: one change of one key, as the engine keeps it.
//!
//! Owns the record's binary form. The mod revision is not in it: it is the record's key in the engine. The key and
//! the value lie in it unaltered, so events and answers are slices of the record and share its memory.

use bytes::Bytes;

use crate::{
    codec::{Cursor, DecodeError, write_bytes, write_signed, write_unsigned},
    event::{Event, EventKind},
    request::KeyValue,
    revision::Revision,
};

/// First byte of a put, which is also its format version.
const PUT: u8 = 1;
/// First byte of a delete, which is also its format version.
const DELETE: u8 = 2;

/// Longest header of a put: tag, key length, create revision, version, lease.
const PUT_HEADER_BYTES: usize = 1 + 5 + 10 + 10 + 10;

/// The record of a put.
pub(crate) fn encode_put(key: &[u8], value: &[u8], created: i64, version: i64, lease: i64) -> Bytes {
    assert!(created > 0 && version > 0, "a put begins or continues a life of its key");
    let mut output = Vec::with_capacity(PUT_HEADER_BYTES + key.len() + value.len());
    output.push(PUT);
    write_unsigned(&mut output, created.cast_unsigned());
    write_unsigned(&mut output, version.cast_unsigned());
    write_signed(&mut output, lease);
    write_bytes(&mut output, key);
    output.extend_from_slice(value);
    Bytes::from(output.into_boxed_slice())
}

/// The record of a delete.
pub(crate) fn encode_delete(key: &[u8]) -> Bytes {
    let mut output = Vec::with_capacity(1 + key.len());
    output.push(DELETE);
    output.extend_from_slice(key);
    Bytes::from(output.into_boxed_slice())
}

/// What a record says, borrowed from it.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'record> {
    pub(crate) kind: EventKind,
    /// Create revision; 0 for a delete.
    pub(crate) created: i64,
    /// Version; 0 for a delete.
    pub(crate) version: i64,
    /// Lease; 0 for none.
    pub(crate) lease: i64,
    pub(crate) key: &'record [u8],
    /// Empty for a delete.
    pub(crate) value: &'record [u8],
}

/// Takes a record apart.
pub(crate) fn parse(record: &[u8]) -> Result<Parts<'_>, DecodeError> {
    let mut cursor = Cursor::new(record);
    match cursor.byte()? {
        PUT => {
            let created = positive(cursor.unsigned()?)?;
            let version = positive(cursor.unsigned()?)?;
            let lease = cursor.signed()?;
            let key = cursor.bytes()?;
            Ok(Parts { kind: EventKind::Put, created, version, lease, key, value: cursor.remainder() })
        }
        DELETE => {
            let key = cursor.remainder();
            Ok(Parts { kind: EventKind::Delete, created: 0, version: 0, lease: 0, key, value: &[] })
        }
        tag => Err(DecodeError::UnknownTag(tag)),
    }
}

/// Reads a record back as the event that it is; key and value are slices of it.
pub(crate) fn decode(revision: Revision, record: &Bytes) -> Result<Event, DecodeError> {
    let Parts { kind, created, version, lease, key, value } = parse(record)?;
    let key_value = KeyValue {
        key: record.slice_ref(key),
        create_revision: created,
        mod_revision: revision.main,
        version,
        value: record.slice_ref(value),
        lease,
    };
    Ok(Event { kind, revision, key_value })
}

fn positive(value: u64) -> Result<i64, DecodeError> {
    i64::try_from(value).ok().filter(|value| *value > 0).ok_or(DecodeError::MalformedInteger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_events() {
        let event = decode(Revision::new(9, 3), &encode_put(b"key", b"value", 7, 2, -5)).unwrap();
        assert_eq!(event.kind, EventKind::Put);
        let expected = KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 7,
            mod_revision: 9,
            version: 2,
            value: Bytes::from_static(b"value"),
            lease: -5,
        };
        assert_eq!(event.key_value, expected);

        let event = decode(Revision::new(9, 4), &encode_delete(b"key")).unwrap();
        assert_eq!(event.kind, EventKind::Delete);
        assert_eq!(event.key_value, KeyValue { key: expected.key, mod_revision: 9, ..KeyValue::default() });
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&b""[..], &[0], &[3, 1], &[PUT], &[PUT, 0, 1, 0, 0], &[PUT, 1, 1, 0, 9, 1]] {
            assert!(decode(Revision::new(2, 0), &Bytes::from_static(nonsense)).is_err());
        }
    }
}
