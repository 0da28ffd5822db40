//! `duet init` in the wrong place or at the wrong time, and appliances without it.

use std::fs;

use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::{contents, is_still_of, still_serves, unchanged, with_config};

#[test]
fn init_over_a_pair_that_exists() {
    run(async {
        for witness in [Witness::Server, Witness::Directory] {
            let mut pair = Pair::start(witness).await;
            let mut ledger = Ledger::default();
            pair.write(A, &mut ledger, 5).await;
            let both = |record: &duet_protocol::WitnessRecord| !record.conf.is_solo();
            let record = pair.until_record("that both are in sync", both).await;
            pair.soft_stop(B).await;
            // A new disk in B: init would make a second pair.
            fs::rename(pair.data(B), pair.dir().join("kept")).unwrap();
            let said = with_config(pair.dir(), "init", &pair.config_path(B)).await;
            said.refuses(1, &["already exists", "without init"]);
            assert!(!pair.data(B).exists(), "nothing was made");
            is_still_of(&record, &pair.record().await);
            pair.start_appliance(B).await;
            still_serves(&mut pair, &mut ledger).await;
        }
    });
}

#[test]
fn init_twice_is_one_pair() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.init(A).await;
        let (record, data) = (pair.record().await, contents(&pair.data(A)));
        pair.init(A).await;
        let said = with_config(pair.dir(), "init", &pair.config_path(B)).await;
        said.refuses(1, &["already exists", "without init"]);
        assert_eq!(pair.record().await, record);
        unchanged(&data, &contents(&pair.data(A)));
        pair.start_both().await;
        let mut ledger = Ledger::default();
        still_serves(&mut pair, &mut ledger).await;
        // And once more on a pair in use: nothing changes.
        pair.soft_stop(B).await;
        pair.soft_stop(A).await;
        let record = pair.record().await;
        for appliance in [A, B] {
            let before = contents(&pair.data(appliance));
            with_config(pair.dir(), "init", &pair.config_path(appliance)).await.shows_nothing_of_the_inside();
            unchanged(&before, &contents(&pair.data(appliance)));
        }
        assert_eq!(pair.record().await, record);
        pair.start_both().await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn init_with_data_in_use_at_an_empty_witness() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        pair.soft_stop(A).await;
        pair.stop_witness();
        pair.wipe_witness();
        pair.start_witness().await;
        for appliance in [A, B] {
            let before = contents(&pair.data(appliance));
            let said = with_config(pair.dir(), "init", &pair.config_path(appliance)).await;
            said.refuses(1, &["already holds data", "no record", "new pairs"]);
            unchanged(&before, &contents(&pair.data(appliance)));
        }
        assert_eq!(pair.try_record().await, Ok(None));
        pair.start_both().await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn init_without_a_witness_decides_nothing() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.stop_witness();
        let said = with_config(pair.dir(), "init", &pair.config_path(A)).await;
        said.refuses(1, &["witness", "nothing was decided"]);
        assert!(!pair.data(A).exists(), "nothing was made");
        pair.start_witness().await;
        pair.start_new().await;
        let mut ledger = Ledger::default();
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn two_blank_appliances_wait_and_say_what_is_missing() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.launch(A);
        pair.launch(B);
        for appliance in [A, B] {
            let says = async || pair.log(appliance).contains("duet init").then_some(());
            pair.until(&format!("{appliance} says that init is missing"), says).await;
        }
        assert_eq!(pair.try_record().await, Ok(None));
        assert!(pair.client(A).put("x", "y").await.is_err());
        // The one step that is missing, while both wait: they go on by themselves.
        pair.init(A).await;
        for appliance in [A, B] {
            let tells = async || pair.try_status(appliance).await.ok();
            pair.until(&format!("{appliance} tells its status"), tells).await;
        }
        let mut ledger = Ledger::default();
        pair.until_in_sync().await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn a_waiting_blank_appliance_can_be_stopped() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.launch(B);
        let says = async || pair.log(B).contains("duet init").then_some(());
        pair.until("B says that init is missing", says).await;
        pair.soft_stop(B).await;
        assert!(!pair.data(B).exists(), "nothing was made");
    });
}
