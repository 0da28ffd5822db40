//! Calls of Lock, Campaign and Observe that wait while the pair changes under them.

use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::v3electionpb::election_client::ElectionClient;
use duet_etcd_api::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use duet_etcd_api::v3lockpb::lock_client::LockClient;
use duet_etcd_api::v3lockpb::{LockRequest, UnlockRequest};
use duet_protocol::ApplianceId;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use crate::harness::{A, B, PATIENCE, Pair, Witness, run};

/// Longer than any test.
const TTL: i64 = 600;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn grant(pair: &Pair, at: ApplianceId) -> i64 {
    let request = pb::LeaseGrantRequest { ttl: TTL, id: 0 };
    pair.client(at).lease().lease_grant(request).await.unwrap().into_inner().id
}

/// Locks in the background.
async fn locking(pair: &Pair, at: ApplianceId) -> JoinHandle<Result<Bytes, Status>> {
    let lease = grant(pair, at).await;
    let mut client = LockClient::new(pair.client(at).channel());
    let request = LockRequest { name: bytes("jobs"), lease };
    tokio::spawn(async move { client.lock(request).await.map(|held| held.into_inner().key) })
}

/// Stands for election in the background.
async fn campaigning(pair: &Pair, at: ApplianceId, value: &str) -> JoinHandle<Result<LeaderKey, Status>> {
    let lease = grant(pair, at).await;
    let mut client = ElectionClient::new(pair.client(at).channel());
    let request = CampaignRequest { name: bytes("boss"), lease, value: bytes(value) };
    tokio::spawn(
        async move { client.campaign(request).await.map(|elected| elected.into_inner().leader.unwrap()) },
    )
}

async fn line_has(pair: &Pair, at: ApplianceId, name: &str, places: i64) {
    let request = pb::RangeRequest {
        key: bytes(&format!("{name}/")),
        range_end: bytes(&format!("{name}0")),
        count_only: true,
        ..Default::default()
    };
    let there = async || {
        let answer = pair.client(at).kv().range(request.clone()).await.ok()?.into_inner();
        (answer.count == places).then_some(())
    };
    pair.until(&format!("{places} wait for {name}"), there).await;
}

async fn turn_of<T>(waiting: JoinHandle<Result<T, Status>>) -> T {
    let came = tokio::time::timeout(PATIENCE, waiting).await.expect("its turn comes");
    came.unwrap().expect("the call is not broken off")
}

async fn unlock(pair: &Pair, at: ApplianceId, key: Bytes) {
    LockClient::new(pair.client(at).channel()).unlock(UnlockRequest { key }).await.unwrap();
}

struct Observer {
    told: Streaming<LeaderResponse>,
}

impl Observer {
    async fn at(pair: &Pair, appliance: ApplianceId) -> Observer {
        let request = LeaderRequest { name: bytes("boss") };
        let told = ElectionClient::new(pair.client(appliance).channel()).observe(request).await.unwrap();
        Observer { told: told.into_inner() }
    }

    async fn is_told(&mut self, value: &str) {
        let told = tokio::time::timeout(PATIENCE, self.told.message()).await;
        let told = told.unwrap_or_else(|_| panic!("not told {value}")).unwrap().unwrap();
        assert_eq!(told.kv.unwrap().value, bytes(value));
    }
}

/// The role moves from one to the other, softly.
async fn switch_over(pair: &Pair, from: ApplianceId, to: ApplianceId) {
    pair.order(from, "switchover").await.unwrap();
    pair.until_primary(to).await;
    pair.until_paired().await;
}

#[test]
fn whoever_waits_for_a_lock_waits_through_handovers_and_a_crash() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let held = turn_of(locking(&pair, A).await).await;
        let mut waiting = Vec::new();
        for (number, at) in [A, B, B, B].into_iter().enumerate() {
            waiting.push(locking(&pair, at).await);
            line_has(&pair, at, "jobs", i64::try_from(number).unwrap() + 2).await;
        }
        let mut waiting = waiting.into_iter();
        switch_over(&pair, A, B).await;
        unlock(&pair, A, held).await;
        // One that waits at what is now the secondary.
        let held = turn_of(waiting.next().unwrap()).await;
        switch_over(&pair, B, A).await;
        let second = waiting.next().unwrap();
        assert!(!second.is_finished());
        unlock(&pair, B, held).await;
        let held = turn_of(second).await;
        // The primary dies while one waits at the other.
        pair.crash(A).await;
        pair.until_primary(B).await;
        let third = waiting.next().unwrap();
        assert!(!third.is_finished());
        unlock(&pair, B, held).await;
        turn_of(third).await;
        // And one that leaves now takes its key along.
        line_has(&pair, B, "jobs", 2).await;
        waiting.next().unwrap().abort();
        line_has(&pair, B, "jobs", 1).await;
    });
}

#[test]
fn candidates_and_observers_see_a_handover_and_a_crash_as_nothing() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let elections = |pair: &Pair, at| ElectionClient::new(pair.client(at).channel());
        let mut observers = [Observer::at(&pair, A).await, Observer::at(&pair, B).await];
        let first = turn_of(campaigning(&pair, A, "a1").await).await;
        for observer in &mut observers {
            observer.is_told("a1").await;
        }
        let candidate = campaigning(&pair, B, "b1").await;
        line_has(&pair, A, "boss", 2).await;
        switch_over(&pair, A, B).await;
        let proclaimed = ProclaimRequest { leader: Some(first.clone()), value: bytes("a2") };
        elections(&pair, A).proclaim(proclaimed).await.unwrap();
        for observer in &mut observers {
            observer.is_told("a2").await;
        }
        switch_over(&pair, B, A).await;
        assert!(!candidate.is_finished());
        pair.crash(A).await;
        pair.until_primary(B).await;
        let [_, mut survivor] = observers;
        elections(&pair, B).resign(ResignRequest { leader: Some(first) }).await.unwrap();
        let second = turn_of(candidate).await;
        survivor.is_told("b1").await;
        let proclaimed = ProclaimRequest { leader: Some(second), value: bytes("b2") };
        elections(&pair, B).proclaim(proclaimed).await.unwrap();
        survivor.is_told("b2").await;
    });
}

#[test]
fn a_lock_falls_when_the_lease_of_its_holder_ends() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let request = pb::LeaseGrantRequest { ttl: 2, id: 0 };
        let short = pair.client(B).lease().lease_grant(request).await.unwrap().into_inner().id;
        let request = LockRequest { name: bytes("jobs"), lease: short };
        LockClient::new(pair.client(A).channel()).lock(request).await.unwrap();
        let mut waiting = Vec::new();
        for (places, at) in [(2, A), (3, B)] {
            waiting.push(locking(&pair, at).await);
            line_has(&pair, at, "jobs", places).await;
        }
        let mut waiting = waiting.into_iter();
        let held = turn_of(waiting.next().unwrap()).await;
        let last = waiting.next().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!last.is_finished(), "two hold the lock");
        unlock(&pair, B, held).await;
        turn_of(last).await;
    });
}
