//! Commands: what the log replicates and the state machine applies.
//!
//! Owns the command's binary form. It is versioned (the first byte) because logs outlive program versions and the
//! two appliances may run different ones during an upgrade; it is canonical (one command, one encoding) so that
//! digests over the log compare.

use bytes::Bytes;

use crate::{
    alarm::{Alarm, AlarmKind},
    auth::{Actor, AuthCommand, FIRST_TAG, LAST_TAG},
    codec::{DecodeError, Reader, write_bytes, write_signed, write_unsigned},
    request::{
        Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operation, PutRequest, RangeRequest,
        SortOrder, SortTarget, TxnRequest,
    },
};

/// Format of the encoding; goes up when a field is added.
const FORMAT: u8 = 1;

/// Deepest nesting of transactions that is taken. Protobuf decoders stop at 100 messages inside each other, which
/// is 50 transactions, so a real request never gets here.
pub const MAX_TXN_DEPTH: usize = 64;

/// One change of the replicated state, as the primary proposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Set a key.
    Put(PutRequest),
    /// Delete keys.
    DeleteRange(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// Forget history below a revision.
    Compact {
        /// Oldest revision that stays readable.
        revision: i64,
    },
    /// Create a lease.
    LeaseGrant {
        /// Its id, chosen by the client or the server; never 0.
        id: i64,
        /// Its time to live in seconds, after [`effective_ttl`](crate::effective_ttl).
        ttl: i64,
    },
    /// Delete a lease and the keys that hang on it; also what the server proposes on expiry.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Raise an alarm: it forbids what its kind says, until it is taken back.
    RaiseAlarm(Alarm),
    /// Take an alarm back.
    ClearAlarm(Alarm),
    /// Change users, roles or permissions.
    Auth(AuthCommand),
    /// A command with the one who wants it. Every command is proposed so while users are on, none while they are off.
    As {
        /// Who.
        actor: Actor,
        /// What; never another one of this kind.
        command: Box<Command>,
    },
}

/// Tag of [`Command::As`].
const AS: u8 = 32;

impl Command {
    /// The command's binary form.
    pub fn encode(&self) -> Bytes {
        let mut output = Vec::with_capacity(self.size_hint());
        output.push(FORMAT);
        self.write(&mut output);
        Bytes::from(output)
    }

    fn write(&self, output: &mut Vec<u8>) {
        match self {
            Command::Put(request) => {
                output.push(1);
                write_put(output, request);
            }
            Command::DeleteRange(request) => {
                output.push(2);
                write_delete_range(output, request);
            }
            Command::Txn(request) => {
                output.push(3);
                write_txn(output, request);
            }
            Command::Compact { revision } => {
                output.push(4);
                write_signed(output, *revision);
            }
            Command::LeaseGrant { id, ttl } => {
                output.push(5);
                write_signed(output, *id);
                write_signed(output, *ttl);
            }
            Command::LeaseRevoke { id } => {
                output.push(6);
                write_signed(output, *id);
            }
            Command::Auth(command) => command.write(output),
            Command::As { actor, command } => {
                output.push(AS);
                actor.write(output);
                command.write(output);
            }
            Command::RaiseAlarm(alarm) => {
                output.push(16);
                write_alarm(output, *alarm);
            }
            Command::ClearAlarm(alarm) => {
                output.push(17);
                write_alarm(output, *alarm);
            }
        }
    }

