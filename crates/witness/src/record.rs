//! The protocol's record as bytes: JSON that a person can read at the witness with no tool of ours.
//!
//! It carries a format number, and the cluster's name and id: two pairs that were given one place by mistake
//! notice it instead of taking each other's record for their own. Numbers of 64 bits are strings, as many
//! JSON readers would round them. Fields that are not known are refused, for dropping them in the next write
//! would lose them.

use bytes::Bytes;
use duet_protocol::{
    ApplianceId, ClusterId, Conf, Digest, DiskId, Epoch, Lsn, Note, PerAppliance, Position, WitnessId,
    WitnessRecord,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ClusterName;
use crate::planted::Bug;

/// Format that this program reads and writes.
pub const FORMAT: u32 = 2;

/// The record as the bytes to be stored.
pub fn encode(name: &ClusterName, record: &WitnessRecord) -> Bytes {
    let json = RecordJson {
        format: FORMAT,
        cluster: ClusterJson { name: name.to_string(), id: record.cluster.to_string() },
        revision: record.revision.to_string(),
        writer: appliance_json(record.writer),
        configuration: conf_json(&record.conf),
        part: record.part.as_ref().map(position_json),
        floor: Both { a: record.floor.a.to_string(), b: record.floor.b.to_string() },
        left: Both { a: record.left.a.as_ref().map(note_json), b: record.left.b.as_ref().map(note_json) },
    };
    // Structs of strings always have a JSON form; were that ever not so, the empty record would be refused by
    // `decode`.
    let mut bytes = serde_json::to_vec_pretty(&json).unwrap_or_default();
    assert!(!bytes.is_empty(), "structs of strings have a JSON form");
    bytes.push(b'\n');
    assert!(bytes.len() <= crate::register::MAX_RECORD_BYTES, "all fields are bounded");
    Bytes::from(bytes)
}

/// The record in `bytes`. `id` is `None` only for an appliance that does not know its pair's id yet.
///
/// # Errors
/// When the record is another cluster's, of a newer format, or no record. It counts as unknown, never as
/// absent.
pub fn decode(name: &ClusterName, id: Option<ClusterId>, bytes: &[u8]) -> Result<WitnessRecord, RecordError> {
    let damaged = |error: serde_json::Error| RecordError::Damaged { what: error.to_string() };
    let FormatJson { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(RecordError::NewerFormat { found: format });
    }
    if format != FORMAT {
        let what = format!(
            "its format is {format}, this program knows {FORMAT}; empty the witness: the pair fills it again by itself"
        );
        return Err(RecordError::Damaged { what });
    }
    let json: RecordJson = serde_json::from_slice(bytes).map_err(damaged)?;
    let cluster = ClusterId(
        u64::from_str_radix(digits(&json.cluster.id, 16, "cluster")?, 16).map_err(|_| bad("cluster"))?,
    );
    let other_pair = id.is_some_and(|id| id != cluster) && !Bug::OtherPairRead.planted();
    if json.cluster.name != name.as_str() || other_pair {
        return Err(RecordError::OtherCluster {
            expected: name.to_string(),
            expected_id: id.map_or_else(|| "any".into(), |id| id.to_string()),
            found: json.cluster.name,
            found_id: json.cluster.id,
        });
    }
    Ok(WitnessRecord {
        cluster,
        revision: revision(&json.revision)?,
        writer: appliance(json.writer),
        conf: conf(json.configuration)?,
        part: json.part.map(|part| position(&part)).transpose()?,
        floor: PerAppliance { a: lsn(&json.floor.a, "floor")?, b: lsn(&json.floor.b, "floor")? },
        left: PerAppliance {
            a: json.left.a.map(|left| note(&left)).transpose()?,
            b: json.left.b.map(|left| note(&left)).transpose()?,
        },
    })
}

/// The bytes at the witness are not a record that this appliance may use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Give each pair a name of its own at this witness.
    #[error(
        "the witness's record belongs to cluster {found:?} (id {found_id}), this is {expected:?} (id {expected_id}): \
         give each pair a name of its own at this witness"
    )]
    OtherCluster {
        /// The name of this cluster.
        expected: String,
        /// Its id, or "any".
        expected_id: String,
        /// The name in the record.
        found: String,
        /// The id in the record.
        found_id: String,
    },
    /// Upgrade this appliance.
    #[error("the witness's record has format {found}, this program knows {FORMAT}: upgrade this appliance")]
    NewerFormat {
        /// The record's format.
        found: u32,
    },
    /// Find out who writes there; if it is lost, remove it with both appliances running.
    #[error("the witness's record is damaged: {what}")]
    Damaged {
        /// The first thing that is wrong.
        what: String,
    },
}

