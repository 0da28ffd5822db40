//! Another witness: the pair agrees on it as it agrees on anything else, without asking either.
//!
//! The agreement is the renewal of the pair with the new witness's number in it (kind M), so all that holds of agreements
//! holds here. One thing is new: the responder, until it knows the outcome, cannot tell which of two registers the
//! coordinator counts on, and takes at neither (docs/protocol.md, rule 22). Whoever drops such a proposal renews the pair, so that nobody is
//! left in doubt for longer than that takes.

use crate::WitnessId;
use crate::appliance::Appliance;
use crate::limits;
use crate::role::Role;

impl Appliance {
    /// A person wants another witness.
    pub(crate) fn begin_moving(&mut self, to: WitnessId) {
        let is_primary = matches!(self.role, Role::Primary(_));
        if is_primary && self.own.conf.is_pair() && to > self.own.conf.witness() && self.leaving.is_none() {
            self.moving = Some((to, self.now));
        }
    }

    /// The witness to be agreed upon, while that is still wanted and there is time.
    pub(crate) fn wanted_witness(&mut self) -> Option<WitnessId> {
        let (to, since) = self.moving?;
        let over =
            self.own.conf.witness() >= to || self.leaving.is_some() || self.due(since.after(limits::MOVE));
        if over {
            self.moving = None;
        }
        self.moving.map(|(to, _)| to)
    }
}
