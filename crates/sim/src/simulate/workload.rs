//! What clients write and read: requests of the real data model, drawn from a number each, so that a number in the record of a
//! run is enough to have the same request again.

use bytes::Bytes;
use duet_mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange, Operation, PutRequest,
    RangeRequest, TxnRequest,
};
use duet_protocol::Entry;

use super::machine::OperationId;
use super::random::Random;
use super::storage::Failure;

/// Keys that are written.
const KEYS: u64 = 24;
/// Bytes before the command: the operation's number, so that each entry is another and is known again.
const NUMBER_BYTES: usize = 8;
/// Revisions of history that a compaction leaves, at most.
const LEFT_BY_COMPACTION: u64 = 60;
/// Times to live in seconds. Short, so that leases run out while faults happen.
const TTL: (u64, u64) = (1, 5);
/// The longest time to live in seconds.
pub const MOST_TTL: u64 = TTL.1;
/// What the rest of a value consists of.
const FILLER: u8 = b'v';

/// What requests are drawn upon.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// About where the history stands.
    pub revision: i64,
    /// Leases that were asked for lately.
    pub leases: &'a [i64],
    /// Whether leases are granted.
    pub grants: bool,
    /// Whether the history is compacted.
    pub compacts: bool,
}

/// A request that changes nothing that is replicated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// Linearizable.
    Read(RangeRequest),
    /// Of whatever the appliance has.
    Serializable(RangeRequest),
    /// A lease is to live on.
    Renew(i64),
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

fn any_key(random: &mut Random) -> Bytes {
    key(random.below(KEYS))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a small number")
}

/// A lease that was asked for; zero if there is none.
fn lease(random: &mut Random, scene: Scene<'_>) -> i64 {
    if scene.leases.is_empty() { 0 } else { random.pick(scene.leases) }
}

fn put(random: &mut Random, operation: OperationId) -> PutRequest {
    let length = if random.chance(20) { random.within((500, 6_000)) } else { random.within((8, 60)) };
    let mut value = operation.to_le_bytes().to_vec();
    value.resize(usize::try_from(length).expect("a short value"), FILLER);
    PutRequest {
        key: any_key(random),
        value: value.into(),
        prev_kv: random.chance(200),
        ..PutRequest::default()
    }
}

/// Which operation wrote a value; `None`: no operation writes such a one.
pub fn writer_of(value: &[u8]) -> Option<OperationId> {
    let (number, rest) = value.split_first_chunk::<NUMBER_BYTES>()?;
    rest.iter().all(|byte| *byte == FILLER).then(|| OperationId::from_le_bytes(*number))
}

fn delete(random: &mut Random) -> DeleteRangeRequest {
    let first = random.below(KEYS);
    let range_end = if random.chance(300) { key(first + random.within((1, 4))) } else { Bytes::new() };
    DeleteRangeRequest { key: key(first), range_end, prev_kv: random.chance(300) }
}

fn compare(random: &mut Random, scene: Scene<'_>) -> Compare {
    let target = match random.below(4) {
        0 => CompareTarget::Create(0),
        1 => CompareTarget::Mod(scene.revision - 5),
        2 => CompareTarget::Lease(lease(random, scene)),
        _ => CompareTarget::Version(1),
    };
    let result = random.pick(&[CompareResult::Equal, CompareResult::Greater, CompareResult::Less]);
    Compare { result, target, key: any_key(random), range_end: Bytes::new() }
}

fn txn(random: &mut Random, operation: OperationId, scene: Scene<'_>) -> TxnRequest {
    let read = RangeRequest { key: any_key(random), ..RangeRequest::default() };
    let delete = delete(random);
    let deleted = KeyRange::new(delete.key.clone(), delete.range_end.clone());
    let mut other = put(random, operation);
    if deleted.contains(&other.key) {
        // Twice the same key: the client port refuses that.
        other.key = Bytes::from_static(b"k");
    }
    TxnRequest {
        compare: vec![compare(random, scene)],
        success: vec![Operation::Put(put(random, operation)), Operation::Range(read)],
        failure: vec![Operation::DeleteRange(delete), Operation::Put(other)],
    }
}

/// The command of an operation.
pub fn draw(random: &mut Random, operation: OperationId, scene: Scene<'_>) -> Command {
    match random.below(100) {
        60..68 if scene.grants => {
            let lease = lease(random, scene);
            Command::Put(PutRequest { lease, ..put(random, operation) })
        }
        68..80 => Command::Txn(txn(random, operation, scene)),
        80..88 => Command::DeleteRange(delete(random)),
        88..93 if scene.grants => {
            let (id, ttl) = (lease_of(operation), signed(random.within(TTL)));
            Command::LeaseGrant { id, ttl }
        }
        93..94 if scene.grants => Command::LeaseRevoke { id: lease(random, scene) },
        96.. if scene.compacts => {
            let left = signed(random.below(LEFT_BY_COMPACTION));
            Command::Compact { revision: (scene.revision - left).max(1) }
        }
        _ => Command::Put(put(random, operation)),
    }
}

/// The lease that an operation asks for: no two ask for the same, for a lease that ended must not come back.
pub fn lease_of(operation: OperationId) -> i64 {
    signed(operation) + 1
}

/// What an operation that writes nothing asks.
pub fn draw_look(random: &mut Random, scene: Scene<'_>) -> Look {
    match random.below(100) {
        0..70 => Look::Read(RangeRequest { key: any_key(random), ..RangeRequest::default() }),
        70..78 => Look::Read(some_keys(random)),
        78..86 => Look::Serializable(some_keys(random)),
        _ if scene.leases.is_empty() => Look::Read(some_keys(random)),
        _ => Look::Renew(lease(random, scene)),
    }
}

fn some_keys(random: &mut Random) -> RangeRequest {
    let first = random.below(KEYS);
    let range_end = key(first + random.within((1, 12)));
    RangeRequest { key: key(first), range_end, ..RangeRequest::default() }
}

/// What a watch watches.
pub fn watched(random: &mut Random) -> KeyRange {
    match random.below(4) {
        0 => KeyRange::new(any_key(random), Bytes::new()),
        1 => KeyRange::all(),
        _ => {
            let RangeRequest { key, range_end, .. } = some_keys(random);
            KeyRange::new(key, range_end)
        }
    }
}

/// The past of a pair that begins with one: requests that were carried out long ago.
pub fn history(lsn: u64) -> Vec<Command> {
    let mut random = Random::new(lsn);
    let grant = Command::LeaseGrant { id: i64::MAX, ttl: signed(MOST_TTL) };
    let puts = (0..KEYS / 2).map(|number| Command::Put(put(&mut random, OperationId::MAX - number)));
    [grant].into_iter().chain(puts).collect()
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
