//! Everything beside keys, leases and watches: limits on messages, cluster and maintenance calls, locks and elections,
//! and calls that no service has.

use std::collections::BTreeSet;

use bytes::Bytes;
use duet_etcd_api::codec::EtcdCodec;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::healthpb::HealthCheckRequest;
use duet_etcd_api::healthpb::health_client::HealthClient;
use duet_etcd_api::v3electionpb as election;
use duet_etcd_api::v3lockpb::lock_client::LockClient;
use duet_etcd_api::v3lockpb::{LockRequest, UnlockRequest};
use election::election_client::ElectionClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::harness::run;
use crate::requests::{bytes, put, range};
use crate::servers::{CALL, Servers};
use crate::step::{Step, in_short, refusal};

/// The same words from etcd and from both appliances.
async fn same(servers: &Servers, what: &str, call: impl AsyncFn(Channel) -> String) -> String {
    let call = async |channel: &Channel| {
        tokio::time::timeout(CALL, call(channel.clone())).await.unwrap_or_else(|_| "no answer".to_owned())
    };
    let etcd = call(&servers.etcd[0]).await;
    for appliance in &servers.duet {
        let duet = call(appliance).await;
        if etcd == "no answer" && SILENT.contains(&what) {
            println!("{what}: no answer from etcd, {duet} from Duet");
            continue;
        }
        assert_eq!(duet, etcd, "{what}");
    }
    etcd
}

/// What etcd sometimes (3.5.1: always) asks itself about for ever, while it takes another member for the leader.
const SILENT: [&str; 2] = ["promoting a stranger", "new addresses of a stranger"];

/// How a call ended, in words.
fn ended<T>(answer: Result<T, Status>) -> String {
    answer.err().map_or("done".to_owned(), |status| refusal(&status))
}

#[test]
fn requests_above_the_limits_are_refused_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let limit = 1_572_864;
        for (size, words) in [
            (limit - 512, "done"),
            (limit, "InvalidArgument \"etcdserver: request is too large\""),
            (limit + 1000, "request is too large"),
            (2_097_152 - 100, "request is too large"),
            (2_097_152 + 100, "ResourceExhausted \"grpc: received message larger than max ("),
        ] {
            let value = Bytes::from(vec![0; size]);
            let what = format!("a value of {size} bytes");
            let said = same(&servers, &what, async |channel| {
                let request = pb::PutRequest { value: value.clone(), ..put("s", "") };
                ended(KvClient::new(channel).put(request).await)
            })
            .await;
            assert!(said.contains(words), "{size}: {said}");
        }
    });
}

#[test]
fn calls_that_no_service_has_are_refused_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        for path in ["/etcdserverpb.KV/Nope", "/nope.Svc/Nope", "/v3lockpb.Lock/Nope", "/etcdserverpb.KV/put"]
        {
            same(&servers, path, async |channel| {
                let mut client = tonic::client::Grpc::new(channel);
                client.ready().await.unwrap();
                let codec = EtcdCodec::<pb::RangeRequest, pb::RangeResponse>::default();
                let request = tonic::Request::new(range("k", ""));
                ended(client.unary(request, path.parse().unwrap(), codec).await)
            })
            .await;
        }
        same(&servers, "health", async |channel| {
            let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
            in_short(&answer.unwrap().into_inner())
        })
        .await;
    });
}

#[test]
fn maintenance_calls_are_answered_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        same(&servers, "alarms", async |channel| {
            let list = pb::AlarmRequest::default();
            format!("{:?}", MaintenanceClient::new(channel).alarm(list).await.unwrap().into_inner().alarms)
        })
        .await;
        same(&servers, "handing over to a stranger", async |channel| {
            let request = pb::MoveLeaderRequest { target_id: 31337 };
            let said = ended(MaintenanceClient::new(channel).move_leader(request).await);
            // A member that does not lead says so first.
            said.replace("etcdserver: not leader", "etcdserver: bad leader transferee")
        })
        .await;
        let mut play = crate::play::Play::with_the_whole_store(&servers).await;
        for value in ["1", "2", "3"] {
            play.step(Step::Put(put("h", value))).await;
        }
        play.step(crate::requests::compact(3)).await;
        // A secondary that has applied what came after the compaction has applied that, too.
        play.step(Step::Put(put("h", "4"))).await;
        play.step(Step::Range(pb::RangeRequest { serializable: true, ..range("h", "") })).await;
        for revision in [2, 1000] {
            same(&servers, &format!("the hash at {revision}"), async |channel| {
                ended(MaintenanceClient::new(channel).hash_kv(pb::HashKvRequest { revision }).await)
            })
            .await;
        }
        same(&servers, "status", async |channel| {
            let status =
                MaintenanceClient::new(channel).status(pb::StatusRequest {}).await.unwrap().into_inner();
            let set = [status.db_size > 0, status.leader != 0, status.raft_index > 0, status.raft_term > 0];
            format!("{set:?} {:?} learner {}", status.errors, status.is_learner)
        })
        .await;
    });
}

