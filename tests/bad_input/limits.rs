//! Requests over etcd's limits, and requests that make no sense: etcd's own code and words, at both appliances, and
//! nothing of them is done.

use bytes::{Buf, BufMut, Bytes};
use duet_etcd_api::etcdserverpb as pb;
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status};

use crate::client::Client;
use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::still_serves;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, size: usize) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: Bytes::from(vec![b'x'; size]), ..Default::default() }
}

fn put_op(key: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(key, 1))) }
}

fn delete_op(key: &str) -> pb::RequestOp {
    let request = pb::DeleteRangeRequest { key: bytes(key), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(request)) }
}

fn txn_op(ops: Vec<pb::RequestOp>) -> pb::RequestOp {
    let request = pb::TxnRequest { success: ops, ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(request)) }
}

fn range(key: &str, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), revision, ..Default::default() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<Response<T>, Status>, code: Code, text: &str) {
    let status = answer.expect_err(what);
    assert_eq!((status.code(), status.message()), (code, text), "{what}");
}

const TOO_MANY: &str = "etcdserver: too many operations in txn request";
const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const TOO_LARGE: &str = "etcdserver: request is too large";
const NO_KEY: &str = "etcdserver: key is not provided";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const NO_LEASE: &str = "etcdserver: requested lease not found";

async fn keys_and_revisions(client: &Client) {
    use Code::{InvalidArgument, OutOfRange};
    let mut kv = client.kv();
    refused("an empty key to put", kv.put(put("", 1)).await, InvalidArgument, NO_KEY);
    refused("an empty key to read", kv.range(range("", 0)).await, InvalidArgument, NO_KEY);
    let no_key = pb::RangeRequest { range_end: bytes("z"), ..Default::default() };
    refused("an empty key with an end", kv.range(no_key).await, InvalidArgument, NO_KEY);
    let no_key = pb::DeleteRangeRequest { range_end: bytes("z"), ..Default::default() };
    refused("an empty key to delete", kv.delete_range(no_key).await, InvalidArgument, NO_KEY);
    refused("a future revision", kv.range(range("k", i64::MAX)).await, OutOfRange, FUTURE);
    refused("a compacted revision", kv.range(range("k", 1)).await, OutOfRange, COMPACTED);
    let compact = |revision| pb::CompactionRequest { revision, ..Default::default() };
    refused("compaction at the same place", kv.compact(compact(2)).await, OutOfRange, COMPACTED);
    refused("compaction of nothing", kv.compact(compact(0)).await, OutOfRange, COMPACTED);
    refused("compaction before the beginning", kv.compact(compact(-5)).await, OutOfRange, COMPACTED);
    refused("compaction of the future", kv.compact(compact(i64::MAX)).await, OutOfRange, FUTURE);
    // etcd dies of this one; see the design's notes.
    let bad_sort = pb::RangeRequest { sort_target: 99, sort_order: 1, ..range("k", 0) };
    let status = kv.range(bad_sort).await.expect_err("a sort target that does not exist");
    assert_eq!(status.code(), InvalidArgument, "{status:?}");
    // An unknown order is none, as at etcd.
    kv.range(pb::RangeRequest { sort_order: 7, ..range("k", 0) }).await.unwrap();
    kv.range(pb::RangeRequest { limit: i64::MIN, revision: i64::MIN, ..range("k", 0) }).await.unwrap();
    let both = pb::PutRequest { ignore_value: true, ..put("k", 1) };
    refused("a value and none", kv.put(both).await, InvalidArgument, "etcdserver: value is provided");
    let both = pb::PutRequest { ignore_lease: true, lease: 7, ..put("k", 1) };
    refused("a lease and none", kv.put(both).await, InvalidArgument, "etcdserver: lease is provided");
    let missing = pb::PutRequest { ignore_value: true, ..put("missing", 0) };
    refused("no value to keep", kv.put(missing).await, InvalidArgument, "etcdserver: key not found");
}

