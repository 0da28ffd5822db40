//! A store that is full, and requests above other limits.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange, RequestTxn};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::harness::run;
use crate::play::Play;
use crate::requests::{all, compact, delete, get, grant, op, put, puts, range};
use crate::servers::{CALL, Servers};
use crate::step::{Step, refusal};

/// Larger than what one of the large values leaves over, and than the pages that etcd's empty database has.
const QUOTA_BYTES: usize = 16 << 20;

const LARGE_BYTES: usize = 1 << 20;

const FULL: &str = "ResourceExhausted \"etcdserver: mvcc: database space exceeded\"";

fn large(number: usize) -> Step {
    let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
    Step::Put(pb::PutRequest { value, ..put(&format!("large/{number:03}"), "") })
}

/// Everything that needs room, and what goes without.
fn everything() -> Vec<Step> {
    let one = || RequestPut(put("small", "v"));
    vec![
        Step::Put(put("small", "v")),
        grant(1, 1000),
        Step::Txn(all([one()])),
        Step::Txn(pb::TxnRequest { failure: vec![op(one())], ..Default::default() }),
        Step::Txn(all([RequestRange(get("small"))])),
        Step::Txn(all([RequestDeleteRange(delete("small", ""))])),
        Step::Range(range("small", "")),
        Step::Delete(delete("small", "")),
        Step::Revoke(1),
        Step::KeepAlive(1),
        compact(1),
    ]
}

/// The alarms that there are, by their kinds.
async fn alarms(channel: &Channel) -> Vec<i32> {
    let list = pb::AlarmRequest::default();
    let answer = MaintenanceClient::new(channel.clone()).alarm(list).await.unwrap().into_inner();
    answer.alarms.iter().map(|alarm| alarm.alarm).collect()
}

async fn take_back_alarms(channel: &Channel) {
    let mut client = MaintenanceClient::new(channel.clone());
    let list = pb::AlarmRequest::default();
    for alarm in client.alarm(list).await.unwrap().into_inner().alarms {
        let request = pb::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        client.alarm(request).await.unwrap();
    }
}

#[test]
fn a_full_store_refuses_alike_and_goes_on_when_there_is_room() {
    run(async {
        let line = format!("quota_backend_bytes = {QUOTA_BYTES}");
        let flag = format!("--quota-backend-bytes={QUOTA_BYTES}");
        let Some(servers) = Servers::start_with(&[&line], &[&flag]).await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        for step in everything() {
            play.step(step).await;
        }
        // One measures its file and the other one the content: which write is the first to be refused is not the same.
        for number in 0..QUOTA_BYTES / LARGE_BYTES / 2 {
            play.step_says(large(number), "PutResponse").await;
        }
        for side in [&servers.etcd, &servers.duet] {
            let mut kv = pb::kv_client::KvClient::new(side[side.len() - 1].clone());
            let mut refused = None;
            for number in 0..QUOTA_BYTES / LARGE_BYTES * 2 {
                let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
                let request = pb::PutRequest { value, ..put(&format!("filling/{number}"), "") };
                refused = kv.put(request).await.err();
                if refused.is_some() {
                    break;
                }
            }
            assert_eq!(refused.as_ref().map(refusal).as_deref(), Some(FULL));
            for channel in side {
                assert_eq!(alarms(channel).await, [i32::from(pb::AlarmType::Nospace)]);
            }
        }
        let mut play = Play::begin(&servers).await;
        for step in everything() {
            // The first of 3.5 refuse transactions that only read, too.
            if servers.is_early() && matches!(step, Step::Txn(_)) {
                continue;
            }
            play.step(step).await;
        }
        play.step_says(Step::Put(put("small", "v")), FULL).await;
        // etcd lets it through: from here on the two have not the same history.
        let nested = Step::Txn(all([RequestTxn(all([RequestPut(put("nested", "v"))]))]));
        play.step_says_here(nested, FULL).await;
        // A little room is not enough while the alarm is up.
        let filling = pb::DeleteRangeRequest { prev_kv: false, ..delete("", "") };
        for side in [&servers.etcd, &servers.duet] {
            let mut kv = pb::kv_client::KvClient::new(side[0].clone());
            let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..filling.clone() };
            let revision = kv.delete_range(all).await.unwrap().into_inner().header.unwrap().revision;
            kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
            for channel in side {
                MaintenanceClient::new(channel.clone()).defragment(pb::DefragmentRequest {}).await.unwrap();
            }
        }
        let mut play = Play::begin(&servers).await;
        play.step_says(Step::Put(put("small", "v")), FULL).await;
        take_back_alarms(&servers.etcd[0]).await;
        take_back_alarms(&servers.duet[1]).await;
        for step in everything() {
            play.step(step).await;
        }
        play.step_says(large(0), "PutResponse").await;
        play.end().await;
    });
}

