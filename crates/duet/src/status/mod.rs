//! `duet status`: asks both appliances and says who is primary, LSN X and Y, the in-sync set, what the witness holds, what
//! would happen if something failed now, and why an appliance waits.
//!
//! Asking changes nothing. An appliance that does not answer is shown as down, with the reason.

mod outlook;
mod record;
mod render;
mod witness_reader;

#[cfg(test)]
mod golden;

use std::time::Duration;

use duet_server::StatusReport;
use duet_witness::Access;
use serde::Serialize;

pub use self::outlook::{Outlook, outlook};
pub use self::record::{Left, Mark, Record, conf_in_words, lsn_name};
pub use self::render::render;
pub use self::witness_reader::WitnessReader;
use crate::error::{Exit, Failure};
use crate::http;
use crate::terminal::{Paint, clear_screen, print};

/// Where an appliance tells its status.
pub const STATUS_PATH: &str = "/duet/v1/status";
/// How long an appliance may take: it answers from memory, so more means that it hangs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How often `--watch` asks again: often enough to see a handover, seldom enough to read.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// One appliance as seen from here.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    /// It answered.
    Up(Box<StatusReport>),
    /// It did not.
    Down {
        /// Its letter, if another source told it.
        appliance: Option<String>,
        /// Where it was asked, if that is known.
        url: Option<String>,
        /// Why there is no answer.
        reason: String,
    },
}

impl Seen {
    /// What it reported.
    pub fn report(&self) -> Option<&StatusReport> {
        match self {
            Self::Up(report) => Some(report),
            Self::Down { .. } => None,
        }
    }

    fn letter(&self) -> Option<&str> {
        match self {
            Self::Up(report) => Some(&report.appliance),
            Self::Down { appliance, .. } => appliance.as_deref(),
        }
    }
}

/// Both appliances; A first where the letters are known.
#[derive(Clone, PartialEq, Debug)]
pub struct PairView {
    /// A, as a rule.
    pub first: Seen,
    /// B, as a rule.
    pub second: Seen,
    /// The witness's record as read from here, if it was asked.
    pub record: Option<Result<Record, String>>,
}

impl PairView {
    /// Orders two views and gives a silent appliance the letter that is left over.
    pub fn of(one: Seen, other: Seen) -> Self {
        let (one, other) = (named_by(one, &other), other);
        let other = named_by(other, &one);
        if one.letter() == Some("B") || other.letter() == Some("A") {
            Self { first: other, second: one, record: None }
        } else {
            Self { first: one, second: other, record: None }
        }
    }

    /// Those that answered.
    pub fn reports(&self) -> impl Iterator<Item = &StatusReport> {
        [&self.first, &self.second].into_iter().filter_map(|seen| seen.report())
    }

    /// The appliance of that letter, if it answered.
    pub fn report(&self, appliance: &str) -> Option<&StatusReport> {
        self.reports().find(|report| report.appliance == appliance)
    }

    /// The appliance that takes writes: of two that believe so for a moment, the one of the newer configuration.
    pub fn primary(&self) -> Option<&StatusReport> {
        self.reports()
            .filter(|report| report.role == "primary")
            .max_by_key(|report| report.conf.as_ref().map_or(0, |conf| conf.epoch))
    }

    /// Whose word on what both share is taken: the primary's, else that of the newest configuration.
    pub fn speaker(&self) -> Option<&StatusReport> {
        self.primary()
            .or_else(|| self.reports().max_by_key(|report| report.conf.as_ref().map_or(0, |conf| conf.epoch)))
    }
}

/// Gives a silent appliance the letter and the address that its peer knows.
fn named_by(seen: Seen, peer: &Seen) -> Seen {
    match (seen, peer.report()) {
        (Seen::Down { appliance: None, url, reason }, Some(report)) => {
            let letter = if report.appliance == "A" { "B" } else { "A" };
            let url = url.or_else(|| report.peer.client_url.clone());
            Seen::Down { appliance: Some(letter.into()), url, reason }
        }
        (seen, _) => seen,
    }
}

/// Asks one appliance.
pub async fn ask(url: &str, deadline: Duration) -> Result<StatusReport, String> {
    let body = http::get(url, STATUS_PATH, deadline).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body)
        .map_err(|_| "what answers there is not a Duet appliance of this version".into())
}

