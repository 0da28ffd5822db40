//! Reading the whole log at a start, and telling a torn tail from damage.
//!
//! Nothing here changes anything on disk; the caller acts on what was found. See the module [`super`] for the rules.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use duet_protocol::{Lsn, Position, Stamp};

use super::{
    Damage, LogError, Recovered, TornTail, record,
    segment::{self, HeaderDefect, SegmentHeader, SegmentId, block_up},
    view::LiveSegment,
};
use crate::{
    disk::{Disk, DiskFile, OpenMode, read_exact_at},
    failure::At,
    planted::Bug,
};

/// A log as it was found on disk: sound, and not yet changed.
#[derive(Debug)]
pub(crate) struct Verified {
    /// The live segments, oldest first.
    pub(super) segments: VecDeque<LiveSegment>,
    pub(crate) recovered: Recovered,
    /// CRC of the last record, or of the newest header.
    pub(super) last_crc: u32,
    /// Whether the newest segment can take more records: behind its end there is nothing but zeros.
    pub(super) goes_on: bool,
    /// Superseded segments that a crash left.
    pub(super) leftovers: Vec<PathBuf>,
}

/// A segment whose header was read.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    header_crc: u32,
}

/// Where a run of valid records ends.
#[derive(Debug)]
struct Run {
    /// Where each record begins.
    offsets: Vec<u64>,
    /// Where the last one ends.
    end: u64,
    position: Position,
    crc: u32,
    /// The next record is whole and cannot be true: no crash leaves that.
    contradiction: Option<&'static str>,
}

/// Segment files there are, by id.
pub(super) fn list_segments(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<Vec<(SegmentId, Lsn, PathBuf)>, LogError> {
    let names = disk.list(directory).at("list", directory)?;
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| segment::parse_name(name).map(|(id, base)| (id, base, directory.join(name))))
        .collect();
    segments.sort_unstable_by_key(|(id, _, _)| *id);
    Ok(segments)
}

/// Reads and judges the whole log.
pub(crate) fn verify(disk: &dyn Disk, directory: &Path) -> Result<Verified, LogError> {
    // An earlier process may have died between a rename and its sync.
    if !Bug::NamesUnsyncedAtOpen.planted() {
        disk.sync_dir(directory).at("sync", directory)?;
    }
    let (mut chain, leftovers) = live_chain(disk, directory)?;
    let Some(newest) = chain.pop() else {
        return Err(LogError::Missing { directory: directory.to_owned() });
    };
    let base = chain.first().unwrap_or(&newest).header.base;
    let mut stamps = Vec::new();
    let mut segments = VecDeque::new();
    let mut position = base;
    for (index, opened) in chain.iter().enumerate() {
        let next = chain.get(index + 1).unwrap_or(&newest);
        let run = verify_closed(opened, position, next, &mut stamps)?;
        position = run.position;
        segments.push_back(live(opened, run));
    }
    let (run, torn, goes_on) = verify_newest(&newest, position, &mut stamps)?;
    let last_crc = run.crc;
    segments.push_back(live(&newest, run));
    let recovered = Recovered { base, stamps, torn };
    Ok(Verified { segments, recovered, last_crc, goes_on, leftovers })
}

fn live(opened: &Opened, run: Run) -> LiveSegment {
    let SegmentHeader { id, continues, base, file_bytes, .. } = opened.header;
    LiveSegment {
        id,
        continues,
        path: opened.path.clone(),
        file: Arc::clone(&opened.file),
        file_bytes: opened.file.len().unwrap_or(file_bytes),
        base,
        header_crc: opened.header_crc,
        offsets: run.offsets,
        end: run.end,
    }
}