async fn transactions(client: &Client) {
    use Code::InvalidArgument;
    let mut kv = client.kv();
    let many = |count: usize| (0..count).map(|number| put_op(&format!("many/{number}"))).collect::<Vec<_>>();
    let success = |ops| pb::TxnRequest { success: ops, ..Default::default() };
    let failure = |ops| pb::TxnRequest { failure: ops, ..Default::default() };
    refused("129 operations", kv.txn(success(many(129))).await, InvalidArgument, TOO_MANY);
    refused("129 operations to fail", kv.txn(failure(many(129))).await, InvalidArgument, TOO_MANY);
    let compares = vec![pb::Compare { key: bytes("k"), ..Default::default() }; 129];
    let txn = pb::TxnRequest { compare: compares, ..Default::default() };
    refused("129 compares", kv.txn(txn).await, InvalidArgument, TOO_MANY);
    let nested = [many(100), vec![txn_op(many(100))]].concat();
    refused("100 and 100 in it", kv.txn(success(nested)).await, InvalidArgument, TOO_MANY);
    let mut deep = vec![put_op("deep")];
    for _ in 0..2000 {
        deep = vec![txn_op(deep)];
    }
    let status = kv.txn(success(deep)).await.expect_err("2000 transactions in one another");
    assert!(!matches!(status.code(), Code::Ok | Code::Unavailable | Code::Unknown), "{status:?}");
    refused(
        "one key twice",
        kv.txn(success(vec![put_op("k"), put_op("k")])).await,
        InvalidArgument,
        DUPLICATE,
    );
    let both = vec![put_op("k"), delete_op("k")];
    refused("put and deleted", kv.txn(success(both)).await, InvalidArgument, DUPLICATE);
    let nested = vec![put_op("k"), txn_op(vec![put_op("k")])];
    refused("one key twice, nested", kv.txn(success(nested)).await, InvalidArgument, DUPLICATE);
    refused("an empty key inside", kv.txn(success(vec![put_op("")])).await, InvalidArgument, NO_KEY);
    let no_key = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    refused("a compare without a key", kv.txn(no_key).await, InvalidArgument, NO_KEY);
    let future = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range("k", 1 << 40))) };
    let txn = success(vec![put_op("half"), future]);
    refused("an operation that fails", kv.txn(txn).await, Code::OutOfRange, FUTURE);
    assert_eq!(client.get("half").await.unwrap(), None, "the rest of it was not done");
    let empty = pb::RequestOp { request: None };
    // etcd takes an operation of no kind as nothing to do, or refuses it; it must not do harm.
    if let Err(status) = kv.txn(success(vec![empty])).await {
        assert_eq!(status.code(), InvalidArgument, "{status:?}");
    }
}

async fn sizes(client: &Client) {
    let mut kv = client.kv();
    let mib = 1 << 20;
    refused("more than 1.5 MiB", kv.put(put("large", mib * 3 / 2)).await, Code::InvalidArgument, TOO_LARGE);
    let key = "k".repeat(mib * 3 / 2);
    refused("a key of 1.5 MiB", kv.put(put(&key, 1)).await, Code::InvalidArgument, TOO_LARGE);
    let ops = ["a", "b"].map(|key| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(key, mib * 4 / 5))),
    });
    let txn = pb::TxnRequest { success: ops.to_vec(), ..Default::default() };
    refused("1.6 MiB in two", kv.txn(txn).await, Code::InvalidArgument, TOO_LARGE);
    for size in [2 * mib, 3 * mib, 40 * mib] {
        let status = kv.put(put("large", size)).await.expect_err("more than 2 MiB");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().starts_with("grpc: received message larger than max ("), "{status:?}");
        assert!(status.message().ends_with(" vs. 2097152)"), "{status:?}");
    }
    assert_eq!(client.get("large").await.unwrap(), None);
    // Just below the limit it is taken.
    kv.put(put("nearly", mib * 3 / 2 - 1024)).await.unwrap();
    assert_eq!(client.get("nearly").await.unwrap().map(|value| value.len()), Some(mib * 3 / 2 - 1024));
    client.delete("nearly").await.unwrap();
}

async fn leases(client: &Client) {
    let mut lease = client.lease();
    let grant = |ttl, id| pb::LeaseGrantRequest { ttl, id };
    let text = "etcdserver: too large lease TTL";
    refused("9,000,000,001 s", lease.lease_grant(grant(9_000_000_001, 0)).await, Code::OutOfRange, text);
    refused("the longest time", lease.lease_grant(grant(i64::MAX, 0)).await, Code::OutOfRange, text);
    let negative = lease.lease_grant(grant(i64::MIN, 0)).await.unwrap().into_inner();
    assert_eq!(negative.ttl, 2, "raised to the least");
    let text = "etcdserver: lease already exists";
    let again = lease.lease_grant(grant(60, negative.id)).await;
    refused("a lease that exists", again, Code::FailedPrecondition, text);
    lease.lease_revoke(pb::LeaseRevokeRequest { id: negative.id }).await.unwrap();
    let revoke = lease.lease_revoke(pb::LeaseRevokeRequest { id: 4711 }).await;
    refused("a lease that does not exist", revoke, Code::NotFound, NO_LEASE);
    let unknown = pb::PutRequest { lease: 4711, ..put("k", 1) };
    refused("a key for it", client.kv().put(unknown).await, Code::NotFound, NO_LEASE);
    let left = pb::LeaseTimeToLiveRequest { id: 4711, keys: true };
    assert_eq!(lease.lease_time_to_live(left).await.unwrap().into_inner().ttl, -1);
}

