//! A way to a violation in words.

use std::fmt::Write as _;

use duet_protocol::{Conf, Message};

use super::explorer::Explorer;
use super::node::{Answer, Op, Stimulus, is_copy};
use super::oracle::Facts;
use super::world::{Event, Fate, Step, World};

const NAMES: [&str; 2] = ["A", "B"];

/// The whole way.
pub fn tell(explorer: &Explorer, path: &[(Option<Step>, World)], violation: &str) -> String {
    let mut text = String::new();
    for (number, (step, world)) in path.iter().enumerate() {
        let what = step.map_or_else(|| "the start".to_string(), |step| self::step(explorer, &step));
        let _ = writeln!(text, "{number:>3}. {what}");
        let _ = writeln!(text, "       {}", state(explorer, world));
    }
    let _ = writeln!(text, "     => {violation}");
    text
}

/// One transition.
pub fn step(explorer: &Explorer, step: &Step) -> String {
    let who = NAMES[step.who];
    let mut text = match (step.stimulus, step.event) {
        (None, event) => event.map_or_else(String::new, |event| event_text(explorer, who, event)),
        (Some(stimulus), _) => match stimulus {
            Stimulus::Attempt(action, _) => format!("{who}: {action:?}"),
            Stimulus::AttemptSlowly(action, _) => format!("{who}: {action:?}, the answer is on its way"),
            Stimulus::Message(message) => {
                format!("{who} hears {}", message_text(explorer.messages.get(message)))
            }
            Stimulus::Write(number) => format!("a client writes w{number} to {who}"),
            Stimulus::Flush(count) => format!("{who}'s log: {count} more operations are durable"),
            Stimulus::Installed => format!("{who} has installed the copy"),
            Stimulus::Checkpoint => format!("{who} writes a checkpoint and trims its log"),
            Stimulus::Jump => "T passes".into(),
            Stimulus::Crash => format!("{who} crashes"),
            Stimulus::Stop => format!("{who} stops"),
            Stimulus::Restart => format!("{who} starts"),
            Stimulus::Damage(kept) => format!("{who}'s disk has lost all entries but {kept}"),
            Stimulus::Replace => format!("{who}'s disk is replaced by a blank one"),
            Stimulus::PeerRestarted => format!("{who}'s peer has started"),
            Stimulus::Reconnect => format!("{who} is connected anew"),
            Stimulus::Shutdown => format!("{who} is told to stop softly"),
            Stimulus::Switchover => format!("{who} is told to hand over"),
            Stimulus::Answer => format!("{who} hears the witness's answer"),
            Stimulus::Silence => format!("{who} hears nothing from the witness in time"),
            Stimulus::Written(swapped) => format!("{who} hears that its write was applied: {swapped}"),
            Stimulus::AnswerSent(swapped) => format!("the witness answers {who}: {swapped}"),
            Stimulus::RecordMoved(at) => format!("the record of register {at} has changed"),
        },
    };
    match step.fate {
        Some(Fate::Applied) => text.push_str("; its write to the witness is applied and answered"),
        Some(Fate::AnswerLate) => text.push_str("; its write to the witness is applied, the answer is late"),
        Some(Fate::Lost) => text.push_str("; its write to the witness is never applied"),
        Some(Fate::Late) => text.push_str("; its write to the witness is late"),
        Some(Fate::Refused) => text.push_str("; its write to the witness is refused"),
        None => {}
    }
    if step.crashed && step.stimulus != Some(Stimulus::Crash) && step.stimulus != Some(Stimulus::Stop) {
        text.push_str("; it crashes on the way");
    }
    text
}

fn event_text(explorer: &Explorer, who: &str, event: Event) -> String {
    match event {
        Event::Applies(record) => {
            format!("the witness applies {who}'s late write: {}", record_text(explorer, record))
        }
        Event::Loses(at) => format!("register {at} loses its record"),
        Event::Marks => format!("{who} leaves its configuration with the former witness"),
        Event::MarksLate => format!("{who}: the mark for the former witness is on its way"),
        Event::Foreign => "the witness's address leads to another pair's record".into(),
        Event::Back => "the witness's address is right again".into(),
        Event::Init => format!("init on {who} makes the first record"),
        Event::InitLate => format!("init on {who}: the first record is on its way"),
    }
}

fn conf_text(conf: &Conf) -> String {
    if conf.is_none() {
        return "0".into();
    }
    let members = if conf.is_pair() { "AB".to_string() } else { conf.primary().to_string() };
    let witness = match conf.witness().0 {
        0 => String::new(),
        number => format!("w{number}"),
    };
    format!("{}:{}{{{members}}}{witness}", conf.epoch(), conf.primary())
}

