//! A door for fuzzing (feature `fuzzing`): the parsers of this crate, and the store behind them.
//!
//! Each function panics when something breaks its promise: that no bytes make it panic, that what is taken has one form,
//! and that refused input changes nothing. Where it says so it returns whether it took the bytes as they are, whole.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    Actor, Alarm, AlarmKind, AuthCommand, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    EmptySource, Operation, PasswordHash, Permission, PermissionKind, PutRequest, RangeRequest, Revision,
    RevisionSource, SourceError, Store, TokenSecret, TxnLimits, TxnRequest, UserId, record, validate_command,
    validate_range,
};

/// Valid commands of every kind.
pub fn command_samples() -> Vec<Vec<u8>> {
    let text = Bytes::from_static;
    let put =
        PutRequest { key: text(b"a"), value: text(b"value"), lease: 7, prev_kv: true, ..Default::default() };
    let range = RangeRequest { key: text(b"a"), range_end: text(b"c"), limit: 2, ..Default::default() };
    let delete = DeleteRangeRequest { key: text(b"b"), range_end: text(b"\0"), prev_kv: true };
    let compare =
        |target| Compare { result: CompareResult::Greater, target, key: text(b"a"), range_end: Bytes::new() };
    let inner = TxnRequest { success: vec![Operation::DeleteRange(delete.clone())], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![compare(CompareTarget::Mod(3)), compare(CompareTarget::Value(text(b"value")))],
        success: vec![Operation::Range(range), Operation::Txn(inner)],
        failure: vec![Operation::Put(PutRequest { lease: 0, ..put.clone() })],
    };
    let commands = [
        Command::LeaseGrant { id: 7, ttl: 60 },
        Command::Put(put),
        Command::Txn(txn),
        Command::Compact { revision: 2 },
        Command::DeleteRange(delete),
        Command::LeaseRevoke { id: 7 },
        Command::RaiseAlarm(Alarm { kind: AlarmKind::NoSpace, member: 11 }),
        Command::ClearAlarm(Alarm { kind: AlarmKind::Corrupt, member: u64::MAX }),
    ];
    let commands = commands.into_iter().chain(auth_samples());
    commands.map(|command| command.encode().to_vec()).collect()
}

/// Users are made, turned on, asked and turned off.
fn auth_samples() -> impl Iterator<Item = Command> {
    let name = || "root".to_owned();
    let text = Bytes::from_static;
    let password = || PasswordHash(text(b"$2b$04$hash"));
    let permission = Permission { kind: PermissionKind::ReadWrite, key: text(b"a"), range_end: text(b"\0") };
    let changes = [
        AuthCommand::UserAdd { name: name(), password: Some(password()) },
        AuthCommand::RoleAdd { name: name() },
        AuthCommand::RoleGrantPermission { role: name(), permission },
        AuthCommand::UserGrantRole { user: name(), role: name() },
        AuthCommand::Enable { secret: TokenSecret([9; 32]) },
    ];
    let later = [
        AuthCommand::UserAdd { name: "bob".into(), password: None },
        AuthCommand::RoleRevokePermission { role: name(), key: text(b"a"), range_end: text(b"\0") },
        AuthCommand::UserRevokeRole { user: "bob".into(), role: name() },
        AuthCommand::UserDelete { name: "bob".into() },
        AuthCommand::RoleDelete { name: name() },
        AuthCommand::Disable,
        AuthCommand::UserChangePassword { name: name(), password: password() },
    ];
    // The first user is the second revision of all users.
    let by_root = |command| Command::As { actor: Actor::User(UserId(2)), command: Box::new(command) };
    let put = PutRequest { key: text(b"a"), ..PutRequest::default() };
    let asked = [
        Command::As { actor: Actor::Appliance, command: Box::new(Command::LeaseRevoke { id: 7 }) },
        by_root(Command::Put(put)),
    ];
    let later = later.map(|command| by_root(Command::Auth(command)));
    changes.map(Command::Auth).into_iter().chain(asked).chain(later)
}

/// One command.
pub fn command(bytes: &[u8]) -> bool {
    let input = Bytes::copy_from_slice(bytes);
    let Ok(command) = Command::decode(&input) else { return false };
    assert!(command.encode() == input, "a command has one form");
    true
}

/// Histories of commands, each behind its length of two bytes.
pub fn history_samples() -> Vec<Vec<u8>> {
    let history = |commands: &[Vec<u8>]| commands.iter().flat_map(|command| framed(command)).collect();
    let commands = command_samples();
    vec![history(&commands), history(&[&commands[..3], &commands[..]].concat())]
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes(), bytes].concat()
}

