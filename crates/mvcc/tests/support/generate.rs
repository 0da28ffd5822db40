//! Random requests: over few keys, so that they meet, and few revisions, so that they are near the real ones.

use bytes::Bytes;
use duet_mvcc::{
    Alarm, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operation,
    PutRequest, RangeRequest, SortOrder, SortTarget, TxnRequest,
};
use proptest::prelude::*;

pub fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(b"abc".to_vec()), 1..3).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 3 => key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0_u8..3, 0..40).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0_i64), 2 => 1_i64..4]
}

fn filter() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0_i64), 1 => 1_i64..40]
}

pub fn range() -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let filters = (filter(), filter(), filter(), filter());
    let revision = prop_oneof![3 => Just(0_i64), 2 => -1_i64..40];
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (key(), range_end(), -1_i64..4, revision, order, target, filters, flags).prop_map(
        |(key, range_end, limit, revision, sort_order, sort_target, filters, flags)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: filters.0,
            max_mod_revision: filters.1,
            min_create_revision: filters.2,
            max_create_revision: filters.3,
        },
    )
}

pub fn put() -> impl Strategy<Value = PutRequest> {
    let rarely = || prop::bool::weighted(0.15);
    (key(), value(), lease(), any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

pub fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    let target = prop_oneof![
        (0_i64..4).prop_map(CompareTarget::Version),
        (0_i64..40).prop_map(CompareTarget::Create),
        (0_i64..40).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        lease().prop_map(CompareTarget::Lease),
    ];
    (result, target, key(), range_end()).prop_map(|(result, target, key, range_end)| Compare {
        result,
        target,
        key,
        range_end,
    })
}

pub fn txn() -> impl Strategy<Value = TxnRequest> {
    let flat = prop_oneof![
        2 => range().prop_map(Operation::Range),
        4 => put().prop_map(Operation::Put),
        2 => delete_range().prop_map(Operation::DeleteRange),
    ];
    let operation = flat.prop_recursive(2, 12, 3, |inner| txn_of(inner).prop_map(Operation::Txn));
    txn_of(operation)
}

fn txn_of(operation: impl Strategy<Value = Operation> + Clone) -> impl Strategy<Value = TxnRequest> {
    let operations = prop::collection::vec(operation, 0..4);
    (prop::collection::vec(compare(), 0..3), operations.clone(), operations)
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn alarm() -> impl Strategy<Value = Alarm> {
    let kind = prop_oneof![Just(AlarmKind::NoSpace), Just(AlarmKind::Corrupt)];
    (kind, 0_u64..2).prop_map(|(kind, member)| Alarm { kind, member })
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        10 => put().prop_map(Command::Put),
        5 => delete_range().prop_map(Command::DeleteRange),
        8 => txn().prop_map(Command::Txn),
        2 => (-1_i64..40).prop_map(|revision| Command::Compact { revision }),
        3 => (0_i64..4, 2_i64..100).prop_map(|(id, ttl)| Command::LeaseGrant { id, ttl }),
        1 => (0_i64..4).prop_map(|id| Command::LeaseRevoke { id }),
        1 => alarm().prop_map(Command::RaiseAlarm),
        4 => alarm().prop_map(Command::ClearAlarm),
    ]
}
