//! One record: 64 bytes of header and the command of one entry.
//!
//! ```text
//! 0   4  CRC-32C of all that follows, header and command
//! 4   4  the CRC of the record before it in the segment; of the first: the segment header's
//! 8   1  0xD7                      16  8  segment id
//! 9   1  kind: 1, an entry         24  8  LSN
//! 10  2  flags, reserved: 0        32  8  epoch
//! 12  4  length of the command     40  8  LSN up to which the log was synced when this was written
//!                                  48 16  digest of the history up to and with this entry
//! 64     the command
//! ```
//! The segment id makes records of an earlier life of the file strangers; the previous CRC binds each record to the
//! bytes before it; the synced LSN is what tells damage from a torn tail.

use bytes::Bytes;
use duet_protocol::{Digest, Entry, Epoch, Lsn};

use super::COMMAND_BYTES_MAX;
use crate::{fields::Fields, planted::Bug};

/// Bytes before the command.
pub(super) const HEADER_BYTES: usize = 64;

pub(super) const MAGIC: u8 = 0xD7;
const KIND_ENTRY: u8 = 1;

/// The header of a record, as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHeader {
    pub crc: u32,
    pub previous_crc: u32,
    pub command_bytes: usize,
    pub segment: u64,
    pub lsn: Lsn,
    pub epoch: Epoch,
    pub synced: Lsn,
    pub digest: Digest,
}

impl RecordHeader {
    /// Reads a header from the front of `bytes`; `None` when there is none that this segment could have.
    pub fn parse(bytes: &[u8], segment: u64) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        let crc = fields.u32()?;
        let previous_crc = fields.u32()?;
        let is_entry = (fields.u8()?, fields.u8()?, fields.u16()?) == (MAGIC, KIND_ENTRY, 0);
        let command_bytes = usize::try_from(fields.u32()?).ok()?;
        let header = Self {
            crc,
            previous_crc,
            command_bytes,
            segment: fields.u64()?,
            lsn: fields.lsn()?,
            epoch: fields.epoch()?,
            synced: fields.lsn()?,
            digest: Digest(fields.array()?),
        };
        assert!(fields.is_done(), "a record header has {HEADER_BYTES} bytes");
        let same_life = header.segment == segment || Bug::FormerLifeRead.planted();
        let sound = is_entry && same_life && command_bytes <= COMMAND_BYTES_MAX;
        (sound && header.synced < header.lsn).then_some(header)
    }

    /// Bytes of the whole record.
    pub const fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.command_bytes
    }
}

/// Reads the record at the front of `bytes` if it is whole and its checksum is right.
pub(super) fn parse(bytes: &[u8], segment: u64) -> Option<(RecordHeader, &[u8])> {
    let header = RecordHeader::parse(bytes, segment)?;
    let record = bytes.get(..header.record_bytes())?;
    let sound = crc32c::crc32c(&record[4..]) == header.crc || Bug::ChecksumUnchecked.planted();
    sound.then_some((header, &record[HEADER_BYTES..]))
}

/// The entry of a record.
pub(super) fn entry(header: &RecordHeader, command: Bytes) -> Entry {
    assert!(command.len() == header.command_bytes, "the command is the record's");
    Entry { lsn: header.lsn, epoch: header.epoch, digest: header.digest, command }
}

/// Bytes the record of `entry` takes.
pub(super) fn bytes_of(entry: &Entry) -> usize {
    assert!(entry.command.len() <= COMMAND_BYTES_MAX, "a command of at most {COMMAND_BYTES_MAX} bytes");
    HEADER_BYTES + entry.command.len()
}

/// Appends the record of `entry` to `buffer`; its CRC, which the next record needs.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    entry: &Entry,
    segment: u64,
    synced: Lsn,
    previous_crc: u32,
) -> u32 {
    assert!(synced < entry.lsn, "an entry is written before it is synced");
    let length = u32::try_from(bytes_of(entry) - HEADER_BYTES).unwrap_or(u32::MAX);
    let mut header = [0_u8; HEADER_BYTES];
    header[4..8].copy_from_slice(&previous_crc.to_le_bytes());
    header[8] = MAGIC;
    header[9] = KIND_ENTRY;
    header[12..16].copy_from_slice(&length.to_le_bytes());
    header[16..24].copy_from_slice(&segment.to_le_bytes());
    header[24..32].copy_from_slice(&entry.lsn.0.to_le_bytes());
    header[32..40].copy_from_slice(&entry.epoch.0.to_le_bytes());
    header[40..48].copy_from_slice(&synced.0.to_le_bytes());
    header[48..64].copy_from_slice(&entry.digest.0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[4..]), &entry.command);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(&entry.command);
    crc
}

#[cfg(test)]
mod tests {
    use duet_protocol::Position;

    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_any_flipped_bit_is_seen() {
        let entry = Entry::following(&Position::EMPTY, Epoch(3), Bytes::from_static(b"a command"));
        let mut buffer = Vec::new();
        let crc = encode(&mut buffer, &entry, 77, Lsn(0), 5);
        assert_eq!(buffer.len(), bytes_of(&entry));
        let (header, command) = parse(&buffer, 77).unwrap();
        assert_eq!((header.crc, header.previous_crc, header.synced), (crc, 5, Lsn(0)));
        assert_eq!(super::entry(&header, Bytes::copy_from_slice(command)), entry);
        assert!(parse(&buffer, 78).is_none());
        assert!(parse(&buffer[..buffer.len() - 1], 77).is_none());
        for bit in 0..buffer.len() * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&buffer, 77).is_none(), "bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
