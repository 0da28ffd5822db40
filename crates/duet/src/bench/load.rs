//! The load generator: many clients as tasks of one thread, in a closed loop or at a fixed rate.
//!
//! Closed loop: each client sends its next request when the last one is answered. Open loop: requests are due at fixed
//! times and their latency counts from there, so a server that stalls cannot hide it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::args::{LoadArgs, Operation};
use super::lane::{Caller, Lane, Rpc};
use super::proc_stat::cpu_time;
use super::report::{Recorder, Report, count};
use super::schedule::{Schedule, Window};
use super::workload::{Random, Workload};
use crate::error::Failure;

/// Clients that share a connection unless --connections says otherwise: one connection carries about 30,000 calls/s.
const CLIENTS_PER_CONNECTION: usize = 64;
/// A client that got an error waits this long: a server that is down must not be asked in a busy loop.
pub const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(5);
/// Keys to read are written by this many clients at once.
const FILLERS: usize = 64;
/// More than any server here takes in one request.
const MAX_VALUE_SIZE: usize = 16 << 20;

/// A load to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is done.
    pub operation: Operation,
    /// Where.
    pub endpoints: Vec<String>,
    /// Concurrent clients.
    pub clients: usize,
    /// Connections they share.
    pub connections: usize,
    /// Bytes in a value.
    pub value_size: usize,
    /// Different keys.
    pub keys: usize,
    /// How long it is measured.
    pub seconds: Duration,
    /// How long it runs before.
    pub warmup: Duration,
    /// Operations a second in an open loop.
    pub rate: Option<u64>,
    /// Deadline of one operation.
    pub timeout: Duration,
    /// Whether all keys are written first.
    pub fill: bool,
}

impl Plan {
    /// A plan from the command line.
    pub fn of(operation: Operation, args: &LoadArgs) -> Result<Self, Failure> {
        if args.value_size > MAX_VALUE_SIZE {
            let what = format!("--value-size {}: more than {MAX_VALUE_SIZE} bytes", args.value_size);
            return Err(Failure::usage(what, "etcd and Duet take up to about 1.5 MB in one request"));
        }
        if args.rate == Some(0) {
            return Err(Failure::usage("--rate 0 does nothing", "leave --rate out for a closed loop"));
        }
        for endpoint in &args.endpoints {
            crate::http::authority(endpoint).map_err(|error| {
                Failure::usage(format!("--endpoints {endpoint}: {error}"), "see: duet bench --help")
            })?;
        }
        let connections =
            args.connections.unwrap_or_else(|| default_connections(args.clients).max(args.endpoints.len()));
        let serializable = args.serializable && operation == Operation::Get;
        let operation = if serializable { Operation::Serializable } else { operation };
        Ok(Self {
            operation,
            endpoints: args.endpoints.clone(),
            clients: args.clients,
            connections: connections.min(args.clients),
            value_size: args.value_size,
            keys: args.keys,
            seconds: args.seconds,
            warmup: args.warmup,
            rate: args.rate,
            timeout: args.timeout,
            fill: operation.needs_keys(),
        })
    }
}

/// One connection for every 64 clients.
pub fn default_connections(clients: usize) -> usize {
    clients.div_ceil(CLIENTS_PER_CONNECTION)
}

/// What all clients of a run share.
struct Shared {
    plan: Plan,
    workload: Workload,
    recorder: RefCell<Recorder>,
    stored_bytes: Cell<u64>,
    measure_from: Instant,
    end: Instant,
    schedule: Option<Arc<Schedule>>,
}

/// Runs a load on a thread of its own and waits for it.
pub async fn run(plan: Plan) -> Result<Report, Failure> {
    run_in(plan, Window::default()).await
}

/// The same; `window` tells when the measured seconds begin.
pub async fn run_in(plan: Plan, window: Window) -> Result<Report, Failure> {
    on_a_thread(async move || {
        let report = run_here(plan, &window).await;
        window.close();
        report
    })
    .await
}

/// Writes every key once.
pub async fn fill_with(plan: Plan) -> Result<(), Failure> {
    on_a_thread(async move || fill(&plan, &lanes(&plan.endpoints, plan.connections)).await).await
}

/// Does some work on a thread of its own. Whoever gives up waiting leaves it to itself: it ends with the process.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl AsyncFnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, work()),
            Err(error) => Err(Failure::new(format!("cannot start the client: {error}"), "try again")),
        };
        sender.send(outcome).ok();
    });
    receiver.await.unwrap_or_else(|_| Err(Failure::new("the load generator broke off", "please report it")))
}

/// Connections, spread over the endpoints.
pub fn lanes(endpoints: &[String], number: usize) -> Vec<Rc<Lane>> {
    (0..number.max(1)).map(|first| Rc::new(Lane::new(endpoints.to_vec(), first))).collect()
}

