//! Health for machines, in etcd's forms: `/health`, `/livez`, `/readyz`, `/version`.
//!
//! Alive is a process that answers. Ready is an appliance through which linearizable requests work now: the primary
//! itself, or a secondary that reaches it.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_mvcc::AlarmKind;

use super::plain;
use crate::grpc::call::Call;
use crate::grpc::{Api, ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// How long a linearizable read may take before this appliance counts as not ready: probes give up soon.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// One thing that must be so, by etcd's name for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    SerializableRead,
    DataCorruption,
    LinearizableRead,
    NonLearner,
}

const ALIVE: &[Check] = &[Check::SerializableRead];

const READY: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// The routes; none of them has a fallback.
pub(crate) fn routes(api: Api) -> Router {
    Router::new()
        .route("/health", only(get(health)))
        .route("/livez", only(get(async |api, query| probe(api, query, ALIVE).await)))
        .route("/livez/{check}", only(get(async |api, query, name| probe_one(api, query, name, ALIVE).await)))
        .route("/readyz", only(get(async |api, query| probe(api, query, READY).await)))
        .route(
            "/readyz/{check}",
            only(get(async |api, query, name| probe_one(api, query, name, READY).await)),
        )
        .route("/version", only(get(version)))
        .with_state(api)
}

/// No other method, HEAD neither.
fn only<S: Clone + Send + Sync + 'static>(get: MethodRouter<S>) -> MethodRouter<S> {
    get.head(plain::only_get).fallback(plain::only_get)
}

async fn version() -> Response {
    let text = format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}"}}"#);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn health(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let serializable = has(query.as_deref(), "serializable", Some("true"));
    let problem = match raised_alarm(&api, query.as_deref()) {
        Some(alarm) => Some(alarm),
        None if serializable => None,
        None => linearizable_problem(&api).await,
    };
    match problem {
        None => text(StatusCode::OK, r#"{"health":"true","reason":""}"#.to_owned()),
        Some(reason) => {
            let told = format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
            text(StatusCode::SERVICE_UNAVAILABLE, told)
        }
    }
}

/// An alarm that is not excluded by the query.
fn raised_alarm(api: &Api, query: Option<&str>) -> Option<&'static str> {
    let store = api.handle().store().read();
    let names = store.alarms().map(|alarm| match alarm.kind {
        AlarmKind::NoSpace => ("NOSPACE", "ALARM NOSPACE"),
        AlarmKind::Corrupt => ("CORRUPT", "ALARM CORRUPT"),
    });
    let mut counted = names.filter(|(name, _)| !has(query, "exclude", Some(name)));
    counted.next().map(|(_, reason)| reason)
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

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Check::SerializableRead => "serializable_read",
            Check::DataCorruption => "data_corruption",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Why it is not so.
    async fn problem(self, api: &Api) -> Option<&'static str> {
        match self {
            // Answering at all, and being one of two that vote, is all there is to these.
            Check::SerializableRead | Check::NonLearner => None,
            Check::DataCorruption => {
                let corrupt = |alarm: duet_mvcc::Alarm| alarm.kind == AlarmKind::Corrupt;
                api.handle().store().read().alarms().any(corrupt).then_some("alarm activated: CORRUPT")
            }
            Check::LinearizableRead => linearizable_problem(api).await,
        }
    }
}

/// One check alone.
async fn probe_one(
    api: State<Api>,
    query: RawQuery,
    Path(name): Path<String>,
    checks: &'static [Check],
) -> Response {
    match checks.iter().position(|check| check.name() == name) {
        Some(place) => probe(api, query, &checks[place..=place]).await,
        None => plain::not_found().await,
    }
}

/// Those of the checks that are not excluded.
async fn probe(State(api): State<Api>, RawQuery(query): RawQuery, checks: &'static [Check]) -> Response {
    let mut results = Vec::with_capacity(checks.len());
    for check in checks {
        if !has(query.as_deref(), "exclude", Some(check.name())) {
            results.push((check.name(), check.problem(&api).await));
        }
    }
    told(query.as_deref(), &results)
}

/// The text form of a probe: always in full when something failed.
fn told(query: Option<&str>, checks: &[(&str, Option<&str>)]) -> Response {
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
    if failed {
        return plain::error(StatusCode::SERVICE_UNAVAILABLE, &text);
    }
    text.push_str("ok\n");
    let mut response = self::text(StatusCode::OK, text);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// Also the JSON of `/health` goes as plain text, as etcd's does.
fn text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
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
        let answer = told(None, &[("a", None), ("b", Some("down"))]);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(told(None, &[("a", None)]).status(), StatusCode::OK);
    }
}
