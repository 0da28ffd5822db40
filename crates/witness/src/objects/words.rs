//! What is wrong with an object store, in words that a person can act on.

use std::time::Duration;

use super::address::{Kind, ObjectsAddress};
use super::observed::Seen;

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Read,
    Write,
}

/// Why a request brought nothing; goes on after the name of the store.
pub(super) fn explain(
    address: &ObjectsAddress,
    verb: Verb,
    seen: &Seen,
    error: &object_store::Error,
) -> String {
    match seen {
        Seen::Answered { status, code } => refusal(address, verb, *status, code.as_deref()),
        Seen::Broken { cause, connecting: true } => {
            format!("cannot be reached ({cause}): check the endpoint, the network and the certificates")
        }
        Seen::Broken { cause, connecting: false } => format!("broke off the connection: {cause}"),
        Seen::Sent => format!("gave an answer that cannot be used: {}", first_line(&error.to_string())),
        Seen::Nothing => format!("was not asked: {}", no_credentials(address)),
    }
}

/// Why there was no answer in time.
pub(super) fn silence(address: &ObjectsAddress, seen: &Seen, waited: Duration) -> String {
    match seen {
        Seen::Nothing => format!("was not asked in time: {}", no_credentials(address)),
        _ => format!("did not answer within {} ms: check the network and the endpoint", waited.as_millis()),
    }
}

fn no_credentials(address: &ObjectsAddress) -> String {
    let names = match address.kind() {
        Kind::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Kind::Azure => "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY",
        Kind::Google => "GOOGLE_SERVICE_ACCOUNT (the path of a key file)",
    };
    format!("no credentials were found: set {names} {}", address.credentials().place())
}

fn refusal(address: &ObjectsAddress, verb: Verb, status: u16, code: Option<&str>) -> String {
    let shown = code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"));
    let (kind, place) = (address.kind(), address.place());
    match (status, code.unwrap_or_default()) {
        (_, "NoSuchBucket" | "ContainerNotFound") => {
            format!("does not exist ({shown}): make the {} {place}, or correct the URL", kind.noun())
        }
        (_, "RequestTimeTooSkewed" | "RequestExpired") => {
            format!("refuses the request because of its time ({shown}): set this machine's clock")
        }
        (401, _)
        | (
            _,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation",
        ) => {
            format!("refuses the credentials ({shown}): check them {}", address.credentials().place())
        }
        (403, _) => format!("refuses to be {} ({shown}): {}", done(verb), permission(kind, verb)),
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            format!("is in another region ({shown}): correct region or endpoint in the URL")
        }
        (429 | 503, _) | (_, "SlowDown" | "ServerBusy") => {
            format!("has too much to do ({shown}): it throttles requests")
        }
        (501, _) | (_, "NotImplemented") => {
            format!("does not know writes under a condition ({shown}): it cannot be a witness")
        }
        (404, _) => format!("answered {shown}, which no such store says of an object: check the endpoint"),
        _ => format!("answered {shown}"),
    }
}

fn done(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "read",
        Verb::Write => "written",
    }
}

fn permission(kind: Kind, verb: Verb) -> &'static str {
    match (kind, verb) {
        (Kind::S3, Verb::Read) => {
            "allow s3:GetObject on its objects and s3:ListBucket on the bucket \
             (without that one S3 does not say that an object is not there)"
        }
        (Kind::S3, Verb::Write) => "allow s3:PutObject on its objects",
        (Kind::Azure, Verb::Read) => {
            "allow reading of blobs, as the role Storage Blob Data Contributor or a SAS with sp=rcw does"
        }
        (Kind::Azure, Verb::Write) => {
            "allow creating and writing of blobs, as the role Storage Blob Data Contributor or a SAS with sp=rcw does"
        }
        (Kind::Google, Verb::Read) => {
            "allow storage.objects.get and storage.objects.list, as the role Storage Object User does"
        }
        (Kind::Google, Verb::Write) => {
            "allow storage.objects.create and, to replace the record, storage.objects.delete, \
             as the role Storage Object User does"
        }
    }
}

/// The first line of another crate's text, cut to what fits a line.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}
