//! What a call brings with it besides its message: its deadline, whether it was forwarded, its metadata.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::{Request, Status};

use super::REQUEST_TIMEOUT;
use super::errors::{DEADLINE_EXCEEDED, NO_LEADER, TIMEOUT, not_appended};

/// Set by the appliance that forwards a call; such a call is never forwarded again.
pub const FORWARDED: &str = "duet-forwarded";

/// Client metadata: fail at once when there is no primary.
const REQUIRE_LEADER: &str = "hasleader";

/// gRPC's own header for the client's time limit.
pub const TIMEOUT_HEADER: &str = "grpc-timeout";

/// Where clients put their token.
const TOKEN_HEADERS: [&str; 2] = ["token", "authorization"];

/// The circumstances of one call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the caller gets an answer at the latest.
    pub deadline: Instant,
    /// The deadline is the client's own, not the server's limit.
    clients_deadline: bool,
    /// The other appliance passed it on.
    pub forwarded: bool,
    metadata: MetadataMap,
}

impl Call {
    /// Reads the circumstances off a request; they and its message.
    pub fn of<T>(request: Request<T>) -> (Call, T) {
        let (metadata, _, message) = request.into_parts();
        let wanted = clients_limit(&metadata);
        let clients_deadline = wanted.is_some_and(|wanted| wanted < REQUEST_TIMEOUT);
        let limit = wanted.map_or(REQUEST_TIMEOUT, |wanted| wanted.min(REQUEST_TIMEOUT));
        let forwarded = metadata.contains_key(FORWARDED);
        (Call { deadline: Instant::now() + limit, clients_deadline, forwarded, metadata }, message)
    }

    /// A call that the server makes for itself.
    pub fn internal(limit: Duration) -> Call {
        Call {
            deadline: Instant::now() + limit,
            clients_deadline: false,
            forwarded: false,
            metadata: MetadataMap::new(),
        }
    }

    /// What the client says about who it is: etcd's own header, or the one that HTTP clients know.
    pub fn token(&self) -> Option<&str> {
        let given = TOKEN_HEADERS.iter().find_map(|name| self.metadata.get(*name))?;
        // What is no text is no token; it is refused as a wrong one.
        Some(given.to_str().unwrap_or_default())
    }

    /// The same call with a fresh deadline: for the next message of a stream.
    #[must_use]
    pub fn renewed(&self) -> Call {
        Call { deadline: Instant::now() + REQUEST_TIMEOUT, clients_deadline: false, ..self.clone() }
    }

    /// Time left; zero when there is none.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The answer when the deadline passes while the outcome is open.
    pub fn timed_out(&self) -> Status {
        if self.clients_deadline { DEADLINE_EXCEEDED.into() } else { TIMEOUT.into() }
    }

    /// The answer when the deadline passes, or the call may wait no more, without any primary: nothing was appended.
    pub fn no_primary(&self) -> Status {
        if self.clients_deadline && self.left().is_zero() {
            DEADLINE_EXCEEDED.into()
        } else {
            not_appended(NO_LEADER)
        }
    }

    /// `message` for the primary: with the client's metadata, the mark that it was forwarded, and the time left.
    pub fn forward<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        for entry in self.metadata.iter() {
            match entry {
                KeyAndValueRef::Ascii(key, value) if passes_on(key.as_str()) => {
                    metadata.append(key.clone(), value.clone());
                }
                KeyAndValueRef::Binary(key, value) if passes_on(key.as_str()) => {
                    metadata.append_bin(key.clone(), value.clone());
                }
                KeyAndValueRef::Ascii(..) | KeyAndValueRef::Binary(..) => {}
            }
        }
        metadata.insert(FORWARDED, MetadataValue::from_static("1"));
        request.set_timeout(self.left());
        request
    }
}

/// Headers of HTTP and gRPC themselves belong to one hop; all others are the client's and go with the call.
fn passes_on(key: &str) -> bool {
    !key.starts_with("grpc-")
        && !key.starts_with("duet-")
        && !matches!(
            key,
            "te" | "host"
                | "content-type"
                | "content-length"
                | "user-agent"
                | "connection"
                | "accept-encoding"
                | "transfer-encoding"
        )
}

/// Whether the client wants to fail at once when there is no primary.
pub fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get(REQUIRE_LEADER).is_some_and(|value| value.as_bytes() == b"true")
}

/// The client's own time limit.
pub fn clients_limit(metadata: &MetadataMap) -> Option<Duration> {
    metadata.get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok()).and_then(parse_timeout)
}

/// Reads gRPC's `TimeoutValue TimeoutUnit`: at most eight digits and one letter.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("499862u"), Some(Duration::from_micros(499_862)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_hours(1)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        for wrong in ["", "S", "5", "5x", "-5S", "123456789S", "5\u{e4}"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_shorter_limit_counts_and_decides_the_text() {
        let call = |limit: Option<Duration>| {
            let mut request = Request::new(());
            if let Some(limit) = limit {
                request.set_timeout(limit);
            }
            Call::of(request).0
        };
        assert_eq!(call(None).timed_out().message(), "etcdserver: request timed out");
        assert_eq!(call(Some(Duration::from_mins(1))).timed_out().message(), "etcdserver: request timed out");
        let call = call(Some(Duration::from_millis(10)));
        assert!(call.left() <= Duration::from_millis(10));
        assert_eq!(call.timed_out().message(), "context deadline exceeded");
    }

    #[test]
    fn a_forwarded_call_keeps_the_clients_metadata_and_says_that_it_is_one() {
        let mut request = Request::new(());
        request.metadata_mut().insert("token", MetadataValue::from_static("secret"));
        request.metadata_mut().insert("te", MetadataValue::from_static("trailers"));
        let (call, ()) = Call::of(request);
        let forwarded = call.forward(());
        assert!(forwarded.metadata().contains_key("token"));
        assert!(!forwarded.metadata().contains_key("te"));
        let (there, ()) = Call::of(forwarded);
        assert!(there.forwarded);
        assert_eq!((call.token(), there.token()), (Some("secret"), Some("secret")));
    }
}
