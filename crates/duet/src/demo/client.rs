//! The demo's own etcd client: single writes and reads, and a writer that never gives up and measures the pause.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::{PutRequest, RangeRequest};
use tonic::transport::{Channel, Endpoint};

use crate::bench::load::status_in_words;
use crate::error::Failure;

/// One request of the story: well above any pause that is promised, well below a reader's patience.
const REQUEST_DEADLINE: Duration = Duration::from_secs(8);
/// One attempt of the steady writer. An appliance that waits for a new primary answers once there is one.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(2);
/// Between two writes of the steady writer: a pause is measured to about this.
const BEAT: Duration = Duration::from_millis(1);
/// After a failed attempt, before the other appliance is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// Where the steady writer's keys begin.
const PREFIX: &str = "demo/steady/";

/// A client of one appliance.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|_| Failure::new(format!("{url} is not an address"), "please report it"))?
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true);
        Ok(Self { kv: KvClient::new(endpoint.connect_lazy()) })
    }

    /// Writes a key; gives the revision.
    pub async fn put(&self, key: &str, value: &str) -> Result<i64, String> {
        self.put_within(key, value, REQUEST_DEADLINE).await
    }

    /// The same with another deadline.
    pub async fn put_within(&self, key: &str, value: &str, limit: Duration) -> Result<i64, String> {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        };
        let mut kv = self.kv.clone();
        let answer = within(limit, kv.put(request)).await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    /// Reads a key, linearizably.
    pub async fn get(&self, key: &str) -> Result<Option<String>, String> {
        let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        let mut kv = self.kv.clone();
        let answer = within(REQUEST_DEADLINE, kv.range(request)).await?;
        Ok(answer.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned()))
    }

    /// All keys below a prefix, linearizably.
    async fn below(&self, prefix: &str) -> Result<HashMap<Bytes, Bytes>, String> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let key = Bytes::copy_from_slice(prefix.as_bytes());
        let request = RangeRequest { key, range_end: end.into(), ..Default::default() };
        let mut kv = self.kv.clone();
        let answer = within(REQUEST_DEADLINE, kv.range(request)).await?;
        Ok(answer.kvs.into_iter().map(|pair| (pair.key, pair.value)).collect())
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status_in_words(&status)),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// A writer that goes on until it is stopped: each write is repeated, at the one appliance and the other, until it is
/// acknowledged. Repeating is safe here because every write has a key of its own.
pub struct SteadyWriter {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Written>,
}

/// What a steady writer did.
#[derive(Clone, Debug)]
pub struct Written {
    name: String,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Attempts that failed and were repeated.
    pub repeated: u64,
    /// The longest time between two acknowledgements.
    pub longest_pause: Duration,
}

impl SteadyWriter {
    /// Begins to write, at the first client as long as that works.
    pub fn start(name: &str, clients: Vec<Client>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write_on(name.to_owned(), clients, stop.clone()));
        Self { stop, task }
    }

    /// Ends it after the write that is under way.
    pub async fn stop(self) -> Result<Written, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        match tokio::time::timeout(REQUEST_DEADLINE, self.task).await {
            Ok(Ok(written)) => Ok(written),
            _ => Err(Failure::new("the steady writer gets no write acknowledged any more", "see the logs")),
        }
    }
}

async fn write_on(name: String, clients: Vec<Client>, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written { name, acknowledged: 0, repeated: 0, longest_pause: Duration::ZERO };
    let mut turn = 0;
    let mut last: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let number = written.acknowledged;
        let key = format!("{PREFIX}{}/{number:08}", written.name);
        while clients[turn % clients.len()]
            .put_within(&key, &number.to_string(), ATTEMPT_DEADLINE)
            .await
            .is_err()
        {
            if stop.load(Ordering::Relaxed) {
                return written;
            }
            written.repeated += 1;
            turn += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        let now = Instant::now();
        if let Some(last) = last {
            written.longest_pause = written.longest_pause.max(now - last);
        }
        last = Some(now);
        written.acknowledged += 1;
        tokio::time::sleep(BEAT).await;
    }
    written
}

impl Written {
    /// Whether every acknowledged write can be read at `client`.
    pub async fn check(&self, client: &Client) -> Result<(), String> {
        let found = client.below(&format!("{PREFIX}{}/", self.name)).await?;
        let missing = (0..self.acknowledged).filter(|number| {
            let key = Bytes::from(format!("{PREFIX}{}/{number:08}", self.name));
            found.get(&key).is_none_or(|value| *value != number.to_string().as_bytes())
        });
        match missing.count() {
            0 => Ok(()),
            lost => Err(format!("{lost} of {} acknowledged writes are missing", self.acknowledged)),
        }
    }

    /// "1234 writes, longest pause 12 ms, all there".
    pub fn in_words(&self) -> String {
        format!(
            "{} writes acknowledged meanwhile, all of them there; longest pause {} ms",
            self.acknowledged,
            self.longest_pause.as_millis()
        )
    }
}
