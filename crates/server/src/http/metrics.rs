//! `/metrics`: one page in Prometheus' text form.
//!
//! Names are etcd's where they mean the same, so that its dashboards and alarms work; what only a pair has begins with
//! `duet_`. What is not known is left out.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use duet_protocol::RoleName;
use tokio::time::timeout;

use crate::grpc::{Api, ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::metrics::process;
use crate::metrics::text::{CONTENT_TYPE, Page};
use crate::status_report::StatusReport;

/// How long the machine room may take to report; it answers between two steps.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// What stands for no quota: etcd tells the negative number that turned it off.
const NO_QUOTA: &str = "-1";

/// The route. As at etcd every method will do.
pub(crate) fn routes(api: Api) -> Router {
    Router::new().route("/metrics", any(page)).with_state(api)
}

async fn page(State(api): State<Api>) -> Response {
    let report = timeout(STATUS_TIMEOUT, api.handle().status()).await;
    let mut page = Page::default();
    server(&mut page, &api);
    if let Ok(Ok(report)) = report {
        positions(&mut page, &api, &report);
        pair(&mut page, &api, &report);
    }
    data(&mut page, &api);
    disk(&mut page, &api);
    calls(&mut page, &api);
    process::describe(&mut page);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.finish()).into_response()
}

fn server(page: &mut Page, api: &Api) {
    let (has_leader, is_leader, id, promotions) = {
        let view = api.view();
        (view.has_primary(), view.is_primary, view.my_member_id, view.promotions)
    };
    let metrics = api.handle().metrics();
    page.gauge("etcd_server_has_leader", "Whether anybody is known to be primary.", u8::from(has_leader));
    page.gauge("etcd_server_is_leader", "Whether this appliance is primary.", u8::from(is_leader));
    page.gauge("etcd_server_is_learner", "Always 0: both appliances are full members.", 0);
    let changes = metrics.primary_changes.get();
    page.counter("etcd_server_leader_changes_seen_total", "Changes of the primary seen.", changes);
    page.counter("duet_promotions_total", "How often this appliance became primary.", promotions);
    let id = format!("{id:x}");
    page.info("etcd_server_id", "This appliance in etcd's terms.", ("server_id", &id));
    page.info("etcd_server_version", "Version of the API.", ("server_version", ETCD_VERSION));
    let major_minor = ETCD_CLUSTER_VERSION.rsplit_once('.').map_or(ETCD_CLUSTER_VERSION, |(text, _)| text);
    page.info("etcd_cluster_version", "Version of the API, in short.", ("cluster_version", major_minor));
    page.info("duet_version", "Version of the program.", ("version", env!("CARGO_PKG_VERSION")));
    let failed = metrics.failed_writes.get();
    page.counter(
        "etcd_server_proposals_failed_total",
        "Writes refused by the machine room, or of unknown outcome.",
        failed,
    );
    page.gauge(
        "etcd_server_proposals_pending",
        "Writes that wait for their commit.",
        api.handle().pending_writes(),
    );
}

fn positions(page: &mut Page, api: &Api, report: &StatusReport) {
    page.gauge(
        "etcd_server_proposals_committed_total",
        "LSN that is known to be committed.",
        report.committed,
    );
    page.gauge("etcd_server_proposals_applied_total", "LSN that is applied.", report.applied);
    page.gauge("duet_lsn", "Last LSN in the log here.", report.lsn);
    page.gauge("duet_flushed_lsn", "LSN up to which the log is durable here.", report.flushed);
    page.gauge("duet_epoch", "Number of the configuration in force.", api.view().epoch.0);
    let lines = [
        ("duet_peer_lsn", "Last LSN of the peer, as far as known.", report.peer.lsn),
        ("duet_replication_lag", "Entries that the secondary lacks, as far as known.", report.peer.lag),
    ];
    for (name, help, value) in lines {
        if let Some(value) = value {
            page.gauge(name, help, value);
        }
    }
}

