//! The Election service.

use duet_etcd_api::v3electionpb as election;
use election::election_client::ElectionClient;

use super::*;

impl Machine {
    async fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel().await)
    }
}

async fn campaign(
    mut elections: ElectionClient<Channel>,
    lease: i64,
    value: &'static str,
) -> Result<election::LeaderKey, Status> {
    let request = election::CampaignRequest { name: bytes("boss"), lease, value: bytes(value) };
    elections.campaign(request).await.map(|answer| answer.into_inner().leader.unwrap())
}

async fn proclaim(
    elections: &mut ElectionClient<Channel>,
    leader: &election::LeaderKey,
    value: &str,
) -> Result<i64, Status> {
    let request = election::ProclaimRequest { leader: Some(leader.clone()), value: bytes(value) };
    elections.proclaim(request).await.map(|answer| answer.into_inner().header.unwrap().revision)
}

async fn resign(elections: &mut ElectionClient<Channel>, leader: &election::LeaderKey) -> i64 {
    let request = election::ResignRequest { leader: Some(leader.clone()) };
    elections.resign(request).await.unwrap().into_inner().header.unwrap().revision
}

async fn leader(elections: &mut ElectionClient<Channel>) -> Result<Bytes, Status> {
    let request = election::LeaderRequest { name: bytes("boss") };
    elections.leader(request).await.map(|answer| answer.into_inner().kv.unwrap().value)
}

/// What an observer was told: value and revision.
async fn observed(observer: &mut Streaming<election::LeaderResponse>) -> (Bytes, i64) {
    let told = tokio::time::timeout(PATIENCE, observer.message()).await.expect("a proclamation in time");
    let told = told.unwrap().expect("the stream goes on");
    (told.kv.unwrap().value, told.header.unwrap().revision)
}

fn said(value: &str, revision: i64) -> (Bytes, i64) {
    (bytes(value), revision)
}

#[tokio::test]
async fn a_leader_is_elected_proclaims_and_resigns_as_in_etcd() {
    let machine = Machine::primary().await;
    let mut elections = machine.elections().await;
    let nobody = leader(&mut elections).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.message()), (Code::Unknown, "election: no leader"));
    let lease = machine.grant(0xabc).await;
    let elected = campaign(elections.clone(), lease, "v1").await.unwrap();
    assert_eq!((elected.name.clone(), elected.key.clone()), (bytes("boss"), bytes("boss/abc")));
    assert_eq!((elected.rev, elected.lease), (2, lease));
    assert_eq!(leader(&mut elections).await.unwrap(), bytes("v1"));
    assert_eq!(proclaim(&mut elections, &elected, "v2").await.unwrap(), 3);
    // Campaigning again is proclaiming.
    assert_eq!(campaign(elections.clone(), lease, "v3").await.unwrap(), elected);
    assert_eq!(leader(&mut elections).await.unwrap(), bytes("v3"));
    assert_eq!(resign(&mut elections, &elected).await, 5);
    assert_eq!(resign(&mut elections, &elected).await, 5, "once more changes nothing");
    let former = proclaim(&mut elections, &elected, "v4").await.unwrap_err();
    assert_eq!((former.code(), former.message()), (Code::Unknown, "election: not leader"));
}

#[tokio::test]
async fn a_request_without_a_leader_is_refused_in_etcds_words() {
    let machine = Machine::primary().await;
    let mut elections = machine.elections().await;
    let missing = (Code::Unknown, "\"leader\" field must be provided".to_owned());
    let status = elections.proclaim(election::ProclaimRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message().to_owned()), missing);
    let status = elections.resign(election::ResignRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message().to_owned()), missing);
    let status = campaign(elections, 77, "v").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "etcdserver: requested lease not found"));
}

