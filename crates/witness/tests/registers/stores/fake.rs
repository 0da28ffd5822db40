//! A small object store for what no component here can: Google's generations, and stores that do not keep their word.
//!
//! It speaks both dialects: S3's tags (hashes of the content) with `If-Match` and `If-None-Match`, Google's generations
//! with `x-goog-if-generation-match`. Who may do what is told by Google's bearer token; requests in S3's dialect are
//! signed, which is not checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What it does otherwise than a store should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wrong {
    #[default]
    Nothing,
    /// It writes whatever the condition says.
    IgnoresConditions,
    /// It writes when the object is to be created though it is there; it knows `If-Match`.
    IgnoresIfNoneMatch,
    /// It compares first and writes a moment later.
    ComparesTooEarly,
    /// What is read is the object before the last one.
    ReadsAreStale,
    /// Nobody may write.
    ReadOnly,
    /// It writes, and answers that the condition does not hold: as after a repetition on the way.
    WritesAndRefuses,
}

/// A running store.
pub struct Fake {
    pub port: u16,
    shared: Arc<Shared>,
    task: Mutex<AbortHandle>,
}

#[derive(Default)]
struct Shared {
    wrong: Wrong,
    state: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    objects: HashMap<String, Object>,
    generation: u64,
    requests: usize,
    writes: usize,
}

#[derive(Clone)]
struct Object {
    generation: u64,
    bytes: Bytes,
    before: Option<Box<Object>>,
}

impl Object {
    fn tag(&self) -> String {
        let sum = self.bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("\"{sum:016x}\"")
    }
}

impl Fake {
    pub async fn start(wrong: Wrong) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { wrong, ..Shared::default() });
        let task = Mutex::new(serve(listener, &shared));
        Self { port, shared, task }
    }

    /// Stops it and starts it again on what it holds.
    pub async fn restart(&self) {
        self.task.lock().unwrap().abort();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        *self.task.lock().unwrap() = serve(listener, &self.shared);
    }

    pub fn wipe(&self) {
        self.shared.state.lock().unwrap().objects.clear();
    }

    /// How often it was asked so far.
    pub fn requests(&self) -> usize {
        self.shared.state.lock().unwrap().requests
    }

    /// How often it was asked to write.
    pub fn writes(&self) -> usize {
        self.shared.state.lock().unwrap().writes
    }

    /// Names of what it holds.
    pub fn names(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> AbortHandle {
    let router =
        Router::new().route("/{bucket}/{*name}", get(read).put(write)).with_state(Arc::clone(shared));
    tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle()
}

/// Whether this request may be carried out, if it is in Google's dialect.
fn refusal(shared: &Shared, headers: &HeaderMap, writes: bool) -> Option<Response<Body>> {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match bearer {
        Some("reader") if writes => Some(error(StatusCode::FORBIDDEN, "AccessDenied")),
        Some("writer" | "reader") | None if !writes => None,
        Some("writer") | None if shared.wrong != Wrong::ReadOnly => None,
        Some("writer") | None => Some(error(StatusCode::FORBIDDEN, "AccessDenied")),
        Some(_) => Some(error(StatusCode::UNAUTHORIZED, "AuthenticationRequired")),
    }
}

async fn read(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let mut state = shared.state.lock().unwrap();
    state.requests += 1;
    if let Some(refusal) = refusal(&shared, &headers, false) {
        return refusal;
    }
    let Some(object) = state.objects.get(&name) else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
    match &object.before {
        Some(before) if shared.wrong == Wrong::ReadsAreStale => answer(before, before.bytes.clone()),
        _ => answer(object, object.bytes.clone()),
    }
}

async fn write(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response<Body> {
    let early = {
        let mut state = shared.state.lock().unwrap();
        state.requests += 1;
        state.writes += 1;
        if let Some(refusal) = refusal(&shared, &headers, true) {
            return refusal;
        }
        holds(state.objects.get(&name), &headers)
    };
    if shared.wrong == Wrong::ComparesTooEarly {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut state = shared.state.lock().unwrap();
    let holds = match shared.wrong {
        Wrong::IgnoresConditions => true,
        Wrong::IgnoresIfNoneMatch if headers.contains_key("if-none-match") => true,
        Wrong::ComparesTooEarly => early,
        _ => holds(state.objects.get(&name), &headers),
    };
    if !holds {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    state.generation += 1;
    let before = state.objects.get(&name).map(|object| Box::new(Object { before: None, ..object.clone() }));
    let object = Object { generation: state.generation, bytes, before };
    let done = answer(&object, Bytes::new());
    state.objects.insert(name, object);
    if shared.wrong == Wrong::WritesAndRefuses {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    done
}

/// Whether the request's condition holds for what is there; a request without one always may.
fn holds(object: Option<&Object>, headers: &HeaderMap) -> bool {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let generation = object.map_or(0, |object| object.generation).to_string();
    header("x-goog-if-generation-match").is_none_or(|wanted| wanted == generation)
        && header("if-none-match").is_none_or(|_| object.is_none())
        && header("if-match").is_none_or(|wanted| object.is_some_and(|object| object.tag() == wanted))
}

fn answer(object: &Object, body: Bytes) -> Response<Body> {
    Response::builder()
        .header("etag", object.tag())
        .header("x-goog-generation", object.generation)
        .header("last-modified", "Mon, 23 Nov 2026 20:00:00 GMT")
        .header("content-length", body.len())
        .body(Body::from(body))
        .expect("an answer")
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let body = format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>");
    Response::builder().status(status).body(Body::from(body)).expect("an answer")
}
