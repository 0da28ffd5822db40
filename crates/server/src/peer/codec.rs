//! The bodies of frames: the protocol's messages, and the frames of a whole copy.
//!
//! An entry's LSN is not sent: entries are dense and follow the append's previous position.

use std::time::Duration;

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, AppendHeader, Conf, Entry, Epoch, Firm, Heartbeat, Lsn, Message, Position, Proposal,
    ReadIndex, ReadQuestion, limits,
};

use duet_storage::CopyMark;

use super::fields::{Malformed, Reader, Writer};

const APPEND: u8 = 1;
const ACKNOWLEDGE: u8 = 2;
const PROPOSE: u8 = 3;
const STORED: u8 = 4;
const FIRM: u8 = 5;
const LEAVE: u8 = 6;
const ASK_READ_INDEX: u8 = 7;
const READ_INDEX: u8 = 8;
const COPY_ROWS: u8 = 16;
const COPY_END: u8 = 17;
const COPY_READY: u8 = 18;
const COPY_META: u8 = 19;
const COPY_HAVE: u8 = 20;
const COPY_BEGIN: u8 = 21;

/// Least size of an entry on the wire, in bytes: bounds what a count of entries can make the receiver allocate.
const ENTRY_BYTES_MIN: usize = 8 + 16 + 4;

/// Writes the body of an append.
pub(crate) fn write_append(buffer: &mut Vec<u8>, header: &AppendHeader, entries: &[Entry]) {
    let mut writer = Writer(buffer);
    writer.u8(APPEND);
    writer.conf(&header.conf);
    writer.lsn(header.base);
    writer.position(&header.previous);
    writer.lsn(header.committed);
    writer.lsn(header.last);
    write_heartbeat(&mut writer, &header.heartbeat);
    writer.disk(header.disk);
    writer.u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    let mut previous = header.previous.lsn;
    for entry in entries {
        assert!(entry.lsn == previous.next(), "R1: LSNs are dense");
        previous = entry.lsn;
        writer.epoch(entry.epoch);
        writer.digest(&entry.digest);
        writer.bytes(&entry.command);
    }
}

/// Writes the body of a message.
pub(crate) fn write_message(buffer: &mut Vec<u8>, message: &Message) {
    let mut writer = Writer(buffer);
    match message {
        Message::Append { header, entries } => write_append(writer.0, header, entries),
        Message::Acknowledge(Acknowledge { epoch, matched, heartbeat, retry_from, disk }) => {
            writer.u8(ACKNOWLEDGE);
            writer.epoch(*epoch);
            writer.lsn(*matched);
            write_heartbeat(&mut writer, heartbeat);
            writer.option(*retry_from, Writer::lsn);
            writer.disk(*disk);
        }
        Message::Propose(Proposal { conf, base, position }) => {
            writer.u8(PROPOSE);
            writer.conf(conf);
            writer.conf(base);
            writer.option(position.as_ref(), Writer::position);
        }
        Message::Stored(conf) => {
            writer.u8(STORED);
            writer.conf(conf);
        }
        Message::Firm(Firm { conf, max_epoch, position, disk, leaving, damaged, joined }) => {
            writer.u8(FIRM);
            writer.conf(conf);
            writer.epoch(*max_epoch);
            writer.position(position);
            writer.disk(*disk);
            writer.bool(*leaving);
            writer.bool(*damaged);
            writer.bool(*joined);
        }
        Message::Leave => writer.u8(LEAVE),
        Message::AskReadIndex(question) => {
            writer.u8(ASK_READ_INDEX);
            write_question(&mut writer, *question);
        }
        Message::ReadIndex(ReadIndex { question, epoch, lsn }) => {
            writer.u8(READ_INDEX);
            write_question(&mut writer, *question);
            writer.epoch(*epoch);
            writer.lsn(*lsn);
        }
    }
}

