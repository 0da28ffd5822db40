//! What people and monitoring may ask a witness server: whether it is well, what it counts, which version it is.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderName, StatusCode};

use super::routes::Shared;
use super::status::WitnessStatus;
use crate::http_names::{MARK_VERSION, STATUS_PATH};

/// The page loads nothing and runs nothing.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route(STATUS_PATH, get(status))
        .route("/version", get(version))
}

/// Whether reads work, and since when: another incarnation than before means that the witness was wiped.
async fn health(State(shared): State<Shared>) -> Response {
    match shared.store.count() {
        Ok(records) => {
            let (incarnation, connections) = (shared.store.incarnation(), shared.connections.count());
            let health = serde_json::json!({
                "healthy": true, "incarnation": incarnation, "records": records, "connections": connections,
            });
            axum::Json(health).into_response()
        }
        Err(error) => unhealthy(&error),
    }
}

async fn status(State(shared): State<Shared>) -> Response {
    match WitnessStatus::of(&shared) {
        Ok(status) => axum::Json(status).into_response(),
        Err(error) => unhealthy(&error),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match WitnessStatus::of(&shared) {
        Ok(status) => as_type("text/plain; version=0.0.4", status.metrics()),
        Err(error) => unhealthy(&error),
    }
}

async fn page(State(shared): State<Shared>) -> Response {
    match WitnessStatus::of(&shared) {
        Ok(status) => {
            let mut response = as_type("text/html; charset=utf-8", status.page());
            let policy = http::HeaderValue::from_static(PAGE_POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            response
        }
        Err(error) => unhealthy(&error),
    }
}

async fn version() -> Response {
    let version = serde_json::json!({ "duet": env!("CARGO_PKG_VERSION"), "interface": MARK_VERSION });
    axum::Json(version).into_response()
}

fn unhealthy(error: &redb::Error) -> Response {
    let health = serde_json::json!({ "healthy": false, "reason": error.to_string() });
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(health)).into_response()
}

fn as_type(kind: &'static str, body: String) -> Response {
    let kind: [(HeaderName, &str); 1] = [(CONTENT_TYPE, kind)];
    (kind, body).into_response()
}
