//! Linearizable reads at the secondary: it answers them itself, with one question to the primary for many, and never with
//! anything older than what was acknowledged, or read anywhere, before they began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_protocol::ApplianceId;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::client::{Client, REQUEST, within};
use crate::harness::{A, B, Pair, Witness, run};

const COUNTER: &str = "counter";

/// What everybody knows: the highest number that was acknowledged or read.
type Known = Arc<AtomicU64>;

/// Who answered a linearizable read, and the number.
async fn read(client: &Client) -> Result<(u64, u64), Status> {
    let request = pb::RangeRequest { key: Bytes::from_static(COUNTER.as_bytes()), ..Default::default() };
    let answer = within(REQUEST, client.kv().range(request)).await?;
    let number = answer.kvs.first().map_or(0, |kv| String::from_utf8_lossy(&kv.value).parse().unwrap());
    Ok((answer.header.unwrap().member_id, number))
}

/// Readers that never rest.
struct Readers {
    stop: Arc<AtomicBool>,
    /// Answers of the appliance that was asked.
    own: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    async fn start(pair: &Pair, at: ApplianceId, known: &Known, count: usize) -> Self {
        let (stop, own) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let status = pair.client(at).maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
        let me = status.header.unwrap().member_id;
        let tasks = (0..count).map(|_| {
            let client = Client::new(&pair.client_url(at));
            let (stop, own, known) = (stop.clone(), own.clone(), known.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let floor = known.load(Ordering::SeqCst);
                    let Ok((who, number)) = read(&client).await else { continue };
                    assert!(number >= floor, "read {number}, but {floor} was known before the read began");
                    known.fetch_max(number, Ordering::SeqCst);
                    own.fetch_add(u64::from(who == me), Ordering::SeqCst);
                }
            })
        });
        Self { tasks: tasks.collect(), stop, own }
    }

    /// Waits for so many more answers of the appliance that is asked.
    async fn go_on(&self, pair: &Pair, count: u64) {
        let wanted = self.own.load(Ordering::SeqCst) + count;
        let probe = async || {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            (failed || self.own.load(Ordering::SeqCst) >= wanted).then_some(())
        };
        pair.until(&format!("{count} more reads are answered by the appliance that is asked"), probe).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn count_up(pair: &Pair, through: ApplianceId, known: &Known, times: u64) {
    for _ in 0..times {
        let next = known.load(Ordering::SeqCst) + 1;
        let probe = async || pair.client(through).put(COUNTER, &next.to_string()).await.ok();
        pair.until(&format!("{through} counts up"), probe).await;
        known.fetch_max(next, Ordering::SeqCst);
    }
}

#[test]
fn reads_at_both_appliances_see_whatever_was_acknowledged_or_read_before() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let known = Known::default();
        for (primary, secondary) in [(A, B), (B, A)] {
            pair.until_in_sync().await;
            let at_secondary = Readers::start(&pair, secondary, &known, 8).await;
            let at_primary = Readers::start(&pair, primary, &known, 8).await;
            for _ in 0..10 {
                count_up(&pair, primary, &known, 20).await;
                at_secondary.go_on(&pair, 50).await;
                at_primary.go_on(&pair, 50).await;
            }
            // Now what a question to the primary is worth: it stands still, is succeeded, and goes on with what it had.
            pair.process(primary).pause();
            pair.until_primary(secondary).await;
            count_up(&pair, secondary, &known, 20).await;
            at_secondary.go_on(&pair, 50).await;
            pair.process(primary).resume();
            at_primary.go_on(&pair, 50).await;
            count_up(&pair, secondary, &known, 20).await;
            at_primary.go_on(&pair, 50).await;
            at_secondary.stop().await;
            at_primary.stop().await;
        }
    });
}
