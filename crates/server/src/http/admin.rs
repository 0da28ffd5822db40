//! What people and tools ask of one appliance: its status, a stop, a switchover.
//!
//! The orders are taken from loopback addresses only, until clients can be told apart.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::handle::Handle;

/// The routes; the fallback is the caller's.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/duet/v1/status", get(status))
        .route("/duet/v1/stop", post(stop))
        .route("/duet/v1/switchover", post(switchover))
        .with_state(handle)
}

async fn status(State(handle): State<Handle>) -> Response {
    match handle.status().await {
        Ok(report) => Json(report).into_response(),
        Err(stopped) => refuse(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string()),
    }
}

async fn stop(from: Option<Extension<ConnectInfo<SocketAddr>>>, State(handle): State<Handle>) -> Response {
    order(from, || handle.shutdown(), "the soft shutdown has begun")
}

async fn switchover(
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    State(handle): State<Handle>,
) -> Response {
    if !handle.view().borrow().is_primary {
        return refuse(
            StatusCode::CONFLICT,
            "this appliance is not the primary: it has nothing to hand over",
        );
    }
    order(from, || handle.switchover(), "the handover to the peer has begun")
}

fn order(
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    carry_out: impl FnOnce(),
    begun: &str,
) -> Response {
    if !from.is_some_and(|Extension(ConnectInfo(address))| address.ip().to_canonical().is_loopback()) {
        return refuse(StatusCode::FORBIDDEN, "orders are taken from this machine only");
    }
    carry_out();
    (StatusCode::ACCEPTED, Json(json!({ "message": begun }))).into_response()
}

fn refuse(code: StatusCode, reason: &str) -> Response {
    (code, Json(json!({ "error": reason }))).into_response()
}