async fn see(url: &str) -> Seen {
    match ask(url, ANSWER_DEADLINE).await {
        Ok(report) => Seen::Up(Box::new(report)),
        Err(reason) => Seen::Down { appliance: None, url: Some(url.to_owned()), reason },
    }
}

/// What a configuration file tells even when its appliance does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    /// The appliance's letter.
    pub appliance: String,
    /// The pair's name.
    pub cluster: String,
    /// Where the witness is: "http://..." or "dir:/...".
    pub location: String,
    /// What opens the witness.
    pub access: Access,
}

/// Asks both appliances, and the witness too: where an appliance says it is, else where the configuration says.
async fn look_everywhere(endpoints: &[String], configured: Option<&Configured>) -> PairView {
    let mut view = look(endpoints).await;
    let place = match (view.speaker(), configured) {
        (Some(speaker), _) => Some((speaker.witness.location.clone(), speaker.cluster.name.clone())),
        (None, Some(configured)) => {
            if let Seen::Down { appliance, .. } = &mut view.first {
                *appliance = Some(configured.appliance.clone());
            }
            Some((configured.location.clone(), configured.cluster.clone()))
        }
        (None, None) => None,
    };
    if let Some((location, cluster)) = place {
        let access = configured.map(|configured| configured.access.clone()).unwrap_or_default();
        view.record = Some(match WitnessReader::open(&location, &cluster, &access) {
            Ok(reader) => reader.read().await,
            Err(reason) => Err(reason),
        });
    }
    view
}

/// Asks both appliances of a pair; where only one address is given, it is asked for the other one's.
pub async fn look(endpoints: &[String]) -> PairView {
    if let [one, other, ..] = endpoints {
        let (one, other) = tokio::join!(see(one), see(other));
        return PairView::of(one, other);
    }
    let one = see(endpoints.first().map_or("", String::as_str)).await;
    let other = match &one {
        Seen::Up(report) => match &report.peer.client_url {
            Some(url) => see(url).await,
            None => unknown("its peer has not told it yet where it is; give both with --endpoint"),
        },
        Seen::Down { .. } => unknown("not asked: only one --endpoint was given"),
    };
    PairView::of(one, other)
}

fn unknown(reason: &str) -> Seen {
    Seen::Down { appliance: None, url: None, reason: reason.into() }
}

/// The form for machines: an entry for each appliance, in the order they are shown.
#[derive(Serialize)]
struct Document<'a> {
    primary: Option<&'a str>,
    appliances: Vec<Entry<'a>>,
    witness_record: Option<&'a Record>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Up { up: bool, report: &'a StatusReport },
    Down { up: bool, appliance: Option<&'a str>, url: Option<&'a str>, reason: &'a str },
}

fn entry(seen: &Seen) -> Entry<'_> {
    match seen {
        Seen::Up(report) => Entry::Up { up: true, report },
        Seen::Down { appliance, url, reason } => {
            Entry::Down { up: false, appliance: appliance.as_deref(), url: url.as_deref(), reason }
        }
    }
}

fn document(view: &PairView) -> Document<'_> {
    Document {
        primary: view.primary().map(|report| report.appliance.as_str()),
        appliances: vec![entry(&view.first), entry(&view.second)],
        witness_record: view.record.as_ref().and_then(|read| read.as_ref().ok()),
    }
}

/// Runs `duet status`.
pub async fn run(
    endpoints: &[String],
    configured: Option<&Configured>,
    json: bool,
    watch: bool,
) -> Result<Exit, Failure> {
    loop {
        let view = look_everywhere(endpoints, configured).await;
        let text = if json {
            let text = if watch {
                serde_json::to_string(&document(&view))
            } else {
                serde_json::to_string_pretty(&document(&view))
            };
            text.unwrap_or_default() + "\n"
        } else {
            render(&view, Paint::stdout())
        };
        if !watch {
            print(&text);
            return Ok(verdict(&view));
        }
        if !json {
            clear_screen();
        }
        print(&text);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn verdict(view: &PairView) -> Exit {
    if view.speaker().is_none() {
        Exit::Unreachable
    } else if view.primary().is_some() {
        Exit::Done
    } else {
        Exit::NoPrimary
    }
}
