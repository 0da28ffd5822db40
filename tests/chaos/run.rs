//! One run: a pair, its clients, storms from a seed, then peace; and the verdict.

use std::time::{Duration, Instant};

use duet_protocol::ApplianceId::{A, B};

use crate::crowd::Crowd;
use crate::harness::{Pair, Witness};
use crate::nemesis::Nemesis;
use crate::random::Random;
use crate::schedule;
use crate::support::small_disk::SmallDisk;
use crate::verdict::judge;

/// Room for two segments of the log, the spare one and the state store.
const SMALL_DISK_MIB: u32 = 300;

/// Tells how to repeat a run that fails.
struct Confession<'a> {
    seed: u64,
    seconds: u64,
    nemesis: &'a mut Nemesis,
}

impl Drop for Confession<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, seconds) = (self.seed, self.seconds);
            println!("what was done to the pair:\n{}", self.nemesis.diary.join("\n"));
            println!(
                "again: DUET_CHAOS_SEED={seed} DUET_CHAOS_SECONDS={seconds} cargo test --test chaos -- --nocapture storms"
            );
        }
    }
}

/// Storms for so many seconds, then the verdict.
pub async fn run(seed: u64, seconds: u64) {
    println!("seed {seed}, storms for {seconds} s");
    let mut random = Random::new(seed);
    let mut pair = Pair::lay_out_with_lines(Witness::Server).await;
    pair.make_armable();
    let small = random.pick(&[A, B]);
    let disk = SmallDisk::mount(&pair.data(small), SMALL_DISK_MIB);
    match disk {
        Some(_) => println!("the disk of {small} is a small one"),
        None => println!("skipped: a disk that is truly full needs root; refusals stand in for it"),
    }
    pair.start_new().await;
    let start = Instant::now();
    let mut nemesis = Nemesis::new(start, random.fork(), disk.map(|disk| (small, disk)));
    let confession = Confession { seed, seconds, nemesis: &mut nemesis };
    let crowd = Crowd::gather(&pair, &mut random, start);
    while start.elapsed() < Duration::from_secs(seconds) {
        let storm = schedule::storm(&mut random);
        confession.nemesis.storm(&mut pair, &storm).await;
    }
    for (what, times) in &confession.nemesis.tally {
        println!("{times:>5} {what}");
    }
    let history = crowd.dismiss(&mut pair).await;
    judge(&history);
}
