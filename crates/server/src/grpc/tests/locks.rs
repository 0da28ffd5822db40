//! The Lock service, and the line that it shares with elections.

use duet_etcd_api::v3lockpb::lock_client::LockClient;
use duet_etcd_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};

use super::*;

type Locking = JoinHandle<Result<LockResponse, Status>>;

impl Machine {
    async fn lock(&self, name: &'static str, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest { name: bytes(name), lease };
        LockClient::new(self.channel().await).lock(request).await.map(tonic::Response::into_inner)
    }

    /// Locks in the background, and returns once the line has that many places.
    async fn locking(self: &Arc<Machine>, name: &'static str, lease: i64, places: usize) -> Locking {
        let machine = self.clone();
        let locking = tokio::spawn(async move { machine.lock(name, lease).await });
        self.line_has(name, places).await;
        locking
    }

    async fn unlock(&self, key: Bytes) -> i64 {
        let answer = LockClient::new(self.channel().await).unlock(UnlockRequest { key }).await.unwrap();
        answer.into_inner().header.unwrap().revision
    }

    pub(super) async fn grant(&self, id: i64) -> i64 {
        let request = pb::LeaseGrantRequest { ttl: 600, id };
        LeaseClient::new(self.channel().await).lease_grant(request).await.unwrap().into_inner().id
    }

    pub(super) async fn revoke(&self, id: i64) {
        let request = pb::LeaseRevokeRequest { id };
        LeaseClient::new(self.channel().await).lease_revoke(request).await.unwrap();
    }

    /// The keys of a line, the oldest first.
    pub(super) fn places(&self, name: &str) -> Vec<duet_mvcc::KeyValue> {
        let request = duet_mvcc::RangeRequest {
            key: bytes(&format!("{name}/")),
            range_end: bytes(&format!("{name}0")),
            sort_order: duet_mvcc::SortOrder::Ascend,
            sort_target: duet_mvcc::SortTarget::Create,
            ..Default::default()
        };
        self.handle.store().read().range(&request).unwrap().kvs
    }

