//! Ports that are taken, and addresses that this machine does not have.

use std::net::TcpListener;

use duet::process::free_port;

use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::{contents, duet, serve, still_serves, unchanged};

#[test]
fn a_port_that_is_taken_is_named_and_the_data_is_not_touched() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 3).await;
        pair.soft_stop(B).await;
        let text = std::fs::read_to_string(pair.config_path(B)).unwrap();
        for field in ["client_listen", "peer_listen"] {
            let address = text.lines().find_map(|line| line.strip_prefix(&format!("{field} = "))).unwrap();
            let address = address.trim_matches('"');
            let taken = TcpListener::bind(address).unwrap();
            let before = contents(&pair.data(B));
            serve(&pair, B).await.refuses(1, &[address, field, "in use"]);
            unchanged(&before, &contents(&pair.data(B)));
            drop(taken);
        }
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn an_address_of_another_machine() {
    run(async {
        let pair = Pair::lay_out(Witness::Server).await;
        let config = pair.config_path(A).display().to_string();
        // 192.0.2.0/24 is for documentation: no machine has it.
        for (flag, field) in [("--client-listen", "client_listen"), ("--peer-listen", "peer_listen")] {
            let said = duet(pair.dir(), &["serve", "--config", &config, flag, "192.0.2.1:4444"]).await;
            said.refuses(1, &["192.0.2.1:4444", field, "address"]);
            assert!(!said.text.contains("uses the port"), "no program is to blame: {}", said.text);
        }
        let data = pair.dir().join("w").display().to_string();
        let said = duet(pair.dir(), &["witness", "--data", &data, "--listen", "192.0.2.1:4444"]).await;
        said.refuses(1, &["192.0.2.1:4444"]);
        assert!(!pair.data(A).exists() && !pair.dir().join("w").exists(), "nothing was made");
    });
}

#[test]
fn the_witnesses_port_is_taken() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let taken = TcpListener::bind(&address).unwrap();
        let data = dir.path().join("w").display().to_string();
        let port = address.rsplit_once(':').unwrap().1;
        duet(dir.path(), &["witness", "--data", &data, "--listen", &address])
            .await
            .refuses(1, &[port, "in use"]);
        assert!(!dir.path().join("w").exists(), "nothing was made");
        drop(taken);
    });
}
