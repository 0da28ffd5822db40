//! The binary form of commands: it comes back as it was, and nothing else is taken or panics.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use bytes::Bytes;
use duet_mvcc::{
    Actor, Alarm, AlarmKind, AuthCommand, Command, DecodeError, MAX_TXN_DEPTH, Operation, TxnRequest, UserId,
};
use proptest::prelude::*;
use support::{generate, op_put, put, txn};

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_come_back(command in generate::command(), cut in any::<prop::sample::Index>()) {
        let encoded = command.encode();
        prop_assert_eq!(Command::decode(&encoded), Ok(command));
        prop_assert!(Command::decode(&encoded.slice(..cut.index(encoded.len()))).is_err());
        let mut longer = encoded.to_vec();
        longer.push(0);
        prop_assert!(Command::decode(&Bytes::from(longer)).is_err());
    }

    #[test]
    fn damaged_commands_never_panic_and_have_one_encoding(
        command in generate::command(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut damaged = command.encode().to_vec();
        let place = place.index(damaged.len());
        damaged[place] = byte;
        let damaged = Bytes::from(damaged);
        if let Ok(decoded) = Command::decode(&damaged) {
            prop_assert_eq!(decoded.encode(), damaged);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), tag in 0_u8..48) {
        let mut bytes = vec![1, tag];
        bytes.extend(tail);
        let bytes = Bytes::from(bytes);
        if let Ok(decoded) = Command::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }
}

#[test]
fn decoding_copies_nothing() {
    let encoded = Command::Put(put("key", "value")).encode();
    let Ok(Command::Put(decoded)) = Command::decode(&encoded) else { panic!() };
    let inside = encoded.as_ptr_range();
    assert!(inside.contains(&decoded.key.as_ptr()) && inside.contains(&decoded.value.as_ptr()));
}

#[test]
fn formats_and_tags_of_other_versions_are_refused() {
    assert_eq!(Command::decode(&Bytes::new()), Err(DecodeError::Truncated));
    assert_eq!(Command::decode(&Bytes::from_static(&[2, 1])), Err(DecodeError::UnknownFormat(2)));
    assert_eq!(Command::decode(&Bytes::from_static(&[1, 9])), Err(DecodeError::UnknownTag(9)));
    let twice = Bytes::from_static(&[1, 32, 2, 32, 2, 6, 2]);
    assert_eq!(Command::decode(&twice), Err(DecodeError::UnknownTag(32)), "one command has one owner");
}

#[test]
fn the_first_format_stays_readable() {
    // Written down, so that a change of the encoding is seen as what it is: a new format.
    let golden: &[u8] = &[1, 1, 1, 1, b'k', 2, b'v', b'w', 14];
    let command = Command::Put(duet_mvcc::PutRequest { prev_kv: true, lease: 7, ..put("k", "vw") });
    assert_eq!(command.encode(), golden);
    assert_eq!(Command::LeaseGrant { id: -1, ttl: 64 }.encode(), [1, 5, 1, 128, 1].as_slice());
    let alarm = Alarm { kind: AlarmKind::NoSpace, member: 300 };
    assert_eq!(Command::RaiseAlarm(alarm).encode(), [1, 16, 1, 172, 2].as_slice());
    assert_eq!(Command::ClearAlarm(alarm).encode(), [1, 17, 1, 172, 2].as_slice());
    let user_add = AuthCommand::UserAdd { name: "bo".into(), password: None };
    assert_eq!(Command::Auth(user_add).encode(), [1, 35, 2, b'b', b'o', 0].as_slice());
    let by_user = Actor::User(UserId(200));
    let delete = Box::new(Command::Auth(AuthCommand::RoleDelete { name: "r".into() }));
    let encoded = Command::As { actor: by_user, command: delete }.encode();
    assert_eq!(encoded, [1, 32, 200, 1, 41, 1, b'r'].as_slice());
    assert_eq!(
        Command::Txn(txn(vec![op_put("a")])).encode(),
        [1, 3, 0, 1, 1, 0, 1, b'a', 1, b'v', 0, 0].as_slice()
    );
}

#[test]
fn nesting_is_bounded() {
    let nest =
        |depth: usize| (1..depth).fold(TxnRequest::default(), |inner, _| txn(vec![Operation::Txn(inner)]));
    let deepest = Command::Txn(nest(MAX_TXN_DEPTH));
    assert_eq!(Command::decode(&deepest.encode()), Ok(deepest));
    let too_deep = Command::Txn(nest(MAX_TXN_DEPTH + 1)).encode();
    assert_eq!(Command::decode(&too_deep), Err(DecodeError::TooDeep));
}

#[test]
fn a_count_beyond_the_input_reserves_nothing() {
    let huge = Bytes::from_static(&[1, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(Command::decode(&huge), Err(DecodeError::Truncated));
}