/// Follows "continues" from the newest segment back: the live segments, oldest first, and the superseded ones.
fn live_chain(disk: &dyn Disk, directory: &Path) -> Result<(Vec<Opened>, Vec<PathBuf>), LogError> {
    let mut rest = list_segments(disk, directory)?;
    let mut chain: Vec<Opened> = Vec::new();
    let mut leftovers = Vec::new();
    let mut wanted = rest.last().map(|(id, _, _)| *id);
    while let Some(id) = wanted {
        match rest.pop() {
            Some((found, base, path)) if found == id => {
                let opened = open_segment(disk, path, id, base)?;
                wanted = opened.header.continues;
                chain.push(opened);
            }
            // Made after the one that is wanted and not continued by anything: superseded.
            Some((found, _, path)) if found > id => leftovers.push(path),
            Some(_) if Bug::MissingSegmentIgnored.planted() => wanted = None,
            // Segments are trimmed from the oldest on, each durably before the next.
            Some((_, lowest, path)) => {
                let valid_after = chain.last().map_or(lowest, |opened| opened.header.base.lsn).next();
                return Err(LogError::Damaged(Damage {
                    segment: path,
                    offset: 0,
                    first_lost: lowest.next(),
                    valid_after,
                    reason: "a segment that followed this one is missing",
                }));
            }
            None => wanted = None,
        }
    }
    leftovers.extend(rest.into_iter().map(|(_, _, path)| path));
    chain.reverse();
    assert!(chain.windows(2).all(|pair| pair[1].header.continues == Some(pair[0].header.id)));
    Ok((chain, leftovers))
}

fn open_segment(disk: &dyn Disk, path: PathBuf, id: SegmentId, base: Lsn) -> Result<Opened, LogError> {
    let file = disk.open(&path, OpenMode::Existing).at("open", &path)?;
    let mut block = vec![0; segment::HEADER_BYTES];
    let got = file.read_at(&mut block, 0).at("read", &path)?;
    let damaged = |reason| Damage {
        segment: path.clone(),
        offset: 0,
        first_lost: base.next(),
        valid_after: base.next(),
        reason,
    };
    let (header, header_crc) = match SegmentHeader::decode(&block[..got]) {
        Ok(decoded) => decoded,
        Err(HeaderDefect::Newer(format)) => return Err(LogError::NewerFormat { path, format }),
        Err(HeaderDefect::Damaged(reason)) => return Err(damaged(reason).into()),
    };
    if header.id != id || header.base.lsn != base {
        return Err(damaged("the segment is another than its name says").into());
    }
    Ok(Opened { path, file, header, header_crc })
}

/// Verifies a segment that is continued by `next`: every record up to that one's base must be there.
fn verify_closed(
    opened: &Opened,
    start: Position,
    next: &Opened,
    stamps: &mut Vec<Stamp>,
) -> Result<Run, LogError> {
    let until = next.header.base;
    let bytes = read_segment(opened)?;
    let damaged = |offset, first_lost, valid_after, reason| {
        let segment = opened.path.clone();
        LogError::Damaged(Damage { segment, offset, first_lost, valid_after, reason })
    };
    if opened.header.base != start || until.lsn <= start.lsn {
        let reason = "the segment does not continue the one before it";
        return Err(damaged(0, start.lsn.next(), until.lsn.next(), reason));
    }
    let run = run(&bytes, opened, until.lsn, stamps);
    let lost = run.position.lsn.next();
    if run.position.lsn < until.lsn {
        let valid = blocks(&bytes, run.end)
            .filter_map(|(_, block)| record::parse(block, opened.header.id.0))
            .map(|(header, _)| header.lsn)
            .find(|lsn| *lsn > lost && *lsn <= until.lsn);
        let reason = run.contradiction.unwrap_or("a record is invalid");
        return Err(damaged(run.end, lost, valid.unwrap_or(until.lsn.next()), reason));
    }
    if run.position != until {
        let reason = "the next segment continues another history";
        return Err(damaged(run.end, lost, lost, reason));
    }
    Ok(run)
}