/// The parts of a snapshot: lengths and what is still to come; `None` for a stream that is no snapshot.
async fn snapshot_parts(channel: &Channel) -> Vec<(usize, u64)> {
    let mut client = MaintenanceClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut stream = client.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push((part.blob.len(), part.remaining_bytes));
    }
    parts
}

/// Full parts of one length, then the rest, then a checksum; each says how much of the file comes after it.
#[test]
fn snapshots_have_the_same_shape() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for number in 0..3 {
            play.step(large(number)).await;
        }
        for channel in servers.etcd.iter().chain(&servers.duet) {
            let parts = snapshot_parts(channel).await;
            let (checksum, file) = parts.split_last().unwrap();
            assert_eq!(*checksum, (32, 0));
            let bytes: usize = file.iter().map(|(length, _)| length).sum();
            assert!(bytes > 3 * LARGE_BYTES && bytes.is_multiple_of(512), "{bytes}");
            let mut left = u64::try_from(bytes).unwrap();
            for (number, (length, remaining)) in file.iter().enumerate() {
                left -= u64::try_from(*length).unwrap();
                assert_eq!(*remaining, left);
                assert!(*length == 32 << 10 || number + 1 == file.len(), "{length} in part {number}");
            }
        }
        play.end().await;
    });
}

#[test]
fn limits_that_were_chosen_are_refused_alike() {
    run(async {
        let lines = ["max_request_bytes = 4096", "max_txn_ops = 4"];
        let flags = ["--max-request-bytes=4096", "--max-txn-ops=4"];
        let Some(servers) = Servers::start_with(&lines, &flags).await else { return };
        let mut play = Play::begin(&servers).await;
        let sized = |bytes: usize| pb::PutRequest { value: vec![b'v'; bytes].into(), ..put("k", "") };
        for (bytes, words) in [
            (3_900, "PutResponse"),
            (4_096, "InvalidArgument \"etcdserver: request is too large\""),
            (500_000, "InvalidArgument \"etcdserver: request is too large\""),
            (4_096 + 512 * 1024 + 1, "ResourceExhausted \"grpc: received message larger than max ("),
        ] {
            play.step_says(Step::Put(sized(bytes)), words).await;
            play.step(Step::Txn(all([RequestPut(sized(bytes))]))).await;
        }
        let too_many = "InvalidArgument \"etcdserver: too many operations in txn request\"";
        let txn = |count| pb::TxnRequest { success: puts(count), ..Default::default() };
        play.step_says(Step::Txn(txn(4)), "TxnResponse").await;
        play.step_says(Step::Txn(txn(5)), too_many).await;
        play.step_says(Step::Txn(pb::TxnRequest { failure: puts(5), ..Default::default() }), too_many).await;
        // What is nested has what is left over.
        let nested = |inner| {
            let mut operations = puts(1);
            operations.push(op(RequestTxn(txn(inner))));
            Step::Txn(pb::TxnRequest { success: operations, ..Default::default() })
        };
        for inner in 0..5 {
            play.step(nested(inner)).await;
        }
        play.end().await;
    });
}

/// A watch that was created before, and then a request that is larger than any message may be.
async fn after_too_large_a_request(channel: &Channel) -> String {
    let create = |key: Bytes| pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key,
            ..Default::default()
        })),
    };
    let requests = [create(Bytes::from_static(b"k")), create(Bytes::from(vec![b'k'; 3 << 20]))];
    let mut client = WatchClient::new(channel.clone()).max_encoding_message_size(usize::MAX);
    let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut answers = match client.watch(requests).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return refusal(&status),
    };
    loop {
        match tokio::time::timeout(CALL, answers.message()).await {
            Err(_) => return "no answer".to_owned(),
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return "the end".to_owned(),
            Ok(Err(status)) => return refusal(&status),
        }
    }
}

#[test]
fn a_stream_ends_alike_with_a_message_above_the_limit() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let etcd = after_too_large_a_request(&servers.etcd[0]).await;
        assert!(etcd.starts_with("ResourceExhausted \"grpc: received message larger than max ("), "{etcd}");
        for appliance in &servers.duet {
            assert_eq!(after_too_large_a_request(appliance).await, etcd);
        }
    });
}