/// Only the field that says how to read the others.
#[derive(Deserialize)]
struct FormatJson {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordJson {
    format: u32,
    cluster: ClusterJson,
    revision: String,
    writer: ApplianceJson,
    #[serde(deserialize_with = "required")]
    configuration: Option<ConfJson>,
    #[serde(deserialize_with = "required")]
    part: Option<PositionJson>,
    floor: Both<String>,
    left: Both<Option<NoteJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterJson {
    name: String,
    id: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum ApplianceJson {
    A,
    B,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
struct Both<T> {
    #[serde(rename = "A", deserialize_with = "required")]
    a: T,
    #[serde(rename = "B", deserialize_with = "required")]
    b: T,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfJson {
    epoch: String,
    primary: ApplianceJson,
    in_sync: Both<Option<String>>,
    witness: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PositionJson {
    epoch: String,
    lsn: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteJson {
    position: PositionJson,
    was_primary: bool,
}

/// Without this a missing field of an optional type would count as null.
fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer)
}

fn bad(field: &str) -> RecordError {
    RecordError::Damaged { what: format!("its field {field:?} is malformed") }
}

/// A decimal number in its one spelling.
fn number(text: &str, field: &str) -> Result<u64, RecordError> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text).ok_or_else(|| bad(field))
}

/// A revision, of which there is a next one.
fn revision(text: &str) -> Result<u64, RecordError> {
    number(text, "revision")
        .and_then(|number| if number < u64::MAX { Ok(number) } else { Err(bad("revision")) })
}

fn lsn(text: &str, field: &str) -> Result<Lsn, RecordError> {
    Lsn::checked(number(text, field)?).ok_or_else(|| bad(field))
}

fn epoch(text: &str) -> Result<Epoch, RecordError> {
    Epoch::checked(number(text, "epoch")?).ok_or_else(|| bad("epoch"))
}

/// `text`, if it is that many hexadecimal digits in lower case.
fn digits<'a>(text: &'a str, count: usize, field: &str) -> Result<&'a str, RecordError> {
    let good = text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if good { Ok(text) } else { Err(bad(field)) }
}

fn hex128(text: &str, field: &str) -> Result<u128, RecordError> {
    u128::from_str_radix(digits(text, 32, field)?, 16).map_err(|_| bad(field))
}

const fn appliance(json: ApplianceJson) -> ApplianceId {
    match json {
        ApplianceJson::A => ApplianceId::A,
        ApplianceJson::B => ApplianceId::B,
    }
}

const fn appliance_json(appliance: ApplianceId) -> ApplianceJson {
    match appliance {
        ApplianceId::A => ApplianceJson::A,
        ApplianceId::B => ApplianceJson::B,
    }
}

fn conf(json: Option<ConfJson>) -> Result<Conf, RecordError> {
    let Some(json) = json else { return Ok(Conf::NONE) };
    let disk = |text: Option<String>| text.map(|text| hex128(&text, "in_sync").map(DiskId)).transpose();
    let members = PerAppliance { a: disk(json.in_sync.a)?, b: disk(json.in_sync.b)? };
    let witness = WitnessId(json.witness);
    Conf::from_parts(epoch(&json.epoch)?, appliance(json.primary), members, witness)
        .filter(|conf| !conf.is_none())
        .ok_or_else(|| bad("configuration"))
}

fn conf_json(conf: &Conf) -> Option<ConfJson> {
    let disk = |disk: Option<DiskId>| disk.map(|disk| disk.to_string());
    let members = conf.members();
    (!conf.is_none()).then(|| ConfJson {
        epoch: conf.epoch().to_string(),
        primary: appliance_json(conf.primary()),
        in_sync: Both { a: disk(members.a), b: disk(members.b) },
        witness: conf.witness().0,
    })
}

fn position(json: &PositionJson) -> Result<Position, RecordError> {
    Ok(Position {
        epoch: epoch(&json.epoch)?,
        lsn: lsn(&json.lsn, "lsn")?,
        digest: Digest(hex128(&json.digest, "digest")?.to_be_bytes()),
    })
}

fn position_json(position: &Position) -> PositionJson {
    PositionJson {
        epoch: position.epoch.to_string(),
        lsn: position.lsn.to_string(),
        digest: position.digest.to_string(),
    }
}

fn note(json: &NoteJson) -> Result<Note, RecordError> {
    Ok(Note { position: position(&json.position)?, was_primary: json.was_primary })
}

fn note_json(note: &Note) -> NoteJson {
    NoteJson { position: position_json(&note.position), was_primary: note.was_primary }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ClusterId = ClusterId(0x0123_4567_89ab_cdef);

    fn name() -> ClusterName {
        "berlin".parse().unwrap()
    }

    fn position(number: u64) -> Position {
        Position { epoch: Epoch(number), lsn: Lsn(number + 1), digest: Digest([0xa0; 16]) }
    }

    fn full() -> WitnessRecord {
        WitnessRecord {
            cluster: ID,
            revision: u64::MAX - 1,
            writer: ApplianceId::B,
            conf: Conf::solo(Epoch::MAX, ApplianceId::B, DiskId(u128::MAX)).at(WitnessId(u32::MAX)),
            part: Some(position(Lsn::MAX.0 - 1)),
            floor: PerAppliance { a: Lsn::MAX, b: Lsn(7) },
            left: PerAppliance {
                a: Some(Note { position: position(3), was_primary: true }),
                b: Some(Note { position: position(4), was_primary: false }),
            },
        }
    }

    fn empty() -> WitnessRecord {
        WitnessRecord {
            cluster: ID,
            revision: 0,
            writer: ApplianceId::A,
            conf: Conf::NONE,
            part: None,
            floor: PerAppliance::default(),
            left: PerAppliance::default(),
        }
    }

    #[test]
    fn round_trips() {
        let disks = PerAppliance { a: DiskId(1), b: DiskId(2) };
        let pair = WitnessRecord { conf: Conf::pair(Epoch(2), ApplianceId::B, disks), ..empty() };
        for record in [full(), empty(), pair] {
            let bytes = encode(&name(), &record);
            assert!(bytes.len() < 2048, "{}", bytes.len());
            assert_eq!(decode(&name(), Some(ID), &bytes), Ok(record.clone()));
            assert_eq!(decode(&name(), None, &bytes), Ok(record));
        }
    }

    /// The format is a promise to older and newer appliances, and to people.
    #[test]
    fn format_2_is_this() {
        let record = WitnessRecord {
            revision: 12,
            conf: Conf::solo(Epoch(3), ApplianceId::A, DiskId(0xd15c)).at(WitnessId(4)),
            part: Some(position(2)),
            left: PerAppliance { a: None, b: Some(Note { position: position(1), was_primary: true }) },
            ..empty()
        };
        let expected = r#"{
  "format": 2,
  "cluster": {
    "name": "berlin",
    "id": "0123456789abcdef"
  },
  "revision": "12",
  "writer": "A",
  "configuration": {
    "epoch": "3",
    "primary": "A",
    "in_sync": {
      "A": "0000000000000000000000000000d15c",
      "B": null
    },
    "witness": 4
  },
  "part": {
    "epoch": "2",
    "lsn": "3",
    "digest": "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"
  },
  "floor": {
    "A": "0",
    "B": "0"
  },
  "left": {
    "A": null,
    "B": {
      "position": {
        "epoch": "1",
        "lsn": "2",
        "digest": "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"
      },
      "was_primary": true
    }
  }
}
"#;
        assert_eq!(encode(&name(), &record), expected);
    }

