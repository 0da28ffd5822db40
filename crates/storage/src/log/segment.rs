//! A segment file: its name and its header block.
//!
//! ```text
//! 0   8  "DUETLOG1"                          32  8  base LSN
//! 8   4  CRC-32C of the rest of the block    40  8  base epoch
//! 12  2  format                              48 16  base digest
//! 14  2  flags: 1 = stale bytes may follow   64  8  length of the file
//! 16  8  id, counted from 1                  72     zeros up to 4096
//! 24  8  id of the segment it continues, 0: none
//! ```

use std::path::{Path, PathBuf};

use duet_protocol::{Digest, Lsn, Position};

use super::BLOCK_BYTES;
use crate::fields::Fields;

/// Newest format this version reads and the one it writes.
pub(super) const FORMAT: u16 = 1;

/// Bytes of the header block; records begin behind it.
pub(super) const HEADER_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"DUETLOG1";
const FLAG_STALE: u16 = 1;

/// Segments are numbered in the order in which they were made; no number is used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SegmentId(pub u64);

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub id: SegmentId,
    /// The segment it continues.
    pub continues: Option<SegmentId>,
    /// Position before its first entry.
    pub base: Position,
    /// Length of the file.
    pub file_bytes: u64,
    /// The file had an earlier life: behind the last record anything may follow.
    pub stale: bool,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeaderDefect {
    Damaged(&'static str),
    Newer(u16),
}

impl SegmentHeader {
    /// The header block, and its CRC: where the chain of the records begins.
    pub fn encode(&self) -> (Vec<u8>, u32) {
        assert!(self.id.0 > 0 && self.continues.is_none_or(|id| id.0 > 0 && id < self.id));
        assert!(self.file_bytes > BLOCK_BYTES && self.file_bytes.is_multiple_of(BLOCK_BYTES));
        let mut block = Vec::with_capacity(HEADER_BYTES);
        block.extend(MAGIC);
        block.extend([0; 4]);
        block.extend(FORMAT.to_le_bytes());
        block.extend((if self.stale { FLAG_STALE } else { 0 }).to_le_bytes());
        block.extend(self.id.0.to_le_bytes());
        block.extend(self.continues.map_or(0, |id| id.0).to_le_bytes());
        block.extend(self.base.lsn.0.to_le_bytes());
        block.extend(self.base.epoch.0.to_le_bytes());
        block.extend(self.base.digest.0);
        block.extend(self.file_bytes.to_le_bytes());
        block.resize(HEADER_BYTES, 0);
        let crc = checksum(&block);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        (block, crc)
    }

    /// Reads a header block.
    pub fn decode(block: &[u8]) -> Result<(Self, u32), HeaderDefect> {
        const SHORT: HeaderDefect = HeaderDefect::Damaged("the segment's header is cut short");
        let block = block.get(..HEADER_BYTES).ok_or(SHORT)?;
        let mut fields = Fields(block);
        if fields.array::<8>() != Some(MAGIC) {
            return Err(HeaderDefect::Damaged("the segment's header does not begin as it must"));
        }
        let crc = fields.u32().ok_or(SHORT)?;
        if checksum(block) != crc {
            return Err(HeaderDefect::Damaged("the checksum of the segment's header is wrong"));
        }
        let format = fields.u16().ok_or(SHORT)?;
        if format > FORMAT {
            return Err(HeaderDefect::Newer(format));
        }
        let header = Self::decode_fields(&mut fields).filter(|_| format == FORMAT);
        header.map(|header| (header, crc)).ok_or(HeaderDefect::Damaged("the segment's header makes no sense"))
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.u16()?;
        let id = SegmentId(fields.u64()?);
        let continues = Some(SegmentId(fields.u64()?)).filter(|id| id.0 > 0);
        let lsn = fields.lsn()?;
        let epoch = fields.epoch()?;
        let digest = Digest(fields.array()?);
        let file_bytes = fields.u64()?;
        let sound = flags & !FLAG_STALE == 0
            && id.0 > 0
            && continues.is_none_or(|other| other < id)
            && file_bytes > BLOCK_BYTES
            && file_bytes.is_multiple_of(BLOCK_BYTES);
        let base = Position { epoch, lsn, digest };
        sound.then_some(Self { id, continues, base, file_bytes, stale: flags & FLAG_STALE != 0 })
    }
}

/// Covers everything behind itself; the magic before it is compared anyway.
pub(super) fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c(&block[12..])
}

/// Name of a segment: its id, and for people its base.
pub(super) fn name(id: SegmentId, base: Lsn) -> String {
    format!("{:016x}-{:020}.seg", id.0, base.0)
}

/// Path of a segment.
pub(super) fn path(directory: &Path, id: SegmentId, base: Lsn) -> PathBuf {
    directory.join(name(id, base))
}

/// Reads a segment's name.
pub(super) fn parse_name(name: &str) -> Option<(SegmentId, Lsn)> {
    let (id, base) = name.strip_suffix(".seg")?.split_once('-')?;
    let sound = id.len() == 16 && base.len() == 20;
    let id = SegmentId(u64::from_str_radix(id, 16).ok()?);
    let base = Lsn::checked(base.parse().ok()?)?;
    (sound && id.0 > 0 && self::name(id, base) == name).then_some((id, base))
}

/// The next block's start, at or behind `offset`.
pub(super) const fn block_up(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use duet_protocol::Epoch;

    use super::*;

    #[test]
    fn a_header_is_read_as_written_and_any_flipped_byte_is_seen() {
        let base = Position { epoch: Epoch(5), lsn: Lsn(99), digest: Digest([3; 16]) };
        let id = SegmentId(12);
        for (continues, stale) in [(None, true), (Some(SegmentId(11)), false)] {
            let header = SegmentHeader { id, continues, base, file_bytes: 8192, stale };
            let (mut block, crc) = header.encode();
            assert_eq!(SegmentHeader::decode(&block), Ok((header, crc)));
            for offset in 0..block.len() {
                block[offset] ^= 0x10;
                assert!(SegmentHeader::decode(&block).is_err(), "byte {offset}");
                block[offset] ^= 0x10;
            }
        }
        assert_eq!(parse_name(&name(id, Lsn(99))), Some((id, Lsn(99))));
        assert_eq!(parse_name("000000000000000c-99.seg"), None);
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let base = Position::EMPTY;
        let header =
            SegmentHeader { id: SegmentId(1), continues: None, base, file_bytes: 8192, stale: false };
        let (mut block, _) = header.encode();
        block[12] = 2;
        let crc = checksum(&block);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderDefect::Newer(2)));
    }
}
