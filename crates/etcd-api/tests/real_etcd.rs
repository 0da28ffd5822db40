//! Talks to a real etcd, to prove that our stubs and its server understand each other.
//!
//! Ignored by default, as it needs an etcd: `DUET_TEST_ETCD=http://127.0.0.1:2379 cargo test -p duet-etcd-api
//! -- --ignored`. It writes keys below `duet-etcd-api-test/` only.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use duet_etcd_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest, compare, request_op, response_op,
};

#[tokio::test]
#[ignore = "needs DUET_TEST_ETCD, the URL of a running etcd"]
async fn put_range_txn_status() {
    let url = std::env::var("DUET_TEST_ETCD").expect("DUET_TEST_ETCD=http://host:port");
    let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut kv = KvClient::new(channel.clone());
    let key = Bytes::from_static(b"duet-etcd-api-test/key");
    let value = Bytes::from_static(b"\x00value\xff");

    let put = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
    let put_revision = kv.put(put).await.unwrap().into_inner().header.unwrap().revision;

    let range = RangeRequest { key: key.clone(), ..Default::default() };
    let answer = kv.range(range.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.kvs.len(), answer.more), (1, 1, false));
    assert_eq!((&answer.kvs[0].key, &answer.kvs[0].value), (&key, &value));
    assert_eq!(answer.kvs[0].mod_revision, put_revision);

    let txn = TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal as i32,
            target: compare::CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(compare::TargetUnion::ModRevision(put_revision)),
            ..Default::default()
        }],
        success: vec![RequestOp { request: Some(request_op::Request::RequestRange(range)) }],
        failure: vec![],
    };
    let answer = kv.txn(txn).await.unwrap().into_inner();
    assert!(answer.succeeded);
    let Some(response_op::Response::ResponseRange(range)) = &answer.responses[0].response else {
        panic!("a range answers a range: {answer:?}");
    };
    assert_eq!(range.kvs[0].value, value);

    let status = MaintenanceClient::new(channel).status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.db_size > 0 && status.leader != 0);
}
