//! What [`crate::fuzzing`] needs of the log's private parsers.

use duet_protocol::{Digest, Entry, Epoch, Lsn, Position};

use super::{
    record,
    segment::{self, SegmentHeader, SegmentId, block_up},
};

pub(crate) fn encode_record(entry: &Entry, segment: u64, synced: Lsn, previous_crc: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(&mut bytes, entry, segment, synced, previous_crc);
    bytes
}

/// Whether `bytes` begin with a record, and are nothing else.
pub(crate) fn check_record(bytes: &[u8], segment: u64) -> bool {
    let Some((header, command)) = record::parse(bytes, segment) else { return false };
    let entry = record::entry(&header, bytes::Bytes::copy_from_slice(command));
    let again = encode_record(&entry, segment, header.synced, header.previous_crc);
    assert!(bytes.starts_with(&again), "a record has one form");
    again.len() == bytes.len()
}

/// The record at the front with the checksum that it should have.
pub(crate) fn mend_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?);
    let end = record::HEADER_BYTES.checked_add(usize::try_from(length).ok()?)?;
    let mut mended = bytes.get(..end)?.to_vec();
    let crc = crc32c::crc32c(&mended[4..]);
    mended[..4].copy_from_slice(&crc.to_le_bytes());
    Some(mended)
}

pub(crate) fn header_samples() -> Vec<Vec<u8>> {
    let base = Position { epoch: Epoch(5), lsn: Lsn(99), digest: Digest([3; 16]) };
    let header = |id, continues, stale| {
        let continues = Some(continues).filter(|id| *id > 0).map(SegmentId);
        SegmentHeader { id: SegmentId(id), continues, base, file_bytes: 8192, stale }.encode().0
    };
    vec![header(1, 0, false), header(12, 11, true)]
}

/// Whether `bytes` are a header block, and nothing else.
pub(crate) fn check_header(bytes: &[u8]) -> bool {
    let Ok((header, _)) = SegmentHeader::decode(bytes) else { return false };
    let (again, _) = header.encode();
    assert!(SegmentHeader::decode(&again).is_ok_and(|(read, _)| read == header), "read as written");
    again == bytes
}

/// The header block at the front with the checksum that it should have.
pub(crate) fn mend_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut mended = bytes.get(..segment::HEADER_BYTES)?.to_vec();
    let crc = segment::checksum(&mended);
    mended[8..12].copy_from_slice(&crc.to_le_bytes());
    Some(mended)
}

/// Gives the header and every record of a segment that can still be found the checksums that they should have.
pub(crate) fn mend_segment(bytes: &mut [u8]) {
    let Some(header) = mend_header(bytes) else { return };
    bytes[..header.len()].copy_from_slice(&header);
    let mut previous = segment::checksum(&header);
    let mut at = header.len();
    loop {
        let aligned = usize::try_from(block_up(at as u64)).unwrap_or(usize::MAX);
        let is_record = |at: &usize| bytes.get(*at + 8) == Some(&record::MAGIC);
        let Some(found) = [at, aligned].into_iter().find(is_record) else { return };
        let Some(place) = bytes.get_mut(found + 4..found + 8) else { return };
        place.copy_from_slice(&previous.to_le_bytes());
        let Some(mended) = mend_record(&bytes[found..]) else { return };
        bytes[found..found + mended.len()].copy_from_slice(&mended);
        previous = mended.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
        at = found + mended.len();
    }
}
