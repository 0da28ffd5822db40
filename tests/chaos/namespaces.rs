//! Three machines in network namespaces, packets dropped between them without a word: no connection is reset, nobody hears
//! that nobody listens. Each of the three lines in each direction and both, then each appliance alone in the world, then a primary
//! that has lost its peer and only half of its line to the witness.

use std::time::{Duration, Instant};

use duet_protocol::ApplianceId;

use crate::crowd::Crowd;
use crate::harness::{Pair, Witness, run};
use crate::random::Random;
use crate::support::network::{Machine, Network};
use crate::verdict::judge;

/// Writes that must be acknowledged while packets are dropped.
const WRITES: usize = 30;
/// So long nobody may come to serve.
const DOUBT: Duration = Duration::from_millis(1500);

#[test]
fn packets_are_dropped_on_every_line_and_in_each_direction() {
    let Some(network) = Network::build() else { return };
    // A thread of its own, since it moves.
    let there = std::thread::spawn(move || {
        network.enter();
        run(every_cut(&network));
    });
    if let Err(panic) = there.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Packets from one machine to another.
type Way = (Machine, Machine);

async fn every_cut(network: &Network) {
    let seed = Random::any_seed();
    println!("seed {seed}");
    let mut pair = Pair::lay_out_at(Witness::Server, network.places()).await;
    pair.start_new().await;
    let crowd = Crowd::gather(&pair, &mut Random::new(seed), Instant::now());
    let lines = [(Machine::A, Machine::B), (Machine::A, Machine::Witness), (Machine::B, Machine::Witness)];
    for (one, other) in lines {
        for ways in [vec![(one, other)], vec![(other, one)], vec![(one, other), (other, one)]] {
            pair.until_paired().await;
            let cut = Cut::begin(network, &ways);
            if (one, other) == (Machine::A, Machine::B) {
                until_one_goes_on_alone(&pair).await;
            }
            crowd.writes_go_on(&pair, WRITES).await;
            cut.end();
        }
    }
    for alone in ["the primary", "the secondary"] {
        let primary = pair.until_paired().await;
        let isolated = if alone == "the primary" { primary } else { primary.peer() };
        let cut = Cut::begin(network, &around(isolated));
        pair.until_primary(isolated.peer()).await;
        pair.until_status(isolated, "serves nothing", |status| !status.serving).await;
        crowd.writes_go_on(&pair, WRITES).await;
        cut.end();
    }
    // The primary asks the witness and hears no answer, or is not heard: if what it asked for is done, it cannot know and its
    // peer may not begin.
    for is_heard in [true, false] {
        let (primary, secondary) = machines(pair.until_paired().await);
        let to_witness = (primary, Machine::Witness);
        let way = if is_heard { (to_witness.1, to_witness.0) } else { to_witness };
        let cut = Cut::begin(network, &[(primary, secondary), (secondary, primary), way]);
        tokio::time::sleep(DOUBT).await;
        cut.end();
        crowd.writes_go_on(&pair, WRITES).await;
    }
    judge(&crowd.dismiss(&mut pair).await);
}

/// An appliance's and its peer's.
const fn machines(id: ApplianceId) -> (Machine, Machine) {
    match id {
        ApplianceId::A => (Machine::A, Machine::B),
        ApplianceId::B => (Machine::B, Machine::A),
    }
}

/// All ways to and from an appliance.
fn around(isolated: ApplianceId) -> Vec<Way> {
    let (it, _) = machines(isolated);
    let others = Machine::ALL.into_iter().filter(|other| *other != it);
    others.flat_map(|other| [(it, other), (other, it)]).collect()
}

async fn until_one_goes_on_alone(pair: &Pair) {
    let probe = async || {
        for id in ApplianceId::ALL {
            let Ok(status) = pair.try_status(id).await else { continue };
            let alone = status.conf.is_some_and(|conf| conf.in_sync == [status.appliance]);
            if alone && status.serving {
                return Some(());
            }
        }
        None
    };
    pair.until("one of the two goes on alone", probe).await;
}

/// Ways on which packets are dropped.
struct Cut<'a> {
    network: &'a Network,
    ways: Vec<Way>,
    begun: Instant,
}

impl<'a> Cut<'a> {
    fn begin(network: &'a Network, ways: &[Way]) -> Self {
        for (from, to) in ways {
            network.drop_packets(*from, *to);
        }
        Self { network, ways: ways.to_vec(), begun: Instant::now() }
    }

    fn end(self) {
        for (from, to) in &self.ways {
            self.network.pass_packets(*from, *to);
        }
        println!("{:?}: {} ms", self.ways, self.begun.elapsed().as_millis());
    }
}