/// Reads back [`write_message`].
pub(crate) fn read_message(body: Bytes) -> Result<Message, Malformed> {
    let mut reader = Reader::new(body, "message");
    let message = match reader.u8()? {
        APPEND => read_append(&mut reader)?,
        ACKNOWLEDGE => Message::Acknowledge(Acknowledge {
            epoch: reader.epoch()?,
            matched: reader.lsn()?,
            heartbeat: read_heartbeat(&mut reader)?,
            retry_from: reader.option(Reader::lsn)?,
            disk: reader.disk()?,
        }),
        PROPOSE => Message::Propose(Proposal {
            conf: read_some_conf(&mut reader)?,
            base: reader.conf()?,
            position: reader.option(Reader::position)?,
        }),
        STORED => Message::Stored(read_some_conf(&mut reader)?),
        FIRM => Message::Firm(Firm {
            conf: reader.conf()?,
            max_epoch: reader.epoch()?,
            position: reader.position()?,
            disk: reader.disk()?,
            leaving: reader.bool()?,
            damaged: reader.bool()?,
            joined: reader.bool()?,
        }),
        LEAVE => Message::Leave,
        ASK_READ_INDEX => Message::AskReadIndex(read_question(&mut reader)?),
        READ_INDEX => Message::ReadIndex(ReadIndex {
            question: read_question(&mut reader)?,
            epoch: reader.epoch()?,
            lsn: reader.lsn()?,
        }),
        _ => return Err(reader.malformed()),
    };
    reader.finish()?;
    Ok(message)
}

fn read_append(reader: &mut Reader) -> Result<Message, Malformed> {
    let header = AppendHeader {
        conf: read_some_conf(reader)?,
        base: reader.lsn()?,
        previous: reader.position()?,
        committed: reader.lsn()?,
        last: reader.lsn()?,
        heartbeat: read_heartbeat(reader)?,
        disk: reader.disk()?,
    };
    let count = usize::try_from(reader.u32()?).map_err(|_| reader.malformed())?;
    if count > reader.remaining() / ENTRY_BYTES_MIN {
        return Err(reader.malformed());
    }
    if Lsn::checked(header.previous.lsn.0 + count as u64).is_none() {
        return Err(reader.malformed());
    }
    let mut entries = Vec::with_capacity(count);
    let mut lsn = header.previous.lsn;
    for _ in 0..count {
        lsn = lsn.next();
        let (epoch, digest) = (reader.epoch()?, reader.digest()?);
        // Copied, so that an entry kept in memory does not keep its whole frame.
        let command = Bytes::copy_from_slice(&reader.bytes()?);
        entries.push(Entry { lsn, epoch, digest, command });
    }
    Ok(Message::Append { header, entries })
}

/// A configuration that is not "none": nobody proposes that or sends under it.
fn read_some_conf(reader: &mut Reader) -> Result<Conf, Malformed> {
    let conf = reader.conf()?;
    if conf.is_none() { Err(reader.malformed()) } else { Ok(conf) }
}

fn write_heartbeat(writer: &mut Writer<'_>, heartbeat: &Heartbeat) {
    writer.u64(heartbeat.life);
    writer.instant(heartbeat.sent);
    writer.u32(u32::try_from(heartbeat.promise.as_micros()).unwrap_or(u32::MAX));
}

fn read_heartbeat(reader: &mut Reader) -> Result<Heartbeat, Malformed> {
    let (life, sent) = (reader.u64()?, reader.instant()?);
    let promise = Duration::from_micros(reader.u32()?.into());
    // A restarted appliance presumes no more than this: a longer promise could be forgotten.
    if promise > limits::PROMISE_MAX {
        return Err(reader.malformed());
    }
    Ok(Heartbeat { life, sent, promise })
}

fn write_question(writer: &mut Writer<'_>, ReadQuestion { life, number }: ReadQuestion) {
    writer.u64(life);
    writer.u64(number);
}

fn read_question(reader: &mut Reader) -> Result<ReadQuestion, Malformed> {
    Ok(ReadQuestion { life: reader.u64()?, number: reader.u64()? })
}

/// A frame on a connection that carries a whole copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CopyFrame {
    /// What the receiver has of an earlier copy from the same disk that was interrupted: its first word.
    Have(Option<CopyMark>),
    /// The sender's first word.
    Begin {
        /// What follows goes on behind what the receiver has. Otherwise it is all of it.
        goes_on: bool,
    },
    /// Rows of the state, in the order of their keys.
    Rows(Vec<(Bytes, Bytes)>),
    /// The next part of the state machine's own record.
    Meta(Bytes),
    /// The copy is complete; sent by the primary.
    End {
        /// Under which epoch it was sent.
        epoch: Epoch,
        /// Where it stands.
        position: Position,
        /// How many rows it has.
        rows: u64,
        /// How many bytes the state machine's own record has, if there is one.
        meta: Option<u64>,
    },
    /// The copy is durable; the receiver's answer.
    Ready,
}

