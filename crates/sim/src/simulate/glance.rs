//! What a test may see of a world, and how it may meddle with messages.

use duet_protocol::{ApplianceId, Conf, Lsn, Message, OwnState, Position, RoleName, WitnessRecord};

use super::clock::{SECOND, Time};
use super::witness::{Fate, Request, Witness, place_of};
use super::world::World;

impl World {
    /// The role of an appliance, while it runs.
    pub fn role(&self, id: ApplianceId) -> Option<RoleName> {
        self.machines.get(id).role()
    }

    /// The core's report, while it runs.
    pub fn status(&self, id: ApplianceId) -> Option<&duet_protocol::Status> {
        self.machines.get(id).process.as_ref().map(|process| &process.status)
    }

    /// What is durable of the own state.
    pub fn own(&self, id: ApplianceId) -> &OwnState {
        &self.machines.get(id).kept.own
    }

    /// Where the log ends.
    pub fn position(&self, id: ApplianceId) -> Position {
        self.machines.get(id).position()
    }

    /// The witness of the newest configuration.
    pub(crate) const fn witness(&self) -> &Witness {
        &self.witnesses[place_of(self.oracle.newest.witness())]
    }

    /// The same, to be meddled with.
    pub(crate) const fn witness_mut(&mut self) -> &mut Witness {
        &mut self.witnesses[place_of(self.oracle.newest.witness())]
    }

    /// The record at the witness.
    pub const fn record(&self) -> Option<&WitnessRecord> {
        self.witness().record.as_ref()
    }

    /// Every record the witness ever held, and since when.
    pub fn records(&self) -> &[(Time, WitnessRecord)] {
        &self.witness().history
    }

    /// The record that a former witness was left with, or the next one will find.
    pub fn other_record(&self) -> Option<&WitnessRecord> {
        self.witnesses[1 - place_of(self.oracle.newest.witness())].record.as_ref()
    }

    /// Whether the appliance answers reads now.
    pub fn answers_reads(&self, id: ApplianceId) -> bool {
        self.machines.get(id).permit_holds(self.now)
    }

    /// Everything up to here was acknowledged.
    pub fn acknowledged(&self) -> Lsn {
        self.oracle.acknowledged
    }

    /// The newest configuration that ever was in force.
    pub fn newest(&self) -> Conf {
        self.oracle.newest
    }

    /// From now on a message for which `filter` says false is lost.
    pub fn filter_messages(&mut self, filter: impl FnMut(ApplianceId, &Message) -> bool + 'static) {
        self.message_filter = Some(Box::new(filter));
    }

    /// From now on `filter` decides what becomes of a request to the witness.
    pub fn filter_witness(&mut self, filter: impl FnMut(&Request) -> Fate + 'static) {
        self.witness_filter = Some(Box::new(filter));
    }

    /// Nothing is filtered any more.
    pub fn unfilter(&mut self) {
        self.message_filter = None;
        self.witness_filter = None;
    }

    /// Both processes run, one is primary, the other follows, and the witness knows.
    pub fn start_both(&mut self) {
        for id in ApplianceId::ALL {
            self.start(id);
        }
        assert!(self.run_until(10 * SECOND, Self::has_converged), "{}", self.report());
        self.run_for(SECOND);
    }

    /// The digest of everything that happened so far.
    pub fn digest(&self) -> u64 {
        self.events.value()
    }

    /// Who is primary and takes writes; the one with the higher epoch if a deposed one does not know yet.
    pub fn primary(&self) -> Option<ApplianceId> {
        ApplianceId::ALL
            .into_iter()
            .filter(|id| self.role(*id) == Some(RoleName::Primary))
            .max_by_key(|id| self.status(*id).map(|status| status.own.conf.epoch()))
    }

    /// The longest time without an acknowledgement between `from` and `to`.
    pub fn longest_pause(&self, from: Time, to: Time) -> Time {
        let inside = self.acknowledgements.iter().copied().filter(|at| (from..=to).contains(at));
        let mut before = from;
        let mut longest = 0;
        for at in inside.chain([to]) {
            longest = longest.max(at - before);
            before = at;
        }
        longest
    }
}
