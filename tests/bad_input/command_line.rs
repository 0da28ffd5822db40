//! Command lines that cannot be understood: two lines and exit code 2; questions without an answer: 3 and 4.

use duet::process::free_port;

use crate::harness::{A, Pair, Witness, run};
use crate::program::duet;

#[test]
fn a_wrong_command_line_is_told_in_two_lines() {
    let wrong: [(&[&str], &[&str]); 16] = [
        (&[], &["duet demo"]),
        (&["sever"], &["'sever'", "serve"]),
        (&["--nonsense"], &["--nonsense", "--help"]),
        (&["serve", "--dta", "x"], &["--dta", "--data"]),
        (&["serve", "--data"], &["--data", "value"]),
        (&["serve", "now"], &["'now'", "duet serve --help"]),
        (&["serve", "--data", "a", "--data", "b"], &["--data"]),
        (&["serve", "--log-format", "xml"], &["'xml'", "text, json"]),
        (&["witness"], &["--data"]),
        (&["witness", "--data", "w", "--listen", "nowhere"], &["--listen nowhere", "for example"]),
        (&["witness", "--data", "w", "--listen", "127.0.0.1:99999"], &["127.0.0.1:99999"]),
        (&["bench"], &["duet bench --help"]),
        (&["bench", "put", "--clients", "none"], &["'none'"]),
        (&["status", "--endpoint", "ftp://h:1"], &["ftp://h:1", "http://"]),
        (&["status", "--endpoint", "http://h:1,http://h:2,http://h:3"], &["two appliances"]),
        (&["stop", "--endpoint", "http://h:1", "--endpoint", "http://h:2"], &["one appliance"]),
    ];
    run(async {
        let dir = tempfile::tempdir().unwrap();
        for (args, parts) in wrong {
            duet(dir.path(), args).await.refuses(2, parts);
        }
        assert!(!dir.path().join("w").exists(), "nothing was made");
    });
}

#[test]
fn an_appliance_that_does_not_answer_is_told_with_its_address() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
        for command in ["stop", "switchover"] {
            duet(dir.path(), &[command, "--endpoint", &nobody]).await.refuses(3, &[&nobody, "--endpoint"]);
        }
        let said = duet(dir.path(), &["status", "--endpoint", &nobody]).await;
        assert_eq!(said.code, Some(3), "{}", said.text);
        assert!(said.text.contains(&nobody), "{}", said.text);
        said.shows_nothing_of_the_inside();
    });
}

#[test]
fn a_witness_is_no_appliance() {
    run(async {
        let pair = Pair::lay_out(Witness::Server).await;
        let text = pair.config_text(A);
        let witness =
            text.lines().find_map(|line| line.strip_prefix("witness = ")).unwrap().trim_matches('"');
        for command in ["stop", "switchover", "status"] {
            let said = duet(pair.dir(), &[command, "--endpoint", witness]).await;
            assert_eq!(said.code, Some(3), "{}", said.text);
            said.shows_nothing_of_the_inside();
        }
    });
}
