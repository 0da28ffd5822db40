//! What Patroni asks of its store, through a handover and a crash of the primary: a leader key under a lease, taken by a
//! transaction that compares, kept alive, watched by a stream.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{A, B, Pair, Witness, run};
use crate::http_client::{Lines, get, post, request};

/// As a person would write them.
const LEADER: &str = "/service/batman/leader";
const MEMBERS: &str = "/service/batman/members/";
/// The end of the range of all keys below `/service/batman/`.
const END: &str = "/service/batman0";

/// Base64 by hand: Patroni's keys are short.
pub fn base64(text: &str) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(sign) } else { '=' });
        }
    }
    out
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A Patroni that speaks to both appliances, one after the other until one answers.
struct Patroni {
    urls: [String; 2],
}

impl Patroni {
    async fn ask(&self, path: &str, body: Value) -> Value {
        for attempt in 0..400 {
            let url = &self.urls[attempt % 2];
            match request(url, http::Method::POST, path, &[], &body.to_string()).await {
                Ok(answer) if answer.status == 200 => return parse(answer.body.trim()),
                Ok(answer) if answer.status != 503 => panic!("{path} {body}: {answer:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("{path} {body}: nobody answers");
    }

    async fn grant(&self) -> String {
        let lease = self.ask("/v3/lease/grant", json!({"TTL": 30})).await;
        assert_eq!(lease["TTL"], "30");
        lease["ID"].as_str().unwrap().to_owned()
    }

    async fn keep_alive(&self, lease: &str) {
        let told = self.ask("/v3/lease/keepalive", json!({"ID": lease})).await;
        assert_eq!(told["result"]["ID"], lease, "{told}");
        assert_eq!(told["result"]["TTL"], "30", "{told}");
    }

    async fn put(&self, key: &str, value: &str, lease: &str) {
        let put = json!({"key": base64(key), "value": base64(value), "lease": lease});
        self.ask("/v3/kv/put", put).await;
    }

    /// Takes the leader key if nobody has it. A try whose outcome nobody knows is made again: then it may be ours already.
    async fn take_lead(&self, name: &str, lease: &str) -> bool {
        let compare = json!([{"target": "CREATE", "create_revision": "0", "key": base64(LEADER)}]);
        let put = json!([{"request_put": {"key": base64(LEADER), "value": base64(name), "lease": lease}}]);
        let answer = self.ask("/v3/kv/txn", json!({"compare": compare, "success": put})).await;
        answer["succeeded"] == true || self.leader().await.is_some_and(|(leader, _)| leader == base64(name))
    }

    /// Writes the leader key again if it is still ours.
    async fn hold_lead(&self, name: &str, lease: &str) -> bool {
        let compare = json!([
            {"target": "VALUE", "value": base64(name), "key": base64(LEADER)},
            {"target": "LEASE", "result": "EQUAL", "lease": lease, "key": base64(LEADER)},
        ]);
        let put = json!([{"request_put": {"key": base64(LEADER), "value": base64(name), "lease": lease}}]);
        self.ask("/v3/kv/txn", json!({"compare": compare, "success": put})).await["succeeded"] == true
    }

    /// Value and modification revision of the leader key, both as they are in JSON.
    async fn leader(&self) -> Option<(String, String)> {
        let range = json!({"key": base64("/service/batman/"), "range_end": base64(END)});
        let all = self.ask("/v3/kv/range", range).await;
        let mut kvs = all["kvs"].as_array().cloned().unwrap_or_default().into_iter();
        let found = kvs.find(|kv| kv["key"] == base64(LEADER))?;
        Some((found["value"].as_str()?.to_owned(), found["mod_revision"].as_str()?.to_owned()))
    }

    /// Watches everything from a revision on, at one appliance.
    async fn watch(&self, place: usize, from: u64) -> Option<Lines> {
        let create = json!({"create_request": {"key": base64("/service/batman/"), "range_end": base64(END),
            "start_revision": from.to_string(), "progress_notify": true}});
        let mut lines = Lines::post(&self.urls[place], "/v3/watch", &create.to_string()).await.ok()?;
        let created = parse(&lines.next().await?);
        assert_eq!(created["result"]["created"], true, "{created}");
        Some(lines)
    }

    /// Follows the keys from a revision on until `last` has been written; revisions in order. A stream that ends is followed
    /// by another one from where it ended, at the other appliance.
    async fn follow(&self, from: u64, last: &str) -> Vec<u64> {
        let mut next = from;
        let mut seen = Vec::new();
        for attempt in 0..400 {
            let Some(mut lines) = self.watch(attempt % 2, next).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            while let Some(line) = lines.next().await {
                let told = parse(&line);
                // All events of a revision come in one line: those of a lease that ends are several.
                let reached = next;
                for event in told["result"]["events"].as_array().into_iter().flatten() {
                    let revision = event["kv"]["mod_revision"].as_str().unwrap().parse().unwrap();
                    assert!(revision >= reached, "{revision} was told before {reached}");
                    next = revision + 1;
                    seen.push(revision);
                    if event["kv"]["value"] == base64(last) {
                        return seen;
                    }
                }
                if !told["error"].is_null() {
                    break;
                }
            }
        }
        panic!("the last write never came: {seen:?}");
    }
}

#[test]
fn a_leader_is_kept_and_watched_through_a_handover_and_a_crash() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let urls = [A, B].map(|appliance| pair.client_url(appliance));
        let version = parse(&get(&urls[0], "/version").await.body);
        assert!(version["etcdserver"].as_str().unwrap().starts_with("3.5."), "Patroni takes /v3 for it");
        let members = parse(&post(&urls[1], "/v3/cluster/member/list", "{}").await.body);
        let clients: Vec<_> =
            members["members"].as_array().unwrap().iter().map(|it| &it["clientURLs"][0]).collect();
        assert_eq!(clients, [&json!(urls[0]), &json!(urls[1])], "where to go when one is gone");

        let patroni = Patroni { urls: urls.clone() };
        let (one, two) = (patroni.grant().await, patroni.grant().await);
        let follower = Patroni { urls };
        let following = tokio::spawn(async move { follower.follow(1, "the last").await });
        assert!(patroni.take_lead("one", &one).await);
        assert!(!patroni.take_lead("two", &two).await, "it is taken");
        assert!(patroni.hold_lead("one", &one).await);
        assert!(!patroni.hold_lead("two", &two).await);

        let mut written = 0;
        for round in 0..3 {
            match round {
                1 => {
                    pair.order(A, "switchover").await.unwrap();
                    pair.until_primary(B).await;
                    pair.until_in_sync().await;
                }
                2 => {
                    pair.crash(B).await;
                    pair.until_primary(A).await;
                }
                _ => {}
            }
            for value in 0..10 {
                patroni.put(&format!("{MEMBERS}one"), &format!("{round}.{value}"), &one).await;
                written += 1;
                patroni.keep_alive(&one).await;
            }
            assert!(patroni.hold_lead("one", &one).await, "round {round}");
            assert!(!patroni.take_lead("two", &two).await, "round {round}");
        }
        patroni.ask("/v3/lease/revoke", json!({"ID": one})).await;
        assert_eq!(patroni.leader().await, None, "a leader that goes leaves the key");
        assert!(patroni.take_lead("two", &two).await);
        patroni.put(&format!("{MEMBERS}two"), "the last", &two).await;
        let seen = following.await.unwrap();
        assert!(seen.is_sorted() && seen.len() > written, "{written} and more writes were seen: {seen:?}");
        let revisions: std::collections::BTreeSet<u64> = seen.iter().copied().collect();
        let first = *revisions.first().unwrap();
        let last = *revisions.last().unwrap();
        assert_eq!(revisions.len() as u64, last - first + 1, "no revision is missing: {seen:?}");
    });
}
