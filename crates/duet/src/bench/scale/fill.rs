//! Writes many keys quickly: transactions of a hundred, several at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use duet_etcd_api::etcdserverpb::request_op::Request;
use duet_etcd_api::etcdserverpb::{RequestOp, TxnRequest};

use super::super::args::Operation;
use super::super::lane::Rpc;
use super::super::load::{Plan, deadline, lanes, on_a_thread};
use super::super::workload::Workload;
use crate::error::Failure;

/// Below the 128 operations that one transaction may have.
const KEYS_AT_ONCE: usize = 100;

/// Writes every key of the plan once; gives the time it took.
pub async fn fill(plan: Plan) -> Result<Duration, Failure> {
    on_a_thread(async move || {
        let start = Instant::now();
        let lanes = lanes(&plan.endpoints, plan.connections);
        let workload = Rc::new(Workload::new(Operation::Put, plan.keys, plan.value_size));
        let next = Rc::new(RefCell::new((0..plan.keys).step_by(KEYS_AT_ONCE)));
        let fillers: Vec<_> = (0..plan.clients)
            .map(|index| {
                let (workload, next) = (workload.clone(), next.clone());
                let (lane, keys, limit) = (lanes[index % lanes.len()].clone(), plan.keys, plan.timeout);
                tokio::task::spawn_local(async move {
                    let mut caller = lane.caller().await?;
                    loop {
                        let Some(first) = next.borrow_mut().next() else { return Ok(()) };
                        let txn = puts(&workload, first..(first + KEYS_AT_ONCE).min(keys));
                        deadline(limit, caller.call(Rpc::Txn, &txn)).await?;
                    }
                })
            })
            .collect();
        for filler in fillers {
            let result: Result<(), String> =
                filler.await.unwrap_or_else(|_| Err("a client broke off".into()));
            result.map_err(|error| {
                Failure::new(
                    format!("writing {} keys failed: {error}", plan.keys),
                    "see the logs with --dir DIR",
                )
            })?;
        }
        Ok(start.elapsed())
    })
    .await
}

fn puts(workload: &Workload, keys: std::ops::Range<usize>) -> TxnRequest {
    let put = |index| RequestOp { request: Some(Request::RequestPut(workload.put(index, index))) };
    TxnRequest { compare: Vec::new(), success: keys.map(put).collect(), failure: Vec::new() }
}
