//! A door for fuzzing (feature `fuzzing`): the parsers of this crate on bytes as a share, a network or a person may give.
//!
//! Each function panics when a parser breaks its promise: that no bytes make it panic, that what it takes has one form, and
//! that it takes nothing whose checksum is wrong. It returns whether it took the bytes as they are.

use bytes::Bytes;
use duet_protocol::{
    ApplianceId, ClusterId, Conf, Digest, DiskId, Epoch, Lsn, Note, PerAppliance, Position, WitnessId,
    WitnessRecord,
};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::server::parse_condition;
use crate::stored::{self, Stored};
use crate::{ClusterName, Version, WitnessUrl, record};

/// The cluster of the samples.
const CLUSTER: &str = "berlin";

fn cluster() -> ClusterName {
    CLUSTER.parse().expect("a good name")
}

/// Valid records of the protocol, as JSON.
pub fn record_samples() -> Vec<Vec<u8>> {
    let position =
        |number| Position { epoch: Epoch(number), lsn: Lsn(number + 1), digest: Digest([0xa0; 16]) };
    let empty = WitnessRecord {
        cluster: ClusterId(7),
        revision: 0,
        writer: ApplianceId::A,
        conf: Conf::NONE,
        part: None,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    };
    let full = WitnessRecord {
        revision: 12,
        conf: Conf::solo(Epoch(4), ApplianceId::B, DiskId(u128::MAX)).at(WitnessId(3)),
        part: Some(position(3)),
        left: PerAppliance { a: Some(Note { position: position(2), was_primary: true }), b: None },
        ..empty.clone()
    };
    [empty, full].iter().map(|sample| record::encode(&cluster(), sample).to_vec()).collect()
}

/// A record of the protocol.
pub fn record(bytes: &[u8]) -> bool {
    let Ok(read) = record::decode(&cluster(), None, bytes) else { return false };
    let again = record::decode(&cluster(), Some(read.cluster), &record::encode(&cluster(), &read));
    assert!(again == Ok(read), "a record is read as it was written");
    true
}

/// Valid stored records.
pub fn stored_samples() -> Vec<Vec<u8>> {
    let version = |digit: &str| Version::new(digit.repeat(32));
    let samples = [
        Stored { version: version("0"), bytes: Bytes::new() },
        Stored { version: version("f"), bytes: Bytes::from_static(b"content\n\x00 more") },
    ];
    samples.iter().map(|sample| sample.encode(&cluster())).collect()
}

/// A stored record.
pub fn stored(bytes: &[u8]) -> bool {
    let check = |bytes: &[u8]| {
        let read = Stored::decode(&cluster(), bytes).ok();
        if let Some(read) = &read {
            assert!(read.encode(&cluster()) == bytes, "a stored record has one form");
        }
        read.is_some()
    };
    if let Some(mended) = stored::mend(bytes) {
        check(&mended);
    }
    check(bytes)
}

/// URLs of witnesses.
pub fn url_samples() -> Vec<Vec<u8>> {
    let urls =
        ["http://witness.example.org:7400/", "http://[::1]:65535", "dir:/mnt/witness", "file:///mnt/w"];
    urls.iter().map(|url| url.as_bytes().to_vec()).collect()
}

/// A witness's URL from a configuration.
pub fn url(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let read = match text.parse::<WitnessUrl>() {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says why");
            return false;
        }
    };
    let again = read.to_string().parse::<WitnessUrl>();
    assert!(again.as_ref() == Ok(&read), "a URL is read as it is shown: {read:?}, {again:?}");
    true
}

/// Conditions of writes, as header lines.
pub fn condition_samples() -> Vec<Vec<u8>> {
    let tag = format!("if-match:\"{}\"", "0a".repeat(16));
    vec![tag.into_bytes(), b"if-none-match:*".to_vec()]
}

/// The condition of a write, from header lines: exactly one, in the one form that it has.
pub fn condition(bytes: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let conditions = headers.get_all(IF_MATCH).iter().chain(headers.get_all(IF_NONE_MATCH)).count();
    let condition = parse_condition(&headers);
    if let Some((name, value)) = &condition {
        assert!(conditions == 1, "there is one condition only");
        assert!(headers.get(name).is_some_and(|given| given == value.as_str()), "a condition has one form");
    }
    condition.is_some()
}