    /// Reads back [`Command::encode`]; keys and values are slices of `input`, nothing is copied.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that `encode` of this version does not write. Never panics.
    pub fn decode(input: &Bytes) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(input.clone());
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format));
        }
        let command = match reader.byte()? {
            AS => {
                let actor = Actor::read(&mut reader)?;
                let tag = reader.byte()?;
                Command::As { actor, command: Box::new(Command::read(tag, &mut reader)?) }
            }
            tag => Command::read(tag, &mut reader)?,
        };
        reader.finish()?;
        Ok(command)
    }

    /// Reads a command that nobody is named with.
    fn read(tag: u8, reader: &mut Reader) -> Result<Command, DecodeError> {
        Ok(match tag {
            1 => Command::Put(read_put(reader)?),
            2 => Command::DeleteRange(read_delete_range(reader)?),
            3 => Command::Txn(read_txn(reader, 1)?),
            4 => Command::Compact { revision: reader.signed()? },
            5 => Command::LeaseGrant { id: reader.signed()?, ttl: reader.signed()? },
            6 => Command::LeaseRevoke { id: reader.signed()? },
            16 => Command::RaiseAlarm(read_alarm(reader)?),
            17 => Command::ClearAlarm(read_alarm(reader)?),
            FIRST_TAG..=LAST_TAG => Command::Auth(AuthCommand::read(tag, reader)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        })
    }

    /// The command itself, whoever wants it.
    pub fn inner(&self) -> &Command {
        match self {
            Command::As { command, .. } => command,
            command => command,
        }
    }

    /// Enough for the common commands to encode without growing.
    fn size_hint(&self) -> usize {
        match self {
            Command::Put(request) => request.key.len() + request.value.len() + 32,
            Command::DeleteRange(request) => request.key.len() + request.range_end.len() + 16,
            Command::Txn(request) => 64 + 128 * (request.success.len() + request.failure.len()),
            Command::Compact { .. }
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::RaiseAlarm(_)
            | Command::ClearAlarm(_) => 24,
            Command::Auth(_) => 128,
            Command::As { command, .. } => 12 + command.size_hint(),
        }
    }
}

/// Several booleans in one byte, first one lowest.
fn pack(flags: &[bool]) -> u8 {
    flags.iter().enumerate().fold(0, |byte, (position, flag)| byte | (u8::from(*flag) << position))
}

/// Reads a byte of [`pack`] with `count` booleans; a bit beyond them is refused.
fn unpack<const COUNT: usize>(reader: &mut Reader) -> Result<[bool; COUNT], DecodeError> {
    let byte = reader.byte()?;
    if COUNT < 8 && byte >> COUNT != 0 {
        return Err(DecodeError::UnknownTag(byte));
    }
    Ok(std::array::from_fn(|position| byte >> position & 1 == 1))
}

/// Kind and member.
pub(crate) fn write_alarm(output: &mut Vec<u8>, alarm: Alarm) {
    output.push(match alarm.kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    });
    write_unsigned(output, alarm.member);
}

