//! Tests a witness before it is relied on: does it compare and set, how fast, and may this program do it?
//!
//! Everything happens on one record of a name of its own, [`PROBE`], which stays behind and is used again by the next
//! test. Nothing is deleted, no pair's record is touched. Tests may run at the same time, on both appliances: each
//! counts only its own writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::register::{DEFAULT_DEADLINE, draw_nonce};
use crate::{ReadOutcome, Reason, Register, Version, WriteOutcome};

/// Name of the record that tests are made on.
pub const PROBE: &str = "duet-witness-check";
/// How long one request may take while it is tested: slow witnesses are to be measured, not only refused.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Writers that race.
const WRITERS: usize = 4;
/// Writes that each of them must bring about.
const WRITES: u64 = 5;
/// Requests of each kind whose time is measured.
const MEASURED: usize = 10;
/// How long the race may take: Google, for example, takes one write a second of one object.
const RACE_LIMIT: Duration = Duration::from_mins(1);
/// Pause after a request that brought nothing, so that a witness that throttles gets some rest.
const PAUSE: Duration = Duration::from_millis(250);
/// Writers that the record remembers; the oldest are forgotten.
const REMEMBERED: usize = 64;

/// What came of a test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Where the witness is.
    pub witness: String,
    /// Time of reading and of writing, as far as it was measured.
    pub read: Option<Latency>,
    /// See `read`.
    pub write: Option<Latency>,
    /// Writes that were brought about by racing writers, all of them counted.
    pub raced: u64,
    /// What it comes to.
    pub verdict: Verdict,
}

/// What a test comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It does what a witness must.
    Fit,
    /// It does not keep a promise that a pair's safety stands on; the sentence says which.
    Unfit(String),
    /// It could not be tested; the reason says what to check.
    Untested(Reason),
}

/// Times of some requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// Half of them were not slower.
    pub median: Duration,
    /// The slowest one.
    pub max: Duration,
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort();
        Some(Self { median: *times.get(times.len() / 2)?, max: *times.last()? })
    }

    /// A pair would have given up one of them.
    pub fn is_too_slow(&self) -> bool {
        self.max > DEFAULT_DEADLINE
    }
}

/// Tests the witness; `open` opens the register of [`PROBE`], each time with a connection of its own.
pub async fn run(open: &(dyn Fn() -> Arc<dyn Register> + Sync)) -> Report {
    let mut report =
        Report { witness: open().describe(), read: None, write: None, raced: 0, verdict: Verdict::Fit };
    report.verdict = match all(open, &mut report).await {
        Ok(()) => Verdict::Fit,
        Err(verdict) => verdict,
    };
    report
}

async fn all(open: &(dyn Fn() -> Arc<dyn Register> + Sync), report: &mut Report) -> Result<(), Verdict> {
    there_is_one_record(&*open(), &*open()).await?;
    a_stale_version_is_refused(&*open(), &*open()).await?;
    (report.read, report.write) = measure(&*open()).await?;
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(race(open()))).collect();
    for writer in writers {
        report.raced += writer.await.unwrap_or_else(|_| Err(unfit("the test itself broke")))?;
    }
    Ok(())
}

fn unfit(what: &str) -> Verdict {
    Verdict::Unfit(what.to_owned())
}

/// The record is made if there is none, and cannot be made a second time.
async fn there_is_one_record(mine: &dyn Register, yours: &dyn Register) -> Result<(), Verdict> {
    if read(mine).await?.is_none() {
        match mine.create(Content::default().encode()).await {
            // Another test may have been quicker.
            WriteOutcome::Swapped(_) | WriteOutcome::Mismatch => {}
            WriteOutcome::Unknown(reason) => return Err(Verdict::Untested(reason)),
        }
        if read(mine).await?.is_none() {
            return Err(unfit("a record that was just made is not there when it is read"));
        }
    }
    match yours.create(Content::default().encode()).await {
        WriteOutcome::Mismatch => Ok(()),
        WriteOutcome::Swapped(_) => Err(unfit(
            "it makes the record a second time, though it is there: two appliances could both begin",
        )),
        WriteOutcome::Unknown(reason) => Err(Verdict::Untested(reason)),
    }
}

/// Two who read the same: one replaces it, the other must not.
async fn a_stale_version_is_refused(mine: &dyn Register, yours: &dyn Register) -> Result<(), Verdict> {
    let until = Instant::now() + RACE_LIMIT;
    loop {
        let (stale, content) = existing(mine).await?;
        let (seen, _) = existing(yours).await?;
        let next = match yours.compare_and_set(&seen, content.encode()).await {
            WriteOutcome::Swapped(next) if seen == stale => next,
            // Another test is at work: again.
            WriteOutcome::Swapped(_) | WriteOutcome::Mismatch if Instant::now() < until => continue,
            WriteOutcome::Unknown(reason) => return Err(Verdict::Untested(reason)),
            _ => return Err(Verdict::Untested(Reason::new("others write the test's record all the time"))),
        };
        let mut refused = None;
        match mine.compare_and_set(&stale, content.encode()).await {
            WriteOutcome::Mismatch => {}
            WriteOutcome::Swapped(_) => {
                return Err(unfit(
                    "it replaces a record that is no longer the expected one: it ignores the condition, \
                     and two appliances could both become primary",
                ));
            }
            WriteOutcome::Unknown(reason) => refused = Some(reason),
        }
        let (now, _) = existing(mine).await?;
        if now == stale && now != next {
            return Err(unfit("it gives an old record to readers: what was written is not what is read"));
        }
        return refused.map_or(Ok(()), |reason| Err(Verdict::Untested(reason)));
    }
}

