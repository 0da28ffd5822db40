//! What one more client, watch or lease costs in memory: many are held at a time, and the difference is shared out.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::watch_request::RequestUnion;
use duet_etcd_api::etcdserverpb::{
    LeaseGrantRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use serde::Serialize;
use tokio::sync::oneshot;

use super::super::args::SystemName;
use super::super::lane::{Lane, Rpc};
use super::super::load::{deadline, lanes, on_a_thread};
use super::super::proc_stat::Memory;
use super::subject::Subject;
use crate::error::Failure;

/// One of many requests.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Watches on one stream.
const WATCHES_PER_STREAM: usize = 100;
/// Streams on one connection.
const STREAMS_PER_CONNECTION: usize = 50;
/// Requests for leases under way at a time.
const GRANTERS: usize = 64;
/// Leases outlive the measurement.
const LEASE_SECONDS: i64 = 3_600;

/// What is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// A connection with one request on it.
    Client,
    /// A watch of a key of its own.
    Watch,
    /// A lease without keys.
    Lease,
}

impl Held {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Watch => "watch",
            Self::Lease => "lease",
        }
    }
}

/// What one more costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Whom.
    pub system: SystemName,
    /// Of what.
    pub of: Held,
    /// So many were held.
    pub number: usize,
    /// Bytes of anonymous memory for each, at the primary or only member.
    pub bytes_each: u64,
    /// The same at the secondary.
    pub bytes_each_at_the_other: Option<u64>,
}

/// Holds so many for as long as memory is looked at, which is done after a rest.
pub async fn cost(subject: &Subject, of: Held, number: usize, settle: Duration) -> Result<Cost, Failure> {
    let endpoint = subject.leader().await?;
    tokio::time::sleep(settle).await;
    let before = (subject.memory(), subject.other_memory());
    let (ready, is_ready) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let holding = on_a_thread(async move || {
        let held = hold(of, &endpoint, number).await.map_err(|error| {
            let what = format!("cannot hold {number} of a {}: {error}", of.name());
            Failure::new(what, "is the limit of open files high enough? see: ulimit -n")
        })?;
        ready.send(()).ok();
        released.await.ok();
        drop(held);
        Ok(())
    });
    let looking = async {
        // If it cannot be held, that is what is told.
        is_ready.await.ok();
        tokio::time::sleep(settle).await;
        let after = (subject.memory(), subject.other_memory());
        release.send(()).ok();
        after
    };
    let (held, after) = tokio::join!(holding, looking);
    held?;
    let each = |before: Memory, after: Memory| {
        after.anonymous.saturating_sub(before.anonymous) / number.max(1) as u64
    };
    Ok(Cost {
        system: subject.name,
        of,
        number,
        bytes_each: each(before.0, after.0),
        bytes_each_at_the_other: before.1.zip(after.1).map(|(before, after)| each(before, after)),
    })
}

/// What has to be kept for it to last.
type Kept = (Vec<Rc<Lane>>, Vec<super::super::lane::Stream>);

async fn hold(of: Held, endpoint: &str, number: usize) -> Result<Kept, String> {
    let endpoints = [endpoint.to_owned()];
    match of {
        Held::Client => {
            let lanes = lanes(&endpoints, number);
            let request = RangeRequest { key: Bytes::from_static(b"duet-bench"), ..Default::default() };
            for lane in &lanes {
                deadline(TIMEOUT, lane.caller().await?.call(Rpc::Range, &request)).await?;
            }
            Ok((lanes, Vec::new()))
        }
        Held::Watch => watches(&endpoints, number).await,
        Held::Lease => {
            let lanes = lanes(&endpoints, 1);
            grant(&lanes[0], number).await?;
            Ok((lanes, Vec::new()))
        }
    }
}

async fn watches(endpoints: &[String], number: usize) -> Result<Kept, String> {
    let streams = number.div_ceil(WATCHES_PER_STREAM);
    let lanes = lanes(endpoints, streams.div_ceil(STREAMS_PER_CONNECTION));
    let request = |index: usize| {
        let key = Bytes::from(format!("duet-held/{index:09}"));
        let create = WatchCreateRequest { key, ..Default::default() };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    };
    let mut kept = Vec::new();
    for stream in 0..streams {
        let numbers = stream * WATCHES_PER_STREAM..number.min((stream + 1) * WATCHES_PER_STREAM);
        let mut caller = lanes[stream % lanes.len()].caller().await?;
        let opened = async {
            let mut open = caller.open(Rpc::Watch, &request(numbers.start)).await?;
            for index in numbers.clone().skip(1) {
                open.send(&request(index))?;
            }
            for _ in numbers {
                let answer: WatchResponse = open.next().await?;
                if !answer.created || answer.canceled {
                    return Err(tonic::Status::unknown("a watch was refused"));
                }
            }
            Ok(open)
        };
        kept.push(deadline(TIMEOUT, opened).await?);
    }
    Ok((lanes, kept))
}

async fn grant(lane: &Rc<Lane>, number: usize) -> Result<(), String> {
    let granters: Vec<_> = (0..GRANTERS)
        .map(|granter| {
            let lane = lane.clone();
            let mine = number / GRANTERS + usize::from(granter < number % GRANTERS);
            tokio::task::spawn_local(async move {
                let mut caller = lane.caller().await?;
                let request = LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 };
                for _ in 0..mine {
                    deadline(TIMEOUT, caller.call(Rpc::LeaseGrant, &request)).await?;
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for granter in granters {
        granter.await.map_err(|_| "a client broke off".to_owned())??;
    }
    Ok(())
}