async fn run_here(plan: Plan, window: &Window) -> Result<Report, Failure> {
    let lanes = lanes(&plan.endpoints, plan.connections);
    let probe = lanes[0].caller().await;
    probe.map_err(|error| Failure::unreachable(error, "is the server running? see --endpoints"))?;
    if plan.fill {
        fill(&plan, &lanes).await?;
    }
    let measure_from = Instant::now() + plan.warmup;
    let shared = Rc::new(Shared {
        workload: Workload::new(plan.operation, plan.keys, plan.value_size),
        recorder: RefCell::default(),
        stored_bytes: Cell::new(0),
        measure_from,
        end: measure_from + plan.seconds,
        schedule: plan.rate.map(Schedule::new),
        plan,
    });
    let pacer = shared.schedule.clone().map(|schedule| schedule.pace(Some(shared.end)));
    let clients: Vec<_> = (0..shared.plan.clients)
        .map(|index| {
            let lane = lanes[index % lanes.len()].clone();
            tokio::task::spawn_local(client(shared.clone(), lane, index as u64))
        })
        .collect();
    tokio::time::sleep_until(measure_from.into()).await;
    window.open();
    let cpu_before = cpu_time(std::process::id());
    tokio::time::sleep_until(shared.end.into()).await;
    let cpu = cpu_time(std::process::id()).saturating_sub(cpu_before);
    for client in clients {
        client.await.ok();
    }
    if let Some(pacer) = pacer {
        pacer.join().ok();
    }
    Ok(report(&shared, cpu))
}

impl Shared {
    /// When the next operation is due; `None` when the run is over.
    async fn next_start(&self) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => schedule.next().await,
            None => Some(Instant::now()).filter(|now| *now < self.end),
        }
    }
}

/// The outcome of a call that may take so long, in words.
pub async fn deadline<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(status_in_words(&status)),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// "unavailable: etcdserver: no leader".
pub fn status_in_words(status: &tonic::Status) -> String {
    use tonic::Code;
    let code = match status.code() {
        Code::Unavailable => "unavailable",
        Code::DeadlineExceeded => "deadline exceeded",
        Code::ResourceExhausted => "resource exhausted",
        Code::InvalidArgument => "invalid argument",
        Code::FailedPrecondition => "failed precondition",
        Code::Unimplemented => "not implemented",
        Code::Cancelled => "cancelled",
        Code::Internal => "internal",
        Code::Unknown => "connection",
        _ => "error",
    };
    let message = status.message();
    if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") }
}

async fn client(shared: Rc<Shared>, lane: Rc<Lane>, index: u64) {
    let mut random = Random::of_client(index);
    let mut caller = None;
    while let Some(start) = shared.next_start().await {
        let outcome = match kept(&mut caller, &lane).await {
            Ok(caller) => deadline(shared.plan.timeout, shared.workload.operate(caller, &mut random)).await,
            Err(error) => Err(error),
        };
        let now = Instant::now();
        let counts = start >= shared.measure_from && start < shared.end;
        match outcome {
            Ok(stored) if counts => {
                shared.recorder.borrow_mut().success(now - start, now);
                shared.stored_bytes.set(shared.stored_bytes.get() + stored as u64);
            }
            Ok(_) => {}
            Err(kind) => {
                if counts {
                    shared.recorder.borrow_mut().failure(kind);
                }
                caller = None;
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

async fn kept<'a>(caller: &'a mut Option<Caller>, lane: &Lane) -> Result<&'a mut Caller, String> {
    match caller {
        Some(caller) => Ok(caller),
        None => Ok(caller.insert(lane.caller().await?)),
    }
}

/// Writes every key once, so that reads find something.
async fn fill(plan: &Plan, lanes: &[Rc<Lane>]) -> Result<(), Failure> {
    let workload = Rc::new(Workload::new(Operation::Put, plan.keys, plan.value_size));
    let next = Rc::new(RefCell::new(0..plan.keys));
    let fillers: Vec<_> = (0..FILLERS)
        .map(|index| {
            let (workload, next, lane) = (workload.clone(), next.clone(), lanes[index % lanes.len()].clone());
            let limit = plan.timeout;
            tokio::task::spawn_local(async move {
                let mut caller = lane.caller().await?;
                loop {
                    let Some(index) = next.borrow_mut().next() else { return Ok(()) };
                    deadline(limit, caller.call(Rpc::Put, &workload.put(index, index))).await?;
                }
            })
        })
        .collect();
    for filler in fillers {
        let result: Result<(), String> = filler.await.unwrap_or_else(|_| Err("a client broke off".into()));
        result.map_err(|error| Failure::new(format!("writing the keys to read failed: {error}"), ""))?;
    }
    Ok(())
}

fn report(shared: &Shared, cpu: Duration) -> Report {
    let recorder = shared.recorder.borrow();
    let seconds = shared.plan.seconds.as_secs_f64();
    let operations = recorder.successes();
    let not_begun = shared.schedule.as_ref().map_or(0, |schedule| schedule.not_begun(shared.end));
    Report {
        operation: shared.plan.operation.name(),
        clients: shared.plan.clients,
        connections: shared.plan.connections,
        value_size: shared.plan.value_size,
        keys: shared.plan.keys,
        rate: shared.plan.rate,
        seconds,
        operations,
        ops_per_second: count(operations) / seconds.max(1e-9),
        latency_ms: recorder.latency(),
        errors: recorder.errors().clone(),
        not_begun,
        longest_gap_ms: recorder.longest_gap().as_secs_f64() * 1e3,
        stored_bytes: shared.stored_bytes.get(),
        client_cpu_us_per_op: cpu.as_secs_f64() * 1e6 / count(operations.max(1)),
    }
}
