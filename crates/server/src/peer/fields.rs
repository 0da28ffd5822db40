//! The little-endian fields that frames are made of. Reading never panics and never believes a length.

use bytes::{Buf, Bytes};
use duet_protocol::{
    ApplianceId, Conf, Digest, DiskId, Epoch, Instant, Lsn, PerAppliance, Position, WitnessId,
};

/// The bytes are no frame of this version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends fields to a buffer.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    pub(crate) fn digest(&mut self, value: &Digest) {
        self.0.extend_from_slice(&value.0);
    }

    pub(crate) fn disk(&mut self, value: DiskId) {
        self.0.extend_from_slice(&value.0.to_le_bytes());
    }

    pub(crate) fn lsn(&mut self, value: Lsn) {
        self.u64(value.0);
    }

    pub(crate) fn epoch(&mut self, value: Epoch) {
        self.u64(value.0);
    }

    pub(crate) fn instant(&mut self, value: Instant) {
        self.u64(value.0);
    }

    pub(crate) fn appliance(&mut self, value: ApplianceId) {
        self.u8(match value {
            ApplianceId::A => b'A',
            ApplianceId::B => b'B',
        });
    }

    pub(crate) fn position(&mut self, value: &Position) {
        self.epoch(value.epoch);
        self.lsn(value.lsn);
        self.digest(&value.digest);
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn witness(&mut self, value: WitnessId) {
        self.u32(value.0);
    }

    pub(crate) fn conf(&mut self, value: &Conf) {
        self.epoch(value.epoch());
        self.appliance(value.primary());
        self.option(value.members().a, Self::disk);
        self.option(value.members().b, Self::disk);
        self.witness(value.witness());
    }
}

/// Takes fields from the front of a buffer.
pub(crate) struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    /// Reads a `what`; the word is for the error.
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn malformed(&self) -> Malformed {
        Malformed(self.what)
    }

    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn need(&self, count: usize) -> Result<(), Malformed> {
        if self.rest.len() < count { Err(self.malformed()) } else { Ok(()) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.need(2)?;
        Ok(self.rest.get_u16_le())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.need(4)?;
        Ok(self.rest.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.rest.get_u64_le())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    /// A part of the buffer itself, nothing is copied.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.malformed())?;
        self.need(length)?;
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| self.malformed())
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Malformed> {
        let mut digest = Digest::EMPTY;
        self.need(digest.0.len())?;
        self.rest.copy_to_slice(&mut digest.0);
        Ok(digest)
    }

    pub(crate) fn disk(&mut self) -> Result<DiskId, Malformed> {
        self.need(16)?;
        Ok(DiskId(self.rest.get_u128_le()))
    }

    pub(crate) fn lsn(&mut self) -> Result<Lsn, Malformed> {
        Lsn::checked(self.u64()?).ok_or_else(|| self.malformed())
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, Malformed> {
        Epoch::checked(self.u64()?).ok_or_else(|| self.malformed())
    }

    pub(crate) fn instant(&mut self) -> Result<Instant, Malformed> {
        self.u64().map(Instant)
    }

    pub(crate) fn appliance(&mut self) -> Result<ApplianceId, Malformed> {
        match self.u8()? {
            b'A' => Ok(ApplianceId::A),
            b'B' => Ok(ApplianceId::B),
            _ => Err(self.malformed()),
        }
    }

    pub(crate) fn position(&mut self) -> Result<Position, Malformed> {
        Ok(Position { epoch: self.epoch()?, lsn: self.lsn()?, digest: self.digest()? })
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn witness(&mut self) -> Result<WitnessId, Malformed> {
        self.u32().map(WitnessId)
    }

    pub(crate) fn conf(&mut self) -> Result<Conf, Malformed> {
        let (epoch, primary) = (self.epoch()?, self.appliance()?);
        let members = PerAppliance { a: self.option(Self::disk)?, b: self.option(Self::disk)? };
        let witness = self.witness()?;
        Conf::from_parts(epoch, primary, members, witness).ok_or_else(|| self.malformed())
    }
}