/// Verifies the newest segment and judges what is behind its last valid record.
fn verify_newest(
    opened: &Opened,
    start: Position,
    stamps: &mut Vec<Stamp>,
) -> Result<(Run, Option<TornTail>, bool), LogError> {
    let damaged = |offset, first_lost, valid_after, reason| {
        let segment = opened.path.clone();
        LogError::Damaged(Damage { segment, offset, first_lost, valid_after, reason })
    };
    let first = start.lsn.next();
    if opened.header.base != start {
        return Err(damaged(0, first, first, "the segment does not continue the one before it"));
    }
    // What is reported must be durable, and must be what the medium holds: an earlier process may have ended after a
    // failed sync, which leaves in memory what never reached the disk.
    if !Bug::MemoryBelieved.planted() {
        opened.file.sync_data().at("sync", &opened.path)?;
        opened.file.drop_cache().at("drop the cache of", &opened.path)?;
    }
    let bytes = read_segment(opened)?;
    if (bytes.len() as u64) < opened.header.file_bytes && !Bug::ShortSegmentTaken.planted() {
        return Err(damaged(bytes.len() as u64, first, first, "the newest segment was cut short"));
    }
    let run = run(&bytes, opened, Lsn(u64::MAX), stamps);
    let lost = run.position.lsn.next();
    if let Some(reason) = run.contradiction {
        return Err(damaged(run.end, lost, lost.next(), reason));
    }
    let id = opened.header.id.0;
    let mut written_to = None;
    for (offset, block) in blocks(&bytes, run.end) {
        if let Some((header, _)) = record::parse(block, id)
            && header.synced >= lost
            && !Bug::DamageIsCut.planted()
        {
            return Err(damaged(run.end, lost, header.lsn, "a record is invalid"));
        }
        let own = record::RecordHeader::parse(block, id);
        written_to = own.map(|own| offset + own.record_bytes() as u64).or(written_to);
    }
    if !opened.header.stale {
        let behind = usize::try_from(run.end).unwrap_or(bytes.len()).min(bytes.len());
        written_to = bytes[behind..].iter().rposition(|byte| *byte != 0).map(|at| run.end + at as u64 + 1);
    }
    let torn = written_to.map(|to| TornTail { at_lsn: lost, bytes_cut: to.saturating_sub(run.end) });
    let goes_on = torn.is_none() && !opened.header.stale;
    Ok((run, torn, goes_on))
}

/// The rest of a segment from `end`, and from each block behind it: the places where a record can begin that does not
/// follow another of its group.
fn blocks(bytes: &Bytes, end: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let starts = (block_up(end)..bytes.len() as u64).step_by(segment::HEADER_BYTES);
    std::iter::once(end).chain(starts.filter(move |start| *start != end)).filter_map(|start| {
        let at = usize::try_from(start).ok()?;
        bytes.get(at..).map(|rest| (start, rest))
    })
}

/// Follows valid records from the header on, up to `until`.
fn run(bytes: &Bytes, opened: &Opened, until: Lsn, stamps: &mut Vec<Stamp>) -> Run {
    let mut run = Run {
        offsets: Vec::new(),
        end: segment::HEADER_BYTES as u64,
        position: opened.header.base,
        crc: opened.header_crc,
        contradiction: None,
    };
    while run.position.lsn < until {
        let Some((offset, header, command)) = next_record(bytes, run.end, opened.header.id) else { break };
        if header.previous_crc != run.crc && !Bug::ChainUnchecked.planted() {
            break;
        }
        let record_bytes = header.record_bytes() as u64;
        let entry = record::entry(&header, bytes.slice_ref(command));
        let dense = entry.lsn == run.position.lsn.next();
        let believed = dense && Bug::DigestUnchecked.planted();
        if !entry.follows(&run.position) && !believed {
            run.contradiction = Some("a record does not follow the one before it");
            break;
        }
        let length = u32::try_from(header.command_bytes).unwrap_or(u32::MAX);
        stamps.push(Stamp { epoch: entry.epoch, digest: entry.digest, bytes: length });
        run.offsets.push(offset);
        run.end = offset + record_bytes;
        run.position = entry.position();
        run.crc = header.crc;
    }
    assert!(run.position.lsn.0 == opened.header.base.lsn.0 + run.offsets.len() as u64, "dense");
    run
}

/// The record behind the one that ends at `end`: right there, or at the start of the next block. What lies between is
/// zeros and counts for nothing; the chain tells whether the record found is the next.
fn next_record(bytes: &Bytes, end: u64, id: SegmentId) -> Option<(u64, record::RecordHeader, &[u8])> {
    [end, block_up(end)].into_iter().find_map(|offset| {
        let rest = bytes.get(usize::try_from(offset).ok()?..)?;
        record::parse(rest, id.0).map(|(header, command)| (offset, header, command))
    })
}

fn read_segment(opened: &Opened) -> Result<Bytes, LogError> {
    let length = opened.file.len().at("measure", &opened.path)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    read_exact_at(opened.file.as_ref(), &mut bytes, 0).at("read", &opened.path)?;
    Ok(Bytes::from(bytes))
}