/// Sends any bytes as a message.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn raw(client: &Client, path: &'static str, message: &'static [u8]) -> Result<Response<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    grpc.unary(Request::new(Bytes::from_static(message)), PathAndQuery::from_static(path), Raw).await
}

async fn nonsense(client: &Client) {
    let text = "unknown method Nope for service etcdserverpb.KV";
    refused("an unknown method", raw(client, "/etcdserverpb.KV/Nope", b"").await, Code::Unimplemented, text);
    let text = "unknown service nope.Svc";
    refused("an unknown service", raw(client, "/nope.Svc/Get", b"").await, Code::Unimplemented, text);
    for path in ["/", "/etcdserverpb.KV", "/etcdserverpb.KV/", "/etcdserverpb.KV/Put/Put", "//", "/%00/%00"] {
        let status = raw(client, path, b"").await.expect_err(path);
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    // A length beyond the end, an unknown wire type, a group that never ends, a varint that never ends, no UTF-8 either.
    let malformed: [&[u8]; 6] = [
        &[0x0a, 0xff, 0x01, b'x'],
        &[0x0f],
        &[0x0b],
        &[0xff; 12],
        &[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/etcdserverpb.Lease/LeaseGrant"] {
        for message in malformed {
            let status = raw(client, path, message).await.expect_err(path);
            assert_eq!(status.code(), Code::Internal, "{path} {message:?}: {status:?}");
            assert!(status.message().starts_with("grpc: error unmarshalling request"), "{status:?}");
        }
    }
}

#[test]
fn etcds_limits_in_etcds_words() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 3).await;
        let compact = pb::CompactionRequest { revision: 2, ..Default::default() };
        pair.client(A).kv().compact(compact).await.unwrap();
        for appliance in [A, B] {
            let client = pair.client(appliance).clone();
            let before = pair.status(A).await.revision;
            keys_and_revisions(&client).await;
            transactions(&client).await;
            nonsense(&client).await;
            assert_eq!(pair.status(A).await.revision, before, "nothing of all that was done");
            sizes(&client).await;
            leases(&client).await;
            still_serves(&mut pair, &mut ledger).await;
        }
    });
}

#[test]
fn watches_that_cannot_be() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        let compact = pb::CompactionRequest { revision: 4, ..Default::default() };
        pair.client(B).kv().compact(compact).await.unwrap();
        for appliance in [A, B] {
            let compacted = async || {
                let old = pb::RangeRequest { serializable: true, ..range("k", 2) };
                pair.client(appliance).kv().range(old).await.err()
            };
            pair.until("the compaction has come here", compacted).await;
            let mut client = pb::watch_client::WatchClient::new(pair.client(appliance).channel());
            let create = |create: pb::WatchCreateRequest| pb::WatchRequest {
                request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
            };
            let watch = |key: &str, end: &str, start_revision| pb::WatchCreateRequest {
                key: bytes(key),
                range_end: bytes(end),
                start_revision,
                ..Default::default()
            };
            let requests = vec![
                create(watch("z", "a", 0)),
                create(watch("ledger/", "ledger0", 2)),
                create(pb::WatchCreateRequest { watch_id: 50, ..watch("a", "", 0) }),
                create(pb::WatchCreateRequest { watch_id: 50, ..watch("b", "", 0) }),
                pb::WatchRequest { request_union: None },
                create(watch("future", "", i64::MAX)),
            ];
            let outbound =
                tokio_stream::StreamExt::chain(tokio_stream::iter(requests), tokio_stream::pending());
            let mut answers = client.watch(outbound).await.unwrap().into_inner();
            let mut next = async || {
                let answer = tokio::time::timeout(crate::harness::PATIENCE, answers.message()).await;
                answer.expect("an answer").unwrap().expect("the stream goes on")
            };
            let empty = next().await;
            assert!(empty.canceled && empty.cancel_reason.contains("watcher range is empty"), "{empty:?}");
            let (mut compacted, mut duplicate, mut created) = (false, false, 0);
            while !(compacted && duplicate && created == 3) {
                let answer = next().await;
                created += i32::from(answer.created && !answer.canceled);
                compacted |= answer.canceled && answer.compact_revision == 4;
                duplicate |= answer.canceled && answer.cancel_reason.contains("duplicate watch ID");
            }
        }
        still_serves(&mut pair, &mut ledger).await;
    });
}
