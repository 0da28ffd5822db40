//! The wall clock of one appliance, the other, or both jumps by an hour to and fro, while everybody uses the pair: nobody
//! trusts it. (What may be trusted is the monotonic clock, which nothing sets: the storms start processes whose monotonic
//! clocks begin elsewhere, as after a reboot.)

use std::collections::BTreeSet;
use std::time::Instant;

use duet_protocol::ApplianceId;

use crate::crowd::Crowd;
use crate::harness::{A, B, Pair, Witness, letter, run};
use crate::random::Random;
use crate::support::clocks::WallClock;
use crate::verdict::judge;

/// Writes between two jumps.
const WRITES: usize = 40;
/// An hour, there, here and back.
const JUMPS: [&str; 4] = ["+3600", "+0", "-3600", "+0"];

#[test]
fn the_wall_clocks_jump_by_an_hour() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        let clock = |id| WallClock::new(pair.dir().join(format!("clock-{}", letter(id))));
        let (Some(a), Some(b)) = (clock(A), clock(B)) else {
            println!("skipped: setting a process's wall clock needs libfaketime (package faketime)");
            return;
        };
        for (id, clock) in [(A, &a), (B, &b)] {
            for (name, value) in clock.environment() {
                pair.set_environment(id, name, &value);
            }
        }
        pair.start_new().await;
        let crowd = Crowd::gather(&pair, &mut Random::new(Random::any_seed()), Instant::now());
        for clocks in [&[&a][..], &[&b], &[&a, &b]] {
            for offset in JUMPS {
                for clock in clocks {
                    clock.set(offset);
                }
                let primary = pair.until_paired().await;
                // Refused if a busy machine has changed the roles just now.
                pair.order(primary, "switchover").await.ok();
                crowd.writes_go_on(&pair, WRITES).await;
            }
        }
        judge(&crowd.dismiss(&mut pair).await);
        for id in ApplianceId::ALL {
            let hours = hours_of(&pair.log(id));
            assert!(hours.len() >= 3, "{id} saw its wall clock jump: its log has the hours {hours:?}");
        }
    });
}

/// The days and hours in the time stamps of a log: "2026-11-23T13".
fn hours_of(log: &str) -> BTreeSet<String> {
    let stamp = |word: &str| word.as_bytes().get(10) == Some(&b'T') && word.contains(':');
    let stamps = log.lines().filter_map(|line| line.split_whitespace().find(|word| stamp(word)));
    stamps.filter_map(|stamp| stamp.get(..13).map(String::from)).collect()
}
