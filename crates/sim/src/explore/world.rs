//! One state of everything: two appliances, the witness, the network, what was promised, and how much may still go wrong.

use duet_protocol::WitnessId;

use super::node::Stimulus;

/// Messages kept in flight per direction, at most.
pub const MOST_MESSAGES: usize = 3;
/// No message.
pub const NONE: u32 = u32::MAX;

/// How much may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Client writes.
    pub writes: u8,
    /// Crashes of a process.
    pub crashes: u8,
    /// Partings of a lone primary that may change its mind.
    pub softs: u8,
    /// Soft shutdowns and switchovers.
    pub leaves: u8,
    /// TAKEs and proposals.
    pub attempts: u8,
    /// Connections cut and made anew.
    pub reconnects: u8,
    /// Conditional writes that are applied late.
    pub late: u8,
    /// Reads of the witness whose answers are late.
    pub reads: u8,
    /// Notes left at the witness.
    pub notes: u8,
    /// Times the witness loses its record.
    pub losses: u8,
    /// Times an appliance's address of the witness leads to another pair's record, for both.
    pub foreigns: u8,
    /// Times `init` is run on an appliance that was never in use.
    pub inits: u8,
    /// Crashes after which the disk lacks entries it had called durable, where the witness's record tells.
    pub damages: u8,
    /// Disks replaced by blank ones while their appliance is down.
    pub blanks: u8,
    /// Proposals of another witness. The third witness is the first one's register again, with whatever is left there.
    pub moves: u8,
    /// A crash may leave an old checkpoint, too.
    pub checkpoints: bool,
    /// Checkpoints are written and the log below them is trimmed, so that a whole copy may be needed.
    pub trims: bool,
    /// Messages kept in flight per direction.
    pub messages: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            writes: 1,
            crashes: 1,
            softs: 1,
            leaves: 0,
            attempts: 2,
            reconnects: 0,
            late: 1,
            reads: 0,
            notes: 0,
            losses: 0,
            foreigns: 0,
            inits: 0,
            damages: 0,
            blanks: 0,
            moves: 0,
            checkpoints: false,
            trims: false,
            messages: 1,
        }
    }
}

impl Bounds {
    /// Nothing may happen at all.
    pub const NONE: Self = Self {
        writes: 0,
        crashes: 0,
        softs: 0,
        leaves: 0,
        attempts: 0,
        reconnects: 0,
        late: 0,
        reads: 0,
        notes: 0,
        losses: 0,
        foreigns: 0,
        inits: 0,
        damages: 0,
        blanks: 0,
        moves: 0,
        checkpoints: false,
        trims: false,
        messages: 1,
    };
}

/// Apart from what is left: see `seen.rs`.
impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        state.write_u64(pair(self.nodes[0], self.nodes[1]));
        state.write_u64(pair(self.witness, self.history));
        for [one, two, three] in self.net {
            state.write_u64(pair(one, two));
            if three != NONE {
                state.write_u32(three);
            }
        }
    }
}

/// How much may still happen, in one word: four bits for each count, of which the highest is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left(u64);

impl Left {
    const BITS: u32 = 4;
    /// The largest count.
    const MOST: u8 = 7;
    const FREE: u64 = 0x8888_8888_8888_8888;
    /// The place of the writes.
    const WRITES: u64 = 0xF;

    /// What a state's bounds leave.
    ///
    /// # Panics
    /// A count is larger than seven.
    pub fn of(left: &Bounds) -> Self {
        let counts = [
            left.writes,
            left.crashes,
            left.softs,
            left.leaves,
            left.attempts,
            left.reconnects,
            left.late,
            left.reads,
            left.notes,
            left.losses,
            left.foreigns,
            left.inits,
            left.damages,
            left.blanks,
            left.moves,
        ];
        assert!(counts.iter().all(|&count| count <= Self::MOST), "a count above {}", Self::MOST);
        Self(counts.iter().rev().fold(0, |word, &count| word << Self::BITS | u64::from(count)))
    }

    /// Whether everything that `other` leaves may happen here as well. The number of writes is also their name, so it must be
    /// the same.
    pub const fn covers(self, other: Self) -> bool {
        let borrowed = (self.0 | Self::FREE) - other.0;
        borrowed & Self::FREE == Self::FREE && (self.0 ^ other.0) & Self::WRITES == 0
    }
}

