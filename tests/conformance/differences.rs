//! The differences that are meant, each as it is told in docs/etcd-api.md. A difference that is gone fails here.

use duet_etcd_api::etcdserverpb as pb;
use pb::compare::{CompareResult, TargetUnion};
use pb::kv_client::KvClient;
use pb::request_op::Request::RequestRange;

use crate::harness::run;
use crate::play::Play;
use crate::requests::{compare, get, op, put, watch};
use crate::servers::Servers;
use crate::step::{Step, refusal};

#[test]
fn an_unknown_comparison_result_is_refused() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(Step::Put(put("k", "v"))).await;
        let odd = pb::Compare { result: 9, ..compare("k", TargetUnion::Version(77), CompareResult::Equal) };
        let txn =
            pb::TxnRequest { compare: vec![odd], success: vec![op(RequestRange(get("k")))], failure: vec![] };
        let difference = play.step_differs(Step::Txn(txn)).await;
        assert!(difference.etcd.contains("succeeded: true"), "{difference}");
        assert!(difference.duet.starts_with("InvalidArgument \"duet: "), "{difference}");
        play.end().await;
    });
}

#[test]
fn an_unknown_sort_target_is_refused_and_ends_etcd() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let odd = pb::RangeRequest { sort_target: 9, sort_order: 1, ..get("k") };
        for appliance in &servers.duet {
            let mut client = KvClient::new(appliance.clone());
            client.put(put("k", "v")).await.unwrap();
            let status = client.range(odd.clone()).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{}", refusal(&status));
            client.range(get("k")).await.unwrap();
        }
        let mut client = KvClient::new(servers.etcd[0].clone());
        client.put(put("k", "v")).await.unwrap();
        client.range(odd).await.unwrap_err();
        let status = client.range(get("k")).await.unwrap_err();
        // Nothing listens any more, or the connection breaks while it is tried.
        let is_gone = matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown);
        assert!(is_gone, "etcd lives on: {}", refusal(&status));
    });
}

#[test]
fn older_etcds_watch_from_negative_revisions() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(Step::Watch(pb::WatchCreateRequest { start_revision: -1, ..watch("c", "") })).await;
        let (etcd, duet) = play.told();
        let refused = ["created, refused etcdserver: mvcc: required revision has been compacted".to_owned()];
        assert_eq!(duet[&-1], refused);
        // 3.4 and the first of 3.5 take it for a watch from now on.
        let taken = etcd.get(&0).is_some_and(|told| told[0] == "created ");
        assert!(taken || etcd[&-1] == refused, "{etcd:?}");
    });
}
