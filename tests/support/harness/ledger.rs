//! Acknowledged writes, and that they are found again.

use duet_protocol::ApplianceId;

use super::super::etcdctl::Etcdctl;
use super::{A, B, Pair};

/// Acknowledged writes, to be found again.
#[derive(Default)]
pub struct Ledger {
    next: u64,
    pub acknowledged: Vec<(String, String)>,
}

impl Ledger {
    fn next(&mut self) -> (String, String) {
        self.next += 1;
        (format!("ledger/{:06}", self.next), format!("value {}", self.next))
    }
}

impl Pair {
    /// `count` acknowledged writes at `appliance`, each with a key of its own, remembered in `ledger`. The first is the real
    /// `etcdctl`'s, where it is installed.
    pub async fn write(&self, appliance: ApplianceId, ledger: &mut Ledger, count: u64) {
        let etcdctl = Etcdctl::find(&[self.client_url(appliance)]).await;
        for number in 0..count {
            let (key, value) = ledger.next();
            let probe = async || match &etcdctl {
                Some(etcdctl) if number == 0 => {
                    etcdctl.run(&["put", &key, &value]).await.ok().map(|said| assert_eq!(said.trim(), "OK"))
                }
                _ => self.client(appliance).put(&key, &value).await.ok().map(drop),
            };
            self.until(&format!("{appliance} acknowledges a write"), probe).await;
            ledger.acknowledged.push((key, value));
        }
    }

    /// Everything in the ledger can be read at `appliance`, linearizably.
    pub async fn has_all(&self, appliance: ApplianceId, ledger: &Ledger) {
        let probe = async || self.client(appliance).everything().await.ok();
        let found = self.until(&format!("{appliance} answers a linearizable read"), probe).await;
        for (key, value) in &ledger.acknowledged {
            assert_eq!(
                found.get(key),
                Some(value),
                "{appliance} lacks an acknowledged write, or has another value"
            );
        }
    }

    /// Waits for the pair to be in sync, then compares the data: both hold the same, and all of the ledger.
    pub async fn converges_with(&self, ledger: &Ledger) {
        let (primary, _) = self.until_in_sync().await;
        let (a, b) = (self.client(A).everything_here().await, self.client(B).everything_here().await);
        assert_eq!(a.unwrap(), b.unwrap(), "the data of both");
        let primary = if primary.appliance == "A" { A } else { B };
        self.has_all(primary, ledger).await;
    }
}
