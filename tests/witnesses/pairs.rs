//! A pair lives through soft shutdowns, kills and returns with an object store or an etcd as its witness.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::Method;

use crate::component::{Component, free_port, http, installed, program};
use crate::fake::{Fake, Wrong};
use crate::harness::{A, B, Ledger, Pair, Witness, run};

/// In every credential here, and nowhere else.
const SECRET: &str = "hush-hush";

fn keys(dir: &Path) -> PathBuf {
    let file = dir.join("witness.env");
    std::fs::write(&file, format!("AWS_ACCESS_KEY_ID=duet\nAWS_SECRET_ACCESS_KEY={SECRET}\n")).unwrap();
    file
}

fn s3(pair: &Pair, port: u16) -> String {
    let keys = keys(pair.dir());
    format!(
        "s3://witnesses/site?endpoint=http://127.0.0.1:{port}&region=us-east-1&credentials={}",
        keys.display()
    )
}

/// What a pair goes through that needs its witness.
async fn lives(mut pair: Pair) {
    let mut ledger = Ledger::default();
    pair.start_new().await;
    pair.write(A, &mut ledger, 5).await;
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    let record = pair.record().await;
    assert!(record.left.get(A).is_some() || record.conf.is_solo(), "A told the witness: {record:?}");
    pair.write(B, &mut ledger, 5).await;
    pair.start_appliance(A).await;
    pair.until_in_sync().await;
    pair.crash(B).await;
    pair.until_primary(A).await;
    pair.write(A, &mut ledger, 5).await;
    pair.start_appliance(B).await;
    pair.until_in_sync().await;
    pair.crash(A).await;
    pair.crash(B).await;
    pair.start_both().await;
    let primary = pair.until_paired().await;
    pair.has_all(primary, &ledger).await;
    for appliance in [A, B] {
        let status = serde_json::to_string(&pair.status(appliance).await).unwrap();
        assert!(
            !status.contains(SECRET) && !pair.log(appliance).contains(SECRET),
            "{appliance} tells a secret"
        );
    }
}

#[test]
fn on_s3() {
    run(async {
        let Some(moto) = installed("moto/bin/moto_server") else { return };
        let port = free_port();
        let mut command = Command::new(moto);
        let _moto = Component::start(command.args(["-H", "127.0.0.1", "-p", &port.to_string()]), port).await;
        let (status, _) = http(Method::PUT, port, "/witnesses", &[], "").await;
        assert!(status.is_success(), "{status}");
        let mut pair = Pair::lay_out(Witness::Directory).await;
        let url = s3(&pair, port);
        pair.use_witness(&url);
        lives(pair).await;
    });
}

#[test]
fn on_etcd() {
    run(async {
        if program("etcd").is_none() {
            return;
        }
        let mut pair = Pair::lay_out(Witness::Directory).await;
        let (client, peer) = (free_port(), free_port());
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(pair.dir().join("etcd")).args(["--name", "m"]);
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("m={peer_url}")]);
        let _etcd = Component::start(&mut command, client).await;
        pair.use_witness(&format!("etcd://127.0.0.1:{client}/site"));
        // It listens before it has a leader.
        pair.until("etcd has a leader", async || pair.try_record().await.ok()).await;
        lives(pair).await;
    });
}

/// What the operator's page says of the cost: in steady state one read in five seconds, of the primary, and no write.
#[test]
fn in_steady_state_the_primary_looks_and_nobody_writes() {
    run(async {
        let store = Fake::start(Wrong::Nothing).await;
        let mut pair = Pair::lay_out(Witness::Directory).await;
        let url = s3(&pair, store.port);
        pair.use_witness(&url);
        pair.start_new().await;
        let settled = async || {
            let before = store.writes();
            tokio::time::sleep(Duration::from_secs(3)).await;
            (store.writes() == before).then_some(())
        };
        pair.until("nothing is written any more", settled).await;
        let (requests, writes) = (store.requests(), store.writes());
        tokio::time::sleep(Duration::from_secs(16)).await;
        let asked = store.requests() - requests;
        println!("{writes} writes until the pair stood; {asked} reads in 16 s");
        assert_eq!(store.writes(), writes, "nothing is written");
        assert!((1..=4).contains(&asked), "one read in five seconds: {asked}");
    });
}
