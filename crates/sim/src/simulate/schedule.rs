//! The schedule of a run: every fault and every request of a client, with its moment and its particulars. It is drawn from the seed
//! while the run goes on, and kept; a record of it is enough to have the same run again, and a part of it is another run
//! that may fail in the same way.

use std::fmt;
use std::str::FromStr;

use duet_protocol::ApplianceId;

use super::clock::Time;
use super::options::Fault;

/// One thing that is done to the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A fault.
    Fault {
        /// Which.
        fault: Fault,
        /// Whom it meets.
        id: ApplianceId,
        /// How long it lasts.
        lasts: Time,
        /// What else is to be drawn follows from this.
        dice: u64,
    },
    /// Writes of a client, in one request.
    Write {
        /// Who is asked.
        target: ApplianceId,
        /// How many.
        count: u64,
        /// How long the request is on its way.
        way: Time,
        /// What is written follows from this.
        dice: u64,
    },
    /// A client's read.
    Read {
        /// Who is asked.
        target: ApplianceId,
        /// How long the request is on its way.
        way: Time,
        /// What is read follows from this.
        dice: u64,
    },
    /// A watcher gives up its watch and begins another, or goes on elsewhere.
    Watch {
        /// Which.
        watcher: usize,
        /// Who is asked first.
        target: ApplianceId,
        /// What is watched, and from where on, follows from this.
        dice: u64,
    },
}

/// A step and its moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scheduled {
    /// World time.
    pub at: Time,
    /// What is done.
    pub step: Step,
}

impl fmt::Display for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.step {
            Step::Fault { fault, id, lasts, dice } => write!(f, "{at} fault {fault:?} {id} {lasts} {dice}"),
            Step::Write { target, count, way, dice } => write!(f, "{at} write {target} {count} {way} {dice}"),
            Step::Read { target, way, dice } => write!(f, "{at} read {target} {way} {dice}"),
            Step::Watch { watcher, target, dice } => write!(f, "{at} watch {target} {watcher} {dice}"),
        }
    }
}

impl FromStr for Scheduled {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number: {line}"));
        let appliance = |text: &str| match text {
            "A" => Ok(ApplianceId::A),
            "B" => Ok(ApplianceId::B),
            _ => Err(format!("{text} is no appliance: {line}")),
        };
        let (at, step) = match words.as_slice() {
            [at, "fault", fault, id, lasts, dice] => {
                let fault = Fault::named(fault).ok_or_else(|| format!("{fault} is no fault: {line}"))?;
                let (id, lasts, dice) = (appliance(id)?, number(lasts)?, number(dice)?);
                (at, Step::Fault { fault, id, lasts, dice })
            }
            [at, "write", target, count, way, dice] => {
                let (target, count, way, dice) =
                    (appliance(target)?, number(count)?, number(way)?, number(dice)?);
                (at, Step::Write { target, count, way, dice })
            }
            [at, "read", target, way, dice] => {
                (at, Step::Read { target: appliance(target)?, way: number(way)?, dice: number(dice)? })
            }
            [at, "watch", target, watcher, dice] => {
                let watcher = usize::try_from(number(watcher)?).map_err(|_| format!("no watcher: {line}"))?;
                (at, Step::Watch { watcher, target: appliance(target)?, dice: number(dice)? })
            }
            _ => return Err(format!("not a step: {line}")),
        };
        Ok(Self { at: number(at)?, step })
    }
}
