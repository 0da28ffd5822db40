//! The Maintenance service beside a real etcd's: alarms and what they forbid, hashes, the quota.

use duet::bench::etcd::EtcdCluster;
use duet_etcd_api::etcdserverpb as pb;
use pb::alarm_request::AlarmAction;
use tonic::Status;

use crate::harness::{A, B, PATIENCE, Pair, Witness, run};
use crate::support::client::Client;
use crate::tool::{Etcdctl, is_installed, launcher};

/// Further etcd programs to compare with, separated by colons; the one in the path always is.
const MORE_ETCDS: &str = "DUET_TEST_ETCDS";

/// The etcd programs that there are.
pub fn etcd_programs() -> Vec<String> {
    let more = std::env::var(MORE_ETCDS).unwrap_or_default();
    let all = std::iter::once("etcd").chain(more.split(':').filter(|program| !program.is_empty()));
    let is_there = |program: &&str| {
        let found = std::process::Command::new(program).arg("--version").output().is_ok();
        if !found {
            println!("not compared with \"{program}\": it is not installed");
        }
        found
    };
    all.filter(is_there).map(str::to_owned).collect()
}

/// Fresh etcds of one member each, one for each program there is.
pub async fn etcds(pair: &Pair) -> Vec<EtcdCluster> {
    let mut clusters = Vec::new();
    for (number, program) in etcd_programs().iter().enumerate() {
        let dir = pair.dir().join(format!("etcd-{number}"));
        clusters.push(EtcdCluster::start(&launcher(), program.as_ref(), &dir, 1).await.unwrap());
    }
    clusters
}

pub fn put_request(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn put_operation(key: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put_request(key, "txn"))) }
}

fn outcome<T>(result: Result<T, Status>) -> String {
    match result {
        Ok(_) => "OK".to_owned(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

async fn alarm(client: &Client, action: AlarmAction, member_id: u64, alarm: pb::AlarmType) -> String {
    let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
    match client.maintenance().alarm(request).await {
        Ok(answer) => {
            let mut alarms: Vec<_> =
                answer.into_inner().alarms.iter().map(|one| (one.alarm, one.member_id)).collect();
            alarms.sort_unstable();
            let alarms: Vec<String> =
                alarms.iter().map(|(kind, member)| format!("{kind} of {member}")).collect();
            alarms.join(", ")
        }
        Err(status) => outcome::<()>(Err(status)),
    }
}

/// What every request is answered with.
async fn try_everything(client: &Client, seen: &mut Vec<String>) {
    let mut tell = |what: &str, outcome: String| seen.push(format!("{what}: {outcome}"));
    tell("put", outcome(client.kv().put(put_request("k", "v")).await));
    tell("range", outcome(client.get("k").await));
    let none = pb::TxnRequest::default();
    tell("txn without operations", outcome(client.kv().txn(none).await));
    let other_branch = pb::TxnRequest { failure: vec![put_operation("t")], ..Default::default() };
    tell("txn with a put in the other branch", outcome(client.kv().txn(other_branch).await));
    let delete = pb::DeleteRangeRequest { key: "none".into(), ..Default::default() };
    let operation = pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) };
    let txn = pb::TxnRequest { success: vec![operation], ..Default::default() };
    tell("txn with a delete", outcome(client.kv().txn(txn).await));
    tell("delete", outcome(client.delete("k").await));
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 99 };
    tell("grant", outcome(client.lease().lease_grant(grant).await));
    tell("revoke", outcome(client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 99 }).await));
    let compact = pb::CompactionRequest { revision: 1 << 40, physical: false };
    tell("compact", outcome(client.kv().compact(compact).await));
}

