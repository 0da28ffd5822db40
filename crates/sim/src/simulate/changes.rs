//! What a step has changed in an appliance, for people who step through a run.

use duet_protocol::Status;

/// One line for each fact that is another one now.
pub fn between(before: &Status, after: &Status) -> Vec<String> {
    let mut changes = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{what} {old} -> {new}"));
        }
    };
    let conf =
        |conf: Option<duet_protocol::Conf>| conf.map_or_else(|| "none".to_owned(), |conf| conf.to_string());
    compare("role", before.role.as_str().into(), after.role.as_str().into());
    compare("conf", before.own.conf.to_string(), after.own.conf.to_string());
    compare("tent", conf(before.own.tent), conf(after.own.tent));
    compare("max epoch", before.own.max_epoch.to_string(), after.own.max_epoch.to_string());
    compare("parted", before.own.parted.to_string(), after.own.parted.to_string());
    compare("proposal", conf(before.pending), conf(after.pending));
    compare("last", before.last.to_string(), after.last.to_string());
    compare("flushed", before.flushed.to_string(), after.flushed.to_string());
    compare("committed", before.committed.to_string(), after.committed.to_string());
    compare("applied", before.applied.to_string(), after.applied.to_string());
    compare("serves reads", before.serves_reads.to_string(), after.serves_reads.to_string());
    compare("leaving", before.leaving.to_string(), after.leaving.to_string());
    compare("damaged", before.damaged.to_string(), after.damaged.to_string());
    compare("connected", before.peer.connected.to_string(), after.peer.connected.to_string());
    compare("peer matched", before.peer.matched.to_string(), after.peer.matched.to_string());
    compare("reaches the witness", before.witness_reachable.to_string(), after.witness_reachable.to_string());
    let waiting = |status: &Status| status.waiting.clone().unwrap_or_else(|| "nothing".into());
    compare("waits:", waiting(before), waiting(after));
    changes
}
