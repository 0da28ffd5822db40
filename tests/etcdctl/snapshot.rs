//! `etcdctl snapshot`: what it saves from a pair, a real etcd is restored from, and serves the same. Moving a site to an
//! etcd is just that.

use std::path::{Path, PathBuf};
use std::process::Command;

use duet::bench::etcd::EtcdCluster;
use duet_etcd_api::etcdserverpb as pb;
use serde_json::Value;
use tonic::Code;

use crate::harness::{A, B, Pair, Witness, run};
use crate::maintenance::{etcd_programs, hash, put_request, write_history};
use crate::support::client::Client;
use crate::tool::{Etcdctl, is_installed, launcher};

/// Everything that can be seen of a store.
async fn everything(client: &Client) -> Vec<String> {
    let all = |revision| pb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        revision,
        ..Default::default()
    };
    let now = client.kv().range(all(0)).await.unwrap().into_inner().header.unwrap().revision;
    let mut seen = vec![format!("revision {now}")];
    for revision in [1, now / 2 - 1, now / 2, now / 2 + 1, now - 1, now] {
        seen.push(match client.kv().range(all(revision)).await {
            Ok(answer) => format!("{revision}: {:?}", answer.into_inner().kvs),
            Err(status) => format!("{revision}: {}", status.message()),
        });
    }
    let leases = client.lease().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    let mut ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    for id in ids {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let lease = client.lease().lease_time_to_live(request).await.unwrap().into_inner();
        let mut keys = lease.keys;
        keys.sort();
        seen.push(format!("lease {id} of {} s: {keys:?}", lease.granted_ttl));
    }
    for revision in [now / 2 + 1, now] {
        seen.push(hash(client, revision).await);
    }
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    seen.push(format!("{alarms:?}"));
    seen
}

/// The tools of one etcd: server and client.
struct Tools {
    etcd: PathBuf,
    etcdctl: PathBuf,
}

impl Tools {
    fn all() -> Vec<Self> {
        let programs = etcd_programs().into_iter().map(PathBuf::from);
        programs.map(|etcd| Self { etcdctl: etcd.with_file_name("etcdctl"), etcd }).collect()
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(&self.etcdctl).env("ETCDCTL_API", "3").args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// A server with what is in the file.
    async fn restore(&self, file: &Path, dir: &Path) -> EtcdCluster {
        std::fs::create_dir_all(dir).unwrap();
        let data = dir.join("m0");
        self.run(&[
            "snapshot",
            "restore",
            file.to_str().unwrap(),
            "--name",
            "m0",
            "--data-dir",
            data.to_str().unwrap(),
            "--initial-cluster",
            "m0=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:2380",
        ]);
        EtcdCluster::start(&launcher(), &self.etcd, dir, 1).await.unwrap()
    }
}

/// A history, then many keys, large ones too, and a compaction in the middle whose removal may be under way.
async fn fill(client: &Client) {
    // etcd itself loses leases with negative ids when it starts.
    write_history(client, 4712).await;
    for number in 0..300 {
        client.put(&format!("many/{number:04}"), &"v".repeat(number * 40)).await.unwrap();
    }
    let large = pb::PutRequest { value: vec![0xa5; 1_400_000].into(), ..put_request("large", "") };
    for _ in 0..2 {
        client.kv().put(large.clone()).await.unwrap();
    }
    client.delete("many/0007").await.unwrap();
    let now = client.put("last", "1").await.unwrap();
    let compact = pb::CompactionRequest { revision: now / 2, physical: false };
    client.kv().compact(compact).await.unwrap();
}

#[test]
fn an_etcd_restored_from_a_snapshot_serves_the_same() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        fill(pair.client(A)).await;
        let expected = everything(pair.client(A)).await;
        for (appliance, name) in [(A, "a.db"), (B, "b.db")] {
            let file = pair.dir().join(name);
            let at = Etcdctl::new(&[pair.client_url(appliance)]);
            at.run(&["snapshot", "save", file.to_str().unwrap()]).await.ok();
            assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32, "pages and a checksum");
        }
        let file = pair.dir().join("b.db");
        for (number, tools) in Tools::all().iter().enumerate() {
            let status = tools.run(&["snapshot", "status", file.to_str().unwrap(), "-w", "json"]);
            let status: Value = serde_json::from_str(&status).unwrap();
            assert_eq!(format!("revision {}", status["revision"]), expected[0]);
            let etcd = tools.restore(&file, &pair.dir().join(format!("restored-{number}"))).await;
            let client = Client::new(&etcd.urls()[0]);
            let found = everything(&client).await;
            for (found, expected) in found.iter().zip(&expected) {
                assert!(found == expected, "{found:.2000}\n{expected:.2000}");
            }
            assert_eq!(found.len(), expected.len());
            let next = client.put("after", "1").await.unwrap();
            assert_eq!(format!("revision {}", next - 1), expected[0], "and goes on from there");
        }
    });
}

/// What users and roles look like to root.
async fn users_and_roles(etcdctl: &Etcdctl) -> Vec<String> {
    let mut seen = Vec::new();
    for command in [
        &["user", "list"][..],
        &["role", "list"],
        &["user", "get", "ann"],
        &["user", "get", "root"],
        &["role", "get", "staff"],
        &["role", "get", "root"],
    ] {
        seen.push(etcdctl.run(command).await.ok());
    }
    seen
}

