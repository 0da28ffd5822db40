//! A backup: the tokens' fingerprints and the records as they were at one moment, in one file that does not depend on the
//! engine.
//!
//! ```text
//! duet-witness-backup 1
//! pair berlin 8c1f... 77aa...
//! record berlin 512
//! <the stored record>
//! end pairs=1 records=1 crc32c=0a1b2c3d
//! ```
//!
//! The checksum covers everything before it. Records are restored only when that is asked for: an old record can name a
//! configuration that was since replaced, while a witness without records is refilled by its pairs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable};

use super::super::ServeError;
use super::super::pairs::Tokens;
use super::Store;
use super::data_file::{DataFile, PAIRS, RECORDS};
use crate::planted::Bug;
use crate::stored::{MAX_STORED_BYTES, Stored};
use crate::token::{Fingerprint, Token};
use crate::{ClusterName, Version};

/// First line: name and format.
const HEAD: &str = "duet-witness-backup 1\n";
/// Longest line, in bytes: a name, two fingerprints and the words around them are below 200.
const MAX_LINE_BYTES: u64 = 256;

/// What a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Pairs that are registered.
    pub pairs: u64,
    /// Records.
    pub records: u64,
}

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Check the path.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// Use another one.
    #[error("it is no backup of a witness, or it is cut off or damaged ({0})")]
    Damaged(&'static str),
    /// The data directory cannot be used.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Store {
    /// Writes a backup of this moment. Writes go on meanwhile.
    pub fn back_up(&self, out: impl Write) -> Result<Contents, redb::Error> {
        let mut backup = BackupWriter::new(out)?;
        let read = self.file.database.begin_read()?;
        for entry in read.open_table(PAIRS)?.iter()? {
            let (name, tokens) = entry?;
            backup.entry_of_pair(name.value(), tokens.value())?;
        }
        for entry in read.open_table(RECORDS)?.iter()? {
            let (name, stored) = entry?;
            backup.entry_of_record(name.value(), stored.value())?;
        }
        Ok(backup.end()?)
    }
}

/// Writes a backup, entry by entry: of a server's data, or of data that is to become a server's.
pub struct BackupWriter<W> {
    out: Summed<W>,
    contents: Contents,
}

impl<W: Write> BackupWriter<W> {
    /// Begins one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Summed { inner: out, sum: 0 };
        out.write_all(HEAD.as_bytes())?;
        Ok(Self { out, contents: Contents::default() })
    }

    /// A registered pair.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn pair(&mut self, name: &ClusterName, token: &Token) -> io::Result<()> {
        self.entry_of_pair(name.as_str(), &Tokens::default().rotated(token.fingerprint()).encode())
    }

    /// A record, whose new version is returned.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&mut self, name: &ClusterName, bytes: Bytes) -> io::Result<Version> {
        let version = Version::draw().map_err(io::Error::other)?;
        let stored = Stored { version: version.clone(), bytes };
        self.entry_of_record(name.as_str(), &stored.encode(name))?;
        Ok(version)
    }

    fn entry_of_pair(&mut self, name: &str, tokens: &[u8]) -> io::Result<()> {
        let prints = tokens.chunks(Fingerprint::BYTES).map(hex).collect::<Vec<_>>().join(" ");
        self.contents.pairs += 1;
        writeln!(self.out, "pair {name} {prints}")
    }

    fn entry_of_record(&mut self, name: &str, stored: &[u8]) -> io::Result<()> {
        writeln!(self.out, "record {name} {}", stored.len())?;
        self.out.write_all(stored)?;
        self.contents.records += 1;
        self.out.write_all(b"\n")
    }

    /// Ends it: without this it is none.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(mut self) -> io::Result<Contents> {
        let Contents { pairs, records } = self.contents;
        let sum = self.out.sum;
        writeln!(self.out, "end pairs={pairs} records={records} crc32c={sum:08x}")?;
        self.out.flush()?;
        Ok(self.contents)
    }
}

/// Reads a whole backup and changes nothing.
///
/// # Errors
/// It cannot be read, or is no whole backup.
pub fn check_backup(backup: &Path) -> Result<Contents, BackupError> {
    read(backup, |_| Ok(()))
}

