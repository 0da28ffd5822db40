//! What a drive has reached, by name (see [`super::coverage`]).

use duet_protocol::explore::Inspection;
use duet_protocol::{
    Action, Agreement, Appliance, Conf, Effect, Entry, Input, Lsn, Message, OwnState, RoleName, WitnessRead,
    WitnessWrite,
};

use super::drive::Drive;
use super::node::{PRESENT, is_primary};

impl Drive<'_> {
    pub(super) fn mark_sent(&mut self, entries: &[Entry]) {
        let durable = self.node.disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
        if entries.last().is_some_and(|entry| entry.lsn > durable) {
            self.coverage.mark("entries sent before they are durable here");
        }
    }

    pub(super) fn mark_attempt(&mut self, action: Action, done: bool, core: &Appliance) {
        if !done {
            return;
        }
        let it = core.inspect();
        match action {
            Action::BeginAlone => self.coverage.mark("begin alone"),
            Action::BeginElect => self.coverage.mark("elect begins"),
            Action::Cancel => self.coverage.mark("cancel"),
            Action::Close => self.coverage.mark("closing"),
            Action::Refill => self.coverage.mark("empty witness refilled"),
            Action::Propose(Agreement::Rejoin) if it.matched < it.last.lsn => {
                self.coverage.mark("rejoin proposed while the secondary lacks the last entry");
            }
            _ => {}
        }
    }

    pub(super) fn mark_input(
        &mut self,
        before: &Inspection,
        old: &OwnState,
        input: &Input,
        effects: &[Effect],
    ) {
        let Some(core) = &self.node.core else { return };
        let it = core.inspect();
        let status = core.status();
        let own = &status.own;
        let cover = &mut *self.coverage;
        let sends_firm = effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Firm(_))));
        let truncates = effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. }));
        let takes = effects.iter().any(|effect| matches!(effect, Effect::Append { .. }));
        if it.committed > before.committed && is_primary(it.role) {
            cover.mark(if it.effective_solo { "committed alone" } else { "committed by both" });
        }
        if it.serves_reads && !it.effective_solo {
            cover.mark("read while the lease is needed");
        }
        if it.lease_runs && !before.lease_runs {
            cover.mark("lease obtained");
        }
        let adopted = own.conf != old.conf;
        match input {
            Input::Propose(_) if takes => cover.mark("write appended"),
            Input::Message(Message::Append { header, .. }) => {
                if header.conf.epoch() < old.conf.epoch() && sends_firm {
                    cover.mark("append refused as deposed");
                }
                if adopted {
                    cover.mark("append adopted a configuration");
                }
                if takes {
                    cover.mark("entries taken by the secondary");
                }
                if truncates {
                    let dead =
                        |entry: &Entry| entry.lsn == header.base.next() && entry.epoch < header.conf.epoch();
                    let tail = self.node.log().iter().any(dead);
                    cover.mark(if tail { "truncated by the tail rule" } else { "truncated at a conflict" });
                }
            }
            Input::Message(Message::Acknowledge(answer)) if is_primary(before.role) => {
                if answer.heartbeat.life != PRESENT && answer.epoch == old.conf.epoch() {
                    cover.mark("acknowledgement of a former life ignored");
                } else if answer.epoch == old.conf.epoch() && answer.retry_from.is_some() {
                    cover.mark("acknowledgement with a retry");
                }
            }
            Input::Message(Message::Propose(proposal)) => {
                let again = effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Stored(_))));
                if own.tent == Some(proposal.conf) && old.tent != own.tent {
                    cover.mark(stored_name(proposal.base, proposal.conf, proposal.position.is_some()));
                } else if adopted {
                    cover.mark("PROP adopted its base");
                } else if again {
                    cover.mark("PROP answered again");
                } else {
                    cover.mark("PROP refused");
                }
            }
            Input::Message(Message::Stored(_)) => match before.pending {
                Some((agreement, conf)) if own.conf == conf => cover.mark(in_force_name(agreement)),
                _ => cover.mark("STORED ignored"),
            },
            Input::Message(Message::Firm(_)) if adopted => {
                let mine = own.conf.primary() == own.appliance;
                cover.mark(match (mine, is_primary(before.role)) {
                    (true, true) => "TAKE learned by FIRM",
                    (true, false) => "handed over: begins by FIRM",
                    _ => "adopted from the peer's FIRM",
                });
            }
            Input::WitnessRead { outcome: WitnessRead::Record(record), .. } => {
                let newer = record.conf.epoch() > old.conf.epoch();
                if adopted {
                    let mine = own.conf.primary() == own.appliance;
                    cover.mark(if mine { "TAKE learned by reading" } else { "adopted from the witness" });
                } else if newer {
                    cover.mark("adoption from the witness refused for a newer tent");
                }
                if own.max_epoch > old.max_epoch && !adopted {
                    cover.mark(if is_primary(before.role) {
                        "TAKE asked by a primary"
                    } else {
                        "TAKE asked by a follower"
                    });
                    let member = if newer { record.conf } else { own.conf }.has(own.appliance, own.disk);
                    if !member {
                        cover.mark("TAKE asked by equality");
                    }
                } else if before.role == RoleName::Starting && !adopted {
                    let moving = old.is_moving() && own.is_moving();
                    cover.mark(if moving {
                        "TAKE refused: two witnesses"
                    } else {
                        "TAKE refused: not entitled"
                    });
                }
                if own.parted != old.parted {
                    cover.mark("PART written");
                }
                for effect in effects {
                    if let Effect::CompareAndSet { record: next, .. } = effect {
                        cover.mark(if next.conf == record.conf && next.part == record.part {
                            "NOTE written"
                        } else {
                            "SYNC written"
                        });
                    }
                }
            }
            Input::WitnessWritten { outcome: WitnessWrite::Swapped, .. } => {
                if adopted && is_primary(before.role) {
                    cover.mark("TAKE won by a primary");
                } else if adopted && before.promise_runs {
                    cover.mark("TAKE won by a follower: elect");
                } else if adopted {
                    cover.mark("TAKE won by a follower: begins");
                } else if old.tent.is_some() {
                    cover.mark("TAKE won, refused for a newer tent");
                }
            }
            _ => {}
        }
    }
}

fn stored_name(base: Conf, conf: Conf, position: bool) -> &'static str {
    match (conf.is_pair(), base.is_pair(), base.primary() == conf.primary()) {
        _ if conf.witness() != base.witness() => "Move stored by the responder",
        (true, ..) if position => "ColdPair stored by the responder",
        (true, ..) => "Rejoin stored by the responder",
        (false, true, true) => "Leave stored by the responder",
        (false, true, false) => "Handover stored by the responder",
        _ => "ColdSolo stored by the responder",
    }
}

const fn in_force_name(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Leave => "Leave in force",
        Agreement::Rejoin => "Rejoin in force",
        Agreement::Move(_) => "Move in force",
        Agreement::Handover => "Handover in force",
        Agreement::ColdSolo => "ColdSolo in force",
        Agreement::ColdPair => "ColdPair in force",
    }
}
