//! A change as etcd keeps it in its own database: what hashes and snapshots in etcd's form are made of.
//!
//! Owns the two encodings. The key is the revision, `main_sub` in big-endian, and a `t` behind it for a delete; the
//! value is the protobuf message `mvccpb.KeyValue`.

use bytes::Bytes;

use crate::{
    codec::{DecodeError, write_unsigned},
    event::{Event, EventKind},
    record,
    revision::Revision,
};

/// Wire type of a protobuf field that holds a number.
const NUMBER: u8 = 0;
/// Wire type of a protobuf field that holds bytes.
const BYTES: u8 = 2;

/// A revision as etcd writes it.
pub fn to_etcd_revision(revision: Revision) -> Vec<u8> {
    let mut output = Vec::new();
    write_key(&mut output, revision, false);
    output
}

/// Appends etcd's key of a change.
pub(crate) fn write_key(output: &mut Vec<u8>, revision: Revision, is_delete: bool) {
    output.extend_from_slice(&revision.main.to_be_bytes());
    output.push(b'_');
    output.extend_from_slice(&revision.sub.to_be_bytes());
    if is_delete {
        output.push(b't');
    }
}

/// Appends etcd's value of a change. Of a delete only the key is kept.
pub(crate) fn write_value(output: &mut Vec<u8>, event: &Event) {
    let key_value = &event.key_value;
    write_bytes_field(output, 1, &key_value.key);
    if event.kind == EventKind::Put {
        write_number_field(output, 2, key_value.create_revision);
        write_number_field(output, 3, key_value.mod_revision);
        write_number_field(output, 4, key_value.version);
        write_bytes_field(output, 5, &key_value.value);
        write_number_field(output, 6, key_value.lease);
    }
}

/// A row of the engine as the pair that etcd keeps for it, into `key` and `value`, which are emptied first.
///
/// # Errors
/// The record is malformed.
pub fn to_etcd_form(
    revision: Revision,
    record: &Bytes,
    key: &mut Vec<u8>,
    value: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let event = record::decode(revision, record)?;
    key.clear();
    value.clear();
    write_key(key, revision, event.kind == EventKind::Delete);
    write_value(value, &event);
    Ok(())
}

/// Protobuf leaves out what has its default value.
fn write_number_field(output: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        output.push(field << 3 | NUMBER);
        write_unsigned(output, number.cast_unsigned());
    }
}

fn write_bytes_field(output: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        output.push(field << 3 | BYTES);
        write_unsigned(output, bytes.len() as u64);
        output.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_and_a_delete_as_etcd_has_them_on_disk() {
        let (mut key, mut value) = (vec![9], vec![9]);
        let put = record::encode_put(b"k", b"v", 2, 3, -1);
        to_etcd_form(Revision::new(258, 1), &put, &mut key, &mut value).unwrap();
        assert_eq!(key, b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x01");
        let all_ones = [0xff; 9];
        let expected = [&b"\x0a\x01k\x10\x02\x18\x82\x02\x20\x03\x2a\x01v\x30"[..], &all_ones, &[1]].concat();
        assert_eq!(value, expected);

        to_etcd_form(Revision::new(3, 0), &record::encode_delete(b"k"), &mut key, &mut value).unwrap();
        assert_eq!(key, b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t");
        assert_eq!(value, b"\x0a\x01k");
    }
}
