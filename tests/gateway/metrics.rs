//! The page of metrics tells what has happened.

use std::collections::BTreeMap;

use duet_etcd_api::etcdserverpb::StatusRequest;

use crate::harness::{A, B, Pair, Witness, run};
use crate::http_client::{Lines, get, post};

/// Samples by name with labels.
async fn page(url: &str) -> BTreeMap<String, f64> {
    let answer = get(url, "/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let mut described = std::collections::BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in answer.body.lines() {
        if let Some(described_line) = line.strip_prefix("# TYPE ") {
            let name = described_line.split(' ').next().unwrap();
            assert!(described.insert(name.to_owned()), "{name} comes once");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
            assert!(
                described.contains(family) || bare.is_some_and(|bare| described.contains(bare)),
                "{line}"
            );
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} comes once");
        }
    }
    samples
}

fn put_labels(code: &str) -> String {
    let service = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    format!(r#"grpc_server_handled_total{{grpc_code="{code}",{service}}}"#)
}

#[test]
fn what_happens_is_counted() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let urls = [A, B].map(|appliance| pair.client_url(appliance));
        let before = page(&urls[0]).await;
        let client = pair.client(A);
        for value in 0..20 {
            client.put("key", &value.to_string()).await.unwrap();
        }
        client.put("", "").await.unwrap_err();
        assert_eq!(post(&urls[0], "/v3/kv/put", r#"{"key":"aw=="}"#).await.status, 200);
        let watch =
            r#"{"create_request":{"key":"aw=="}}{"create_request":{"key":"AA==","range_end":"AA=="}}"#;
        let mut lines = Lines::post(&urls[0], "/v3/watch", watch).await.unwrap();
        lines.next().await.unwrap();
        lines.next().await.unwrap();
        let after = page(&urls[0]).await;
        let grown = |name: &str| after[name] - before.get(name).copied().unwrap_or_default();
        assert!((grown(&put_labels("OK")) - 21.0).abs() < 0.5, "20 over gRPC and one over the gateway");
        assert!((grown(&put_labels("InvalidArgument")) - 1.0).abs() < 0.5);
        for (name, at_least) in [
            ("etcd_network_client_grpc_received_bytes_total", 21.0 * 10.0),
            ("etcd_network_client_grpc_sent_bytes_total", 21.0 * 10.0),
            ("etcd_server_proposals_committed_total", 21.0),
            ("etcd_server_proposals_applied_total", 20.0),
            ("etcd_debugging_mvcc_current_revision", 21.0),
            ("etcd_disk_wal_fsync_duration_seconds_count", 20.0),
            ("etcd_debugging_mvcc_watcher_total", 2.0),
            ("etcd_debugging_mvcc_watch_stream_total", 1.0),
        ] {
            assert!(grown(name) >= at_least, "{name}: {} and {}", before[name], after[name]);
        }
        for (name, value) in [
            ("etcd_server_has_leader", 1.0),
            ("etcd_server_is_leader", 1.0),
            ("etcd_server_leader_changes_seen_total", 1.0),
            ("etcd_server_proposals_pending", 0.0),
            ("etcd_server_proposals_failed_total", 0.0),
            ("duet_role{role=\"primary\"}", 1.0),
            ("duet_role{role=\"secondary\"}", 0.0),
            ("duet_in_sync_members", 2.0),
            ("duet_peer_connected", 1.0),
            ("duet_witness_reachable", 1.0),
            ("duet_serving", 1.0),
            ("duet_replication_lag", 0.0),
            ("etcd_cluster_version{cluster_version=\"3.5\"}", 1.0),
        ] {
            assert!((after[name] - value).abs() < 1e-9, "{name} is {}", after[name]);
        }
        assert!(after["duet_log_bytes"] > 0.0 && after["process_resident_memory_bytes"] > 1e6);
        assert!(after["duet_read_permit_seconds"] > 0.0);

        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        pair.until_in_sync().await;
        let [at_a, at_b] = [page(&urls[0]).await, page(&urls[1]).await];
        assert!((at_a["etcd_server_leader_changes_seen_total"] - 2.0).abs() < 0.5);
        assert!((at_a["duet_role{role=\"secondary\"}"] - 1.0).abs() < 0.5);
        assert!((at_b["etcd_server_is_leader"] - 1.0).abs() < 0.5);
        assert!((at_b["duet_promotions_total"] - 1.0).abs() < 0.5);
        assert!((at_a["duet_epoch"] - at_b["duet_epoch"]).abs() < 0.5);
        assert!(at_a["duet_epoch"] > after["duet_epoch"]);
    });
}

/// Sizes are those of `Status`, which a checkpoint between two looks changes: what was the same before and after counts.
#[test]
fn sizes_are_told_as_in_status() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("quota_backend_bytes = 123456789");
        pair.start_new().await;
        for value in 0..50 {
            pair.client(A).put(&format!("key {value}"), &"v".repeat(10_000)).await.unwrap();
        }
        for appliance in [A, B] {
            let sizes = async || {
                let status = pair.client(appliance).maintenance().status(StatusRequest {}).await.unwrap();
                let status = status.into_inner();
                (status.db_size, status.db_size_in_use)
            };
            let equal = async || {
                let before = sizes().await;
                let page = page(&pair.client_url(appliance)).await;
                let told = |name: &str| format!("{}", page[&format!("etcd_mvcc_db_total_size_{name}")]);
                let same = told("in_bytes") == before.0.to_string()
                    && told("in_use_in_bytes") == before.1.to_string();
                assert_eq!(page["etcd_server_quota_backend_bytes"].to_string(), "123456789");
                (same && before.1 >= 500_000 && sizes().await == before).then_some(before)
            };
            let (on_disk, in_use) = pair.until("sizes are equal", equal).await;
            assert!(on_disk >= in_use, "{in_use} of {on_disk}");
        }
    });
}

#[test]
fn without_a_quota_the_gauge_is_negative() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("quota_backend_bytes = -1");
        pair.init(A).await;
        pair.start_appliance(A).await;
        pair.until_primary(A).await;
        assert_eq!(page(&pair.client_url(A)).await["etcd_server_quota_backend_bytes"].to_string(), "-1");
    });
}
