//! Everything else that the port says over plain HTTP.

use http::Method;

use crate::harness::{A, B, Pair, Witness, run};
use crate::http_client::{get, post, request};

#[test]
fn health_is_told_in_etcds_forms() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let url = pair.client_url(A);
        for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
            let answer = get(&url, path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, r#"{"health":"true","reason":""}"#),
                "{path}"
            );
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        }
        for (path, body) in [
            ("/livez", "ok\n"),
            ("/livez?verbose", "[+]serializable_read ok\nok\n"),
            ("/livez/serializable_read?verbose", "[+]serializable_read ok\nok\n"),
            ("/readyz", "ok\n"),
            ("/readyz/linearizable_read", "ok\n"),
            (
                "/readyz?verbose&exclude=data_corruption&exclude=non_learner",
                "[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
            ),
        ] {
            let answer = get(&url, path).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        }
        for method in [Method::HEAD, Method::POST, Method::PUT] {
            for path in ["/health", "/version", "/livez", "/readyz"] {
                let answer = request(&url, method.clone(), path, &[], "").await.unwrap();
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.headers["allow"], "GET");
            }
        }
        for path in
            ["/", "/nope", "/health/", "/livez/nope", "/v2/keys", "/debug/pprof/", "/debug/vars", "/members"]
        {
            let answer = get(&url, path).await;
            assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
        }
        let version = get(&url, "/version").await;
        assert!(version.body.contains(r#""etcdcluster":"3.5.0""#), "{}", version.body);

        // B alone, and not yet entitled to serve: alive, not ready, and it says why.
        pair.crash(A).await;
        pair.crash(B).await;
        pair.stop_witness();
        pair.start_appliance(B).await;
        let url = pair.client_url(B);
        assert_eq!(get(&url, "/livez").await.status, 200);
        let ready = get(&url, "/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(
            ready.body.contains("[+]serializable_read ok\n[-]linearizable_read failed: RAFT NO LEADER\n"),
            "{ready:?}"
        );
        let health = get(&url, "/health").await;
        let body = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
        assert_eq!((health.status, health.body.as_str()), (503, body));
        assert_eq!(get(&url, "/health?serializable=true").await.status, 200);
    });
}

#[test]
fn a_grpc_path_over_http_1_is_nothing() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let url = pair.client_url(A);
        let headers = [("content-type", "application/grpc")];
        let answer =
            request(&url, Method::POST, "/etcdserverpb.KV/Range", &headers, "\0\0\0\0\0").await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
        assert!(!answer.headers.contains_key("grpc-status"));
        let orders = post(&url, "/duet/v1/nope", "").await;
        assert_eq!(orders.status, 404);
        let status = get(&url, "/duet/v1/status").await;
        assert!(
            !status.headers.contains_key("access-control-allow-origin"),
            "web pages have no business there"
        );
    });
}

/// etcd's gateway goes by it where a form is posted.
#[test]
fn a_method_that_a_header_names_instead_is_not_looked_at() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let url = pair.client_url(A);
        let headers = [("x-http-method-override", "DELETE")];
        let answer =
            request(&url, Method::POST, "/v3/kv/range", &headers, r#"{"key":"aw=="}"#).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = request(&url, Method::GET, "/v3/kv/range", &headers, "").await.unwrap();
        assert_ne!(answer.status, 200, "{answer:?}");
    });
}
