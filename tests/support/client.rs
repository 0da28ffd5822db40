//! An etcd client of one appliance, and loads of many writers.
//!
//! Writers repeat what was not acknowledged, at the one appliance and the other, as etcd's clients do. That is safe here
//! because every write has a key of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::lease_client::LeaseClient;
use duet_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::harness::{A, B, PATIENCE, Pair};

/// One request. Above the time for which an appliance waits for a primary.
pub const REQUEST: Duration = Duration::from_secs(8);
/// After a failed attempt, before the other appliance is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Answers with everything in them are larger than tonic's default of 4 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// A client of one appliance.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects when it is first used, and again when it has to.
    pub fn new(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        // A channel is driven by the runtime it was made on, so this must be called in the test's.
        let channel = endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy();
        Self { channel }
    }

    /// The KV service.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The Lease service.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// The Maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// The channel, for other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Writes a key; gives the revision.
    pub async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        self.put_within(key, value, REQUEST).await
    }

    /// The same with another deadline.
    pub async fn put_within(&self, key: &str, value: &str, limit: Duration) -> Result<i64, Status> {
        let request = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
        let answer = within(limit, self.kv().put(request)).await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    /// Deletes a key; gives the number of keys deleted.
    pub async fn delete(&self, key: &str) -> Result<i64, Status> {
        let request = pb::DeleteRangeRequest { key: bytes(key), ..Default::default() };
        Ok(within(REQUEST, self.kv().delete_range(request)).await?.deleted)
    }

    /// Reads a key, linearizably.
    pub async fn get(&self, key: &str) -> Result<Option<String>, Status> {
        self.read(key, false, REQUEST).await
    }

    /// Reads a key with another deadline, linearizably.
    pub async fn get_within(&self, key: &str, limit: Duration) -> Result<Option<String>, Status> {
        self.read(key, false, limit).await
    }

    /// Reads a key as this appliance has it, old or not.
    pub async fn get_here(&self, key: &str) -> Result<Option<String>, Status> {
        self.read(key, true, REQUEST).await
    }

    async fn read(&self, key: &str, serializable: bool, limit: Duration) -> Result<Option<String>, Status> {
        let request = pb::RangeRequest { key: bytes(key), serializable, ..Default::default() };
        let answer = within(limit, self.kv().range(request)).await?;
        Ok(answer.kvs.first().map(|pair| text(&pair.value)))
    }

    /// Every key and value, linearizably.
    pub async fn everything(&self) -> Result<BTreeMap<String, String>, Status> {
        let answer = within(REQUEST, self.kv().range(all(false))).await?;
        Ok(answer.kvs.iter().map(|pair| (text(&pair.key), text(&pair.value))).collect())
    }

    /// Every key and value as this appliance has them.
    pub async fn everything_here(&self) -> Result<BTreeMap<String, String>, Status> {
        let answer = within(REQUEST, self.kv().range(all(true))).await?;
        Ok(answer.kvs.iter().map(|pair| (text(&pair.key), text(&pair.value))).collect())
    }
}

fn all(serializable: bool) -> pb::RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    pb::RangeRequest { key, range_end, serializable, ..Default::default() }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Any call with a deadline.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("the test waited for {} s", limit.as_secs_f64()))),
    }
}

/// Errors after which etcd's clients try again.
fn is_retriable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    ) || status.message().contains("transport error")
        || status.message().contains("h2 protocol error")
}

/// Writers that go on until they are stopped.
pub struct Load {
    name: &'static str,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Written>>,
}

/// What the writers of a load share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    pulse: Mutex<Pulse>,
}

/// The last acknowledgement that any writer got, and the longest time without one.
#[derive(Default)]
struct Pulse {
    last: Option<Instant>,
    longest: Duration,
}

impl Shared {
    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        let now = Instant::now();
        let mut pulse = self.pulse.lock().unwrap();
        if let Some(last) = pulse.last.replace(now) {
            pulse.longest = pulse.longest.max(now - last);
        }
    }
}

