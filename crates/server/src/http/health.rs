//! Health for machines, in etcd's forms: `/health`, `/livez`, `/readyz`, `/version`.
//!
//! Alive is a process that answers. Ready is an appliance through which linearizable requests work now: the primary
//! itself, or a secondary that reaches it.

use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;

use crate::grpc::call::Call;
use crate::grpc::{Api, ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// How long a linearizable read may take before this appliance counts as not ready: probes give up soon.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The routes; none of them has a fallback.
pub(crate) fn routes(api: Api) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .with_state(api)
}

async fn version() -> Response {
    json(
        StatusCode::OK,
        format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}"}}"#),
    )
}

async fn health(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let serializable = has(query.as_deref(), "serializable", Some("true"));
    let problem = if serializable { None } else { linearizable_problem(&api).await };
    match problem {
        None => text(StatusCode::OK, r#"{"health":"true","reason":""}"#.to_owned()),
        Some(reason) => {
            let told = format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
            text(StatusCode::SERVICE_UNAVAILABLE, told)
        }
    }
}

/// Answering is all there is to being alive.
async fn livez(RawQuery(query): RawQuery) -> Response {
    probe(query.as_deref(), &[("serializable_read", None)])
}

async fn readyz(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let checks = [("serializable_read", None), ("linearizable_read", linearizable_problem(&api).await)];
    probe(query.as_deref(), &checks)
}

/// Why a linearizable read does not work here now.
async fn linearizable_problem(api: &Api) -> Option<&'static str> {
    if !api.has_primary() {
        return Some("RAFT NO LEADER");
    }
    let call = Call::internal(PROBE_TIMEOUT);
    let read = api.read(
        &call,
        |store| Ok(store.revision()),
        |channel, call| async move {
            let probe =
                pb::RangeRequest { key: Bytes::from_static(b"\0"), count_only: true, ..Default::default() };
            KvClient::new(channel).range(call.forward(probe)).await
        },
    );
    read.await.is_err().then_some("RANGE ERROR: no linearizable read in time")
}

/// The text form of a probe: always in full when something failed.
fn probe(query: Option<&str>, checks: &[(&str, Option<&str>)]) -> Response {
    let failed = checks.iter().any(|(_, problem)| problem.is_some());
    let mut text = String::new();
    if failed || has(query, "verbose", None) {
        for (name, problem) in checks {
            match problem {
                None => text.extend(["[+]", name, " ok\n"]),
                Some(problem) => text.extend(["[-]", name, " failed: ", problem, "\n"]),
            }
        }
    }
    if !failed {
        text.push_str("ok\n");
    }
    let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    self::text(status, text)
}

/// Also the JSON of `/health` goes as plain text, as etcd's does.
fn text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Whether a query has `name`, with `value` if one is asked for.
fn has(query: Option<&str>, name: &str, value: Option<&str>) -> bool {
    query.into_iter().flat_map(|query| query.split('&')).any(|pair| {
        let (key, given) = pair.split_once('=').unwrap_or((pair, ""));
        key == name && value.is_none_or(|value| value == given)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_searched_by_name_and_value() {
        assert!(has(Some("exclude=NOSPACE&serializable=true"), "serializable", Some("true")));
        assert!(!has(Some("serializable=false"), "serializable", Some("true")));
        assert!(has(Some("verbose"), "verbose", None));
        assert!(!has(Some("verbosely=1"), "verbose", None));
        assert!(!has(None, "verbose", None));
    }

    #[test]
    fn a_failed_probe_tells_everything() {
        let answer = probe(None, &[("a", None), ("b", Some("down"))]);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(probe(None, &[("a", None)]).status(), StatusCode::OK);
    }
}
