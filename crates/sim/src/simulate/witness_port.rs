//! An appliance's requests to its witness, and what the network makes of them.

use duet_protocol::{ApplianceId, Input, WitnessId, WitnessRead, WitnessWrite};

use super::clock::{MILLI, SECOND, Time};
use super::event::Event;
use super::marks::Mark;
use super::witness::{Answer, Answered, Ask, Fate, Request, place_of};
use super::world::World;

/// How late a request to the witness may be carried out.
const LATE: (Time, Time) = (10 * MILLI, 12 * SECOND);

impl World {
    pub(crate) fn ask_witness(&mut self, from: ApplianceId, ticket: u64, witness: WitnessId, ask: Ask) {
        let at = place_of(witness);
        let Some(life) = self.life_of(from) else { return };
        self.note(|| format!("{from} asks witness {witness}: {}", describe(&ask)));
        let known = self.process_of(from, life).and_then(|process| process.witness_known[at]);
        let version = match &ask {
            Ask::Swap { expected, .. } => known.filter(|(revision, _)| revision == expected),
            Ask::Read | Ask::Create(_) => None,
        };
        let version = version.map(|(_, version)| version);
        let mut request = Request { from, life, ticket, ask, at, version, answered: true };
        let writes = !matches!(request.ask, Ask::Read);
        let mut fate = self.witness_filter.as_mut().map_or(Fate::Normal, |filter| filter(&request));
        if fate == Fate::Normal && self.witness_late {
            fate = match self.random.below(4) {
                0 => Fate::Lost,
                1 => Fate::Unanswered,
                2 => Fate::Late(self.random.spread(LATE)),
                _ => Fate::Normal,
            };
        }
        let latency = self.random.within(self.options.witness_latency);
        match fate {
            _ if !self.witnesses[at].reached_by(from)
                && (fate == Fate::Normal || self.random.chance(500)) =>
            {
                return self.witness_unreachable(&request);
            }
            Fate::Normal => return self.schedule(latency, Event::WitnessArrival(Box::new(request))),
            Fate::Lost => {}
            Fate::Unanswered => {
                let unanswered = Request { answered: false, ..request.clone() };
                self.schedule(latency, Event::WitnessArrival(Box::new(unanswered)));
            }
            Fate::Late(delay) => {
                // A late answer may even come, when the driver has no deadline of its own.
                request.answered = writes && self.options.witness_deadline.is_none();
                self.schedule(delay, Event::WitnessArrival(Box::new(request.clone())));
            }
        }
        self.witness_times_out(&request);
    }

    /// Connection refused, or no answer at all.
    fn witness_unreachable(&mut self, request: &Request) {
        if self.random.chance(500) {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answered = Box::new(Answered { at: request.at, answer: unknown(&request.ask), known: None });
            self.schedule(MILLI, Event::WitnessAnswer { to, life, ticket, answered });
        } else {
            self.witness_times_out(request);
        }
    }

    fn witness_times_out(&mut self, request: &Request) {
        if let Some(deadline) = self.options.witness_deadline {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answered = Box::new(Answered { at: request.at, answer: unknown(&request.ask), known: None });
            self.schedule(deadline, Event::WitnessAnswer { to, life, ticket, answered });
        }
    }

    pub(crate) fn on_witness_arrival(&mut self, request: &Request) {
        let at = request.at;
        if !self.witnesses[at].up {
            return self.witness_times_out(request);
        }
        let answer = self.witnesses[at].carry_out(self.now, request);
        let known = self.witnesses[at].told(&answer);
        let from = request.from;
        if !matches!(answer, Answer::Read(_)) {
            self.note(|| format!("the witness has {} what {from} wrote", outcome(&answer)));
            if matches!(answer, Answer::Written(WitnessWrite::Mismatch)) {
                self.marks.reach(Mark::SwapConflict);
            }
            self.on_record(request);
        }
        if request.answered && self.witnesses[at].reached_by(from) {
            let latency = self.random.within(self.options.witness_latency);
            let (to, life, ticket) = (from, request.life, request.ticket);
            let answered = Box::new(Answered { at, answer, known });
            self.schedule(latency, Event::WitnessAnswer { to, life, ticket, answered });
        } else {
            self.witness_times_out(request);
        }
    }

    pub(crate) fn on_witness_answer(
        &mut self,
        to: ApplianceId,
        life: u64,
        ticket: u64,
        Answered { at, answer, known }: Answered,
    ) {
        let Some(process) = self.process_of_mut(to, life) else { return };
        process.witness_known[at] = known.or(process.witness_known[at]);
        self.note(|| format!("{to} hears from the witness: {}", outcome(&answer)));
        match answer {
            Answer::Read(outcome) => {
                self.reading = true;
                self.input(to, Input::WitnessRead { ticket, outcome });
                self.reading = false;
            }
            Answer::Written(outcome) => self.input(to, Input::WitnessWritten { ticket, outcome }),
        }
    }
}

fn unknown(ask: &Ask) -> Answer {
    match ask {
        Ask::Read => Answer::Read(WitnessRead::Unknown),
        Ask::Create(_) | Ask::Swap { .. } => Answer::Written(WitnessWrite::Unknown),
    }
}

fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Read => "read".into(),
        Ask::Create(record) => format!("create {}", record.conf),
        Ask::Swap { record, expected } => format!(
            "swap {expected}: {}{}{}",
            record.conf,
            record.part.map_or_else(String::new, |part| format!(", parted at {part}")),
            match (record.left.a, record.left.b) {
                (None, None) => "",
                (Some(_), None) => ", note of A",
                (None, Some(_)) => ", note of B",
                (Some(_), Some(_)) => ", notes of both",
            }
        ),
    }
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Answer::Read(WitnessRead::Record(record)) => format!("record {}: {}", record.revision, record.conf),
        Answer::Read(WitnessRead::Absent) => "no record".into(),
        Answer::Read(WitnessRead::Foreign) => "another pair's record".into(),
        Answer::Read(WitnessRead::Unknown) => "nothing".into(),
        Answer::Written(WitnessWrite::Swapped) => "swapped".into(),
        Answer::Written(WitnessWrite::Mismatch) => "not swapped".into(),
        Answer::Written(WitnessWrite::Unknown) => "unknown".into(),
    }
}