/// Writes the body of a copy's frame.
pub(crate) fn write_copy(buffer: &mut Vec<u8>, frame: &CopyFrame) {
    let mut writer = Writer(buffer);
    match frame {
        CopyFrame::Have(mark) => {
            writer.u8(COPY_HAVE);
            writer.option(mark.as_ref(), |writer, mark| {
                writer.bytes(&mark.after);
                mark.tally.iter().for_each(|part| writer.u64(*part));
            });
        }
        CopyFrame::Begin { goes_on } => {
            writer.u8(COPY_BEGIN);
            writer.bool(*goes_on);
        }
        CopyFrame::Rows(rows) => {
            writer.u8(COPY_ROWS);
            writer.u32(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            for (key, value) in rows {
                writer.bytes(key);
                writer.bytes(value);
            }
        }
        CopyFrame::End { epoch, position, rows, meta } => {
            writer.u8(COPY_END);
            writer.epoch(*epoch);
            writer.position(position);
            writer.u64(*rows);
            writer.option(*meta, Writer::u64);
        }
        CopyFrame::Meta(part) => {
            writer.u8(COPY_META);
            writer.bytes(part);
        }
        CopyFrame::Ready => writer.u8(COPY_READY),
    }
}

/// Reads back [`write_copy`].
pub(crate) fn read_copy(body: Bytes) -> Result<CopyFrame, Malformed> {
    let mut reader = Reader::new(body, "copy");
    let frame = match reader.u8()? {
        COPY_ROWS => {
            let count = usize::try_from(reader.u32()?).map_err(|_| reader.malformed())?;
            if count > reader.remaining() / 8 {
                return Err(reader.malformed());
            }
            let mut rows = Vec::with_capacity(count);
            for _ in 0..count {
                rows.push((reader.bytes()?, reader.bytes()?));
            }
            CopyFrame::Rows(rows)
        }
        COPY_END => CopyFrame::End {
            epoch: reader.epoch()?,
            position: reader.position()?,
            rows: reader.u64()?,
            meta: reader.option(Reader::u64)?,
        },
        COPY_META => CopyFrame::Meta(reader.bytes()?),
        COPY_BEGIN => CopyFrame::Begin { goes_on: reader.bool()? },
        COPY_HAVE => CopyFrame::Have(reader.option(|reader| {
            let after = Bytes::copy_from_slice(&reader.bytes()?);
            Ok(CopyMark { after, tally: [reader.u64()?, reader.u64()?, reader.u64()?] })
        })?),
        COPY_READY => CopyFrame::Ready,
        _ => return Err(reader.malformed()),
    };
    reader.finish()?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use duet_protocol::{ApplianceId, Digest, DiskId, Instant, PerAppliance};

    use super::*;

    fn samples() -> Vec<Message> {
        let conf = Conf::pair(Epoch(5), ApplianceId::A, PerAppliance { a: DiskId(1), b: DiskId(u128::MAX) });
        let position = Position { epoch: Epoch(3), lsn: Lsn(41), digest: Digest([3; 16]) };
        let first = Entry::following(&position, Epoch(5), Bytes::from_static(b"put"));
        let second = Entry::following(&first.position(), Epoch(5), Bytes::new());
        let heartbeat = Heartbeat { life: 77, sent: Instant(123_456), promise: limits::PROMISE };
        let header = AppendHeader {
            conf,
            base: Lsn(40),
            previous: position,
            committed: Lsn(41),
            last: Lsn(99),
            heartbeat,
            disk: DiskId(1),
        };
        let acknowledge =
            Acknowledge { epoch: Epoch(5), matched: Lsn(9), heartbeat, retry_from: None, disk: DiskId(4) };
        vec![
            Message::Append { header, entries: vec![first, second] },
            Message::Append { header, entries: vec![] },
            Message::Acknowledge(acknowledge),
            Message::Acknowledge(Acknowledge { retry_from: Some(Lsn(4)), ..acknowledge }),
            Message::Propose(Proposal { conf, base: Conf::NONE, position: Some(position) }),
            Message::Stored(Conf::solo(Epoch(6), ApplianceId::B, DiskId(2))),
            Message::Firm(Firm {
                conf: Conf::NONE,
                max_epoch: Epoch(8),
                position,
                disk: DiskId(0),
                leaving: true,
                damaged: false,
                joined: true,
            }),
            Message::Leave,
            Message::AskReadIndex(ReadQuestion { life: 77, number: 3 }),
            Message::ReadIndex(ReadIndex {
                question: ReadQuestion { life: 77, number: 3 },
                epoch: Epoch(5),
                lsn: Lsn(41),
            }),
        ]
    }

    fn body(message: &Message) -> Bytes {
        let mut buffer = Vec::new();
        write_message(&mut buffer, message);
        Bytes::from(buffer)
    }

    #[test]
    fn messages_are_read_back() {
        for message in samples() {
            assert_eq!(read_message(body(&message)), Ok(message));
        }
    }

    #[test]
    fn copies_are_read_back() {
        let position = Position { epoch: Epoch(3), lsn: Lsn(41), digest: Digest([3; 16]) };
        let frames = [
            CopyFrame::Rows(vec![
                (Bytes::from_static(b"k"), Bytes::from_static(b"v")),
                (Bytes::new(), Bytes::new()),
            ]),
            CopyFrame::Meta(Bytes::from_static(b"meta")),
            CopyFrame::End { epoch: Epoch(1), position, rows: 2, meta: Some(4) },
            CopyFrame::End { epoch: Epoch(1), position, rows: 2, meta: None },
            CopyFrame::Ready,
            CopyFrame::Begin { goes_on: true },
            CopyFrame::Have(None),
            CopyFrame::Have(Some(CopyMark { after: Bytes::from_static(b"key"), tally: [3, 5, 7] })),
        ];
        for frame in frames {
            let mut buffer = Vec::new();
            write_copy(&mut buffer, &frame);
            assert_eq!(read_copy(Bytes::from(buffer)), Ok(frame));
        }
    }

    #[test]
    fn numbers_that_have_no_next_are_refused() {
        let Message::Append { header, entries } = samples().remove(0) else { panic!("an append") };
        let append = |previous, entries: &[Entry]| {
            let header = AppendHeader { previous: Position { lsn: previous, ..header.previous }, ..header };
            let mut buffer = Vec::new();
            // The writer insists on dense LSNs; the entries' own are not sent.
            let mut lsn = previous;
            let mut entries = entries.to_vec();
            for entry in &mut entries {
                lsn = lsn.next();
                entry.lsn = lsn;
            }
            write_append(&mut buffer, &header, &entries);
            read_message(Bytes::from(buffer)).is_ok()
        };
        assert!(append(Lsn(Lsn::MAX.0 - 2), &entries) && !append(Lsn(Lsn::MAX.0 - 1), &entries));
        assert!(append(Lsn::MAX, &[]) && !append(Lsn::MAX.next(), &[]));
        let stored = Message::Stored(Conf::solo(Epoch(Epoch::MAX.0 + 1), ApplianceId::A, DiskId(2)));
        assert!(read_message(body(&stored)).is_err());
    }

    #[test]
    fn whatever_arrives_is_refused_or_read_but_never_a_panic() {
        for message in samples() {
            let whole = body(&message);
            for length in 0..whole.len() {
                assert!(read_message(whole.slice(..length)).is_err(), "cut at {length}: {message:?}");
            }
            for index in 0..whole.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut changed = whole.to_vec();
                    changed[index] = value;
                    let _ = read_message(Bytes::from(changed.clone()));
                    let _ = read_copy(Bytes::from(changed));
                }
            }
        }
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..seed % 90)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56).to_le_bytes()[0] & 0x1f
                })
                .collect();
            seed = seed.wrapping_add(0x9e37_79b9);
            let _ = read_message(Bytes::from(noise.clone()));
            let _ = read_copy(Bytes::from(noise));
        }
    }
}