    pub(super) async fn line_has(&self, name: &str, places: usize) {
        let long = tokio::time::timeout(PATIENCE, async {
            while self.places(name).len() != places {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        long.await.unwrap_or_else(|_| panic!("{places} places in {name}, not {:?}", self.places(name)));
    }

    fn leases(&self) -> Vec<i64> {
        self.handle.store().read().leases()
    }
}

fn refusal<T>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.err().expect("a refusal");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_lock_is_a_key_on_the_callers_lease() {
    let machine = Machine::primary().await;
    machine.grant(0xbeef).await;
    let held = machine.lock("jobs", 0xbeef).await.unwrap();
    assert_eq!((held.key.clone(), held.header.unwrap().revision), (bytes("jobs/beef"), 2));
    let place = &machine.places("jobs")[0];
    assert_eq!((place.value.len(), place.lease, place.version), (0, 0xbeef, 1));
    // The same lease again: the same place.
    let again = machine.lock("jobs", 0xbeef).await.unwrap();
    assert_eq!((again.key, again.header.unwrap().revision), (held.key.clone(), 2));
    assert_eq!(machine.places("jobs")[0].version, 1);
    assert_eq!(machine.unlock(held.key.clone()).await, 3);
    assert_eq!(machine.unlock(held.key).await, 3);
    assert!(machine.places("jobs").is_empty());
}

#[tokio::test]
async fn a_caller_without_a_lease_gets_one_of_a_minute() {
    let machine = Machine::primary().await;
    let held = machine.lock("jobs", 0).await.unwrap();
    let lease = machine.places("jobs")[0].lease;
    assert_eq!(held.key, bytes(&format!("jobs/{lease:x}")));
    let granted =
        machine.handle.store().read().lease_time_to_live(lease, false).map(|lease| lease.granted_ttl);
    assert_eq!(granted, Some(60));
}

#[tokio::test]
async fn an_unknown_lease_and_an_empty_key_are_refused_as_by_etcd() {
    let machine = Machine::primary().await;
    let unknown = (Code::Unknown, "etcdserver: requested lease not found".to_owned());
    assert_eq!(refusal(machine.lock("jobs", 77).await), unknown);
    let mut client = LockClient::new(machine.channel().await);
    let unlocked = client.unlock(UnlockRequest::default()).await;
    assert_eq!(refusal(unlocked), (Code::Unknown, "etcdserver: key is not provided".to_owned()));
}

#[tokio::test]
async fn whoever_waits_gets_the_lock_in_the_order_of_coming() {
    let machine = Arc::new(Machine::primary().await);
    let mut holder = machine.lock("jobs", machine.grant(1).await).await.unwrap();
    let mut waiting = Vec::new();
    for lease in 2..=4 {
        machine.grant(lease).await;
        waiting.push(machine.locking("jobs", lease, usize::try_from(lease).unwrap()).await);
    }
    for (lease, next) in (2..).zip(waiting) {
        assert!(!next.is_finished());
        let released = machine.unlock(holder.key).await;
        holder = next.await.unwrap().unwrap();
        assert_eq!(holder.key, bytes(&format!("jobs/{lease}")));
        assert_eq!(holder.header.unwrap().revision, released);
    }
}

#[tokio::test]
async fn a_holder_whose_lease_ends_makes_way() {
    let machine = Arc::new(Machine::primary().await);
    machine.lock("jobs", machine.grant(1).await).await.unwrap();
    let waiting = machine.locking("jobs", 0, 2).await;
    machine.revoke(1).await;
    let held = waiting.await.unwrap().unwrap();
    assert_eq!(machine.places("jobs")[0].key, held.key);
}

#[tokio::test]
async fn a_waiter_in_the_middle_that_leaves_lets_nobody_pass_the_holder() {
    let machine = Arc::new(Machine::primary().await);
    let holder = machine.lock("jobs", machine.grant(1).await).await.unwrap();
    let middle = machine.locking("jobs", machine.grant(2).await, 2).await;
    let last = machine.locking("jobs", machine.grant(3).await, 3).await;
    middle.abort();
    machine.line_has("jobs", 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!last.is_finished());
    machine.unlock(holder.key).await;
    assert_eq!(last.await.unwrap().unwrap().key, bytes("jobs/3"));
}

#[tokio::test]
async fn a_call_that_ends_takes_its_key_and_its_lease_with_it() {
    let machine = Arc::new(Machine::primary().await);
    machine.lock("jobs", machine.grant(1).await).await.unwrap();
    // By its own deadline.
    let mut request = tonic::Request::new(LockRequest { name: bytes("jobs"), lease: machine.grant(2).await });
    request.set_timeout(Duration::from_millis(300));
    let waiting = LockClient::new(machine.channel().await).lock(request).await;
    // The client's own clock or the server's, whichever was quicker.
    let code = waiting.unwrap_err().code();
    assert!(matches!(code, Code::Cancelled | Code::DeadlineExceeded), "{code:?}");
    machine.line_has("jobs", 1).await;
    assert_eq!(machine.leases(), [1, 2], "its own lease is the caller's");
    // Because nobody waits for it any more.
    let waiting = machine.locking("jobs", 0, 2).await;
    assert_eq!(machine.leases().len(), 3);
    waiting.abort();
    machine.line_has("jobs", 1).await;
    assert_eq!(machine.leases(), [1, 2], "the lease made for the call is gone");
}

#[tokio::test]
async fn a_waiter_whose_lease_ends_is_told_at_once() {
    let machine = Arc::new(Machine::primary().await);
    machine.lock("jobs", machine.grant(1).await).await.unwrap();
    let waiting = machine.locking("jobs", machine.grant(2).await, 2).await;
    machine.revoke(2).await;
    assert_eq!(refusal(waiting.await.unwrap()), (Code::Unknown, "mutex: session is expired".to_owned()));
    // A key of the same name that somebody makes anew is another place.
    let waiting = machine.locking("jobs", machine.grant(3).await, 2).await;
    let mut kv = machine.kv().await;
    kv.delete_range(pb::DeleteRangeRequest { key: bytes("jobs/3"), ..Default::default() }).await.unwrap();
    put(&mut kv, "jobs/3", "not its").await;
    assert_eq!(refusal(waiting.await.unwrap()).1, "mutex: session is expired");
    assert_eq!(machine.places("jobs").len(), 2, "and is left alone");
}

#[tokio::test]
async fn a_waiting_call_outlasts_a_time_without_a_primary() {
    let machine = Arc::new(Machine::primary().await);
    let holder = machine.lock("jobs", machine.grant(1).await).await.unwrap();
    let waiting = machine.locking("jobs", machine.grant(2).await, 2).await;
    machine.follow(None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The holder's key went while this appliance followed somebody.
    let gone = duet_mvcc::DeleteRangeRequest { key: holder.key, ..Default::default() };
    machine.handle.store().write().apply(&Command::DeleteRange(gone));
    tokio::time::sleep(super::super::REQUEST_TIMEOUT + Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    machine.promote(2);
    assert_eq!(waiting.await.unwrap().unwrap().key, bytes("jobs/2"));
}

#[tokio::test]
async fn a_secondary_locks_at_the_primary() {
    let primary = Machine::primary().await;
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    secondary.follow(Some(&primary));
    let held = secondary.lock("jobs", 0).await.unwrap();
    assert_eq!(primary.places("jobs")[0].key, held.key);
    assert_eq!(held.header.unwrap().member_id, 11);
    assert!(secondary.places("jobs").is_empty());
}

#[tokio::test]
async fn a_stopping_appliance_sends_whoever_waits_elsewhere() {
    let mut machine = Machine::primary().await;
    machine.lock("jobs", machine.grant(1).await).await.unwrap();
    machine.grant(2).await;
    let mut client = LockClient::new(machine.channel().await);
    let waiting =
        tokio::spawn(async move { client.lock(LockRequest { name: bytes("jobs"), lease: 2 }).await });
    machine.line_has("jobs", 2).await;
    machine.stop.take().unwrap().send(()).unwrap();
    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(refusal(waiting.await.unwrap()), stopped);
}