#[tokio::test]
async fn candidates_lead_one_after_the_other() {
    let machine = Machine::primary().await;
    let mut elections = machine.elections().await;
    let first = campaign(elections.clone(), machine.grant(1).await, "first").await.unwrap();
    let second = tokio::spawn(campaign(elections.clone(), machine.grant(2).await, "second"));
    machine.line_has("boss", 2).await;
    let third = tokio::spawn(campaign(elections.clone(), machine.grant(3).await, "third"));
    machine.line_has("boss", 3).await;
    assert_eq!(leader(&mut elections).await.unwrap(), bytes("first"));
    resign(&mut elections, &first).await;
    let second = second.await.unwrap().unwrap();
    assert_eq!((leader(&mut elections).await.unwrap(), second.rev), (bytes("second"), 3));
    assert!(!third.is_finished());
    // A candidate that gives up is no candidate.
    third.abort();
    machine.line_has("boss", 1).await;
}

#[tokio::test]
async fn a_candidate_whose_lease_ends_does_not_lead() {
    let machine = Machine::primary().await;
    let elections = machine.elections().await;
    campaign(elections.clone(), machine.grant(1).await, "first").await.unwrap();
    let second = tokio::spawn(campaign(elections.clone(), machine.grant(2).await, "second"));
    machine.line_has("boss", 2).await;
    machine.revoke(2).await;
    let status = second.await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "election: not leader"));
}

#[tokio::test]
async fn an_observer_is_told_every_proclamation_of_every_leader() {
    let machine = Machine::primary().await;
    let mut elections = machine.elections().await;
    let observe = async |mut elections: ElectionClient<Channel>| {
        let request = election::LeaderRequest { name: bytes("boss") };
        elections.observe(request).await.unwrap().into_inner()
    };
    // One comes before there is anybody to observe.
    let mut early = observe(elections.clone()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let first = campaign(elections.clone(), machine.grant(1).await, "a1").await.unwrap();
    assert_eq!(observed(&mut early).await, said("a1", 2));
    for (value, revision) in [("a2", 3), ("a3", 4)] {
        assert_eq!(proclaim(&mut elections, &first, value).await.unwrap(), revision);
    }
    let mut late = observe(elections.clone()).await;
    assert_eq!(observed(&mut late).await, said("a3", 4));
    let second = tokio::spawn(campaign(elections.clone(), machine.grant(2).await, "b1"));
    machine.line_has("boss", 2).await;
    machine.revoke(1).await;
    let second = second.await.unwrap().unwrap();
    proclaim(&mut elections, &second, "b2").await.unwrap();
    for (value, revision) in [("a2", 3), ("a3", 4)] {
        assert_eq!(observed(&mut early).await, said(value, revision));
    }
    for observer in [&mut early, &mut late] {
        let mut told = Vec::new();
        // Whether "b1" is seen as the new leader's value or at once replaced depends on who is quicker.
        while told.last() != Some(&bytes("b2")) {
            told.push(observed(observer).await.0);
        }
        assert!(told == [bytes("b1"), bytes("b2")] || told == [bytes("b2")], "{told:?}");
    }
}

#[tokio::test]
async fn an_observer_outlasts_a_time_without_a_primary_unless_it_insists_on_one() {
    let machine = Machine::primary().await;
    let mut elections = machine.elections().await;
    let elected = campaign(elections.clone(), machine.grant(1).await, "v1").await.unwrap();
    let request = || tonic::Request::new(election::LeaderRequest { name: bytes("boss") });
    let mut observer = elections.observe(request()).await.unwrap().into_inner();
    let mut insisting = request();
    insisting.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut insisting = elections.observe(insisting).await.unwrap().into_inner();
    for observer in [&mut observer, &mut insisting] {
        assert_eq!(observed(observer).await, said("v1", 2));
    }
    machine.follow(None);
    let status = tokio::time::timeout(PATIENCE, insisting.message()).await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    machine.promote(2);
    proclaim(&mut elections, &elected, "v2").await.unwrap();
    assert_eq!(observed(&mut observer).await, said("v2", 3));
}
