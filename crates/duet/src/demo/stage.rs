//! Where the story plays: the pair, the witness's record, clients - and waits that end in time and say what is missing.

use std::path::Path;
use std::time::{Duration, Instant};

use duet_protocol::ApplianceId;

use super::client::{Client, SteadyWriter, Written};
use super::narrator::Narrator;
use crate::error::Failure;
use crate::local::{Pair, in_sync};
use crate::process::Launcher;
use crate::status::{PairView, Record, WitnessReader};

/// Whatever the story waits for is a matter of milliseconds to two seconds; a busy machine gets more.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long an appliance that must wait is watched.
pub const WATCHED: Duration = Duration::from_secs(3);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// Everything the steps need.
pub struct Stage {
    /// The processes.
    pub pair: Pair,
    /// Who tells it.
    pub tell: Narrator,
    reader: WitnessReader,
    clients: [Client; 2],
}

impl Stage {
    /// A stage in `dir`; nothing runs yet.
    pub fn new(launcher: Launcher, dir: &Path, tell: Narrator) -> Result<Self, Failure> {
        let pair = Pair::lay_out(launcher, dir)?;
        let reader = super::witness_watch::open(&pair.witness_url())?;
        let clients =
            [Client::new(&pair.client_url(ApplianceId::A))?, Client::new(&pair.client_url(ApplianceId::B))?];
        Ok(Self { pair, tell, reader, clients })
    }

    /// A client of an appliance.
    pub fn client(&self, appliance: ApplianceId) -> &Client {
        match appliance {
            ApplianceId::A => &self.clients[0],
            ApplianceId::B => &self.clients[1],
        }
    }

    /// The witness's record now.
    pub async fn record(&self) -> Result<Record, Failure> {
        self.reader
            .read()
            .await
            .map_err(|reason| Failure::new(format!("the record cannot be read: {reason}"), ""))
    }

    /// Shows the facts of the moment and returns them.
    pub async fn show(&self) -> PairView {
        let view = self.pair.look().await;
        self.tell.facts(&view, self.record().await.ok().as_ref());
        view
    }

    /// An appliance's last LSN.
    pub async fn lsn(&mut self, appliance: ApplianceId) -> Result<u64, Failure> {
        match self.pair.status(appliance).await {
            Ok(report) => Ok(report.lsn),
            Err(reason) => Err(self.pair.failure(appliance, &format!("does not tell its status: {reason}"))),
        }
    }

    /// Waits until the views of both satisfy `holds`; a failure names what was waited for and shows `culprit`'s log.
    pub async fn until(
        &mut self,
        what: &str,
        culprit: ApplianceId,
        holds: impl Fn(&PairView) -> bool,
    ) -> Result<PairView, Failure> {
        let start = Instant::now();
        loop {
            let view = self.pair.look().await;
            if holds(&view) {
                return Ok(view);
            }
            if start.elapsed() > PATIENCE || self.died(culprit) {
                let waited = start.elapsed().as_secs_f64();
                return Err(self.missing(&format!("{what}: not so after {waited:.1} s"), &view, culprit));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn died(&mut self, appliance: ApplianceId) -> bool {
        self.pair.appliance(appliance).is_some_and(|running| running.ended().is_some())
    }

    fn missing(&mut self, what: &str, view: &PairView, culprit: ApplianceId) -> Failure {
        let status = crate::status::render(view, crate::terminal::Paint::plain());
        let of_process = self.pair.failure(culprit, "is the one to look at");
        Failure::new(what, format!("{}; {}", of_process.what, of_process.remedy))
            .with_details(format!("{status}\n{}", of_process.details))
    }

    /// Waits until both are in sync and have the same LSN.
    pub async fn until_in_sync(&mut self, culprit: ApplianceId) -> Result<PairView, Failure> {
        self.until("one primary, one secondary, both in sync", culprit, in_sync).await
    }

    /// Waits until an appliance takes writes.
    pub async fn until_primary(&mut self, appliance: ApplianceId) -> Result<PairView, Failure> {
        let letter = appliance.to_string();
        let serves = |view: &PairView| {
            view.report(&letter).is_some_and(|report| report.role == "primary" && report.serving)
        };
        self.until(&format!("{appliance} is primary"), appliance, serves).await
    }

    /// Waits until the record satisfies `holds`.
    pub async fn until_record(
        &mut self,
        what: &str,
        holds: impl Fn(&Record) -> bool,
    ) -> Result<Record, Failure> {
        let start = Instant::now();
        loop {
            let record = self.record().await?;
            if holds(&record) {
                return Ok(record);
            }
            if start.elapsed() > PATIENCE {
                let waited = start.elapsed().as_secs_f64();
                return Err(self
                    .wrong(&format!("{what}: not so after {waited:.1} s"))
                    .with_details(record.in_words()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A step that did not hold.
    pub fn wrong(&self, what: &str) -> Failure {
        Failure::new(what, format!("the logs are in {}", self.pair.dir().display()))
    }

    /// Fails with a sentence unless `holds`.
    pub fn require(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
        if holds { Ok(()) } else { Err(self.wrong(&what())) }
    }

    /// Writes through an appliance.
    pub async fn put(&mut self, through: ApplianceId, key: &str, value: &str) -> Result<(), Failure> {
        match self.client(through).put(key, value).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.pair.failure(through, &format!("did not take the write {key}: {error}"))),
        }
    }

    /// Reads through an appliance and compares.
    pub async fn get_is(&mut self, through: ApplianceId, key: &str, value: &str) -> Result<(), Failure> {
        match self.client(through).get(key).await {
            Ok(Some(found)) if found == value => Ok(()),
            Ok(found) => {
                let found = found.unwrap_or_else(|| "nothing".into());
                Err(self.wrong(&format!("{through} reads {found} for {key}, {value} was written")))
            }
            Err(error) => Err(self.pair.failure(through, &format!("did not answer a read: {error}"))),
        }
    }

    /// Soft shutdown: SIGTERM, and the process must end with code 0.
    pub async fn stop(&mut self, appliance: ApplianceId) -> Result<(), Failure> {
        if let Some(running) = self.pair.appliance(appliance) {
            running.terminate();
        }
        self.pair.wait_stopped(appliance, PATIENCE).await
    }

    /// Begins to write steadily, at `first` as long as that works.
    pub fn write_steadily(&self, name: &str, first: ApplianceId) -> SteadyWriter {
        SteadyWriter::start(name, vec![self.client(first).clone(), self.client(first.peer()).clone()])
    }

    /// Ends the steady writer and checks that everything acknowledged is there.
    pub async fn check_written(&self, writer: SteadyWriter, at: ApplianceId) -> Result<Written, Failure> {
        let written = writer.stop().await?;
        self.require(written.acknowledged > 0, || "the steady writer got nothing acknowledged".into())?;
        match written.check(self.client(at)).await {
            Ok(()) => Ok(written),
            Err(error) => Err(self.wrong(&format!("reading everything back at {at}: {error}"))),
        }
    }
}
