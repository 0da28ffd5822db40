//! Two API servers on a pair, through a handover and a kill -9: optimistic writes of both, caches that list and watch,
//! compaction, and objects that pass with their lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;
use tokio::time::Duration;

use crate::api_server::{ApiServer, Outcome, REGISTRY};
use crate::harness::{A, B, Pair, Witness, run};
use crate::watch_cache::{Objects, WatchCache};

/// Written by everybody, with a compare of its revision: a lost or a doubled update shows in its number.
const SHARED: &str = "/registry/configmaps/default/shared";

/// Controllers, each at one of the two API servers.
const CONTROLLERS: usize = 6;

/// Pause of the compactors. Theirs is five minutes.
const COMPACTION: Duration = Duration::from_millis(700);

/// What a controller did.
#[derive(Default)]
struct Work {
    /// Updates of the shared object that were acknowledged.
    increments: u64,
    /// Updates of which nobody knows.
    unknown: u64,
}

/// What all have met so far.
#[derive(Default)]
struct Met {
    /// Updates that somebody else's forestalled.
    conflicts: AtomicU64,
    compactions: AtomicU64,
    stop: AtomicBool,
}

impl Met {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Conflicts and compactions.
    fn counts(&self) -> (u64, u64) {
        (self.conflicts.load(Ordering::SeqCst), self.compactions.load(Ordering::SeqCst))
    }
}

async fn control(server: ApiServer, number: usize, met: Arc<Met>) -> Work {
    let mut work = Work::default();
    let mut round = 0;
    while !met.stops() {
        increment(&server, &mut work, &met).await;
        pod(&server, number, round).await;
        round += 1;
    }
    work
}

/// Reads, changes and writes, until it is done and nobody was quicker.
async fn increment(server: &ApiServer, work: &mut Work, met: &Met) {
    for turn in 0.. {
        let object = server.get(SHARED).await.expect("it is never deleted");
        let count: u64 = String::from_utf8_lossy(&object.value).parse().expect("a number");
        let next = (count + 1).to_string();
        match server.update(turn, SHARED, object.mod_revision, &next).await {
            Outcome::Done(revision) => {
                assert!(revision > object.mod_revision);
                work.increments += 1;
                return;
            }
            Outcome::Conflict(found) => {
                let found = found.expect("it is never deleted");
                // A conflict may be with this controller's own update, of which it was not told.
                assert!(found.mod_revision > object.mod_revision, "a conflict with what was read: {found:?}");
                met.conflicts.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::Unknown => work.unknown += 1,
        }
    }
}

/// An object's life: created, its status written, deleted; each step as often as it takes.
async fn pod(server: &ApiServer, number: usize, round: usize) {
    let key = format!("/registry/pods/default/pod-{number}-{round:04}");
    for turn in 0.. {
        match server.create(turn, &key, "Pending", 0).await {
            Outcome::Done(_) => break,
            // Ours all the same, when the answer was lost.
            Outcome::Conflict(found) => {
                assert_eq!(found.expect("it is there").value, "Pending");
                break;
            }
            Outcome::Unknown => {}
        }
    }
    for turn in 0.. {
        let object = server.get(&key).await.expect("created by us");
        if object.value == "Running" {
            break;
        }
        server.update(turn, &key, object.mod_revision, "Running").await;
    }
    // Every third stays.
    for turn in 0.. {
        let Some(object) = server.get(&key).await.filter(|_| !round.is_multiple_of(3)) else { return };
        server.delete(turn, &key, object.mod_revision).await;
    }
}

async fn compactor(server: ApiServer, met: Arc<Met>) {
    let (mut version, mut revision) = (0, 0);
    for turn in 0.. {
        if met.stops() {
            break;
        }
        if let Ok((next, now)) = server.compact(turn, version, revision).await {
            met.compactions.fetch_add(u64::from(next == version + 1 && revision > 0), Ordering::SeqCst);
            (version, revision) = (next, now);
        }
        tokio::time::sleep(COMPACTION).await;
    }
}

struct Cluster {
    servers: [ApiServer; 2],
    caches: [WatchCache; 2],
    met: Arc<Met>,
    controllers: Vec<JoinHandle<Work>>,
    compactors: Vec<JoinHandle<()>>,
}

impl Cluster {
    async fn start(pair: &Pair) -> Cluster {
        let servers = [0, 1].map(|prefers| ApiServer::new(pair, prefers));
        let created = servers[0].create(0, SHARED, "0", 0).await;
        assert!(matches!(created, Outcome::Done(_)), "{created:?}");
        let met = Arc::new(Met::default());
        let controllers = (0..CONTROLLERS)
            .map(|number| tokio::spawn(control(servers[number % 2].clone(), number, met.clone())))
            .collect();
        let compactors =
            servers.iter().map(|server| tokio::spawn(compactor(server.clone(), met.clone()))).collect();
        let caches = servers.clone().map(WatchCache::start);
        Cluster { servers, caches, met, controllers, compactors }
    }

    /// Waits for further updates of the shared object.
    async fn goes_on(&self, pair: &Pair) {
        let count = async || {
            let object = self.servers[0].get(SHARED).await.expect("it is never deleted");
            String::from_utf8_lossy(&object.value).parse::<u64>().expect("a number")
        };
        let wanted = count().await + 40;
        pair.until("the controllers go on", async || (count().await >= wanted).then_some(())).await;
    }

    /// Everybody stops, and everything must fit together.
    async fn check(self, pair: &Pair) {
        let met = async || (self.met.counts().0 > 0 && self.met.counts().1 > 0).then_some(());
        pair.until("controllers met each other, and a compaction", met).await;
        self.met.stop.store(true, Ordering::SeqCst);
        let mut all = Work::default();
        for controller in self.controllers {
            let work = controller.await.expect("no controller fails");
            all.increments += work.increments;
            all.unknown += work.unknown;
        }
        for compactor in self.compactors {
            compactor.await.expect("no compactor fails");
        }
        let object = self.servers[0].get(SHARED).await.expect("it is never deleted");
        let count: u64 = String::from_utf8_lossy(&object.value).parse().expect("a number");
        let most = all.increments + all.unknown;
        assert!(
            (all.increments..=most).contains(&count),
            "{count} updates are there, {} were acknowledged, {} are unknown",
            all.increments,
            all.unknown
        );
        let mut told = Vec::new();
        for (server, cache) in self.servers.iter().zip(&self.caches) {
            let (listed, revision) = server.list(REGISTRY, 11).await.expect("nobody compacts any more");
            let listed: Objects =
                listed.into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision))).collect();
            let cached = cache.at(pair, revision).await;
            assert_eq!(cached.objects, listed, "a cache differs from a list at revision {revision}");
            assert!(cached.progress > 0, "no cache was ever told how far its watch is");
            told.push(format!(
                "{} lists, {} watches, {} progress",
                cached.lists, cached.watches, cached.progress
            ));
        }
        let (conflicts, compactions) = self.met.counts();
        println!(
            "{count} updates, {conflicts} conflicts, {} unknown, {compactions} compactions; caches: {told:?}",
            all.unknown
        );
    }
}