/// What one writer did.
#[derive(Default)]
struct Written {
    acknowledged: u64,
    repeated: u64,
    slowest: Duration,
}

impl Load {
    /// Starts that many writers; they begin at one and the other appliance in turn.
    pub fn start(pair: &Pair, name: &'static str, writers: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let start = |writer: usize| {
            let mut clients = [A, B].map(|appliance| Client::new(&pair.client_url(appliance)));
            clients.rotate_left(writer % 2);
            tokio::spawn(write_on(format!("{name}/{writer:03}"), clients, shared.clone()))
        };
        Self { name, writers: (0..writers).map(start).collect(), shared: shared.clone() }
    }

    /// Waits for `count` further acknowledgements.
    pub async fn goes_on(&self, pair: &Pair, count: u64) {
        let wanted = self.shared.acknowledged.load(Ordering::SeqCst) + count;
        let probe = async || (self.shared.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(());
        pair.until(&format!("{count} more writes of the load {} are acknowledged", self.name), probe).await;
    }

    /// Ends it. Every writer first gets its last request acknowledged: none fails for good.
    pub async fn stop(self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut outcome = Outcome { name: self.name, writers: Vec::new() };
        for writer in self.writers {
            let written = tokio::time::timeout(PATIENCE, writer)
                .await
                .expect("every request is acknowledged in the end");
            outcome.writers.push(written.unwrap());
        }
        let repeated: u64 = outcome.writers.iter().map(|writer| writer.repeated).sum();
        let slowest = outcome.writers.iter().map(|writer| writer.slowest).max().unwrap_or_default();
        println!(
            "{}: {} writes of {} writers acknowledged, {repeated} attempts repeated; longest pause of all {} ms, slowest request \
             {} ms",
            self.name,
            outcome.acknowledged(),
            outcome.writers.len(),
            self.shared.pulse.lock().unwrap().longest.as_millis(),
            slowest.as_millis(),
        );
        outcome
    }
}

async fn write_on(name: String, clients: [Client; 2], shared: Arc<Shared>) -> Written {
    let mut written = Written::default();
    let mut turn = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let (key, value) = load_pair(&name, written.acknowledged);
        let start = Instant::now();
        while let Err(status) = clients[turn % 2].put_within(&key, &value, REQUEST).await {
            assert!(is_retriable(&status), "a client would give up: {status:?}");
            assert!(start.elapsed() < PATIENCE, "{key} is not acknowledged: {status:?}");
            written.repeated += 1;
            turn += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        shared.acknowledge();
        written.acknowledged += 1;
        written.slowest = written.slowest.max(start.elapsed());
    }
    written
}

fn load_pair(name: &str, number: u64) -> (String, String) {
    (format!("load/{name}/{number:06}"), format!("{name} {number}"))
}

/// What a load did.
pub struct Outcome {
    name: &'static str,
    writers: Vec<Written>,
}

impl Outcome {
    /// Writes acknowledged in all.
    pub fn acknowledged(&self) -> u64 {
        self.writers.iter().map(|writer| writer.acknowledged).sum()
    }

    /// Every acknowledged write is in `data`.
    pub fn is_in(&self, data: &BTreeMap<String, String>) {
        assert!(self.acknowledged() > 0, "the load {} did nothing", self.name);
        let mut missing = Vec::new();
        for (writer, written) in self.writers.iter().enumerate() {
            for number in 0..written.acknowledged {
                let (key, value) = load_pair(&format!("{}/{writer:03}", self.name), number);
                if data.get(&key) != Some(&value) {
                    missing.push(key);
                }
            }
        }
        let all = self.acknowledged();
        assert!(
            missing.is_empty(),
            "{} of {all} acknowledged writes are missing: {missing:?}",
            missing.len()
        );
    }
}
