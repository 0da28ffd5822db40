//! The gateway while users are on: who is asked for a token, and what comes of it, at a real etcd and at both appliances.

use http::Method;
use serde_json::{Value, json};

use crate::answers::start_etcd;
use crate::harness::{A, B, Pair, Witness, run};
use crate::http_client::request;
use crate::patroni::base64;

/// Asks `path` of the servers in turn; status and what of the answer does not depend on who answered.
struct Asker {
    urls: Vec<String>,
    asked: usize,
}

impl Asker {
    async fn ask(&mut self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let url = &self.urls[self.asked % self.urls.len()];
        self.asked += 1;
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let answer = request(url, Method::POST, path, &headers, &body.to_string()).await.unwrap();
        let mut told: Value = serde_json::from_str(answer.body.trim()).unwrap_or_else(|_| json!(answer.body));
        if let Some(fields) = told.as_object_mut() {
            fields.remove("header");
        }
        (answer.status, told)
    }

    async fn log_in(&mut self, name: &str, password: &str) -> (u16, Value) {
        self.ask("/v3/auth/authenticate", None, &json!({ "name": name, "password": password })).await
    }

    async fn token(&mut self, name: &str) -> String {
        let (status, told) = self.log_in(name, "pw").await;
        assert_eq!(status, 200, "{told}");
        told["token"].as_str().unwrap().to_owned()
    }
}

/// What was asked, with what came of it; tokens are left out.
async fn play(urls: Vec<String>) -> Vec<String> {
    let mut asker = Asker { urls, asked: 0 };
    let mut told = Vec::new();
    let mut note = |what: &str, answer: (u16, Value)| told.push(format!("{what}: {} {}", answer.0, answer.1));
    for (path, body) in [
        ("/v3/auth/user/add", json!({ "name": "root", "password": "pw" })),
        ("/v3/auth/user/add", json!({ "name": "bob", "password": "pw" })),
        ("/v3/auth/role/add", json!({ "name": "root" })),
        ("/v3/auth/role/add", json!({ "name": "k" })),
        (
            "/v3/auth/role/grant",
            json!({ "name": "k", "perm": {
                "permType": "READWRITE", "key": base64("k/"), "range_end": base64("k0") } }),
        ),
        ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("/v3/auth/user/grant", json!({ "user": "bob", "role": "k" })),
        ("/v3/auth/enable", json!({})),
    ] {
        note(path, asker.ask(path, None, &body).await);
    }
    note("a wrong password", asker.log_in("bob", "no").await);
    note("a stranger", asker.log_in("eve", "pw").await);
    let (root, bob) = (asker.token("root").await, asker.token("bob").await);
    let put = |key: &str| json!({ "key": base64(key), "value": base64("v") });
    let key = |key: &str| json!({ "key": base64(key) });
    for (who, token) in
        [("nobody", None), ("a bad token", Some("AAAA.7")), ("bob", Some(&*bob)), ("root", Some(&*root))]
    {
        for (path, body) in [
            ("/v3/kv/put", put("k/1")),
            ("/v3/kv/put", put("other")),
            ("/v3/kv/range", key("k/1")),
            ("/v3/kv/range", key("other")),
            ("/v3/kv/deleterange", key("other")),
            ("/v3/auth/user/get", json!({ "name": "bob" })),
            ("/v3/auth/user/list", json!({})),
        ] {
            note(&format!("{who} {path}"), asker.ask(path, token, &body).await);
        }
    }
    note("off", asker.ask("/v3/auth/disable", Some(&root), &json!({})).await);
    note("nobody again", asker.ask("/v3/kv/range", None, &key("k/1")).await);
    told
}

#[test]
fn who_may_what_is_told_as_etcd_tells_it() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("bcrypt_cost = 4");
        pair.start_new().await;
        let duet = play([A, B].map(|appliance| pair.client_url(appliance)).into()).await;
        let count = |part: &str| duet.iter().filter(|line| line.contains(part)).count();
        let empty = count("etcdserver: user name is empty");
        let (bad, denied) = (count("etcdserver: invalid auth token"), count("etcdserver: permission denied"));
        assert_eq!((empty, bad, denied), (7, 7, 4), "{duet:#?}");
        if let Some(etcd) = start_etcd(&pair, &["--bcrypt-cost=4"]).await {
            assert_eq!(duet, play(etcd.urls().to_vec()).await);
        }
    });
}