/// Makes a data file out of a sound backup in a directory that has none; its records are left out unless `with_records`.
///
/// # Errors
/// It cannot be read, or is no whole backup; or the directory cannot be used.
pub fn restore(backup: &Path, directory: &Path, with_records: bool) -> Result<Contents, BackupError> {
    check_backup(backup)?;
    let with_records = with_records || Bug::OldRecordsRestored.planted();
    let mut restored = Contents::default();
    DataFile::make(directory, |transaction| {
        let mut pairs = transaction.open_table(PAIRS)?;
        let mut records = transaction.open_table(RECORDS)?;
        let done = read(backup, |entry| {
            match entry {
                Entry::Pair(name, tokens) => {
                    pairs.insert(name.as_str(), tokens.encode().as_slice()).map_err(io::Error::other)?;
                    restored.pairs += 1;
                }
                Entry::Record(name, stored) if with_records => {
                    records.insert(name.as_str(), stored).map_err(io::Error::other)?;
                    restored.records += 1;
                }
                Entry::Record(..) => {}
            }
            Ok(())
        });
        done.map(drop).map_err(|error| redb::Error::Io(io::Error::other(error)))
    })?;
    Ok(restored)
}

enum Entry<'a> {
    Pair(ClusterName, Tokens),
    Record(ClusterName, &'a [u8]),
}

/// Reads a backup from end to end.
fn read(backup: &Path, mut each: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<Contents, BackupError> {
    use BackupError::Damaged;
    let mut backup = Summed { inner: BufReader::new(File::open(backup)?), sum: 0 };
    let mut contents = Contents::default();
    if backup.line()? != HEAD.trim_end() {
        return Err(Damaged("its first line is another"));
    }
    let mut stored = Vec::new();
    loop {
        let sum = backup.sum;
        let line = backup.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["pair", name, ref prints @ ..] => {
                let name = name.parse().map_err(|_| Damaged("a name is none"))?;
                let bytes = prints.iter().map(|print| unhex(print)).collect::<Option<Vec<_>>>();
                let tokens = bytes.and_then(|bytes| Tokens::decode(&bytes.concat()));
                let tokens = tokens.ok_or(Damaged("a fingerprint is none"))?;
                each(Entry::Pair(name, tokens))?;
                contents.pairs += 1;
            }
            ["record", name, length] => {
                let name: ClusterName = name.parse().map_err(|_| Damaged("a name is none"))?;
                let length = length.parse::<usize>().ok().filter(|length| *length <= MAX_STORED_BYTES);
                stored.resize(length.ok_or(Damaged("a length is wrong"))? + 1, 0);
                backup.read_exact(&mut stored).map_err(|_| Damaged("it ends in the middle of a record"))?;
                let record = &stored[..stored.len() - 1];
                Stored::decode(&name, record).map_err(|_| Damaged("a record is"))?;
                each(Entry::Record(name, record))?;
                contents.records += 1;
            }
            ["end", ..] => {
                let Contents { pairs, records } = contents;
                let right = line == format!("end pairs={pairs} records={records} crc32c={sum:08x}");
                let over = backup.inner.fill_buf()?.is_empty();
                let good = right && over || Bug::BackupUnchecked.planted();
                return if good { Ok(contents) } else { Err(Damaged("its checksum is wrong")) };
            }
            _ => return Err(Damaged("a line has no meaning")),
        }
    }
}

/// Sums up what passes through.
struct Summed<T> {
    inner: T,
    sum: u32,
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: BufRead> Summed<T> {
    /// A line without its end; one that is too long is cut, and has no meaning then.
    fn line(&mut self) -> Result<String, BackupError> {
        let mut line = Vec::new();
        (&mut self.inner).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        self.sum = crc32c::crc32c_append(self.sum, &line);
        let line = line.strip_suffix(b"\n").ok_or(BackupError::Damaged("its end is missing"))?;
        String::from_utf8(line.to_vec()).map_err(|_| BackupError::Damaged("a line is not text"))
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(into)?;
        self.sum = crc32c::crc32c_append(self.sum, into);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
