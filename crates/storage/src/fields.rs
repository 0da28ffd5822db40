//! Little-endian fields of the on-disk records, written and read by hand.
//!
//! Reading never panics: a field beyond the end is `None`, which every caller turns into its own damage error.

use duet_protocol::{Epoch, Lsn};

/// Reads fields from the front of a slice.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next sixteen bytes.
    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// The next LSN.
    pub fn lsn(&mut self) -> Option<Lsn> {
        self.u64().and_then(Lsn::checked)
    }

    /// The next epoch.
    pub fn epoch(&mut self) -> Option<Epoch> {
        self.u64().and_then(Epoch::checked)
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}