/// The next bytes behind their length; as much as there is.
fn next(input: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(u16::from_le_bytes(*input.first_chunk()?));
    bytes::Buf::advance(input, 2);
    Some(input.split_to(length.min(input.len())))
}

/// What a checkpoint left.
struct Engine(BTreeMap<Revision, Bytes>);

impl RevisionSource for Engine {
    fn get(&self, revision: Revision) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.get(&revision).cloned())
    }

    fn scan(&self, from: Revision, max: usize) -> Result<Vec<(Revision, Bytes)>, SourceError> {
        Ok(self.0.range(from..).take(max).map(|(revision, bytes)| (*revision, bytes.clone())).collect())
    }
}

/// Commands from a log, applied one after the other with a step of compaction after each: what is refused changes nothing,
/// and a store restored from the last checkpoint equals the one that went on.
pub fn history(bytes: &[u8]) {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut store = Store::new(Arc::new(EmptySource));
    while let Some(bytes) = next(&mut input) {
        let Ok(command) = Command::decode(&bytes) else { continue };
        if validate_command(&command, TxnLimits::default()).is_err() {
            continue;
        }
        let before = store.state_digest();
        let applied = store.apply(&command);
        if applied.result.is_err() {
            assert!(applied.events.is_empty() && store.state_digest() == before, "refused changes nothing");
        }
        if let Command::Txn(txn) = command.inner() {
            for operation in txn.success.iter().chain(&txn.failure) {
                if let Operation::Range(range) = operation
                    && validate_range(range).is_ok()
                {
                    // Any answer is one: a compacted or future revision is refused.
                    drop(store.range(range));
                }
            }
        }
        store.compact_step(2);
    }
    let (digest, checkpoint) = (store.state_digest(), store.begin_checkpoint());
    let dead = &checkpoint.deletes;
    let records = checkpoint.puts.iter().filter(|(revision, _)| !dead.contains(revision)).cloned();
    let engine = Engine(records.collect());
    let records: Vec<_> = engine.0.clone().into_iter().map(Ok).collect();
    let restored = Store::restore(Arc::new(engine), &checkpoint.meta, records);
    assert!(restored.is_ok_and(|restored| restored.state_digest() == digest), "a restored store is equal");
}

/// A checkpoint: its meta, then records, each part behind its length; before a record its revision in twice one byte.
pub fn checkpoint_samples() -> Vec<Vec<u8>> {
    let mut store = Store::new(Arc::new(EmptySource));
    for bytes in command_samples().into_iter().take(3) {
        if let Ok(command) = Command::decode(&Bytes::from(bytes)) {
            store.apply(&command);
        }
    }
    let checkpoint = store.begin_checkpoint();
    let mut sample = framed(&checkpoint.meta);
    for (revision, bytes) in checkpoint.puts.iter() {
        let number = |number: i64| u8::try_from(number).unwrap_or(u8::MAX);
        let key = [number(revision.main), number(revision.sub)];
        sample.extend(framed(&[&key, bytes.as_ref()].concat()));
    }
    let again = record::encode_put(b"a", b"other", 2, i64::MAX, 0);
    let deleted = record::encode_delete(b"a");
    let mut long = sample.clone();
    long.extend(framed(&[&[3, 0], again.as_ref()].concat()));
    long.extend(framed(&[&[4, 0], deleted.as_ref()].concat()));
    let mut users = Store::new(Arc::new(EmptySource));
    for command in auth_samples().take(6) {
        users.apply(&command);
    }
    vec![sample, long, framed(&users.begin_checkpoint().meta)]
}

/// A checkpoint as the engine, or a peer's copy, gives it: it is refused, or it makes a store that works.
pub fn checkpoint(bytes: &[u8]) {
    let mut input = Bytes::copy_from_slice(bytes);
    let Some(meta) = next(&mut input) else { return };
    let mut records = Vec::new();
    while let Some(mut bytes) = next(&mut input) {
        let Some([main, sub]) = bytes.first_chunk::<2>().copied() else { continue };
        bytes::Buf::advance(&mut bytes, 2);
        records.push(Ok((Revision::new(i64::from(main), i64::from(sub)), bytes)));
    }
    let Ok(mut store) = Store::restore(Arc::new(EmptySource), &meta, records) else { return };
    for bytes in command_samples() {
        if let Ok(command) = Command::decode(&Bytes::from(bytes)) {
            store.apply(&command);
        }
    }
    while store.compact_step(1) {}
    drop(store.begin_checkpoint());
}
