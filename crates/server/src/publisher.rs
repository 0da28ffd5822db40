//! Tells others what the core knows: a view for the client API with every change, a report for people when they ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use duet_protocol::{ApplianceId, ClusterId, Instant, PerAppliance, RoleName, Status};
use duet_witness::WitnessUrl;
use tokio::sync::watch;

use crate::clock;
use crate::handle::{Identity, View};
use crate::metrics::Metrics;
use crate::peer::board::PeerBoard;
use crate::peer::copy::CopyProgress;
use crate::status_report::{
    ClusterReport, ConfReport, PeerReport, StatusReport, WitnessReport, record_as_json,
};
use crate::witness_port::WitnessBoard;

/// See the module.
pub(crate) struct Publisher {
    pub(crate) identity: Identity,
    pub(crate) data_dir: String,
    pub(crate) witness_url: WitnessUrl,
    pub(crate) view: watch::Sender<View>,
    /// The store's revision: the store's lock is nothing the driver may wait for.
    pub(crate) revision: Arc<AtomicI64>,
    pub(crate) peer: Arc<PeerBoard>,
    pub(crate) witness: Arc<WitnessBoard>,
    pub(crate) copy: Arc<CopyProgress>,
    pub(crate) role_since: Instant,
    pub(crate) explanation: Option<String>,
    /// What the last view was made from.
    pub(crate) published: Option<ViewKey>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whom the last view that named a primary named.
    pub(crate) last_primary: Option<ApplianceId>,
}

/// All that a view depends on, cheap to compare: a turn of the driver rarely changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ViewKey {
    role: RoleName,
    conf: duet_protocol::Conf,
    peer_connected: bool,
    leaving: bool,
    news: u64,
}

/// An appliance in etcd's terms: stable for as long as the pair exists, different for the two, never zero.
pub(crate) fn member_id(cluster: ClusterId, appliance: ApplianceId) -> u64 {
    let letter = match appliance {
        ApplianceId::A => 1,
        ApplianceId::B => 2,
    };
    (cluster.0 & !0b11) | letter
}

/// Both appliances in etcd's terms.
pub(crate) fn member_ids(cluster: ClusterId) -> PerAppliance<u64> {
    PerAppliance { a: member_id(cluster, ApplianceId::A), b: member_id(cluster, ApplianceId::B) }
}

/// Who takes writes, as far as this appliance knows.
fn known_primary(status: &Status) -> Option<ApplianceId> {
    let named = status.own.conf.primary();
    match status.role {
        RoleName::Primary => Some(status.appliance),
        RoleName::Secondary => Some(named),
        // On its way out, after a handover or let go: what is still asked here is passed on to the one who goes on.
        RoleName::Starting | RoleName::Stopped if status.leaving && named != status.appliance => Some(named),
        RoleName::Starting | RoleName::Elect | RoleName::Offering | RoleName::Stopped => None,
    }
}

impl Publisher {
    /// Before anything is known.
    pub(crate) fn first_view(identity: &Identity) -> View {
        View {
            role: RoleName::Starting,
            is_primary: false,
            primary: None,
            primary_client_url: None,
            epoch: duet_protocol::Epoch::ZERO,
            cluster_id: identity.cluster_id.0,
            my_member_id: member_id(identity.cluster_id, identity.appliance),
            member_ids: member_ids(identity.cluster_id),
            peer_client_url: None,
            peer_connected: false,
            both_in_sync: false,
            leaving: false,
            promotions: 0,
        }
    }

    /// Publishes the view if it has changed.
    pub(crate) fn publish(&mut self, status: &Status) {
        let key = ViewKey {
            role: status.role,
            conf: status.own.conf,
            peer_connected: status.peer.connected,
            leaving: status.leaving,
            news: self.peer.version(),
        };
        if self.published.replace(key) == Some(key) {
            return;
        }
        let me = self.identity.appliance;
        let peer_client_url = self.peer.news().client_url;
        let primary = known_primary(status);
        let primary_client_url = match primary {
            Some(primary) if primary == me => Some(self.identity.client_url.clone()),
            Some(_) => peer_client_url.clone(),
            None => None,
        };
        let view = View {
            role: status.role,
            is_primary: status.role == RoleName::Primary,
            primary,
            primary_client_url,
            epoch: status.own.conf.epoch(),
            peer_client_url,
            peer_connected: status.peer.connected,
            both_in_sync: status.own.conf.is_pair(),
            leaving: status.leaving,
            promotions: self.view.borrow().promotions,
            ..Self::first_view(&self.identity)
        };
        if primary.is_some() && primary != self.last_primary {
            self.last_primary = primary;
            self.metrics.primary_changes.add(1);
        }
        let mut role_changed = false;
        self.view.send_if_modified(|current| {
            role_changed = current.role != view.role;
            let promoted = view.is_primary && !current.is_primary;
            let changed = *current != view;
            if changed {
                *current = view;
                current.promotions += u64::from(promoted);
            }
            changed
        });
        if role_changed {
            self.role_since = clock::now();
            tracing::info!("appliance {me} is now {}, {}", status.role.as_str(), status.own.conf);
        }
    }