/// Where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A is primary of {A, {A, B}}, B its secondary, the witness knows.
    Pair,
    /// A is primary of {A, {A}}, B follows and is not in sync yet.
    Solo,
    /// The same as the pair, both appliances down.
    Down,
    /// The witness holds {A, {A}}; both appliances are blank.
    First,
    /// The witness is empty and both appliances are blank: `init` is still to be run.
    Empty,
}

/// One state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct World {
    /// A and B.
    pub nodes: [u32; 2],
    /// The witness.
    pub witness: u32,
    /// What was promised.
    pub history: u32,
    /// Messages to A and to B; `u32::MAX` for none; sorted.
    pub net: [[u32; MOST_MESSAGES]; 2],
    /// What may still happen.
    pub left: Bounds,
}

/// How many registers there are.
pub const REGISTERS: usize = 2;

/// The register of a witness.
pub const fn place_of(witness: WitnessId) -> usize {
    witness.0 as usize % REGISTERS
}

/// The witnesses' registers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Witness {
    /// Each register's record, of the revision the explorer counts as current.
    pub records: [u32; REGISTERS],
    /// Conditional writes that may still be applied.
    pub pending: Vec<Pending>,
    /// Who asks the first register finds another pair's record; this one is where nobody looks.
    pub foreign: bool,
}

/// A conditional write under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    /// Whose.
    pub from: u8,
    /// In which register.
    pub at: usize,
    /// What is written.
    pub record: u32,
    /// It is still waited for.
    pub waiting: bool,
}

/// What became of a conditional write when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Applied and answered.
    Applied,
    /// Applied, the answer on its way.
    AnswerLate,
    /// Never applied and not answered.
    Lost,
    /// To be applied later, or never.
    Late,
    /// Refused and answered.
    Refused,
}

/// One transition, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which appliance.
    pub who: usize,
    /// What happened to it; none for the witness's own.
    pub stimulus: Option<Stimulus>,
    /// It crashed on the way.
    pub crashed: bool,
    /// What became of its conditional write.
    pub fate: Option<Fate>,
    /// What happened at the witness.
    pub event: Option<Event>,
}

/// What happens at the witness by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A late conditional write is applied.
    Applies(u32),
    /// This register loses its record.
    Loses(u8),
    /// The present configuration is written to the register of a former witness, as a mark.
    Marks,
    /// The mark is on its way.
    MarksLate,
    /// From now on another pair's record is found there.
    Foreign,
    /// This pair's record is found there again.
    Back,
    /// `init` makes the first record.
    Init,
    /// The record that `init` makes is on its way.
    InitLate,
}

impl Step {
    /// Something happens to an appliance.
    pub const fn of(who: usize, stimulus: Stimulus) -> Self {
        Self { who, stimulus: Some(stimulus), crashed: false, fate: None, event: None }
    }

    /// Something happens at the witness.
    pub const fn at_witness(who: usize, event: Event) -> Self {
        Self { who, stimulus: None, crashed: false, fate: None, event: Some(event) }
    }
}

/// Sorted, each once.
pub fn tidy(inbox: &mut [u32; MOST_MESSAGES]) {
    inbox.sort_unstable();
    for place in 1..MOST_MESSAGES {
        if inbox[place] == inbox[place - 1] {
            inbox[place] = NONE;
        }
    }
    inbox.sort_unstable();
}

/// The message is kept, beside or instead of another, or lost.
pub fn posted(world: &World, to: usize, message: u32, most: u8) -> Vec<World> {
    let inbox = &world.net[to];
    if inbox.contains(&message) {
        return vec![*world];
    }
    let most = usize::from(most);
    let kept = inbox.iter().filter(|&&slot| slot != NONE).count();
    let put = |place: usize| {
        let mut next = *world;
        next.net[to][place] = message;
        tidy(&mut next.net[to]);
        next
    };
    if kept < most {
        return vec![put(kept)];
    }
    let mut worlds = vec![*world];
    worlds.extend((0..most).map(put));
    worlds
}
