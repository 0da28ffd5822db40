//! Records: one change of one key, as the engine keeps it.
//!
//! Owns the record's binary form. The mod revision is not in it: it is the record's key in the engine. The key and
//! the value lie in it unaltered, so events and answers are slices of the record and share its memory.

use bytes::Bytes;

use crate::{
    codec::{DecodeError, Reader, write_bytes, write_signed, write_unsigned},
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

/// Reads a record back as the event that it is; key and value are slices of it.
pub(crate) fn decode(revision: Revision, record: Bytes) -> Result<Event, DecodeError> {
    let mut reader = Reader::new(record);
    let mut key_value = KeyValue { mod_revision: revision.main, ..KeyValue::default() };
    let kind = match reader.byte()? {
        PUT => {
            key_value.create_revision = positive(reader.unsigned()?)?;
            key_value.version = positive(reader.unsigned()?)?;
            key_value.lease = reader.signed()?;
            key_value.key = reader.bytes()?;
            key_value.value = reader.remainder();
            EventKind::Put
        }
        DELETE => {
            key_value.key = reader.remainder();
            EventKind::Delete
        }
        tag => return Err(DecodeError::UnknownTag(tag)),
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
        let event = decode(Revision::new(9, 3), encode_put(b"key", b"value", 7, 2, -5)).unwrap();
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

        let event = decode(Revision::new(9, 4), encode_delete(b"key")).unwrap();
        assert_eq!(event.kind, EventKind::Delete);
        assert_eq!(event.key_value, KeyValue { key: expected.key, mod_revision: 9, ..KeyValue::default() });
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&b""[..], &[0], &[3, 1], &[PUT], &[PUT, 0, 1, 0, 0], &[PUT, 1, 1, 0, 9, 1]] {
            assert!(decode(Revision::new(2, 0), Bytes::from_static(nonsense)).is_err());
        }
    }
}
