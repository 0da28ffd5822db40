//! What the appliances tell, waited for.

use std::fmt::Write as _;
use std::time::Instant;

use duet::status::ask;
use duet_protocol::ApplianceId;
use duet_server::StatusReport;

use super::{A, B, PATIENCE, POLL, Pair, STATUS_DEADLINE};

/// Lines of each log shown with a failure.
const LOG_LINES: usize = 40;

impl Pair {
    /// What an appliance tells.
    pub async fn try_status(&self, appliance: ApplianceId) -> Result<StatusReport, String> {
        ask(&self.client_url(appliance), STATUS_DEADLINE).await
    }

    /// What an appliance tells, which must be running.
    pub async fn status(&self, appliance: ApplianceId) -> StatusReport {
        let probe = async || self.try_status(appliance).await.ok();
        self.until(&format!("{appliance} tells its status"), probe).await
    }

    /// Polls until `probe` gives something.
    pub async fn until<T>(&self, what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            if start.elapsed() > PATIENCE {
                let diagnosis = self.diagnosis().await;
                panic!("waited in vain for {} s: {what}\n{diagnosis}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for something that an appliance tells.
    pub async fn until_status(
        &self,
        appliance: ApplianceId,
        what: &str,
        holds: impl Fn(&StatusReport) -> bool,
    ) -> StatusReport {
        let probe = async || self.try_status(appliance).await.ok().filter(&holds);
        self.until(&format!("{appliance}: {what}"), probe).await
    }

    /// Waits until an appliance is primary and serves.
    pub async fn until_primary(&self, appliance: ApplianceId) -> StatusReport {
        self.until_status(appliance, "is primary and serves", |status| {
            status.role == "primary" && status.serving
        })
        .await
    }

    /// Waits until an appliance says why it waits; `words` are in the sentence.
    pub async fn until_waiting(&self, appliance: ApplianceId, words: &[&str]) -> String {
        let says = |status: &StatusReport| {
            let sentence = status.waiting.as_deref().unwrap_or_default();
            !status.serving && status.role != "primary" && words.iter().all(|word| sentence.contains(word))
        };
        let what = format!("waits, and says so with the words {words:?}");
        self.until_status(appliance, &what, says).await.waiting.unwrap()
    }

    /// Waits until both are in sync and have applied the same history; gives the primary's and the secondary's status.
    pub async fn until_in_sync(&self) -> (StatusReport, StatusReport) {
        let probe = async || {
            let (a, b) = tokio::join!(self.try_status(A), self.try_status(B));
            let (a, b) = (a.ok()?, b.ok()?);
            let (primary, secondary) = if a.role == "primary" { (a, b) } else { (b, a) };
            let both = primary.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"]);
            let roles = primary.role == "primary" && primary.serving && secondary.role == "secondary";
            let same = primary.conf == secondary.conf
                && (primary.lsn, primary.epoch, &primary.digest)
                    == (secondary.lsn, secondary.epoch, &secondary.digest);
            let applied = primary.applied == primary.lsn && secondary.applied == secondary.lsn;
            (both && roles && same && applied).then_some((primary, secondary))
        };
        self.until("both are in sync with the same history", probe).await
    }

    /// The primary, if it has the other in sync. Unlike `until_in_sync` it may be written to meanwhile.
    pub async fn paired(&self) -> Option<ApplianceId> {
        let (a, b) = tokio::join!(self.try_status(A), self.try_status(B));
        let (a, b) = (a.ok()?, b.ok()?);
        let in_sync =
            |status: &StatusReport| status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"]);
        let roles = |primary: &StatusReport, other: &StatusReport| {
            primary.role == "primary"
                && primary.serving
                && other.role == "secondary"
                && primary.conf == other.conf
        };
        if !in_sync(&a) {
            return None;
        }
        if roles(&a, &b) { Some(A) } else { roles(&b, &a).then_some(B) }
    }

    /// Waits until one is primary and has the other in sync; gives the primary.
    pub async fn until_paired(&self) -> ApplianceId {
        self.until("one is primary and has the other in sync", async || self.paired().await).await
    }

    /// Waits for the next checkpoint of an appliance that was written to; behind it the log is trimmed.
    pub async fn until_checkpoint(&self, appliance: ApplianceId) {
        let file = self.data(appliance).join("data.redb");
        let written = || std::fs::metadata(&file).and_then(|meta| meta.modified()).unwrap();
        let before = written();
        self.until(&format!("{appliance} writes a checkpoint"), async || (written() > before).then_some(()))
            .await;
    }

    /// Whoever is primary now.
    pub async fn until_any_primary(&self) -> ApplianceId {
        let probe = async || {
            for appliance in ApplianceId::ALL {
                if self
                    .try_status(appliance)
                    .await
                    .is_ok_and(|status| status.role == "primary" && status.serving)
                {
                    return Some(appliance);
                }
            }
            None
        };
        self.until("one of the two is primary and serves", probe).await
    }

    /// Everything there is to see, for a failure.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for appliance in ApplianceId::ALL {
            match self.try_status(appliance).await {
                Ok(status) => {
                    let json = serde_json::to_string(&status).unwrap_or_default();
                    writeln!(text, "--- {appliance}: {json}").unwrap();
                }
                Err(reason) => writeln!(text, "--- {appliance}: {reason}").unwrap(),
            }
        }
        writeln!(text, "--- witness: {:?}", self.try_record().await).unwrap();
        for name in ["a.log", "b.log", "witness.log"] {
            let log = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            writeln!(text, "--- end of {name}").unwrap();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                writeln!(text, "{line}").unwrap();
            }
        }
        text
    }

    /// An appliance that is up refuses a linearizable read and a write, so that etcd's clients try elsewhere.
    pub async fn serves_nothing(&self, appliance: ApplianceId) {
        let client = self.client(appliance);
        let (read, write) = tokio::join!(
            client.get_within("ledger/000001", PATIENCE),
            client.put_within("refused", "by an appliance that waits", PATIENCE)
        );
        let (read, write) = (read.expect_err("a linearizable read"), write.expect_err("a write"));
        for refusal in [read, write] {
            assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal:?}");
        }
        let status = self.status(appliance).await;
        assert!(!status.serving && status.role != "primary", "{status:?}");
    }
}
