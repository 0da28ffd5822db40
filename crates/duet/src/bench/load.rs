//! The load generator: many clients as tasks of one thread, in a closed loop or at a fixed rate.
//!
//! Closed loop: each client sends its next request when the last one is answered. Open loop: requests are due at fixed
//! times and their latency counts from there, so a server that stalls cannot hide it. Keys and values are slices of two
//! buffers made beforehand: an operation allocates nothing here.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::{PutRequest, RangeRequest};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::lane::{Kv, Lane};
use super::proc_stat::cpu_time;
use super::report::{Recorder, Report, count, operation_name};
use crate::cli::{LoadArgs, Operation};
use crate::error::Failure;

/// Clients that share a connection unless --connections says otherwise: one connection carries about 30,000 calls/s.
const CLIENTS_PER_CONNECTION: usize = 64;
/// A client that got an error waits this long: a server that is down must not be asked in a busy loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(5);
/// Fills for reads are written by this many clients at once.
const FILLERS: usize = 64;
/// Values are cut from a buffer this much larger than one value, each at another place.
const VALUE_PLACES: usize = 4096;
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
    /// Reads that may be old.
    pub serializable: bool,
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
            serializable: args.serializable,
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
    keys: Bytes,
    key_size: usize,
    values: Bytes,
    recorder: RefCell<Recorder>,
    measure_from: Instant,
    end: Instant,
    schedule: Option<Arc<Schedule>>,
}

/// When the operations of an open loop are due.
struct Schedule {
    start: Instant,
    interval: Duration,
    begun: AtomicU64,
    due: Semaphore,
    over: AtomicBool,
}

/// Tells others when the measured seconds begin.
#[derive(Clone, Debug)]
pub struct Window(Arc<tokio::sync::watch::Sender<Phase>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Before,
    Measured,
    Over,
}

impl Default for Window {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::watch::Sender::new(Phase::Before)))
    }
}

impl Window {
    /// Waits until the measured seconds begin, or the run is over without them.
    pub async fn opened(&self) {
        self.0.subscribe().wait_for(|phase| *phase != Phase::Before).await.ok();
    }
}

/// Runs a load on a thread of its own and waits for it.
pub async fn run(plan: Plan) -> Result<Report, Failure> {
    run_in(plan, Window::default()).await
}

/// The same; `window` tells when the measured seconds begin.
pub async fn run_in(plan: Plan, window: Window) -> Result<Report, Failure> {
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start the client: {error}"), "try again"))?;
        let report = LocalSet::new().block_on(&runtime, run_here(plan, &window));
        window.0.send_replace(Phase::Over);
        report
    });
    thread.await.unwrap_or_else(|_| Err(Failure::new("the load generator broke off", "please report it")))
}

