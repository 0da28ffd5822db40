//! `member`, `endpoint` and `version`: a pair has two members, and the primary is their leader.

use serde_json::Value;

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, is_installed};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_pair_is_a_cluster_of_two_members() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let urls = [A, B].map(|appliance| pair.client_url(appliance));
        let mut lists = Vec::new();
        for url in &urls {
            let at_one = Etcdctl::new(&[url]);
            let list = json(&at_one.run(&["member", "list", "-w", "json"]).await.ok());
            lists.push(list["members"].clone());
            let simple = at_one.run(&["member", "list"]).await.ok();
            for url in &urls {
                let told =
                    simple.lines().any(|line| line.contains(", started, ") && line.contains(url.as_str()));
                assert!(told, "{url} is not among the members:\n{simple}");
            }
        }
        assert_eq!(lists[0], lists[1], "both tell the same members");
        let members = lists[0].as_array().unwrap();
        assert_eq!(members.len(), 2, "{members:?}");
        let ids: Vec<u64> = members.iter().map(|member| member["ID"].as_u64().unwrap()).collect();

        let both = Etcdctl::at_both(&pair);
        let status = json(&both.run(&["endpoint", "status", "-w", "json"]).await.ok());
        let status = status.as_array().unwrap();
        assert_eq!(status.len(), 2);
        for (index, one) in status.iter().enumerate() {
            assert_eq!(one["Endpoint"], urls[index]);
            assert_eq!(one["Status"]["leader"].as_u64(), Some(ids[0]), "A is primary: {status:?}");
            assert_eq!(
                one["Status"]["header"]["member_id"].as_u64(),
                Some(ids[index]),
                "each answers for itself"
            );
            assert!(one["Status"]["version"].as_str().unwrap().starts_with("3.5."), "{one}");
        }
        let health = json(&both.run(&["endpoint", "health", "-w", "json"]).await.ok());
        let health = health.as_array().unwrap();
        assert!(health.len() == 2 && health.iter().all(|one| one["health"] == true), "{health:?}");

        // After a handover the other one leads, and the members are the same.
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        pair.until_in_sync().await;
        let status = json(&both.run(&["endpoint", "status", "-w", "json"]).await.ok());
        for one in status.as_array().unwrap() {
            assert_eq!(one["Status"]["leader"].as_u64(), Some(ids[1]), "B is primary: {status}");
        }
        let list = json(&both.run(&["member", "list", "-w", "json"]).await.ok());
        assert_eq!(list["members"], lists[0]);
    });
}

#[test]
fn health_tells_the_one_that_is_gone() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        pair.crash(B).await;
        pair.until_status(A, "is alone", |status| {
            status.serving && status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A"])
        })
        .await;
        let at_a = Etcdctl::new(&[pair.client_url(A)]);
        at_a.run(&["endpoint", "health"]).await.ok();
        let both = Etcdctl::at_both(&pair);
        let said = both.run(&["endpoint", "health"]).await;
        let all = format!("{}\n{}", said.out, said.err);
        let of = |url: String| all.lines().find(|line| line.contains(&url)).unwrap_or_default().to_owned();
        assert!(of(pair.client_url(A)).contains("is healthy"), "{all}");
        assert!(of(pair.client_url(B)).contains("is unhealthy"), "{all}");
        said.error();
    });
}
