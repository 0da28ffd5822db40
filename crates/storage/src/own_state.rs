//! The appliance's own state on disk: `state/own-<generation, 16 hex digits>`.
//!
//! Saving writes the next generation under a temporary name, syncs it, gives it its name, syncs the directory, and only
//! then removes the generation before the last; two are kept. A crash therefore leaves the old generation or the new
//! one as the newest, whole in either case: the temporary name of a torn write is never looked at.
//!
//! **Damage rule.** The newest generation counts, and only it. If it is damaged, loading fails: the one before may lack an
//! epoch or a promise that was given (P1, P2), and falling back to it in silence could make two primaries. The older
//! one is there for the eyes of a person, nothing else.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duet_protocol::{ApplianceId, ClusterId, Conf, DiskId, OwnState, PerAppliance, WitnessId};

use crate::{
    disk::{Disk, OpenMode, read_whole},
    failure::{At, IoFailure},
    fields::Fields,
    planted::Bug,
};

/// The format this version reads and writes.
pub(crate) const FORMAT: u16 = 2;

/// First bytes of each generation.
const MAGIC: [u8; 8] = *b"DUETSELF";

/// Bytes before the body: magic, format, reserved, length of the body, checksum, generation.
const HEADER_BYTES: usize = 8 + 2 + 2 + 4 + 4 + 8;

/// No generation is longer in bytes; a bound for what is read of a damaged one.
const FILE_BYTES_MAX: usize = 4096;

/// Name of a generation that is not yet complete.
const UNFINISHED: &str = "own.tmp";

/// Why the own state could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum OwnStateError {
    /// The newest generation cannot be trusted: this appliance has no rights until its peer has given it a new state.
    #[error("the appliance's own state {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is none, though the data directory is complete: it was lost.
    #[error("the appliance's own state is missing from {}", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// A newer version of this program wrote it: run that.
    #[error("{} has format {format}, this version knows up to {FORMAT}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
    /// No space. Make space and restart.
    #[error("the disk is full: no space for {}", path.display())]
    DiskFull {
        /// The file that found no space.
        path: PathBuf,
    },
    /// A read, write or sync failed: which generation is on disk is unknown. Restart; the start finds out.
    #[error("the appliance's own state failed: {0}")]
    Failed(#[source] IoFailure),
    /// It failed before and must not be used any more.
    #[error("saving the appliance's own state failed before; restart the appliance")]
    Poisoned,
}

/// The file of the own state.
#[derive(Debug)]
pub struct OwnStateFile {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    generation: u64,
    /// Generations below it that are still there.
    older: Vec<u64>,
    poisoned: bool,
}

impl OwnStateFile {
    /// Writes the first generation into `directory`, which must exist. Generations of an appliance that was never completed
    /// are removed.
    ///
    /// # Errors
    /// See [`OwnStateError`].
    pub fn create(disk: Arc<dyn Disk>, directory: &Path, state: &OwnState) -> Result<Self, OwnStateError> {
        for generation in generations(disk.as_ref(), directory)? {
            let path = path_of(directory, generation);
            disk.remove(&path).at("remove", &path)?;
        }
        let directory = directory.to_owned();
        let mut file = Self { disk, directory, generation: 0, older: Vec::new(), poisoned: false };
        file.save(state)?;
        Ok(file)
    }