async fn run_here(plan: Plan, window: &Window) -> Result<Report, Failure> {
    let lanes: Vec<Rc<Lane>> =
        (0..plan.connections).map(|first| Rc::new(Lane::new(plan.endpoints.clone(), first))).collect();
    let probe = lanes[0].kv().await;
    probe.map_err(|error| Failure::unreachable(error, "is the server running? see --endpoints"))?;
    if plan.operation == Operation::Get {
        fill(&plan, &lanes).await?;
    }
    let start = Instant::now();
    let measure_from = start + plan.warmup;
    let shared = Rc::new(shared(plan, measure_from));
    let pacer = shared.schedule.clone().map(|schedule| pace(schedule, shared.end));
    let clients: Vec<_> = (0..shared.plan.clients)
        .map(|index| {
            let lane = lanes[index % lanes.len()].clone();
            tokio::task::spawn_local(client(shared.clone(), lane, index as u64))
        })
        .collect();
    tokio::time::sleep_until(measure_from.into()).await;
    window.0.send_replace(Phase::Measured);
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

fn shared(plan: Plan, measure_from: Instant) -> Shared {
    let (keys, key_size) = keys(plan.keys);
    let values = noise(plan.value_size + VALUE_PLACES);
    let schedule = plan.rate.map(|rate| {
        Arc::new(Schedule {
            start: Instant::now(),
            interval: Duration::from_nanos(1_000_000_000 / rate.clamp(1, 1_000_000_000)),
            begun: AtomicU64::new(0),
            due: Semaphore::new(0),
            over: AtomicBool::new(false),
        })
    });
    let end = measure_from + plan.seconds;
    Shared { plan, keys, key_size, values, recorder: RefCell::default(), measure_from, end, schedule }
}

/// All keys in one buffer, and the length of each.
fn keys(number: usize) -> (Bytes, usize) {
    let mut text = String::new();
    for index in 0..number {
        write!(text, "duet-bench/{index:09}").ok();
    }
    let size = text.len() / number;
    (Bytes::from(text), size)
}

/// Bytes without pattern, the same in every run.
fn noise(length: usize) -> Bytes {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

/// SplitMix64: quick, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }
}

impl Shared {
    fn key(&self, index: usize) -> Bytes {
        self.keys.slice(index * self.key_size..(index + 1) * self.key_size)
    }

    fn value(&self, place: usize) -> Bytes {
        self.values.slice(place..place + self.plan.value_size)
    }

    /// When the next operation is due; `None` when the run is over.
    async fn next_start(&self) -> Option<Instant> {
        let Some(schedule) = &self.schedule else {
            let now = Instant::now();
            return (now < self.end).then_some(now);
        };
        schedule.due.acquire().await.ok()?.forget();
        if schedule.over.load(Ordering::Relaxed) {
            return None;
        }
        let number = schedule.begun.fetch_add(1, Ordering::Relaxed);
        Some(schedule.start + schedule.interval * u32::try_from(number).unwrap_or(u32::MAX))
    }

    async fn operate(&self, kv: &mut Kv, random: &mut Random) -> Result<(), String> {
        let key = self.key(random.below(self.plan.keys));
        match self.plan.operation {
            Operation::Put => {
                let value = self.value(random.below(VALUE_PLACES));
                let request = PutRequest { key, value, ..Default::default() };
                deadline(self.plan.timeout, kv.put(&request)).await
            }
            Operation::Get => {
                let request =
                    RangeRequest { key, serializable: self.plan.serializable, ..Default::default() };
                deadline(self.plan.timeout, kv.range(&request)).await
            }
        }
    }
}

async fn deadline<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<(), String> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(_)) => Ok(()),
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
    let mut random = Random(index.wrapping_mul(0xd134_2543_de82_ef95));
    let mut kv = None;
    while let Some(start) = shared.next_start().await {
        let outcome = match kept(&mut kv, &lane).await {
            Ok(kv) => shared.operate(kv, &mut random).await,
            Err(error) => Err(error),
        };
        let now = Instant::now();
        let counts = start >= shared.measure_from && start < shared.end;
        match outcome {
            Ok(()) if counts => shared.recorder.borrow_mut().success(now - start, now),
            Ok(()) => {}
            Err(kind) => {
                if counts {
                    shared.recorder.borrow_mut().failure(kind);
                }
                kv = None;
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

async fn kept<'a>(kv: &'a mut Option<Kv>, lane: &Lane) -> Result<&'a mut Kv, String> {
    match kv {
        Some(kv) => Ok(kv),
        None => Ok(kv.insert(lane.kv().await?)),
    }
}

/// Makes operations due in time. A thread of its own: tokio's timer counts whole milliseconds, this one about 50 µs.
fn pace(schedule: Arc<Schedule>, end: Instant) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut number: u32 = 0;
        loop {
            let due = schedule.start + schedule.interval * number;
            if due >= end {
                break;
            }
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            }
            schedule.due.add_permits(1);
            number = number.saturating_add(1);
        }
        schedule.over.store(true, Ordering::Relaxed);
        schedule.due.add_permits(Semaphore::MAX_PERMITS / 2);
    })
}

/// Writes every key once, so that reads find something.
async fn fill(plan: &Plan, lanes: &[Rc<Lane>]) -> Result<(), Failure> {
    let now = Instant::now();
    let shared = Rc::new(shared(Plan { rate: None, ..plan.clone() }, now));
    let next = Rc::new(RefCell::new(0..plan.keys));
    let fillers: Vec<_> = (0..FILLERS)
        .map(|index| {
            let (shared, next, lane) = (shared.clone(), next.clone(), lanes[index % lanes.len()].clone());
            tokio::task::spawn_local(async move {
                let mut kv = lane.kv().await?;
                loop {
                    let Some(index) = next.borrow_mut().next() else { return Ok(()) };
                    let value = shared.value(index % VALUE_PLACES);
                    let request = PutRequest { key: shared.key(index), value, ..Default::default() };
                    deadline(shared.plan.timeout, kv.put(&request)).await?;
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
    let not_begun = shared.schedule.as_ref().map_or(0, |schedule| {
        let planned = (shared.end - schedule.start).as_nanos() / schedule.interval.as_nanos().max(1);
        u64::try_from(planned).unwrap_or(u64::MAX).saturating_sub(schedule.begun.load(Ordering::Relaxed))
    });
    Report {
        operation: operation_name(shared.plan.operation),
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
        client_cpu_us_per_op: cpu.as_secs_f64() * 1e6 / count(operations.max(1)),
    }
}