/// Without the reason, which etcd gives only since 3.5.
async fn health(url: &str, query: &str) -> String {
    let told = match duet::http::get(url, &format!("/health{query}"), PATIENCE).await {
        Ok(answer) => String::from_utf8(answer.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    };
    match told.split_once(",\"reason\":") {
        Some((health, rest)) => format!("{health}{}", rest.trim_start_matches(|c| c != '}')),
        None => told,
    }
}

/// What the server itself says that is wrong, once it knows of so many alarms: a secondary learns of them a moment later.
async fn errors(client: &Client, alarms: usize) -> Vec<String> {
    let start = std::time::Instant::now();
    loop {
        let status = client.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
        if status.errors.len() == alarms {
            return status.errors;
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", status.errors);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Raises and ends alarms; what can be seen of that.
async fn play_alarms(url: &str) -> Vec<String> {
    use AlarmAction::{Activate, Deactivate, Get};
    use pb::AlarmType::{Corrupt, None, Nospace};
    let client = Client::new(url);
    client.put("k", "v").await.unwrap();
    let me = client.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    let me = me.header.unwrap().member_id;
    let mut seen = Vec::new();
    for (action, member, kind) in [
        (Get, 0, None),
        (Deactivate, me, Nospace),
        (Activate, me, Nospace),
        (Activate, me, Nospace),
        (Activate, 77, Nospace),
        (Get, 77, None),
        (Get, 0, Corrupt),
    ] {
        seen.push(format!("{action:?} {kind:?}: {}", alarm(&client, action, member, kind).await));
    }
    let both = errors(&client, 2).await;
    let mut both: Vec<String> = both.iter().map(|error| error.replace(&me.to_string(), "ME")).collect();
    // The names of members are drawn by chance, and so is their order.
    both.sort();
    seen.push(format!("{both:?}"));
    // Not "?exclude=NOSPACE": older etcds exclude one alarm of a kind only.
    for query in ["", "?exclude=CORRUPT"] {
        seen.push(format!("/health{query}: {}", health(url, query).await.trim()));
    }
    try_everything(&client, &mut seen).await;
    for (action, member, kind) in [
        (Deactivate, me, None),
        (Deactivate, me, Nospace),
        (Deactivate, 77, Nospace),
        (Activate, me, Corrupt),
    ] {
        seen.push(format!("{action:?} {kind:?}: {}", alarm(&client, action, member, kind).await));
    }
    errors(&client, 1).await;
    seen.push(format!("/health: {}", health(url, "").await.trim()));
    try_everything(&client, &mut seen).await;
    seen.push(alarm(&client, Deactivate, me, Corrupt).await);
    try_everything(&client, &mut seen).await;
    seen.iter().map(|line| line.replace(&me.to_string(), "ME")).collect()
}

#[test]
fn alarms_are_etcds() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let at_primary = play_alarms(&pair.client_url(A)).await;
        let at_secondary = play_alarms(&pair.client_url(B)).await;
        assert_eq!(at_primary, at_secondary, "passed on");
        let refusal = "put: ResourceExhausted etcdserver: mvcc: database space exceeded".to_owned();
        assert!(at_primary.contains(&refusal), "{at_primary:#?}");
        for etcd in etcds(&pair).await {
            let theirs = play_alarms(&etcd.urls()[0]).await;
            assert_eq!(at_primary, theirs);
        }
    });
}

/// A history with everything that a hash has to see, with leases whose ids are chosen here.
pub async fn write_history(client: &Client, other_lease: i64) {
    client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 3600, id: 4711 }).await.unwrap();
    client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 3600, id: other_lease }).await.unwrap();
    for round in 0..30 {
        for key in ["a", "b", "c", "d"] {
            client.put(&format!("{key}{}", round % 7), &format!("value {round}")).await.unwrap();
        }
        if round % 3 == 0 {
            client.delete(&format!("b{}", round % 7)).await.unwrap();
        }
        let lease = if round % 2 == 0 { 4711 } else { other_lease };
        client.kv().put(pb::PutRequest { lease, ..put_request(&format!("l{round}"), "") }).await.unwrap();
        let delete = pb::DeleteRangeRequest { key: "c".into(), range_end: "d".into(), ..Default::default() };
        let delete = pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) };
        let txn = pb::TxnRequest {
            success: vec![put_operation("t1"), delete, put_operation("t2")],
            ..Default::default()
        };
        client.kv().txn(txn).await.unwrap();
    }
    client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 4711 }).await.unwrap();
}

pub async fn hash(client: &Client, revision: i64) -> String {
    match client.maintenance().hash_kv(pb::HashKvRequest { revision }).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            format!("{revision}: {:08x} from {}", answer.hash, answer.compact_revision)
        }
        Err(status) => format!("{revision}: {}", outcome::<()>(Err(status))),
    }
}

