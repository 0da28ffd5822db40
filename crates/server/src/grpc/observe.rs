//! The stream of an election's proclamations: each leader's values in order, then those of the next.
//!
//! Who leads the primary says; what it proclaims is watched in the local store, so an observer outlasts any change of
//! roles. An observer that does not read waits in its own task and holds nothing but a few proclamations.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb::event::EventType;
use duet_etcd_api::mvccpb::{Event, KeyValue};
use duet_etcd_api::v3electionpb::LeaderResponse;
use tokio::sync::mpsc;
use tonic::Status;

use super::caller::{Caller, kvs, step_failed};
use super::errors::NO_LEADER;
use super::keys;
use super::watch::{inner_watch, without_leader};

type Client = mpsc::Sender<Result<LeaderResponse, Status>>;

/// What ends an observation for good.
enum Ended {
    ClientGone,
    Failed(Status),
}

/// Serves one observer to its end.
pub async fn serve(caller: Caller, line: Bytes, client: Client, needs_leader: bool) {
    let leaderless = without_leader(caller.api.watch_view());
    let ended = tokio::select! {
        ended = observe(&caller, &line, &client) => ended,
        over = caller.over() => Ended::Failed(over),
        () = leaderless, if needs_leader => Ended::Failed(NO_LEADER.into()),
        () = client.closed() => Ended::ClientGone,
    };
    if let Ended::Failed(status) = ended {
        // A client that is gone needs no telling; one that does not read is told when it does.
        let _ = client.send(Err(status)).await;
    }
}

async fn observe(caller: &Caller, line: &Bytes, client: &Client) -> Ended {
    loop {
        if let Err(ended) = one_leader(caller, line, client).await {
            return ended;
        }
    }
}

/// Tells what one leader proclaims, until it is one no more.
async fn one_leader(caller: &Caller, line: &Bytes, client: &Client) -> Result<(), Ended> {
    let look = pb::TxnRequest { success: vec![keys::range(keys::oldest(line))], ..Default::default() };
    let answer = caller.patient_txn(&look).await.map_err(|status| Ended::Failed(step_failed(status)))?;
    let header = answer.header.unwrap_or_default();
    let (header, leader) = match kvs(&answer.responses, 0).first() {
        Some(leader) => (header, leader.clone()),
        None => match first_put(caller, line, header.revision).await? {
            Some(found) => found,
            // Looked up anew.
            None => return Ok(()),
        },
    };
    let key = leader.key.clone();
    tell(client, header, leader).await?;
    let mut watch = inner_watch(&caller.api, key, Bytes::new(), header.revision + 1);
    while let Some(response) = watch.recv().await {
        let response = response.map_err(Ended::Failed)?;
        if response.canceled {
            return Ok(());
        }
        for event in response.events {
            let header = response.header.unwrap_or_default();
            let Some(kv) = put_in(event) else { return Ok(()) };
            tell(client, pb::ResponseHeader { revision: kv.mod_revision, ..header }, kv).await?;
        }
    }
    Ok(())
}

/// The first key that is put in an empty line, with the header it is told under.
async fn first_put(
    caller: &Caller,
    line: &Bytes,
    revision: i64,
) -> Result<Option<(pb::ResponseHeader, KeyValue)>, Ended> {
    let mut watch = inner_watch(&caller.api, line.clone(), keys::end_of(line), revision + 1);
    while let Some(response) = watch.recv().await {
        let response = response.map_err(Ended::Failed)?;
        if response.canceled {
            return Ok(None);
        }
        let header = response.header.unwrap_or_default();
        if let Some(kv) = response.events.into_iter().find_map(put_in) {
            return Ok(Some((pb::ResponseHeader { revision: kv.mod_revision, ..header }, kv)));
        }
    }
    Ok(None)
}

fn put_in(event: Event) -> Option<KeyValue> {
    event.kv.filter(|_| event.r#type == i32::from(EventType::Put))
}

async fn tell(client: &Client, header: pb::ResponseHeader, kv: KeyValue) -> Result<(), Ended> {
    let response = LeaderResponse { header: Some(header), kv: Some(kv) };
    client.send(Ok(response)).await.map_err(|_| Ended::ClientGone)
}
