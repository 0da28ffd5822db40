//! A line in which callers of Lock and Campaign wait for their turn.
//!
//! The line is the keys below `name/`, in the order of their creation; whoever has the oldest has its turn. The keys
//! are etcd's: `name/` and the lease in hexadecimal. So clients with a recipe of their own, `etcdctl lock` and `elect`
//! among them, stand in the same line.
//!
//! A caller waits for the last key before its own, not for all of them: one departure wakes one caller. Waiting needs
//! only the local store, which hears of every deletion in time, so it outlasts any change of roles; whose turn it is
//! the primary says. A call that ends early takes its key with it.

use std::convert::Infallible;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_mvcc::{KeyRange, RangeRequest};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep};
use tonic::Status;

use super::call::Call;
use super::caller::{Caller, SESSION_TTL, kvs, step_failed};
use super::errors::{ApiError, STOPPED, refused};
use super::keys::{self, created_at, get, newest_up_to, oldest, put, range};
use super::lease::renew;
use super::{PRIMARY_POLL, REQUEST_TIMEOUT};

/// How often a session's lease is renewed while its caller waits.
const RENEWAL: Duration = Duration::from_secs(SESSION_TTL.unsigned_abs() / 3);

/// How long taking a key out of the line is tried. A session's lease has ended by then.
const LEAVING: Duration = Duration::from_secs(SESSION_TTL.unsigned_abs());

/// What to stand in line for, and with what.
pub struct Wish {
    /// The lock's or the election's name.
    pub name: Bytes,
    /// The caller's lease; 0 if it has none.
    pub lease: i64,
    /// What the key shall hold.
    pub value: Bytes,
    /// What to say to somebody whose key is gone before its turn came.
    pub key_lost: ApiError,
}

/// A key in a line.
pub struct Place {
    /// The key.
    pub key: Bytes,
    /// The revision at which it was created.
    pub created: i64,
    /// The lease it hangs on.
    pub lease: i64,
}

/// A caller's turn.
pub struct Turn {
    /// Its key.
    pub place: Place,
    /// The header of the step that took the place.
    pub taken: Option<pb::ResponseHeader>,
    /// The header of the answer that said that nobody is before it.
    pub header: Option<pb::ResponseHeader>,
}

/// A place just taken, or found.
struct Entered {
    place: Place,
    header: Option<pb::ResponseHeader>,
    /// Nobody was before it.
    first: bool,
    /// What the key held, if it was there already.
    former: Option<Bytes>,
    /// The lease was made for this call.
    own_lease: bool,
}

/// Takes a place in the line and waits for its turn. If the returned future is dropped, the place is given up.
pub async fn wait_in_line(caller: Caller, wish: Wish) -> Result<Turn, Status> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(stand(caller, wish, answer));
    answered.await.unwrap_or_else(|_| Err(STOPPED.into()))
}

/// A task of its own, since it outlasts a caller that leaves: what it wrote must be taken back.
async fn stand(caller: Caller, wish: Wish, mut answer: oneshot::Sender<Result<Turn, Status>>) {
    let entered = match enter(&caller, &wish).await {
        Ok(entered) => entered,
        Err(status) => {
            // Nobody to tell is no matter: there is no key.
            let _ = answer.send(Err(step_failed(status)));
            return;
        }
    };
    let came = tokio::select! {
        came = turn(&caller, &wish, &entered) => came.map_err(step_failed),
        never = keep_alive(&caller, &entered) => match never {},
        over = caller.over() => Err(over),
        () = answer.closed() => Err(Status::cancelled("context canceled")),
    };
    let Entered { place, header: taken, own_lease, .. } = entered;
    let (key, created, lease) = (place.key.clone(), place.created, own_lease.then_some(place.lease));
    let came = came.map(|header| Turn { place, taken, header });
    let stays = came.is_ok();
    let heard = answer.send(came).is_ok();
    if !(stays && heard) {
        leave(&caller, &key, created, lease).await;
    }
}

/// Creates the caller's key, or finds it there: with one lease a caller has one place.
async fn enter(caller: &Caller, wish: &Wish) -> Result<Entered, Status> {
    let own_lease = wish.lease == 0;
    let lease = if own_lease { caller.session().await? } else { wish.lease };
    let line = keys::line(&wish.name);
    let key = keys::place(&line, lease);
    let request = pb::TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![put(&key, &wish.value, lease), range(oldest(&line))],
        failure: vec![get(&key), range(oldest(&line))],
    };
    // Creating it twice is creating it once.
    let answer = caller.repeatable_txn(&request).await?;
    let header = answer.header;
    let there = if answer.succeeded { None } else { kvs(&answer.responses, 0).first() };
    let created = there.map_or_else(|| header.map_or(0, |header| header.revision), |kv| kv.create_revision);
    let first = kvs(&answer.responses, 1).first().is_some_and(|oldest| oldest.key == key);
    let former = there.map(|kv| kv.value.clone());
    Ok(Entered { place: Place { key, created, lease }, header, first, former, own_lease })
}

