//! The local invariants of docs/protocol.md, checked after every step, in release builds too. A crash beats corruption.
//!
//! The others are asserted where they could be broken: P4, P6 and P7 in replication, P8 and P9 in establish, P11 by the
//! types (a proposal lives inside the role that made it).

use crate::appliance::Appliance;
use crate::role::Role;

impl Appliance {
    pub(crate) fn check_invariants(&self) {
        let own = &self.own;
        assert!(own.max_epoch >= own.conf.epoch(), "P1: max_epoch covers the configuration");
        if let Some(tent) = own.tent {
            assert!(own.max_epoch >= tent.epoch(), "P1: max_epoch covers the tent");
            assert!(tent.epoch() > own.conf.epoch(), "P2: a tent is newer than the configuration");
        }
        if let Some(pending) = self.role.pending() {
            assert!(own.max_epoch >= pending.conf().epoch(), "P1: max_epoch covers what is proposed");
        }
        if let Role::Primary(primary) = &self.role {
            assert!(
                own.conf.primary() == self.me && self.is_me(&own.conf),
                "P3: a primary is named by its configuration"
            );
            assert!(own.tent.is_none() && !own.has_parted(), "P3: a primary is bound by nothing newer");
            assert!(primary.matched <= self.log.last_lsn(), "nobody holds more than the primary");
            assert!(primary.next > self.log.base().lsn, "what is sent next is in the log");
            assert!(primary.base <= self.log.last_lsn(), "P7: a primary never truncates");
        }
        assert!(self.log.last().epoch <= own.conf.epoch(), "P5: no entry is newer than the configuration");
        // The dictionary of positions, one chain.
        assert!(self.log.base().lsn <= self.checkpointed, "the log is trimmed only behind a checkpoint");
        assert!(self.checkpointed <= self.applied, "checkpointed <= applied");
        assert!(self.applied <= self.committed, "applied <= committed");
        assert!(self.committed <= self.flushed, "committed <= flushed");
        assert!(self.flushed <= self.log.last_lsn(), "flushed <= appended");
    }
}
