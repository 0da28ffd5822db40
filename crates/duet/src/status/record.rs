//! The witness record as `duet status` and the demo show it, read from the JSON form that appliances report.

use duet_server::StatusReport;
use duet_server::status_report::ConfReport;
use serde::{Deserialize, Serialize};

/// What the witness holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Raised with every write.
    pub revision: u64,
    /// The newest configuration the witness was told of.
    pub conf: Option<ConfReport>,
    /// Where the last primary parted.
    pub part: Option<Mark>,
    /// What each appliance left at its soft shutdown.
    #[serde(default)]
    pub left: Left,
}

/// A position, or a note with a position.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// LSN X or Y.
    pub lsn: u64,
    /// Epoch of the entry there.
    pub epoch: u64,
    /// Whether the appliance that left it was primary.
    #[serde(default)]
    pub was_primary: bool,
}

/// The notes of both appliances.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Left {
    /// LSN X.
    #[serde(rename = "A")]
    pub a: Option<Mark>,
    /// LSN Y.
    #[serde(rename = "B")]
    pub b: Option<Mark>,
}

impl Record {
    /// The record as an appliance last read it.
    pub fn of(report: &StatusReport) -> Option<Self> {
        serde_json::from_value(report.witness.record.clone()?).ok()
    }

    /// The note of one appliance.
    pub fn note(&self, appliance: &str) -> Option<&Mark> {
        if appliance == "A" { self.left.a.as_ref() } else { self.left.b.as_ref() }
    }

    /// The LSN that `appliance` left at its soft shutdown, whichever way it was written: as a note, or as the position
    /// at which a primary that was alone parted.
    pub fn lsn_left_by(&self, appliance: &str) -> Option<u64> {
        let parted = self.conf.as_ref().is_some_and(|conf| conf.primary == appliance);
        let part = self.part.as_ref().filter(|_| parted);
        self.note(appliance).or(part).map(|mark| mark.lsn)
    }

    /// "LSN X 12 left by A", for each that is there.
    pub fn marks_in_words(&self) -> Vec<String> {
        ["A", "B"]
            .into_iter()
            .filter_map(|appliance| {
                let lsn = self.lsn_left_by(appliance)?;
                Some(format!("{} {lsn} left by {appliance}", lsn_name(appliance)))
            })
            .collect()
    }

    /// One line.
    pub fn in_words(&self) -> String {
        let conf = self.conf.as_ref().map_or_else(|| "no configuration yet".into(), conf_in_words);
        let marks = self.marks_in_words();
        let marks = if marks.is_empty() { "no LSN left".to_owned() } else { marks.join(", ") };
        format!("{conf}; {marks}")
    }
}

/// "LSN X" for A's, "LSN Y" for B's.
pub fn lsn_name(appliance: &str) -> &'static str {
    if appliance == "A" { "LSN X" } else { "LSN Y" }
}

/// "epoch 3, primary A, in sync A and B".
pub fn conf_in_words(conf: &ConfReport) -> String {
    format!("epoch {}, primary {}, in sync {}", conf.epoch, conf.primary, conf.in_sync.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn notes_and_part_both_tell_the_lsn_left() {
        let noted = record(
            r#"{"cluster":"1","revision":4,"writer":"A","conf":{"epoch":1,"primary":"A","in_sync":["A","B"]},
                "part":null,"floor":{"A":0,"B":0},
                "left":{"A":{"lsn":7,"epoch":1,"digest":"00","was_primary":true},"B":null}}"#,
        );
        assert_eq!(noted.lsn_left_by("A"), Some(7));
        assert_eq!(noted.lsn_left_by("B"), None);
        assert!(noted.note("A").unwrap().was_primary);
        let parted = record(
            r#"{"revision":9,"conf":{"epoch":4,"primary":"B","in_sync":["B"]},"part":{"lsn":12,"epoch":4},
                "left":{"A":null,"B":null}}"#,
        );
        assert_eq!(parted.lsn_left_by("B"), Some(12));
        assert_eq!(parted.lsn_left_by("A"), None, "part belongs to the primary alone");
        assert_eq!(parted.in_words(), "epoch 4, primary B, in sync B; LSN Y 12 left by B");
    }
}