/// Waits until nobody is before the caller.
async fn turn(caller: &Caller, wish: &Wish, entered: &Entered) -> Result<Option<pb::ResponseHeader>, Status> {
    let place = &entered.place;
    if entered.former.as_ref().is_some_and(|former| *former != wish.value) {
        rewrite(caller, place, &wish.value).await?.ok_or(wish.key_lost)?;
    }
    if entered.first {
        return Ok(entered.header);
    }
    let before = newest_up_to(&keys::line(&wish.name), place.created - 1);
    let look = pb::TxnRequest { success: vec![range(before), get(&place.key)], ..Default::default() };
    loop {
        let answer = caller.patient_txn(&look).await?;
        if kvs(&answer.responses, 1).first().is_none_or(|own| own.create_revision != place.created) {
            return Err(wish.key_lost.into());
        }
        let Some(before) = kvs(&answer.responses, 0).first() else { return Ok(answer.header) };
        until_gone(caller, &before.key, before.create_revision, place).await?;
    }
}

/// Sets the value of a key that must still be the one it was; the answer's header, or `None` if it is not.
pub async fn rewrite(
    caller: &Caller,
    place: &Place,
    value: &Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let request = pb::TxnRequest {
        compare: vec![created_at(&place.key, place.created)],
        success: vec![put(&place.key, value, place.lease)],
        ..Default::default()
    };
    let answer = caller.txn(request).await?;
    Ok(answer.header.filter(|_| answer.succeeded))
}

/// Returns when the key that was created at `created` is gone, or `place` is.
async fn until_gone(caller: &Caller, key: &Bytes, created: i64, place: &Place) -> Result<(), Status> {
    // Registered before the store is looked at: whatever is applied later raises the signal.
    let mut subscription = caller.api.hub().open();
    subscription.add(&KeyRange::Single(key.clone()));
    subscription.add(&KeyRange::Single(place.key.clone()));
    loop {
        // A secondary may be behind: then it has yet to hear of the keys.
        if caller.api.revision() >= place.created
            && !(is_there(caller, key, created)? && is_there(caller, &place.key, place.created)?)
        {
            return Ok(());
        }
        subscription.signal().raised().await;
    }
}

/// Whether the local store has the key that was created at `created`.
fn is_there(caller: &Caller, key: &Bytes, created: i64) -> Result<bool, Status> {
    let request = RangeRequest { key: key.clone(), keys_only: true, ..Default::default() };
    let answer = caller.api.handle().store().read().range(&request).map_err(|error| refused(&error))?;
    Ok(answer.kvs.first().is_some_and(|kv| kv.create_revision == created))
}

/// Renews a lease that was made for this call; a caller renews its own.
async fn keep_alive(caller: &Caller, entered: &Entered) -> Infallible {
    if !entered.own_lease {
        return std::future::pending().await;
    }
    loop {
        sleep(RENEWAL).await;
        let request = pb::LeaseKeepAliveRequest { id: entered.place.lease };
        if let Err(status) = renew(&caller.api, &Call::internal(REQUEST_TIMEOUT), request).await {
            tracing::debug!(lease = request.id, %status, "a waiting caller's lease was not renewed, it is tried again");
        }
    }
}

/// Takes a key out of the line, and the lease that was made for it.
async fn leave(caller: &Caller, key: &Bytes, created: i64, own_lease: Option<i64>) {
    let until = Instant::now() + LEAVING;
    loop {
        let left = match own_lease {
            Some(lease) => caller.end_session(lease).await,
            None => resign(caller, key, created).await.map(|_| ()),
        };
        match left {
            Err(status) if status.code() == tonic::Code::Unavailable && Instant::now() < until => {
                if caller.api.stopping().has_begun() {
                    return;
                }
                sleep(PRIMARY_POLL).await;
            }
            // A refusal says that lease or key are gone already.
            _ => return,
        }
    }
}

/// Deletes a key if it is still the one that was created at `created`.
pub async fn resign(
    caller: &Caller,
    key: &Bytes,
    created: i64,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let request = pb::TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![keys::delete(key)],
        ..Default::default()
    };
    Ok(caller.repeatable_txn(&request).await?.header)
}