    /// Loads the newest generation.
    ///
    /// # Errors
    /// See [`OwnStateError`].
    pub fn load(disk: Arc<dyn Disk>, directory: &Path) -> Result<(Self, OwnState), OwnStateError> {
        let mut older = generations(disk.as_ref(), directory)?;
        let Some(mut generation) = older.pop() else {
            return Err(OwnStateError::Missing { directory: directory.to_owned() });
        };
        let mut path = path_of(directory, generation);
        if Bug::OlderGenerationLoaded.planted() && !older.is_empty() {
            let bytes = read_whole(disk.as_ref(), &path, FILE_BYTES_MAX).unwrap_or_default();
            if decode(&bytes, generation).is_err() {
                generation = older.pop().unwrap_or_default();
                path = path_of(directory, generation);
            }
        }
        let bytes = match read_whole(disk.as_ref(), &path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(OwnStateError::Damaged { path, reason: "it is too long" });
            }
            result => result.at("read", &path)?,
        };
        let state = decode(&bytes, generation).map_err(|defect| match defect {
            Defect::Damaged(reason) => OwnStateError::Damaged { path: path.clone(), reason },
            Defect::Newer(format) => OwnStateError::NewerFormat { path: path.clone(), format },
        })?;
        assert!(encode(&state, generation) == bytes, "a loaded state encodes to what was loaded");
        // A process that was killed between rename and sync left a name that is there and not durable: the appliance would act
        // on this state without saving it again, and a power cut would bring the older one back.
        if !Bug::OwnStateUnsyncedAtLoad.planted() {
            disk.sync_dir(directory).at("sync", directory)?;
        }
        let directory = directory.to_owned();
        Ok((Self { disk, directory, generation, older, poisoned: false }, state))
    }

    /// Replaces the state: when this returns, the new one is durable.
    ///
    /// # Errors
    /// See [`OwnStateError`]; nothing can be saved after a failure.
    pub fn save(&mut self, state: &OwnState) -> Result<(), OwnStateError> {
        if self.poisoned {
            return Err(OwnStateError::Poisoned);
        }
        self.poisoned = true;
        let saved = self.save_next(state);
        self.poisoned &= !Bug::OwnStateTriedAgain.planted();
        saved?;
        self.poisoned = false;
        Ok(())
    }

    fn save_next(&mut self, state: &OwnState) -> Result<(), OwnStateError> {
        let next = self.generation + 1;
        let bytes = encode(state, next);
        assert!(decode(&bytes, next).as_ref().ok() == Some(state), "a saved state can be loaded");
        if Bug::OwnStateOverwritten.planted() && self.generation > 0 {
            let present = path_of(&self.directory, std::mem::take(&mut self.generation));
            self.disk.remove(&present).at("remove", &present)?;
            self.disk.sync_dir(&self.directory).at("sync", &self.directory)?;
        }
        let unfinished = self.directory.join(UNFINISHED);
        let path = path_of(&self.directory, next);
        let file = self.disk.open(&unfinished, OpenMode::Create).at("create", &unfinished)?;
        file.set_len(0).at("empty", &unfinished)?;
        file.write_at(&bytes, 0).at("write", &unfinished)?;
        if !Bug::OwnStateUnsynced.planted() {
            file.sync_all().at("sync", &unfinished)?;
        }
        self.disk.rename(&unfinished, &path).at("rename", &unfinished)?;
        if !Bug::OwnStateNameUnsynced.planted() {
            self.disk.sync_dir(&self.directory).at("sync", &self.directory)?;
        }
        let previous = std::mem::replace(&mut self.generation, next);
        for old in std::mem::take(&mut self.older) {
            let path = path_of(&self.directory, old);
            self.disk.remove(&path).at("remove", &path)?;
        }
        self.older.extend((previous > 0).then_some(previous));
        Ok(())
    }
}