fn message_text(message: &Message) -> String {
    match message {
        Message::Append { header, entries } if is_copy(message) => {
            format!("a copy up to LSN {} ({})", entries.len(), conf_text(&header.conf))
        }
        Message::Append { header, entries } => {
            let entries: Vec<_> =
                entries.iter().map(|entry| format!("{}.{}", entry.epoch, entry.lsn)).collect();
            format!(
                "APPEND({}, base {}, previous {}.{}, entries [{}], committed {}, life {}{})",
                conf_text(&header.conf),
                header.base,
                header.previous.epoch,
                header.previous.lsn,
                entries.join(" "),
                header.committed,
                header.heartbeat.life,
                if header.heartbeat.sent < super::node::NOW { ", old" } else { "" },
            )
        }
        Message::Acknowledge(answer) => format!(
            "ACK(epoch {}, matched {}, life {}{}{})",
            answer.epoch,
            answer.matched,
            answer.heartbeat.life,
            if answer.heartbeat.sent < super::node::NOW { ", old" } else { "" },
            answer.retry_from.map_or(String::new(), |retry| format!(", retry from {retry}"))
        ),
        Message::Propose(proposal) => format!(
            "PROP({}, base {}{})",
            conf_text(&proposal.conf),
            conf_text(&proposal.base),
            if proposal.position.is_some() { ", equal positions" } else { "" }
        ),
        Message::Stored(conf) => format!("STORED({})", conf_text(conf)),
        Message::Firm(firm) => format!("FIRM({}, max {})", conf_text(&firm.conf), firm.max_epoch),
        Message::Leave => "LEAVE".into(),
        Message::AskReadIndex(question) => format!("ASK READ INDEX({})", question.number),
        Message::ReadIndex(answer) => format!("READ INDEX({}, {})", answer.question.number, answer.lsn),
    }
}

fn record_text(explorer: &Explorer, record: u32) -> String {
    let Some(record) = explorer.records.get(record) else { return "nothing".into() };
    let part = record.part.map_or(String::new(), |part| format!(" parted at {}.{}", part.epoch, part.lsn));
    format!("{}{part} floors {}/{}", conf_text(&record.conf), record.floor.a, record.floor.b)
}

/// A state in one line.
pub fn state(explorer: &Explorer, world: &World) -> String {
    let mut text = String::new();
    for (who, name) in NAMES.iter().enumerate() {
        let node = explorer.nodes.get(world.nodes[who]);
        let facts: &Facts = explorer.facts(world.nodes[who]);
        let role = facts.seen.as_ref().map_or("down", |seen| seen.role.as_str());
        let _ = write!(text, "{name}[{role} {}", conf_text(&node.own.conf));
        if let Some(tent) = node.own.tent {
            let _ = write!(text, " tent {}", conf_text(&tent));
        }
        let _ = write!(text, " max {}", node.own.max_epoch);
        if node.own.parted.0 > 0 {
            let _ = write!(text, " parted {}", node.own.parted);
        }
        let disk: Vec<_> = node.disk.iter().map(|entry| format!("{}.{}", entry.epoch, entry.lsn)).collect();
        let _ = write!(text, " log {}", disk.join(" "));
        for op in &node.ops {
            let _ = match op {
                Op::Append(entry) => write!(text, " +{}.{}", entry.epoch, entry.lsn),
                Op::Truncate(last) => write!(text, " cut>{last}"),
                Op::Install(entries) => write!(text, " copy<={}", entries.len()),
            };
        }
        if let Some(seen) = &facts.seen {
            let _ = write!(text, " committed {}", seen.committed);
            if let Some((agreement, conf)) = seen.pending {
                let _ = write!(text, " proposes {agreement:?} {}", conf_text(&conf));
            }
            for (flag, name) in [
                (seen.serves_reads, "serves"),
                (seen.lease_runs, "leased"),
                (seen.promise_runs, "promised"),
                (seen.closing, "closing"),
                (seen.leaving, "leaving"),
                (seen.asking, "asking"),
            ] {
                if flag {
                    let _ = write!(text, " {name}");
                }
            }
            if seen.matched.0 > 0 {
                let _ = write!(text, " matched {}", seen.matched);
            }
        }
        match &node.answer {
            Some(Answer::Read(record)) => {
                let _ = write!(text, " (read on its way: {})", conf_text(&record.conf));
            }
            Some(Answer::Written(outcome)) => {
                let _ = write!(text, " (answer on its way: {outcome:?})");
            }
            None => {}
        }
        text.push_str("] ");
    }
    let witness = explorer.witnesses.get(world.witness);
    for (at, &record) in witness.records.iter().enumerate() {
        let _ = write!(text, "W{at}[{}", record_text(explorer, record));
        for pending in witness.pending.iter().filter(|pending| pending.at == at) {
            let _ = write!(text, "; late: {}", record_text(explorer, pending.record));
        }
        text.push(']');
    }
    for (to, name) in NAMES.iter().enumerate() {
        for message in Explorer::inbox(world, to) {
            let _ = write!(text, " ->{name} {}", message_text(explorer.messages.get(message)));
        }
    }
    let history = explorer.histories.get(world.history);
    let _ = write!(text, " acknowledged {}", history.acknowledged.len());
    text
}