pub(crate) fn read_alarm(reader: &mut Reader) -> Result<Alarm, DecodeError> {
    let kind = match reader.byte()? {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    Ok(Alarm { kind, member: reader.unsigned()? })
}

fn write_put(output: &mut Vec<u8>, request: &PutRequest) {
    output.push(pack(&[request.prev_kv, request.ignore_value, request.ignore_lease]));
    write_bytes(output, &request.key);
    write_bytes(output, &request.value);
    write_signed(output, request.lease);
}

fn read_put(reader: &mut Reader) -> Result<PutRequest, DecodeError> {
    let [prev_kv, ignore_value, ignore_lease] = unpack(reader)?;
    let (key, value, lease) = (reader.bytes()?, reader.bytes()?, reader.signed()?);
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn write_delete_range(output: &mut Vec<u8>, request: &DeleteRangeRequest) {
    output.push(pack(&[request.prev_kv]));
    write_bytes(output, &request.key);
    write_bytes(output, &request.range_end);
}

fn read_delete_range(reader: &mut Reader) -> Result<DeleteRangeRequest, DecodeError> {
    let [prev_kv] = unpack(reader)?;
    Ok(DeleteRangeRequest { key: reader.bytes()?, range_end: reader.bytes()?, prev_kv })
}

fn write_range(output: &mut Vec<u8>, request: &RangeRequest) {
    output.push(pack(&[request.serializable, request.keys_only, request.count_only]));
    output.push(match request.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    output.push(match request.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    });
    write_bytes(output, &request.key);
    write_bytes(output, &request.range_end);
    write_signed(output, request.limit);
    write_signed(output, request.revision);
    write_signed(output, request.min_mod_revision);
    write_signed(output, request.max_mod_revision);
    write_signed(output, request.min_create_revision);
    write_signed(output, request.max_create_revision);
}

fn read_range(reader: &mut Reader) -> Result<RangeRequest, DecodeError> {
    let [serializable, keys_only, count_only] = unpack(reader)?;
    let sort_order = match reader.byte()? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    let sort_target = match reader.byte()? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    Ok(RangeRequest {
        sort_order,
        sort_target,
        serializable,
        keys_only,
        count_only,
        key: reader.bytes()?,
        range_end: reader.bytes()?,
        limit: reader.signed()?,
        revision: reader.signed()?,
        min_mod_revision: reader.signed()?,
        max_mod_revision: reader.signed()?,
        min_create_revision: reader.signed()?,
        max_create_revision: reader.signed()?,
    })
}

fn write_compare(output: &mut Vec<u8>, compare: &Compare) {
    output.push(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    let (tag, number) = match &compare.target {
        CompareTarget::Version(number) => (0, *number),
        CompareTarget::Create(number) => (1, *number),
        CompareTarget::Mod(number) => (2, *number),
        CompareTarget::Value(_) => (3, 0),
        CompareTarget::Lease(number) => (4, *number),
    };
    output.push(tag);
    if let CompareTarget::Value(value) = &compare.target {
        write_bytes(output, value);
    } else {
        write_signed(output, number);
    }
    write_bytes(output, &compare.key);
    write_bytes(output, &compare.range_end);
}

fn read_compare(reader: &mut Reader) -> Result<Compare, DecodeError> {
    let result = match reader.byte()? {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    let target = match reader.byte()? {
        0 => CompareTarget::Version(reader.signed()?),
        1 => CompareTarget::Create(reader.signed()?),
        2 => CompareTarget::Mod(reader.signed()?),
        3 => CompareTarget::Value(reader.bytes()?),
        4 => CompareTarget::Lease(reader.signed()?),
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    Ok(Compare { result, target, key: reader.bytes()?, range_end: reader.bytes()? })
}

fn write_txn(output: &mut Vec<u8>, request: &TxnRequest) {
    write_unsigned(output, request.compare.len() as u64);
    for compare in &request.compare {
        write_compare(output, compare);
    }
    for branch in [&request.success, &request.failure] {
        write_unsigned(output, branch.len() as u64);
        for operation in branch {
            write_operation(output, operation);
        }
    }
}

fn read_txn(reader: &mut Reader, depth: usize) -> Result<TxnRequest, DecodeError> {
    if depth > MAX_TXN_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let mut request = TxnRequest::default();
    for _ in 0..reader.length()? {
        request.compare.push(read_compare(reader)?);
    }
    for branch in [&mut request.success, &mut request.failure] {
        for _ in 0..reader.length()? {
            branch.push(read_operation(reader, depth)?);
        }
    }
    Ok(request)
}

fn write_operation(output: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Put(request) => {
            output.push(1);
            write_put(output, request);
        }
        Operation::DeleteRange(request) => {
            output.push(2);
            write_delete_range(output, request);
        }
        Operation::Txn(request) => {
            output.push(3);
            write_txn(output, request);
        }
        Operation::Range(request) => {
            output.push(4);
            write_range(output, request);
        }
    }
}

fn read_operation(reader: &mut Reader, depth: usize) -> Result<Operation, DecodeError> {
    match reader.byte()? {
        1 => Ok(Operation::Put(read_put(reader)?)),
        2 => Ok(Operation::DeleteRange(read_delete_range(reader)?)),
        3 => Ok(Operation::Txn(read_txn(reader, depth + 1)?)),
        4 => Ok(Operation::Range(read_range(reader)?)),
        tag => Err(DecodeError::UnknownTag(tag)),
    }
}
