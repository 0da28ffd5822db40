//! `duet bench scale`: what grows with the data - memory, disk, start, compaction, the way back of an appliance - and what one
//! more key, client, watch and lease costs; a single etcd beside it.

pub mod away;
pub mod costs;
pub mod fill;
pub mod report;
pub mod subject;

use std::path::Path;
use std::time::Duration;

use self::costs::{Held, cost};
use self::report::{Growth, Scale, Size};
use self::subject::{Subject, disk_bytes};
use super::args::{Operation, Part, ScaleArgs, SystemName};
use super::load::{self, Plan};
use super::output::{Base, Conditions};
use super::report::Report;
use super::schedule::Window;
use super::{etcd, floors};
use crate::error::{Exit, Failure};
use crate::process::{Launcher, raise_open_files};
use crate::signals::StopRequests;
use crate::terminal::Progress;

/// Transactions of the fill under way at a time.
const FILL_CLIENTS: usize = 16;
/// Clients of a load.
const CLIENTS: usize = 64;
/// Keys there while clients, watches and leases are counted.
const KEYS_FOR_COSTS: usize = 10_000;

/// Runs `duet bench scale`; Ctrl-C ends it and every process it started.
pub async fn run(args: &ScaleArgs) -> Result<Exit, Failure> {
    raise_open_files();
    let mut stops = StopRequests::new()?;
    let scale = tokio::select! {
        scale = measure(args) => scale?,
        _ = stops.next() => return Err(Failure::interrupted()),
    };
    scale.document().deliver(&args.output)?;
    Ok(Exit::Done)
}

async fn measure(args: &ScaleArgs) -> Result<Scale, Failure> {
    let etcd_version = args.etcd.as_deref().map(etcd::version).transpose()?;
    let base = Base::of(&args.output)?;
    let launcher = Launcher::of_this_program()?;
    let mut progress = Progress::new();
    progress.say("probing disk and loopback ...");
    let conditions = Conditions::probe(base.path(), etcd_version).await?;
    let path = base.path().to_owned();
    let sequential = tokio::task::spawn_blocking(move || floors::sequential(&path)).await;
    let disk_mib_per_second = sequential.map_err(|_| Failure::new("probing broke off", "try again"))??;
    let systems = [Some(SystemName::Duet), args.etcd.as_ref().map(|_| SystemName::Etcd1)];
    let systems: Vec<SystemName> = systems.into_iter().flatten().collect();
    let etcd = args.etcd.as_deref().unwrap_or(Path::new("etcd"));
    let (mut sizes, mut costs) = (Vec::new(), Vec::new());
    for keys in &args.keys {
        for system in &systems {
            let dir = base.path().join(format!("{system:?}-{keys}").to_lowercase());
            let mut note = |what: &str| progress.say(&format!("{keys} keys: {}: {what}", system.words()));
            note("starting");
            let subject = Subject::start(*system, &launcher, etcd, &dir, args.value_size).await?;
            sizes.push(one_size(args, subject, *keys, &mut note).await?);
            std::fs::remove_dir_all(&dir).ok();
        }
    }
    if args.parts.contains(&Part::Costs) {
        let held =
            [(Held::Client, args.connections), (Held::Watch, args.watches), (Held::Lease, args.leases)];
        for (system, (of, number)) in systems.iter().flat_map(|system| held.map(|held| (system, held))) {
            let name = of.name();
            progress.say(&format!("costs: {}: {number} × {name}", system.words()));
            // A fresh one each time: what was held before leaves free memory behind, which the next would be given.
            let dir = base.path().join(format!("{system:?}-{name}").to_lowercase());
            let subject = Subject::start(*system, &launcher, etcd, &dir, args.value_size).await?;
            let plan = subject.plan(Operation::Put, FILL_CLIENTS, KEYS_FOR_COSTS, args.seconds).await?;
            fill::fill(plan).await?;
            costs.push(cost(&subject, of, number, args.settle).await?);
            drop(subject);
            std::fs::remove_dir_all(&dir).ok();
        }
    }
    Ok(Scale {
        conditions,
        disk_mib_per_second,
        value_size: args.value_size,
        rate: args.rate,
        seconds: args.seconds.as_secs_f64(),
        away_seconds: args.away.as_secs_f64(),
        sizes,
        costs,
    })
}

/// Everything about one number of keys.
async fn one_size(
    args: &ScaleArgs,
    mut subject: Subject,
    keys: usize,
    note: &mut impl FnMut(&str),
) -> Result<Size, Failure> {
    note("writing the keys");
    let plan = subject.plan(Operation::Put, FILL_CLIENTS, keys, args.seconds).await?;
    let filled = fill::fill(plan).await?;
    tokio::time::sleep(args.settle).await;
    let memory = subject.memory();
    let disk = disk_bytes(&subject.copy_dir());
    let mut size = Size::new(subject.name, keys, filled, memory, disk);
    let wanted = |part: Part| args.parts.contains(&part);
    if wanted(Part::Throughput) {
        note("throughput");
        let put = subject.plan(Operation::Put, CLIENTS, keys, args.seconds).await?;
        size.puts = Some(load::run(put).await?);
        let get = subject.plan(Operation::Get, CLIENTS, keys, args.seconds).await?;
        size.gets = Some(load::run(get).await?);
    }
    if wanted(Part::Compaction) {
        note("compaction");
        size.before_compaction = Some(load::run(writes(args, &subject, keys).await?).await?);
        let (report, time) = compaction(args, &subject, keys).await?;
        size.during_compaction = Some(report);
        size.compaction_seconds = Some(time.as_secs_f64());
    }
    if wanted(Part::Start) {
        note("kill -9 and start");
        size.start_seconds = Some(subject.crash_and_start().await?.as_secs_f64());
        tokio::time::sleep(args.settle).await;
        size.memory_after_start = Some(subject.memory());
    }
    if subject.pair().is_some() {
        if wanted(Part::Rejoin) {
            note(&format!("the secondary is away for {} s", args.away.as_secs_f64()));
            let plan = writes(args, &subject, keys).await?;
            size.rejoin = Some(away::rejoin(&mut subject, plan, args.away).await?);
        }
        if wanted(Part::Copy) {
            note("a full copy");
            let plan = writes(args, &subject, keys).await?;
            size.copy = Some(away::copy(&mut subject, plan).await?);
        }
    }
    Ok(size)
}

/// Writes at the foreground's rate.
async fn writes(args: &ScaleArgs, subject: &Subject, keys: usize) -> Result<Plan, Failure> {
    let plan = subject.plan(Operation::Put, CLIENTS, keys, args.seconds).await?;
    Ok(Plan { rate: Some(args.rate), ..plan })
}

/// A compaction in the midst of writes.
async fn compaction(args: &ScaleArgs, subject: &Subject, keys: usize) -> Result<(Report, Duration), Failure> {
    let window = Window::default();
    let work = load::run_in(writes(args, subject, keys).await?, window.clone());
    let compaction = async {
        window.opened().await;
        subject.compact().await
    };
    let (report, time) = tokio::join!(work, compaction);
    Ok((report?, time?))
}

impl Scale {
    /// What one more key costs, from the smallest and the largest number of keys of a system.
    pub fn growth(&self, system: SystemName) -> Option<Growth> {
        let of = || self.sizes.iter().filter(|size| size.system == system);
        let (least, most) = (of().min_by_key(|size| size.keys)?, of().max_by_key(|size| size.keys)?);
        Growth::between(least, most)
    }
}