fn pair(page: &mut Page, api: &Api, report: &StatusReport) {
    const ROLES: [RoleName; 6] = [
        RoleName::Starting,
        RoleName::Secondary,
        RoleName::Elect,
        RoleName::Primary,
        RoleName::Offering,
        RoleName::Stopped,
    ];
    page.family("duet_role", "gauge", "1 for what this appliance is doing.");
    for role in ROLES.map(RoleName::as_str) {
        page.sample("duet_role", &[("role", role)], u8::from(report.role == role));
    }
    let members = report.conf.as_ref().map_or(0, |conf| conf.in_sync.len());
    page.gauge("duet_in_sync_members", "Appliances in the set that is in sync.", members);
    let flags = [
        ("duet_serving", "Whether writes and linearizable reads are answered from here.", report.serving),
        ("duet_peer_connected", "Whether there is a connection to the peer.", report.peer.connected),
        ("duet_peer_copying", "Whether the peer receives a full copy from here.", report.peer.copying),
        (
            "duet_witness_reachable",
            "Whether the witness answered the last request.",
            report.witness.reachable,
        ),
        ("duet_leaving", "Whether a soft shutdown is under way.", report.leaving),
        ("duet_damaged", "Whether the disk is known to have lost writes.", report.damaged),
    ];
    for (name, help, value) in flags {
        page.gauge(name, help, u8::from(value));
    }
    let left = match api.handle().read_permit_left() {
        Some(Duration::MAX) => "+Inf".to_owned(),
        Some(left) => left.as_secs_f64().to_string(),
        None => "0".to_owned(),
    };
    page.gauge(
        "duet_read_permit_seconds",
        "For how long reads may be answered from here without news.",
        left,
    );
}

fn data(page: &mut Page, api: &Api) {
    let (revision, compacted, statistics, leases) = {
        let store = api.handle().store().read();
        (store.revision(), store.compacted_revision(), store.statistics(), store.leases().len())
    };
    let space = api.handle().space();
    page.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the state on disk.", space.on_disk());
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Content of the state, which the quota bounds.",
        space.used(),
    );
    let quota = space.quota().map_or(NO_QUOTA.to_owned(), |quota| quota.to_string());
    page.gauge("etcd_server_quota_backend_bytes", "Largest content of the state; below 0: any.", quota);
    page.gauge("etcd_debugging_mvcc_current_revision", "Revision of the data.", revision);
    page.gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction.", compacted);
    page.gauge("duet_index_keys", "Keys, with those deleted and not yet compacted.", statistics.index_keys);
    page.gauge("duet_leases", "Leases in force.", leases);
    page.gauge(
        "duet_unsaved_bytes",
        "Memory of changes that no checkpoint holds yet.",
        statistics.pending_bytes,
    );
    let load = api.hub().load();
    page.gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches.", load.streams);
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watches.", load.watches);
    page.gauge("duet_watch_streams_behind", "Streams that have not yet taken what there is.", load.behind);
}

fn disk(page: &mut Page, api: &Api) {
    let metrics = api.handle().metrics();
    page.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "Time to make the end of the log durable.",
        &metrics.log_sync,
    );
    page.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "Time to write a checkpoint to the state store.",
        &metrics.checkpoint,
    );
    page.gauge("duet_log_bytes", "Size of the log on disk.", metrics.log_bytes.get());
}

fn calls(page: &mut Page, api: &Api) {
    let calls = &api.handle().metrics().calls;
    let (received, sent) = (calls.received_bytes.get(), calls.sent_bytes.get());
    page.counter("etcd_network_client_grpc_received_bytes_total", "Bytes of clients' calls.", received);
    page.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of answers to clients.", sent);
    page.family("grpc_server_started_total", "counter", "Calls that began.");
    for method in calls.methods() {
        let labels =
            [("grpc_method", method.method), ("grpc_service", method.service), ("grpc_type", method.kind)];
        page.sample("grpc_server_started_total", &labels, method.started.get());
    }
    page.family("grpc_server_handled_total", "counter", "Calls that ended, by code; other codes never came.");
    for method in calls.methods() {
        for (code, count) in method.handled().filter(|(code, count)| *count > 0 || *code == "OK") {
            let labels = [
                ("grpc_code", code),
                ("grpc_method", method.method),
                ("grpc_service", method.service),
                ("grpc_type", method.kind),
            ];
            page.sample("grpc_server_handled_total", &labels, count);
        }
    }
}