/// Generations there are, oldest first.
fn generations(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, OwnStateError> {
    let names = disk.list(directory).at("list", directory)?;
    let number = |name: &String| {
        let digits = name.strip_prefix("own-").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    let mut generations: Vec<u64> = names.iter().filter_map(number).collect();
    generations.sort_unstable();
    Ok(generations)
}

fn path_of(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("own-{generation:016x}"))
}

/// What is wrong with the bytes of a generation.
#[derive(Debug)]
pub(crate) enum Defect {
    Damaged(&'static str),
    Newer(u16),
}

/// ```text
/// 0   8 "DUETSELF"     16 4 CRC-32C of the rest: generation and body
/// 8   2 format         20 8 generation
/// 10  2 reserved, 0    28   body
/// 12  4 body length
/// ```
pub(crate) fn encode(state: &OwnState, generation: u64) -> Vec<u8> {
    let mut rest = generation.to_le_bytes().to_vec();
    rest.extend(state.cluster.0.to_le_bytes());
    rest.push(appliance_code(state.appliance));
    rest.extend(state.disk.0.to_le_bytes());
    encode_conf(&mut rest, &state.conf);
    rest.push(u8::from(state.tent.is_some()));
    if let Some(tent) = &state.tent {
        encode_conf(&mut rest, tent);
    }
    rest.extend(state.max_epoch.0.to_le_bytes());
    rest.extend(state.parted.0.to_le_bytes());
    rest.push(u8::from(state.joined));
    let length = u32::try_from(rest.len() - 8).unwrap_or(u32::MAX);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(checksum(&bytes, &rest).to_le_bytes());
    bytes.extend(rest);
    assert!(bytes.len() <= FILE_BYTES_MAX, "a generation fits its bound");
    bytes
}

/// Covers everything but itself.
fn checksum(front: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(front), rest)
}

/// Gives bytes the checksum that they should have, if they are long enough to have one.
#[cfg(feature = "fuzzing")]
pub(crate) fn mend(bytes: &mut [u8]) -> bool {
    let Some((front, rest)) = bytes.split_at_checked(20) else { return false };
    let sum = checksum(&front[..16], rest);
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    true
}

pub(crate) fn decode(bytes: &[u8], generation: u64) -> Result<OwnState, Defect> {
    const SHORT: Defect = Defect::Damaged("it is too short");
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(SHORT)?;
    let mut fields = Fields(header);
    if fields.array::<8>() != Some(MAGIC) {
        return Err(Defect::Damaged("it does not begin as it must"));
    }
    let format = fields.u16().ok_or(SHORT)?;
    let reserved = fields.u16().ok_or(SHORT)?;
    let length = fields.u32().ok_or(SHORT)?;
    let stored = fields.u32().ok_or(SHORT)?;
    if checksum(&bytes[..16], &bytes[20..]) != stored && !Bug::OwnStateChecksumUnchecked.planted() {
        return Err(Defect::Damaged("its checksum is wrong"));
    }
    if format > FORMAT {
        return Err(Defect::Newer(format));
    }
    if format != FORMAT || reserved != 0 || u32::try_from(body.len()) != Ok(length) {
        return Err(Defect::Damaged("its header is wrong"));
    }
    if fields.u64() != Some(generation) {
        return Err(Defect::Damaged("it is another generation than its name says"));
    }
    decode_body(body).ok_or(Defect::Damaged("its content is not a state"))
}

fn decode_body(body: &[u8]) -> Option<OwnState> {
    let mut fields = Fields(body);
    let cluster = ClusterId(fields.u64()?);
    let appliance = appliance_of(fields.u8()?)?;
    let disk = DiskId(fields.u128()?);
    let conf = decode_conf(&mut fields)?;
    let tent = match fields.u8()? {
        0 => None,
        1 => Some(decode_conf(&mut fields)?),
        _ => return None,
    };
    let max_epoch = fields.epoch()?;
    let parted = fields.epoch()?;
    let joined = match fields.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    fields.is_done().then_some(OwnState { cluster, appliance, disk, conf, tent, max_epoch, parted, joined })
}

fn encode_conf(bytes: &mut Vec<u8>, conf: &Conf) {
    bytes.extend(conf.epoch().0.to_le_bytes());
    bytes.push(appliance_code(conf.primary()));
    for appliance in ApplianceId::ALL {
        let member = conf.members().get(appliance);
        bytes.push(u8::from(member.is_some()));
        bytes.extend(member.map_or(0, |disk| disk.0).to_le_bytes());
    }
    bytes.extend(conf.witness().0.to_le_bytes());
}

fn decode_conf(fields: &mut Fields<'_>) -> Option<Conf> {
    let epoch = fields.epoch()?;
    let primary = appliance_of(fields.u8()?)?;
    let mut members = PerAppliance::default();
    for appliance in ApplianceId::ALL {
        let there = fields.u8()?;
        let disk = fields.u128()?;
        *members.get_mut(appliance) = match (there, disk) {
            (0, 0) => None,
            (1, disk) => Some(DiskId(disk)),
            _ => return None,
        };
    }
    Conf::from_parts(epoch, primary, members, WitnessId(fields.u32()?))
}

const fn appliance_code(appliance: ApplianceId) -> u8 {
    match appliance {
        ApplianceId::A => 0,
        ApplianceId::B => 1,
    }
}

const fn appliance_of(code: u8) -> Option<ApplianceId> {
    match code {
        0 => Some(ApplianceId::A),
        1 => Some(ApplianceId::B),
        _ => None,
    }
}

impl From<IoFailure> for OwnStateError {
    fn from(failure: IoFailure) -> Self {
        if failure.is_disk_full() { Self::DiskFull { path: failure.path } } else { Self::Failed(failure) }
    }
}

#[cfg(test)]
mod tests;