#[test]
fn members_are_listed_and_strangers_refused_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        same(&servers, "members", async |channel| {
            let request = pb::MemberListRequest { linearizable: true };
            let answer = ClusterClient::new(channel).member_list(request).await.unwrap().into_inner();
            let forms: BTreeSet<_> = answer
                .members
                .iter()
                .map(|member| {
                    (
                        member.id != 0,
                        !member.name.is_empty(),
                        !member.client_ur_ls.is_empty(),
                        member.is_learner,
                    )
                })
                .collect();
            format!("{forms:?} revision {}", answer.header.unwrap().revision)
        })
        .await;
        let stranger = 31337;
        same(&servers, "removing a stranger", async |channel| {
            ended(ClusterClient::new(channel).member_remove(pb::MemberRemoveRequest { id: stranger }).await)
        })
        .await;
        same(&servers, "promoting a stranger", async |channel| {
            ended(ClusterClient::new(channel).member_promote(pb::MemberPromoteRequest { id: stranger }).await)
        })
        .await;
        same(&servers, "promoting a member", async |channel| {
            let mut client = ClusterClient::new(channel);
            let list = client.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner();
            let id = list.members[0].id;
            ended(client.member_promote(pb::MemberPromoteRequest { id }).await)
        })
        .await;
        same(&servers, "new addresses of a stranger", async |channel| {
            let request =
                pb::MemberUpdateRequest { id: stranger, peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()] };
            ended(ClusterClient::new(channel).member_update(request).await)
        })
        .await;
        for urls in [vec![], vec!["no address".to_owned()]] {
            same(&servers, &format!("a member at {urls:?}"), async |channel| {
                let request = pb::MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: false };
                ended(ClusterClient::new(channel).member_add(request).await)
            })
            .await;
        }
    });
}

async fn grant(channel: &Channel, id: i64) {
    // The second appliance finds the first one's.
    let request = pb::LeaseGrantRequest { ttl: 600, id };
    let _ = LeaseClient::new(channel.clone()).lease_grant(request).await;
}

#[test]
fn locks_and_elections_are_answered_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        same(&servers, "a lock", async |channel| {
            grant(&channel, 7).await;
            let mut client = LockClient::new(channel);
            let request = LockRequest { name: bytes("jobs"), lease: 7 };
            let first = client.lock(request.clone()).await.unwrap().into_inner();
            let again = client.lock(request).await.unwrap().into_inner();
            let waiting = LockRequest { name: bytes("jobs"), lease: 99 };
            let unknown = refusal(&client.lock(waiting).await.unwrap_err());
            let same_revision = first.header.unwrap().revision == again.header.unwrap().revision;
            let unlock = UnlockRequest { key: first.key.clone() };
            let unlocked = ended(client.unlock(unlock.clone()).await);
            let twice = ended(client.unlock(unlock).await);
            let no_key = ended(client.unlock(UnlockRequest::default()).await);
            format!("{:?} {:?} {same_revision} {unknown} {unlocked} {twice} {no_key}", first.key, again.key)
        })
        .await;
        same(&servers, "an election", async |channel| {
            grant(&channel, 8).await;
            let mut client = ElectionClient::new(channel);
            let name = bytes("boss");
            let asked = election::LeaderRequest { name: name.clone() };
            let nobody = ended(client.leader(asked.clone()).await);
            let campaign = election::CampaignRequest { name: name.clone(), lease: 8, value: bytes("v1") };
            let elected = client.campaign(campaign).await.unwrap().into_inner();
            let leader = elected.leader.unwrap();
            let rev_is_the_headers = elected.header.unwrap().revision == leader.rev;
            let proclaim = election::ProclaimRequest { leader: Some(leader.clone()), value: bytes("v2") };
            let proclaimed = ended(client.proclaim(proclaim.clone()).await);
            let mut observer = client.observe(asked.clone()).await.unwrap().into_inner();
            let told = observer.message().await.unwrap().unwrap().kv.unwrap().value;
            let kv = client.leader(asked).await.unwrap().into_inner().kv.unwrap();
            let resign = election::ResignRequest { leader: Some(leader.clone()) };
            let resigned = ended(client.resign(resign.clone()).await);
            let twice = ended(client.resign(resign).await);
            let former = ended(client.proclaim(proclaim).await);
            let missing = ended(client.proclaim(election::ProclaimRequest::default()).await);
            let stranger = election::CampaignRequest { name, lease: 99, value: bytes("v") };
            let unknown = ended(client.campaign(stranger).await);
            format!(
                "{nobody} {:?} {} {rev_is_the_headers} {proclaimed} {told:?} {:?} {:?} {resigned} {twice} {former} {missing} {unknown}",
                leader.key, leader.lease, kv.key, kv.value
            )
        })
        .await;
    });
}
