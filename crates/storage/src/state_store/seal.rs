//! Checksums of the state store's own: the engine has some, but reads most pages without looking at them.
//!
//! Each value is stored with the CRC-32C of its key and itself, so a flipped bit or a row in another's place is found by
//! whoever reads it. Beside the facts stands a [`Tally`] of all rows, so that a start or a copy, which read all of them,
//! find out when the medium has kept an old page: then rows are missing, or are there that were deleted.

use redb::Error;

use crate::planted::Bug;

/// Length in bytes of a checksum, which follows the value.
const CHECKSUM_BYTES: usize = 4;

/// How many rows there are, and the sum of their checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    rows: u64,
    sum: u64,
    /// Length of all stored values.
    bytes: u64,
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    // The length parts the two: a byte that moves from one to the other is another row.
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    crc32c::crc32c_append(crc32c::crc32c_append(length, key), value)
}

/// The value as it is stored.
pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(value.len() + CHECKSUM_BYTES);
    seal_into(&mut stored, key, value);
    stored
}

/// The same in place of what `stored` holds.
pub(super) fn seal_into(stored: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    stored.clear();
    stored.extend_from_slice(value);
    stored.extend_from_slice(&checksum(key, value).to_le_bytes());
}

/// The value of what is stored.
pub(super) fn unseal<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], Error> {
    let damaged = || Error::Corrupted("a row does not have its checksum".to_owned());
    let (value, seal) = stored.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*seal) == checksum(key, value) || Bug::RowChecksumIgnored.planted() {
        Ok(value)
    } else {
        Err(damaged())
    }
}

impl Tally {
    /// Length in bytes of its stored form.
    const BYTES: usize = 24;

    /// Counts a stored row.
    pub(super) fn add(&mut self, stored: &[u8]) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(Self::weight(stored));
        self.bytes = self.bytes.wrapping_add(stored.len() as u64);
    }

    /// A stored row is gone.
    pub(super) fn remove(&mut self, stored: &[u8]) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(Self::weight(stored));
        self.bytes = self.bytes.wrapping_sub(stored.len() as u64);
    }

    fn weight(stored: &[u8]) -> u64 {
        let seal = stored.last_chunk::<CHECKSUM_BYTES>();
        u64::from(seal.map_or(0, |seal| u32::from_le_bytes(*seal)))
    }

    /// Its parts, to be sent: rows, sum of their checksums, length of all stored values.
    pub(crate) const fn parts(self) -> [u64; 3] {
        [self.rows, self.sum, self.bytes]
    }

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (rows, rest) = bytes.split_first_chunk::<8>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let bytes = rest.try_into().ok()?;
        let [rows, sum, bytes] = [*rows, *sum, bytes].map(u64::from_le_bytes);
        Some(Self { rows, sum, bytes })
    }

    /// What the rows take, in bytes, with their keys.
    pub(super) const fn content(self) -> u64 {
        self.bytes.wrapping_add(self.rows.wrapping_mul(super::ROW_KEY_BYTES as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_row_comes_back_and_a_changed_one_does_not() {
        let stored = seal(b"key", b"value");
        assert_eq!(unseal(b"key", &stored).ok(), Some(&b"value"[..]));
        assert!(unseal(b"kez", &stored).is_err() && unseal(b"key", &stored[1..]).is_err());
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"key", &flipped).is_err(), "bit {bit}");
        }
        assert!(unseal(b"k", &seal(b"", b"k")).is_err() && unseal(b"", b"abc").is_err());
    }

    #[test]
    fn a_tally_tells_which_rows_there_are() {
        let rows = [seal(b"a", b"1"), seal(b"b", b"2"), seal(b"c", b"3")];
        let of = |picked: &[usize]| {
            let mut tally = Tally::default();
            for row in picked {
                tally.add(&rows[*row]);
            }
            tally
        };
        let mut tally = of(&[2, 0, 1]);
        assert_eq!(tally, of(&[0, 1, 2]));
        tally.remove(&rows[1]);
        assert_eq!(tally, of(&[0, 2]));
        assert_ne!(tally, of(&[0, 1]));
        assert_eq!(Tally::decode(&tally.encode()), Some(tally));
        assert_eq!(Tally::decode(&[0; 15]), None);
    }
}