    #[test]
    fn another_clusters_record_is_refused_with_both_names() {
        let bytes = encode(&name(), &full());
        let other_id = decode(&name(), Some(ClusterId(5)), &bytes).unwrap_err();
        let other_name = decode(&"munich".parse().unwrap(), None, &bytes).unwrap_err();
        for (error, words) in [
            (other_id, ["berlin", "0123456789abcdef", "0000000000000005"]),
            (other_name, ["berlin", "munich", "0123456789abcdef"]),
        ] {
            assert!(matches!(error, RecordError::OtherCluster { .. }), "{error}");
            for word in words {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_even_with_unknown_fields() {
        let newer = br#"{"format": 3, "everything": "else"}"#;
        assert_eq!(decode(&name(), None, newer), Err(RecordError::NewerFormat { found: 3 }));
    }

    #[test]
    fn whatever_is_malformed_is_damaged() {
        let text = String::from_utf8(encode(&name(), &full()).to_vec()).unwrap();
        for (from, to) in [
            ("\"format\": 2", "\"format\": 1"),
            ("\"format\": 2,", ""),
            ("\"format\": 2,", "\"format\": 2, \"extra\": 1,"),
            ("\"witness\": 4294967295", "\"witness\": 4294967296"),
            (",\n    \"witness\": 4294967295", ""),
            ("\"was_primary\": true", "\"was_primary\": true, \"extra\": 1"),
            ("\"writer\": \"B\"", "\"writer\": \"C\""),
            ("\"18446744073709551614\"", "\"18446744073709551616\""),
            ("\"18446744073709551614\"", "\"18446744073709551615\""),
            ("\"18446744073709551614\"", "\"+1\""),
            ("\"18446744073709551614\"", "\"007\""),
            ("\"18446744073709551614\"", "7"),
            ("\"0123456789abcdef\"", "\"0123456789ABCDEF\""),
            ("\"0123456789abcdef\"", "\"+123456789abcdef\""),
            ("ffffffffffffffffffffffffffffffff", "ff"),
            ("a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0", "g0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"),
            // The primary is not in sync; no configuration has epoch zero.
            ("\"primary\": \"B\"", "\"primary\": \"A\""),
            ("\"epoch\": \"4611686018427387904\"", "\"epoch\": \"0\""),
            // No pair gets so far.
            ("\"4611686018427387904\"", "\"4611686018427387905\""),
            ("\"A\": null,", ""),
            ("  \"part\": {", "  \"apart\": {"),
        ] {
            assert!(text.contains(from), "{from}");
            let changed = text.replacen(from, to, 1);
            let error = decode(&name(), None, changed.as_bytes()).unwrap_err();
            assert!(matches!(error, RecordError::Damaged { .. }), "{from} -> {to}: {error}");
        }
        for end in 0..text.len() - 1 {
            let error = decode(&name(), None, &text.as_bytes()[..end]).unwrap_err();
            assert!(matches!(error, RecordError::Damaged { .. }), "{end}: {error}");
        }
        decode(&name(), None, text.repeat(2).as_bytes()).unwrap_err();
    }
}