/// Time of reading and writing, one after another.
async fn measure(register: &dyn Register) -> Result<(Option<Latency>, Option<Latency>), Verdict> {
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    let until = Instant::now() + RACE_LIMIT;
    while writes.len() < MEASURED {
        let start = Instant::now();
        let (version, content) = existing(register).await?;
        reads.push(start.elapsed());
        let start = Instant::now();
        match register.compare_and_set(&version, content.encode()).await {
            WriteOutcome::Swapped(_) => writes.push(start.elapsed()),
            WriteOutcome::Mismatch => {}
            WriteOutcome::Unknown(reason) if Instant::now() > until => return Err(Verdict::Untested(reason)),
            WriteOutcome::Unknown(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok((Latency::of(reads), Latency::of(writes)))
}

/// Brings about some writes among others who do the same; returns how many. Each must still be there later.
async fn race(register: Arc<dyn Register>) -> Result<u64, Verdict> {
    let me = format!("{:032x}", draw_nonce().map_err(Verdict::Untested)?);
    let until = Instant::now() + RACE_LIMIT;
    let (mut confirmed, mut trouble) = (0, None);
    loop {
        let (version, mut content) = existing(&*register).await?;
        let counted = content.count(&me);
        // One that came back as unknown may have been done; one that was confirmed must have been.
        if counted < confirmed {
            return Err(unfit(
                "it lost a write that it had confirmed, when several wrote at the same time: it does not compare and \
                 set in one step",
            ));
        }
        if counted >= WRITES {
            return Ok(counted);
        }
        if Instant::now() > until {
            let reason =
                trouble.unwrap_or_else(|| Reason::new("others write the test's record all the time"));
            return Err(Verdict::Untested(reason));
        }
        content.set(&me, counted + 1);
        match register.compare_and_set(&version, content.encode()).await {
            WriteOutcome::Swapped(_) => confirmed = counted + 1,
            WriteOutcome::Mismatch => {}
            WriteOutcome::Unknown(reason) => {
                trouble = Some(reason);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn read(register: &dyn Register) -> Result<Option<(Version, Content)>, Verdict> {
    match register.read().await {
        ReadOutcome::Record { version, bytes } => Ok(Some((version, Content::decode(&bytes)))),
        ReadOutcome::Absent => Ok(None),
        ReadOutcome::Unknown(reason) => Err(Verdict::Untested(reason)),
    }
}

async fn existing(register: &dyn Register) -> Result<(Version, Content), Verdict> {
    read(register).await?.ok_or_else(|| unfit("the record was there, and then it was not"))
}

/// How many writes each writer has brought about; the newest writers come last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Content {
    order: Vec<String>,
    counts: BTreeMap<String, u64>,
}

impl Content {
    fn count(&self, writer: &str) -> u64 {
        self.counts.get(writer).copied().unwrap_or_default()
    }

    fn set(&mut self, writer: &str, count: u64) {
        if self.counts.insert(writer.to_owned(), count).is_none() {
            self.order.push(writer.to_owned());
        }
        while self.order.len() > REMEMBERED {
            let oldest = self.order.remove(0);
            self.counts.remove(&oldest);
        }
    }

    fn encode(&self) -> Bytes {
        let lines: Vec<_> =
            self.order.iter().map(|writer| format!("{writer} {}\n", self.count(writer))).collect();
        Bytes::from(format!("the record of duet witness check\n{}", lines.concat()))
    }

    /// What is no count is left out: a record of another kind is simply replaced.
    fn decode(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            if let Some((writer, count)) = line.split_once(' ')
                && let Ok(count) = count.parse()
            {
                content.set(writer, count);
            }
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryWitness;

    #[test]
    fn content() {
        let mut content = Content::default();
        for number in 0..REMEMBERED + 10 {
            content.set(&format!("w{number}"), number as u64);
        }
        content.set("w20", 7);
        let decoded = Content::decode(&content.encode());
        assert_eq!(decoded, content);
        assert_eq!((decoded.count("w20"), decoded.count("w9"), decoded.count("w10")), (7, 0, 10));
        assert!(content.encode().len() < crate::register::MAX_RECORD_BYTES);
    }

    #[tokio::test]
    async fn a_good_one_is_fit_twice_and_at_the_same_time() {
        let witness = MemoryWitness::new();
        let open = || Arc::new(witness.register(PROBE)) as Arc<dyn Register>;
        for _ in 0..2 {
            let (one, other) = tokio::join!(run(&open), run(&open));
            for report in [one, other] {
                assert_eq!((report.verdict, report.raced), (Verdict::Fit, WRITERS as u64 * WRITES));
            }
        }
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_untested() {
        let witness = MemoryWitness::new();
        witness.set_reachable(false);
        let open = || Arc::new(witness.register(PROBE)) as Arc<dyn Register>;
        let report = run(&open).await;
        assert!(matches!(report.verdict, Verdict::Untested(_)), "{report:?}");
    }
}
