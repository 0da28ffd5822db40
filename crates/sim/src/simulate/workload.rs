//! What clients write: commands of the real data model, drawn from a number each, so that a number in the record of a run is
//! enough to have the same command again.

use bytes::Bytes;
use duet_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operation, PutRequest, RangeRequest,
    TxnRequest,
};
use duet_protocol::Entry;

use super::machine::OperationId;
use super::random::Random;
use super::storage::Failure;

/// Keys that are written.
const KEYS: u64 = 24;
/// Leases that keys hang on.
const LEASES: u64 = 4;
/// Bytes before the command: the operation's number, so that each entry is another and is known again.
const NUMBER_BYTES: usize = 8;
/// Revisions of history that a compaction leaves, at most.
const LEFT_BY_COMPACTION: u64 = 60;

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

/// A key that is read or written.
pub fn any_key(random: &mut Random) -> Bytes {
    key(random.below(KEYS))
}

fn lease(random: &mut Random) -> i64 {
    i64::try_from(random.within((1, LEASES))).expect("a small number")
}

fn put(random: &mut Random, operation: OperationId) -> PutRequest {
    let length = if random.chance(20) { random.within((500, 6_000)) } else { random.within((8, 60)) };
    let mut value = operation.to_le_bytes().to_vec();
    value.resize(usize::try_from(length).expect("a short value"), b'v');
    PutRequest {
        key: any_key(random),
        value: value.into(),
        prev_kv: random.chance(200),
        ..PutRequest::default()
    }
}

fn delete(random: &mut Random) -> DeleteRangeRequest {
    let first = random.below(KEYS);
    let range_end = if random.chance(300) { key(first + random.within((1, 4))) } else { Bytes::new() };
    DeleteRangeRequest { key: key(first), range_end, prev_kv: random.chance(300) }
}

fn compare(random: &mut Random, revision: i64) -> Compare {
    let target = match random.below(4) {
        0 => CompareTarget::Create(0),
        1 => CompareTarget::Mod(revision - 5),
        2 => CompareTarget::Lease(lease(random)),
        _ => CompareTarget::Version(1),
    };
    let result = random.pick(&[CompareResult::Equal, CompareResult::Greater, CompareResult::Less]);
    Compare { result, target, key: any_key(random), range_end: Bytes::new() }
}

fn txn(random: &mut Random, operation: OperationId, revision: i64) -> TxnRequest {
    let read = RangeRequest { key: any_key(random), ..RangeRequest::default() };
    TxnRequest {
        compare: vec![compare(random, revision)],
        success: vec![Operation::Put(put(random, operation)), Operation::Range(read)],
        failure: vec![Operation::DeleteRange(delete(random)), Operation::Put(put(random, operation))],
    }
}

/// The command of an operation. `revision` is about where the history stands.
pub fn draw(random: &mut Random, operation: OperationId, revision: i64) -> Command {
    match random.below(100) {
        0..60 => Command::Put(put(random, operation)),
        60..68 => {
            let lease = lease(random);
            Command::Put(PutRequest { lease, ..put(random, operation) })
        }
        68..80 => Command::Txn(txn(random, operation, revision)),
        80..88 => Command::DeleteRange(delete(random)),
        88..93 => Command::LeaseGrant { id: lease(random), ttl: 60 },
        93..96 => Command::LeaseRevoke { id: lease(random) },
        _ => {
            let left = i64::try_from(random.below(LEFT_BY_COMPACTION)).expect("a small number");
            Command::Compact { revision: (revision - left).max(1) }
        }
    }
}

/// The past of a pair that begins with one.
pub fn history(lsn: u64) -> Vec<Command> {
    let mut random = Random::new(lsn);
    let mut commands = vec![Command::LeaseGrant { id: 1, ttl: 60 }];
    commands.extend((0..KEYS / 2).map(|_| Command::Put(put(&mut random, 0))));
    commands
}

/// The bytes that the pair replicates.
pub fn encode(operation: OperationId, command: &Command) -> Bytes {
    let mut bytes = operation.to_le_bytes().to_vec();
    bytes.extend_from_slice(&command.encode());
    bytes.into()
}

/// Whose write an entry is.
pub fn operation_of(entry: &Entry) -> OperationId {
    let number = entry.command.get(..NUMBER_BYTES).and_then(|bytes| bytes.try_into().ok());
    OperationId::from_le_bytes(number.expect("an entry of this world carries its operation's number"))
}

/// What an entry does.
pub fn command_of(entry: &Entry) -> Result<Command, Failure> {
    let bytes = entry.command.slice(NUMBER_BYTES.min(entry.command.len())..);
    Command::decode(&bytes).map_err(|error| format!("the entry at LSN {} is no command: {error}", entry.lsn))
}