    /// Tells a decision of the core.
    pub(crate) fn explain(&mut self, sentence: String) {
        tracing::info!("{sentence}");
        self.explanation = Some(sentence);
    }

    /// Everything a person may know.
    pub(crate) fn report(&self, status: &Status) -> StatusReport {
        let identity = &self.identity;
        StatusReport {
            cluster: ClusterReport {
                name: identity.cluster_name.clone(),
                id: identity.cluster_id.to_string(),
            },
            appliance: identity.appliance.to_string(),
            role: status.role.as_str().to_owned(),
            since_ms: milliseconds_since(self.role_since),
            serving: status.role == RoleName::Primary && status.serves_reads,
            lsn: status.last.lsn.0,
            epoch: status.last.epoch.0,
            digest: status.last.digest.to_string(),
            flushed: status.flushed.0,
            committed: status.committed.0,
            applied: status.applied.0,
            revision: self.revision.load(Ordering::SeqCst),
            conf: ConfReport::of(&status.own.conf),
            tent: status.own.tent.as_ref().and_then(ConfReport::of),
            pending: status.pending.as_ref().and_then(ConfReport::of),
            max_epoch: status.own.max_epoch.0,
            parted: status.own.has_parted(),
            peer: self.peer_report(status),
            witness: self.witness_report(status),
            waiting: status.waiting.clone(),
            explanation: self.explanation.clone(),
            leaving: status.leaving,
            damaged: status.damaged,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: self.data_dir.clone(),
            disk: identity.disk.to_string(),
            client_url: identity.client_url.clone(),
        }
    }

    fn peer_report(&self, status: &Status) -> PeerReport {
        let news = self.peer.news();
        let peer = &status.peer;
        let lag = match status.role {
            RoleName::Primary | RoleName::Offering if peer.connected => {
                Some(status.last.lsn.0.saturating_sub(peer.matched.0))
            }
            RoleName::Secondary => Some(peer.last.0.saturating_sub(status.last.lsn.0)),
            _ => None,
        };
        PeerReport {
            connected: peer.connected,
            lsn: peer_lsn(status),
            epoch: peer.position.map(|position| position.epoch.0),
            lag,
            matched: peer.matched.0,
            heard_ms_ago: peer.heard.map(milliseconds_since),
            leaving: peer.leaving,
            copying: peer.copying,
            copy: if peer.copying { self.copy.report() } else { None },
            client_url: news.client_url,
            error: news.error,
        }
    }

    fn witness_report(&self, status: &Status) -> WitnessReport {
        WitnessReport {
            kind: self.witness_url.kind().to_owned(),
            location: self.witness_url.to_string(),
            reachable: status.witness_reachable,
            error: self.witness.error(),
            record: status.witness.as_ref().map(|(record, _)| record_as_json(record)),
            read_ms_ago: status.witness.as_ref().map(|(_, read)| milliseconds_since(*read)),
        }
    }
}

/// Where the peer's log ends, as far as is known: it tells a secondary with every append.
fn peer_lsn(status: &Status) -> Option<u64> {
    let told = status.peer.position.map(|position| position.lsn);
    let follows = status.role == RoleName::Secondary && status.peer.connected;
    told.max(follows.then_some(status.peer.last)).map(|lsn| lsn.0)
}

fn milliseconds_since(instant: Instant) -> u64 {
    u64::try_from(clock::now().since(instant).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_differ_and_are_never_zero() {
        for cluster in [0, 1, 3, u64::MAX] {
            let ids = member_ids(ClusterId(cluster));
            assert!(ids.a != ids.b && ids.a != 0 && ids.b != 0);
        }
    }
}