#[test]
fn api_servers_go_on_through_handovers() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let cluster = Cluster::start(&pair).await;
        for (from, to) in [(A, B), (B, A)] {
            cluster.goes_on(&pair).await;
            pair.order(from, "switchover").await.unwrap();
            pair.until_primary(to).await;
            pair.until_paired().await;
        }
        cluster.goes_on(&pair).await;
        cluster.check(&pair).await;
    });
}

#[test]
fn api_servers_go_on_after_the_primary_was_killed() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let cluster = Cluster::start(&pair).await;
        for (dies, other) in [(A, B), (B, A)] {
            cluster.goes_on(&pair).await;
            pair.crash(dies).await;
            pair.until_primary(other).await;
            cluster.goes_on(&pair).await;
            pair.start_appliance(dies).await;
            pair.until_paired().await;
        }
        cluster.goes_on(&pair).await;
        cluster.check(&pair).await;
    });
}

#[test]
fn a_page_of_a_compacted_list_is_refused() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let [at_a, at_b] = [0, 1].map(|prefers| ApiServer::new(&pair, prefers));
        for number in 0..5 {
            at_a.create(0, &format!("/registry/pods/{number}"), "v", 0).await;
        }
        let (listed, revision) = at_b.list(REGISTRY, 2).await.unwrap();
        assert_eq!(listed.len(), 5);
        at_a.create(0, "/registry/pods/late", "v", 0).await;
        // The first round learns the revision, the second one compacts there.
        let (version, now) = at_a.compact(0, 0, 0).await.unwrap();
        at_b.compact(0, version, now).await.unwrap();
        let next_page = duet_etcd_api::etcdserverpb::RangeRequest {
            key: crate::api_server::bytes("/registry/pods/1\0"),
            range_end: crate::api_server::end_of(REGISTRY),
            limit: 2,
            revision,
            ..Default::default()
        };
        let status = at_b.client(0).kv().range(next_page).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
        // Whoever was not the compactor this time learns the version.
        let (learnt, _) = at_a.compact(0, 1, 0).await.unwrap();
        assert_eq!(learnt, 2);
    });
}

#[test]
fn an_event_object_passes_with_its_lease() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let server = ApiServer::new(&pair, 1);
        // One lease for many objects, as the API server's lease manager has it.
        let lease = server.lease(2).await;
        for number in 0..3 {
            let created = server.create(0, &format!("/registry/events/{number}"), "v", lease).await;
            assert!(matches!(created, Outcome::Done(_)), "{created:?}");
        }
        let again = server.create(0, "/registry/events/0", "v", lease).await;
        assert!(matches!(again, Outcome::Conflict(Some(_))), "{again:?}");
        let gone = async || server.get("/registry/events/0").await.is_none().then_some(());
        pair.until("the events are gone", gone).await;
        assert_eq!(server.list("/registry/events/", 10).await.unwrap().0, []);
    });
}
