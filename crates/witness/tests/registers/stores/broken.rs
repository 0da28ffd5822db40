//! Stores that are no witness, in S3's language: found out by the test that is made before one is relied on; and what
//! single answers are taken for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duet_witness::check::{self, Report, Verdict};
use duet_witness::{Access, ReadOutcome, Register, Version, WitnessUrl, WriteOutcome};
use tempfile::TempDir;

use super::component::free_port;
use super::fake::{Fake, Wrong};
use super::throttle;
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

/// Keys that nobody checks, in a file.
fn keys() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join("keys"), "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=hush\n")
        .expect("a file");
    dir
}

fn register(keys: &TempDir, port: u16, cluster: &str, deadline: Duration) -> Arc<dyn Register> {
    let file = keys.path().join("keys");
    let url = format!("s3://bucket/p?endpoint=http://127.0.0.1:{port}&credentials={}", file.display());
    let url: WitnessUrl = url.parse().expect("a good URL");
    url.register(cluster.parse().expect("a good name"), &Access::default(), deadline).into()
}

async fn checked(wrong: Wrong) -> (Report, Fake) {
    let (fake, keys) = (Fake::start(wrong).await, keys());
    let port = fake.port;
    let report = check::run(&|| register(&keys, port, check::PROBE, PATIENT)).await;
    (report, fake)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_store_is_fit_and_only_the_test_record_stays() {
    let (report, fake) = checked(Wrong::Nothing).await;
    assert_eq!((&report.verdict, report.raced), (&Verdict::Fit, 20), "{report:?}");
    assert!(report.read.is_some() && report.write.is_some());
    assert_eq!(fake.names(), ["p/duet-witness-check/record"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_store_is_found_out() {
    for (wrong, sentence) in [
        (Wrong::IgnoresConditions, "makes the record a second time"),
        (Wrong::IgnoresIfNoneMatch, "makes the record a second time"),
        (Wrong::ComparesTooEarly, "lost a write"),
        (Wrong::ReadsAreStale, "an old record"),
    ] {
        let (report, _) = checked(wrong).await;
        let Verdict::Unfit(told) = &report.verdict else { panic!("{wrong:?}: {report:?}") };
        assert!(told.contains(sentence), "{wrong:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_permissions_are_told() {
    let (report, _) = checked(Wrong::ReadOnly).await;
    let Verdict::Untested(told) = &report.verdict else { panic!("{report:?}") };
    assert!(told.to_string().contains("allow s3:PutObject"), "{told}");
}

/// A proxy that repeats requests makes a store refuse what it has done.
#[tokio::test]
async fn a_refusal_of_what_was_done_is_no_mismatch() {
    let (fake, keys) = (Fake::start(Wrong::WritesAndRefuses).await, keys());
    let register = register(&keys, fake.port, "pair", PATIENT);
    let first = swapped(register.create(Bytes::from_static(b"1")).await);
    let second = swapped(register.compare_and_set(&first, Bytes::from_static(b"2")).await);
    let ReadOutcome::Record { version, bytes } = register.read().await else { panic!("a record") };
    assert_eq!((version, bytes), (second, Bytes::from_static(b"2")));
}

/// Answers of a proxy, a captive portal, a wrong bucket: none is an answer about the record.
#[tokio::test]
async fn answers_that_are_no_answers() {
    let keys = keys();
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>hush</Message></Error>");
    for (status, body, told) in [
        ("404 Not Found", "<html>nothing here</html>".to_owned(), "which no such store says"),
        ("404 Not Found", error("NoSuchBucket"), "make the S3 bucket bucket"),
        ("404 Not Found", error("Not a code"), "which no such store says"),
        ("200 OK", "<html>please log in</html>".to_owned(), ""),
        ("403 Forbidden", error("RequestTimeTooSkewed"), "set this machine's clock"),
        ("403 Forbidden", error("SignatureDoesNotMatch"), "refuses the credentials"),
        ("400 Bad Request", error("AuthorizationHeaderMalformed"), "another region"),
        ("301 Moved Permanently", error("PermanentRedirect"), "another region"),
        ("500 Internal Server Error", error("InternalError"), "answered 500"),
        ("501 Not Implemented", error("NotImplemented"), "cannot be a witness"),
        ("503 Slow Down", error("SlowDown"), "throttles"),
    ] {
        let port = throttle::http(status, &body).await;
        let register = register(&keys, port, "pair", PATIENT);
        let stranger = Version::new("0123456789abcdef0123456789abcdef");
        for reason in [
            reason_of_read(register.read().await),
            reason_of_write(register.create(Bytes::from_static(b"x")).await),
            reason_of_write(register.compare_and_set(&stranger, Bytes::new()).await),
        ] {
            let reason = reason.to_string();
            assert!(reason.contains(told), "{status} {body}: {reason}");
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
    // Refusals of a write whose record cannot be read afterwards.
    for status in ["409 Conflict", "412 Precondition Failed"] {
        let port = throttle::http(status, &error("ConditionalRequestConflict")).await;
        let register = register(&keys, port, "pair", PATIENT);
        reason_of_write(register.create(Bytes::from_static(b"x")).await);
        reason_of_read(register.read().await);
    }
    let port = throttle::http("404 Not Found", &error("NoSuchKey")).await;
    let register = register(&keys, port, "pair", PATIENT);
    assert_eq!(register.read().await, ReadOutcome::Absent);
    reason_of_write(register.create(Bytes::from_static(b"x")).await);
}

#[tokio::test]
async fn unreachable_and_without_credentials() {
    let keys = keys();
    let nobody = register(&keys, free_port(), "pair", PATIENT);
    let told = reason_of_read(nobody.read().await).to_string();
    assert!(told.contains("cannot be reached"), "{told}");
    std::fs::write(keys.path().join("keys"), "AWS_ACCESS_KEY_ID=hush\n").unwrap();
    let told = reason_of_write(nobody.create(Bytes::new()).await).to_string();
    assert!(!told.contains("hush"), "{told}");
    let half = register(&keys, free_port(), "pair", PATIENT);
    let told = reason_of_read(half.read().await).to_string();
    assert!(told.contains("cannot be used") && !told.contains("hush"), "{told}");
    std::fs::remove_file(keys.path().join("keys")).unwrap();
    let none = register(&keys, free_port(), "pair", PATIENT);
    let told = reason_of_read(none.read().await).to_string();
    assert!(told.contains("cannot read the credentials"), "{told}");
}

/// What a pair costs: one request to read, one to write what was read before; no request more.
#[tokio::test]
async fn requests_are_counted() {
    let (fake, keys) = (Fake::start(Wrong::Nothing).await, keys());
    let (mine, yours) =
        (register(&keys, fake.port, "pair", PATIENT), register(&keys, fake.port, "pair", PATIENT));
    let first = swapped(mine.create(Bytes::from_static(b"1")).await);
    assert_eq!(fake.requests(), 1);
    let second = swapped(mine.compare_and_set(&first, Bytes::from_static(b"2")).await);
    assert_eq!(fake.requests(), 2);
    assert!(matches!(yours.read().await, ReadOutcome::Record { .. }));
    swapped(yours.compare_and_set(&second, Bytes::from_static(b"3")).await);
    assert_eq!(fake.requests(), 4);
    // Who was overtaken asks what is there now.
    assert_eq!(mine.compare_and_set(&second, Bytes::new()).await, WriteOutcome::Mismatch);
    assert_eq!((fake.requests(), fake.writes()), (6, 4));
}