#[test]
fn users_move_to_an_etcd_and_log_in_there() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let at_b = Etcdctl::new(&[pair.client_url(B)]);
        for command in [
            &["user", "add", "root:secret"][..],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "ann:password"],
            &["user", "add", "--no-password", "cert"],
            &["role", "add", "staff"],
            &["role", "grant-permission", "staff", "readwrite", "k/", "--prefix"],
            &["role", "grant-permission", "staff", "read", "r"],
            &["role", "grant-permission", "staff", "write", "x", "--from-key"],
            &["user", "grant-role", "ann", "staff"],
            &["put", "k/1", "before"],
            &["put", "elsewhere", "before"],
            &["auth", "enable"],
        ] {
            at_b.run(command).await.ok();
        }
        let expected = users_and_roles(&at_b.by("root:secret")).await;
        let file = pair.dir().join("users.db");
        at_b.by("root:secret").run(&["snapshot", "save", file.to_str().unwrap()]).await.ok();
        for (number, tools) in Tools::all().iter().enumerate() {
            let etcd = tools.restore(&file, &pair.dir().join(format!("restored-{number}"))).await;
            let there = Etcdctl::new(etcd.urls());
            assert_eq!(users_and_roles(&there.by("root:secret")).await, expected);
            let ann = there.by("ann:password");
            assert_eq!(ann.run(&["get", "k/1", "--print-value-only"]).await.ok(), "before\n");
            ann.run(&["put", "k/2", "after"]).await.ok();
            ann.run(&["put", "y", "from x on"]).await.ok();
            for (who, command, refusal) in [
                (&ann, &["get", "elsewhere"][..], "permission denied"),
                (&ann, &["put", "r", "only read"], "permission denied"),
                (&there, &["get", "k/1"], "user name is empty"),
                (&there.by("ann:wrong"), &["get", "k/1"], "invalid user ID or password"),
                (&there.by("cert:any"), &["get", "k/1"], "authentication failed"),
            ] {
                let refused = who.run(command).await.error();
                assert!(refused.contains(refusal), "{command:?}: {refused}");
            }
        }
    });
}

#[test]
fn a_snapshot_is_of_one_moment_and_writes_go_on() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let client = Client::new(&pair.client_url(A));
        for number in 0..200 {
            let request =
                pb::PutRequest { value: vec![7; 100_000].into(), ..put_request(&format!("k{number}"), "") };
            client.kv().put(request).await.unwrap();
        }
        // Each write sets two keys to the same number.
        let writer = tokio::spawn(async move {
            for number in 0.. {
                let set = |key| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(put_request(
                        key,
                        &format!("{number}"),
                    ))),
                };
                let txn = pb::TxnRequest { success: vec![set("left"), set("right")], ..Default::default() };
                client.kv().txn(txn).await.unwrap();
            }
        });
        let file = pair.dir().join("moment.db");
        let before = pair.client(A).get("left").await.unwrap();
        Etcdctl::new(&[pair.client_url(A)]).run(&["snapshot", "save", file.to_str().unwrap()]).await.ok();
        let after: u64 = pair.client(A).get("left").await.unwrap().unwrap().parse().unwrap();
        writer.abort();
        assert_ne!(before, Some(after.to_string()), "writes went on");
        if let Some(tools) = Tools::all().first() {
            let etcd = tools.restore(&file, &pair.dir().join("restored")).await;
            let restored = Client::new(&etcd.urls()[0]);
            let (left, right) = (restored.get("left").await.unwrap(), restored.get("right").await.unwrap());
            assert_eq!(left, right);
            assert!(left.is_some_and(|left| left.parse::<u64>().unwrap() <= after));
        }
    });
}

#[test]
fn snapshots_that_nobody_reads_are_bounded() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let client = pair.client(A);
        for number in 0..20 {
            let request =
                pb::PutRequest { value: vec![7; 1 << 20].into(), ..put_request(&format!("k{number}"), "") };
            client.kv().put(request).await.unwrap();
        }
        let take = async || {
            let mut stream =
                pair.client(A).maintenance().snapshot(pb::SnapshotRequest {}).await?.into_inner();
            let first = stream.message().await?.unwrap();
            Ok::<_, tonic::Status>((stream, first))
        };
        let (mut held, first) = take().await.unwrap();
        let _also_held = take().await.unwrap();
        assert_eq!(take().await.unwrap_err().code(), Code::ResourceExhausted);
        let (mut left, mut total) = (first.remaining_bytes, first.blob.len() as u64 + first.remaining_bytes);
        let mut last = first;
        while let Some(message) = held.message().await.unwrap() {
            assert!(message.blob.len() <= 32 << 10);
            if message.blob.len() == 32 && message.remaining_bytes == 0 && left == 0 {
                total += 32;
            } else {
                assert_eq!(message.remaining_bytes + message.blob.len() as u64, left);
            }
            left = message.remaining_bytes;
            last = message;
        }
        assert_eq!((left, total % 512, last.blob.len()), (0, 32, 32));
        take().await.unwrap();
    });
}
