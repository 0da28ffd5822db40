//! What really came back for a request, seen below the crate that speaks to the stores.
//!
//! That crate sorts answers into few kinds of error; what an answer means here depends on its status and on the code in
//! its body, and nothing else of the body is ever shown: some stores repeat there what they were sent.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Extensions};

/// Largest body of a refusal that is looked at, in bytes: they have a few hundred.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;
/// Longest code that is believed to be one, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// What is known of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Seen {
    /// It was not sent: something comes first, as a token that is fetched elsewhere.
    #[default]
    Nothing,
    /// It was given to the network.
    Sent,
    /// The store refused it.
    Answered { status: u16, code: Option<String> },
    /// The connection could not be made, or broke.
    Broken { cause: String, connecting: bool },
}

/// Goes with one request and sees what becomes of it.
#[derive(Clone, Default)]
pub(super) struct Sighting(Arc<Mutex<Seen>>);

impl Sighting {
    pub fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn as_extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.clone());
        extensions
    }

    fn set(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

/// Makes clients that let their requests be seen.
#[derive(Debug, Default)]
pub(super) struct Observing;

impl HttpConnector for Observing {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Observed { client }))
    }
}

struct Observed {
    client: HttpClient,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

/// What the trait's future is, written out: the trait is made by a macro.
type Call<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Observed {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Call<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let Some(sighting) = request.extensions().get::<Sighting>().cloned() else {
                return self.client.execute(request).await;
            };
            sighting.set(Seen::Sent);
            match self.client.execute(request).await {
                Ok(response) if response.status().is_success() => Ok(response),
                Ok(response) => Ok(look_at_refusal(response, &sighting).await),
                Err(error) => {
                    let connecting = error.kind() == HttpErrorKind::Connect;
                    sighting.set(Seen::Broken { cause: root_cause(&error), connecting });
                    Err(error)
                }
            }
        })
    }
}

/// Notes status and code; the response goes on with its code as its body.
async fn look_at_refusal(response: HttpResponse, sighting: &Sighting) -> HttpResponse {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    // Known even if the body never comes.
    sighting.set(Seen::Answered { status, code: None });
    let told = head.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok()).and_then(plain);
    let body = match Limited::new(body, MAX_REFUSAL_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let code = told.or_else(|| code_in(&body));
    sighting.set(Seen::Answered { status, code: code.clone() });
    HttpResponse::from_parts(head, code.unwrap_or_default().into())
}

/// The content of the element `Code` of an error in XML.
fn code_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    plain(text.split_once("<Code>")?.1.split_once("</Code>")?.0)
}

/// The code, if it is one word that may be shown.
fn plain(code: &str) -> Option<String> {
    let word =
        !code.is_empty() && code.len() <= MAX_CODE_BYTES && code.bytes().all(|b| b.is_ascii_alphanumeric());
    word.then(|| code.to_owned())
}

/// The innermost cause: "connection refused" and not "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>";
        assert_eq!(code_in(body), Some("NoSuchKey".to_owned()));
        assert_eq!(code_in(b"<html>404</html>"), None);
        assert_eq!(code_in(b"<Code>secret key: 123</Code>"), None);
        assert_eq!(code_in(b"<Code></Code>"), None);
    }
}