/// Hashes in the middle of a history, after compactions, and when nothing is left.
async fn play_hashes(url: &str) -> Vec<String> {
    let client = Client::new(url);
    write_history(&client, -1).await;
    let mut seen = Vec::new();
    let last = client.put("a0", "last").await.unwrap();
    for revision in [0, 1, 2, 17, 100, last - 1, last, last + 1] {
        seen.push(hash(&client, revision).await);
    }
    for compacted in [100, 101, 103, 150, last - 1, last] {
        client.kv().compact(pb::CompactionRequest { revision: compacted, physical: true }).await.unwrap();
        // At the compacted revision itself etcd refuses up to 3.5.4 and answers since then.
        let revisions = [0, compacted - 1, compacted + 1, compacted + 3, last];
        for revision in revisions.into_iter().filter(|revision| *revision != compacted) {
            seen.push(hash(&client, revision).await);
        }
    }
    let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let deleted = client.kv().delete_range(all).await.unwrap().into_inner().header.unwrap().revision;
    seen.push(hash(&client, 0).await);
    client.kv().compact(pb::CompactionRequest { revision: deleted, physical: true }).await.unwrap();
    seen.push(hash(&client, 0).await);
    seen
}

#[test]
fn hashes_of_the_history_are_etcds() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let ours = play_hashes(&pair.client_url(A)).await;
        let [at_a, at_b] = [A, B].map(|appliance| pair.client(appliance));
        let whole = async |client: &Client| {
            let answer = client.maintenance().hash(pb::HashRequest {}).await.unwrap().into_inner();
            (answer.header.unwrap().revision, answer.hash, hash(client, 0).await)
        };
        let (at_a, start) = (whole(at_a).await, std::time::Instant::now());
        // The secondary applies the last write a moment later.
        while whole(at_b).await != at_a {
            assert!(start.elapsed() < PATIENCE, "both have the same: {at_a:?}, {:?}", whole(at_b).await);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for etcd in etcds(&pair).await {
            assert_eq!(ours, play_hashes(&etcd.urls()[0]).await);
        }
    });
}

#[test]
fn a_full_store_is_emptied_and_goes_on() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("quota_backend_bytes = 200000");
        pair.start_new().await;
        let both = Etcdctl::at_both(&pair);
        let value = "x".repeat(10_000);
        let mut taken = 0;
        let refused = loop {
            let said = both.run(&["put", &format!("k{taken}"), &value]).await;
            if said.code != 0 {
                break said;
            }
            taken += 1;
        };
        assert!(refused.error().contains("etcdserver: mvcc: database space exceeded"));
        assert!((17..20).contains(&taken), "{taken} values of 10 kB in 200 kB");
        for appliance in [A, B] {
            let at = Etcdctl::new(&[pair.client_url(appliance)]);
            let alarms = at.run(&["alarm", "list"]).await.ok();
            assert!(alarms.contains("alarm:NOSPACE") && alarms.lines().count() == 1, "{alarms}");
            let told = duet::http::get(&pair.client_url(appliance), "/health", PATIENCE).await.unwrap_err();
            assert_eq!(told.to_string(), "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"} (HTTP 503)");
            duet::http::get(&pair.client_url(appliance), "/health?exclude=NOSPACE", PATIENCE).await.unwrap();
            at.run(&["put", "small", "1"]).await.error();
            assert_eq!(at.run(&["get", "k0", "--print-value-only"]).await.ok().trim(), value);
        }
        // The alarm is of the pair, not of the primary.
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        both.run(&["put", "small", "1"]).await.error();
        both.run(&["del", "k", "--prefix"]).await.ok();
        let revision = pair.client(B).put("none", "1").await.unwrap_err();
        assert_eq!(revision.code(), tonic::Code::ResourceExhausted);
        let now = pair.client(B).maintenance().hash_kv(pb::HashKvRequest::default()).await.unwrap();
        let now = now.into_inner().header.unwrap().revision;
        both.run(&["compact", &now.to_string()]).await.ok();
        both.run(&["defrag"]).await.ok();
        // Space is free as soon as a checkpoint has removed what was compacted.
        let start = std::time::Instant::now();
        loop {
            both.run(&["alarm", "disarm"]).await.ok();
            let said = both.run(&["put", "k0", &value]).await;
            if said.code == 0 {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{said:?}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert_eq!(both.run(&["alarm", "list"]).await.ok(), "");
    });
}
