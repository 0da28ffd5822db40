//! What the clients of a load send: keys and values are slices of two buffers made beforehand, so an operation allocates
//! little and computes nothing.

use std::fmt::Write as _;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use duet_etcd_api::etcdserverpb::request_op::Request;
use duet_etcd_api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tonic::Status;

use super::args::Operation;
use super::lane::{Caller, Rpc};

/// Values are cut from a buffer this much larger than one value, each at another place.
pub const VALUE_PLACES: usize = 4096;
/// Keys in one range.
const RANGE_KEYS: usize = 1_000;
/// Bytes in a key, for fewer than a billion of them.
pub const KEY_BYTES: usize = 20;
/// The end of all keys: `/` and the character behind it.
const KEYS_END: &[u8] = b"duet-bench0";
/// One operation of so many is a write in a mixed load.
const MIXED_WRITE_EVERY: usize = 5;

/// Requests of one kind, over some keys.
pub struct Workload {
    operation: Operation,
    keys: Bytes,
    key_count: usize,
    key_size: usize,
    values: Bytes,
    value_size: usize,
}

impl Workload {
    /// Requests for `key_count` keys.
    pub fn new(operation: Operation, key_count: usize, value_size: usize) -> Self {
        let mut text = String::new();
        for index in 0..key_count {
            write!(text, "duet-bench/{index:09}").ok();
        }
        let key_size = text.len() / key_count;
        let values = noise(value_size + VALUE_PLACES);
        Self { operation, keys: Bytes::from(text), key_count, key_size, values, value_size }
    }

    fn key(&self, index: usize) -> Bytes {
        self.keys.slice(index * self.key_size..(index + 1) * self.key_size)
    }

    /// The write of a key with one of the values.
    pub fn put(&self, index: usize, place: usize) -> PutRequest {
        let place = place % VALUE_PLACES;
        let value = self.values.slice(place..place + self.value_size);
        PutRequest { key: self.key(index), value, ..Default::default() }
    }

    /// Bytes of one key and its value: what a user asks to be stored.
    pub const fn pair_bytes(&self) -> usize {
        self.key_size + self.value_size
    }

    /// Carries out one operation with a key by chance; gives the bytes it stored.
    ///
    /// # Errors
    /// The server's refusal, or `Unknown` when the connection failed.
    pub async fn operate(&self, caller: &mut Caller, random: &mut Random) -> Result<usize, Status> {
        let index = random.below(self.key_count);
        let writes = match self.operation {
            Operation::Put => true,
            Operation::Mixed => random.below(MIXED_WRITE_EVERY) == 0,
            _ => false,
        };
        if writes {
            let put = self.put(index, random.below(VALUE_PLACES));
            caller.call(Rpc::Put, &put).await?;
            return Ok(self.pair_bytes());
        }
        match self.operation {
            Operation::Txn => {
                let put = self.put(index, random.below(VALUE_PLACES));
                caller.call(Rpc::Txn, &rewrite(put)).await?;
                Ok(self.pair_bytes())
            }
            Operation::Range => caller.call(Rpc::Range, &self.range(index)).await.map(|()| 0),
            _ => {
                let serializable = self.operation == Operation::Serializable;
                let request = RangeRequest { key: self.key(index), serializable, ..Default::default() };
                caller.call(Rpc::Range, &request).await.map(|()| 0)
            }
        }
    }

    /// A range of as many keys as it should have, wherever it begins.
    fn range(&self, index: usize) -> RangeRequest {
        let first = index.min(self.key_count.saturating_sub(RANGE_KEYS));
        RangeRequest {
            key: self.key(first),
            range_end: Bytes::from_static(KEYS_END),
            limit: i64::try_from(RANGE_KEYS).unwrap_or(i64::MAX),
            ..Default::default()
        }
    }
}

/// A write of a key that is there already, and only then: the shape of an optimistic update.
fn rewrite(put: PutRequest) -> TxnRequest {
    let there = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: put.key.clone(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let write = RequestOp { request: Some(Request::RequestPut(put)) };
    TxnRequest { compare: vec![there], success: vec![write], failure: Vec::new() }
}

/// Bytes without pattern, the same in every run.
pub fn noise(length: usize) -> Bytes {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

/// SplitMix64: quick, and the same in every run.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each client.
    pub const fn of_client(index: u64) -> Self {
        Self(index.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_in_order_between_the_first_and_the_end() {
        let workload = Workload::new(Operation::Range, 2_000, 16);
        let all: Vec<Bytes> = (0..2_000).map(|index| workload.key(index)).collect();
        assert!(all.is_sorted() && all.iter().all(|key| key.as_ref() < KEYS_END));
        assert_eq!(workload.pair_bytes(), KEY_BYTES + 16);
    }

    #[test]
    fn a_range_has_its_thousand_keys_wherever_it_begins() {
        let workload = Workload::new(Operation::Range, 2_000, 16);
        assert_eq!(workload.range(5).key, workload.key(5));
        assert_eq!(workload.range(1_999).key, workload.key(1_000));
        assert_eq!(Workload::new(Operation::Range, 10, 16).range(9).key, workload.key(0));
    }

    #[test]
    fn values_are_noise_and_the_same_in_every_run() {
        let workload = Workload::new(Operation::Put, 1, 100);
        let (one, other) = (workload.put(0, 0).value, workload.put(0, 1).value);
        assert_eq!((one.len(), &one[1..]), (100, &other[..99]));
        assert_eq!(noise(64), noise(64));
    }
}
