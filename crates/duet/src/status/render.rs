//! The status of a pair as text for a terminal. Pure: from two views to lines.

use std::fmt::Write as _;

use duet_server::StatusReport;
use duet_server::status_report::CopyReport;

use super::outlook::outlook;
use super::record::{Record, conf_in_words, lsn_name};
use super::{PairView, Seen};
use crate::terminal::Paint;

/// The whole text.
pub fn render(view: &PairView, paint: Paint) -> String {
    let mut text = String::new();
    writeln!(text, "{}", headline(view, paint)).ok();
    text.push('\n');
    for seen in [&view.first, &view.second] {
        appliance(&mut text, seen, paint);
    }
    let Some(speaker) = view.speaker() else {
        if let Some(record) = &view.record {
            let words = record.as_ref().map_or_else(|reason| paint.red(reason), Record::in_words);
            writeln!(text, "\n  witness   {words}").ok();
        }
        return text;
    };
    text.push('\n');
    shared_state(&mut text, view, speaker, paint);
    if let Some(primary) = view.primary() {
        text.push('\n');
        for row in outlook(primary) {
            writeln!(text, "  {:<22}{}", row.event, row.then).ok();
        }
    }
    text
}

/// One sentence that says it all.
fn headline(view: &PairView, paint: Paint) -> String {
    let Some(speaker) = view.speaker() else {
        return paint.red("No appliance answers.");
    };
    let name = paint.bold(format!("Pair {}", speaker.cluster.name));
    let Some(primary) = view.primary() else {
        return format!("{name}: {}", paint.yellow("no appliance takes writes now."));
    };
    let letter = &primary.appliance;
    let other = if letter == "A" { "B" } else { "A" };
    let in_sync = primary.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2);
    let other_up = [&view.first, &view.second]
        .into_iter()
        .filter_map(|seen| seen.report())
        .any(|report| &report.appliance != letter);
    let words = match (in_sync, other_up) {
        (true, true) => paint.green(format!("{letter} is primary, both are in sync.")),
        (true, false) => paint.yellow(format!("{letter} is primary, {other} does not answer.")),
        (false, true) => {
            paint.yellow(format!("{letter} is primary and alone in sync, {other} is catching up."))
        }
        (false, false) => paint.yellow(format!("{letter} is primary and alone, {other} does not answer.")),
    };
    format!("{name}: {words}")
}

/// One line for an appliance, and one more for whatever needs words.
fn appliance(text: &mut String, seen: &Seen, paint: Paint) {
    match seen {
        Seen::Up(report) => {
            let role = format!("{:<11}", report.role);
            let role = match report.role.as_str() {
                "primary" => paint.green(role),
                "secondary" => role,
                _ => paint.yellow(role),
            };
            let lsn = format!("{} {} (epoch {})", lsn_name(&report.appliance), report.lsn, report.epoch);
            let doing = doing(report);
            writeln!(
                text,
                "  {}  {role}{lsn:<24}{doing:<16} {}",
                paint.bold(&report.appliance),
                paint.dim(&report.client_url)
            )
            .ok();
            for line in remarks(report) {
                writeln!(text, "     {}", paint.yellow(line)).ok();
            }
        }
        Seen::Down { appliance, url, reason } => {
            let letter = appliance.as_deref().unwrap_or("?");
            let url = url.as_deref().unwrap_or("address unknown");
            writeln!(
                text,
                "  {}  {}{url}: {reason}",
                paint.bold(letter),
                paint.red(format!("{:<11}", "down"))
            )
            .ok();
        }
    }
}

/// What it does for its clients, in a few words.
fn doing(report: &StatusReport) -> String {
    match report.role.as_str() {
        "primary" if report.serving => "takes writes".into(),
        "secondary" => report.peer.lag.map_or_else(|| "follows".into(), |lag| format!("follows, lag {lag}")),
        "offering" => "hands over".into(),
        "stopped" => "stopping".into(),
        _ if report.waiting.is_some() => "waits".into(),
        _ => String::new(),
    }
}

/// Sentences for what is not as it should be.
fn remarks(report: &StatusReport) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(sentence) = &report.waiting {
        lines.push(sentence.clone());
    }
    if report.damaged {
        lines.push("its disk has lost writes: it must be repaired from its peer before it serves".into());
    }
    if report.leaving {
        lines.push("it is shutting down".into());
    }
    if report.peer.copying {
        lines.push(copying(report.peer.copy.as_ref()));
    }
    if let Some(error) = report.peer.error.as_ref().filter(|_| !report.peer.connected) {
        lines.push(format!("no connection to its peer: {error}"));
    }
    lines
}

/// How far a full copy has come.
fn copying(copy: Option<&CopyReport>) -> String {
    let begun = "it sends its peer a full copy";
    let Some(CopyReport { bytes, of, bytes_per_second, seconds_left }) = copy else { return begun.into() };
    let percent = bytes.saturating_mul(100).checked_div(*of).unwrap_or(100);
    let rate = size(*bytes_per_second);
    let left = seconds_left.map_or_else(String::new, |seconds| format!(", {seconds} s left"));
    format!("{begun}: {percent} % of {}, {rate}/s{left}", size(*of))
}

/// In the largest unit of which it is at least one.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// In-sync set, witness, record.
fn shared_state(text: &mut String, view: &PairView, speaker: &StatusReport, paint: Paint) {
    let conf = speaker.conf.as_ref().map_or_else(|| "none yet".into(), conf_in_words);
    writeln!(text, "  agreed    {conf}").ok();
    if let Some(tent) = &speaker.tent {
        writeln!(text, "            {} has also agreed to: {}", speaker.appliance, conf_in_words(tent)).ok();
    }
    let witness = &speaker.witness;
    let reach = if witness.reachable {
        paint.green("answers")
    } else {
        let error = witness.error.as_deref().unwrap_or("it was not asked yet");
        paint.red(format!("does not answer: {error}"))
    };
    writeln!(text, "  witness   {} {}, {reach}", witness.kind, witness.location).ok();
    let words = match &view.record {
        Some(Ok(record)) => record.in_words(),
        _ => last_read(speaker),
    };
    writeln!(text, "            {words}").ok();
}

/// The record as the appliance read it last, when it cannot be read from here.
fn last_read(speaker: &StatusReport) -> String {
    let Some(record) = Record::of(speaker) else { return "not read yet".into() };
    let age = speaker.witness.read_ms_ago.unwrap_or(0) / 1000;
    format!("{} ({} read it {age} s ago)", record.in_words(), speaker.appliance)
}
