//! What would happen if this or that failed now: a table over three facts of the primary's own report.
//!
//! The facts are whether both are in sync, whether the witness answers, and which of the three fails.

use duet_server::StatusReport;

/// One row: what fails, and what happens then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// "if A crashes".
    pub event: String,
    /// What happens then.
    pub then: String,
}

/// The rows for a pair whose primary reports `primary`.
pub fn outlook(primary: &StatusReport) -> Vec<Outlook> {
    let p = primary.appliance.as_str();
    let s = if p == "A" { "B" } else { "A" };
    let in_sync = primary.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2);
    let (primary_lost, secondary_lost, witness_lost) = match (in_sync, primary.witness.reachable) {
        (true, true) => (
            format!("{s} takes over at once; no acknowledged write is lost"),
            format!("{p} goes on alone"),
            "both go on; only a crash on top of it would stop writes".to_owned(),
        ),
        (true, false) => (
            format!("{s} waits for {p} or for the witness; writes stop, nothing is lost"),
            format!("{p} waits for {s} or for the witness; writes stop, nothing is lost"),
            "it does not answer now".to_owned(),
        ),
        (false, reachable) => (
            format!("writes stop until {p} is back: {s} does not have everything"),
            format!("{p} goes on alone"),
            if reachable { format!("{p} goes on") } else { "it does not answer now".to_owned() },
        ),
    };
    let row = |event: String, then: String| Outlook { event, then };
    let mut rows = vec![row(format!("if {p} crashes"), primary_lost)];
    if primary.peer.connected {
        rows.push(row(format!("if {s} crashes"), secondary_lost));
    }
    rows.push(row("if the witness fails".into(), witness_lost));
    rows
}
