//! Ordinary use of Rust's `etcd-client`, and its use while the primary leaves and dies. This client knows both endpoints
//! and chooses by itself. See program.rs for the lines that begin with `> `.

use std::time::{Duration, Instant};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, LockOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(50);

async fn connect(endpoints: &[&str]) -> Result<Client, Error> {
    let options = ConnectOptions::new().with_timeout(Duration::from_secs(5)).with_require_leader(true);
    Client::connect(endpoints, Some(options)).await
}

async fn keys_and_values(client: &mut Client) -> Result<(), Error> {
    client.put("k/a", "1", None).await?;
    client.put("k/b", "2", None).await?;
    let before = client.put("k/a", "3", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(before.prev_key().unwrap().value(), b"1");
    let descending = GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend);
    let all = client.get("k/", Some(descending)).await?;
    let values: Vec<_> = all.kvs().iter().map(|kv| kv.value()).collect();
    assert_eq!(values, [b"2", b"3"]);
    let counted = client.get("k/", Some(GetOptions::new().with_prefix().with_count_only())).await?;
    assert_eq!((counted.count(), counted.kvs().len()), (2, 0));
    let refused = client.get("k/a", Some(GetOptions::new().with_revision(i64::MAX))).await;
    let Err(Error::GRpcStatus(refused)) = refused else { panic!("a future revision is served") };
    assert_eq!(refused.message(), "etcdserver: mvcc: required revision is a future revision");
    let deleted = client.delete("k/", Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<(), Error> {
    client.put("t/1", "one", None).await?;
    let nested = Txn::new()
        .when([Compare::version("t/none", CompareOp::Greater, 0)])
        .and_then([TxnOp::put("t/3", "never", None)])
        .or_else([TxnOp::get("t/1", None)]);
    let txn = Txn::new()
        .when([Compare::value("t/1", CompareOp::Equal, "one")])
        .and_then([TxnOp::put("t/2", "two", None), TxnOp::txn(nested)])
        .or_else([TxnOp::delete("t/1", None)]);
    let answer = client.txn(txn).await?;
    assert!(answer.succeeded());
    let Some(TxnOpResponse::Txn(inner)) = answer.op_responses().pop() else { panic!("no nested answer") };
    assert!(!inner.succeeded());
    Ok(())
}

async fn leases(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    client.put("l/1", "x", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await?;
    for _ in 0..2 {
        keeper.keep_alive().await?;
        assert_eq!(kept.message().await?.unwrap().ttl(), 60);
    }
    assert!(client.leases().await?.leases().iter().any(|it| it.id() == lease));
    client.lease_revoke(lease).await?;
    assert!(client.get("l/1", None).await?.kvs().is_empty());
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    Ok(())
}

async fn locks_and_elections(client: &mut Client, other: &mut Client) -> Result<(), Error> {
    let leases = [client.lease_grant(30, None).await?.id(), other.lease_grant(30, None).await?.id()];
    let lock = client.lock("work", Some(LockOptions::new().with_lease(leases[0]))).await?;
    let mut waiting = other.clone();
    let waiter =
        tokio::spawn(async move { waiting.lock("work", Some(LockOptions::new().with_lease(leases[1]))).await });
    sleep(PAUSE * 4).await;
    assert!(!waiter.is_finished(), "two hold one lock");
    client.unlock(lock.key()).await?;
    let second = timeout(PATIENCE, waiter).await.expect("the lock is free").unwrap()?;
    other.unlock(second.key()).await?;

    let elected = client.campaign("chair", "first", leases[0]).await?;
    let leader = other.leader("chair").await?;
    assert_eq!(leader.kv().unwrap().value(), b"first");
    let mut observed = other.observe("chair").await?;
    let seen = observed.message().await?.unwrap();
    assert_eq!(seen.kv().unwrap().value(), b"first");
    let key = elected.leader().unwrap().clone();
    client.proclaim("second", Some(etcd_client::ProclaimOptions::new().with_leader(key.clone()))).await?;
    let seen = timeout(PATIENCE, observed.message()).await.expect("the proclamation is seen")?.unwrap();
    assert_eq!(seen.kv().unwrap().value(), b"second");
    client.resign(Some(etcd_client::ResignOptions::new().with_leader(key))).await?;
    for lease in leases {
        client.lease_revoke(lease).await?;
    }
    Ok(())
}

async fn watches(client: &mut Client) -> Result<(), Error> {
    let mut watch = client.watch("w/", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    assert!(watch.message().await?.unwrap().created());
    client.put("w/1", "a", None).await?;
    client.put("w/1", "b", None).await?;
    client.delete("w/1", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let answer = timeout(PATIENCE, watch.message()).await.expect("events come")?.unwrap();
        seen.extend(answer.events().iter().map(|event| {
            (event.event_type(), event.prev_kv().map(|kv| kv.value().to_vec()).unwrap_or_default())
        }));
    }
    let expected = [(EventType::Put, ""), (EventType::Put, "a"), (EventType::Delete, "b")];
    assert_eq!(seen, expected.map(|(kind, before)| (kind, before.as_bytes().to_vec())));
    watch.cancel(0).await?;
    assert!(timeout(PATIENCE, watch.message()).await.expect("it is cancelled")?.unwrap().canceled());
    Ok(())
}

async fn maintenance(client: &mut Client, members: usize) -> Result<(), Error> {
    let status = client.status().await?;
    assert!(status.version().starts_with("3.") && status.leader() != 0);
    assert_eq!(client.member_list().await?.members().len(), members);
    client.put("snapshot/me", "here", None).await?;
    let (mut stream, mut snapshot) = (client.snapshot().await?, Vec::new());
    while let Some(part) = stream.message().await? {
        snapshot.extend_from_slice(part.blob());
    }
    assert!(snapshot.windows(11).any(|window| window == b"snapshot/me"));
    client.defragment().await?;
    assert_ne!(client.hash_kv(0).await?.hash(), 0);
    Ok(())
}

/// Follows a prefix, from the revision after the last event.
async fn follow(endpoints: Vec<String>, mut next: i64, seen: mpsc::UnboundedSender<String>) {
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    loop {
        let watched: Result<(), Error> = async {
            let options = WatchOptions::new().with_prefix().with_start_revision(next);
            let mut watch = connect(&endpoints).await?.watch("run/key/", Some(options)).await?;
            while let Some(answer) = watch.message().await? {
                for event in answer.events() {
                    let kv = event.kv().unwrap();
                    next = kv.mod_revision() + 1;
                    seen.send(kv.key_str()?.to_owned()).unwrap();
                }
                if answer.canceled() {
                    break;
                }
            }
            Ok(())
        }
        .await;
        println!("watch: {watched:?}");
        sleep(PAUSE).await;
    }
}

async fn ask(input: &mut Lines<BufReader<Stdin>>, event: &str) {
    println!("> {event}");
    assert_eq!(input.next_line().await.unwrap().as_deref(), Some("done"), "{event}");
}

async fn through_everything(endpoints: &[&str]) -> Result<(), Error> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut client = connect(endpoints).await?;
    let start = client.put("run/start", "", None).await?.header().unwrap().revision();
    let (sender, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(follow(endpoints.iter().map(|it| (*it).to_owned()).collect(), start + 1, sender));
    let mut written = Vec::new();
    for event in ["switchover", "crash", "revive", "stop", "revive"] {
        for asked in [false, true] {
            for _ in 0..5 {
                let key = format!("run/key/{:04}", written.len());
                let began = Instant::now();
                loop {
                    // Written once, however often it is asked for: an answer may have been lost.
                    let txn = Txn::new()
                        .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
                        .and_then([TxnOp::put(key.as_str(), "x", None)]);
                    match client.txn(txn).await {
                        Ok(_) => break,
                        Err(error) => println!("write: {error}"),
                    }
                    assert!(began.elapsed() < PATIENCE, "{key} cannot be written");
                    sleep(PAUSE).await;
                }
                written.push(key);
            }
            if !asked {
                ask(&mut input, event).await;
            }
        }
    }
    let mut got = Vec::new();
    while got.len() < written.len() {
        got.push(timeout(PATIENCE, seen.recv()).await.expect("the watch goes on").unwrap());
    }
    assert_eq!(got, written);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let argument = std::env::args().nth(1).expect("usage: rust-etcd-client ENDPOINT,...");
    let endpoints: Vec<&str> = argument.split(',').collect();
    for (number, endpoint) in endpoints.iter().enumerate() {
        let mut client = connect(&[*endpoint]).await?;
        let mut other = connect(&[endpoints[(number + 1) % endpoints.len()]]).await?;
        keys_and_values(&mut client).await?;
        transactions(&mut client).await?;
        leases(&mut client).await?;
        locks_and_elections(&mut client, &mut other).await?;
        watches(&mut client).await?;
        maintenance(&mut client, endpoints.len()).await?;
    }
    through_everything(&endpoints).await?;
    println!("> end");
    Ok(())
}
