//! Configuration files with every kind of mistake: exit code 2, the file, the line and what is allowed; nothing is made.

use std::path::Path;

use crate::harness::run;
use crate::program::{duet, with_config};

fn good(dir: &Path) -> String {
    format!(
        "cluster = \"demo\"\nappliance = \"A\"\ndata = \"{}/data\"\nclient_listen = \"127.0.0.1:19001\"\n\
         peer_listen = \"127.0.0.1:19002\"\npeer = \"127.0.0.1:19003\"\nwitness = \"dir:/nonexistent\"\n",
        dir.display()
    )
}

/// What to replace in a good file, by what, and what the error mentions.
const MISTAKES: [(&str, &str, &[&str]); 27] = [
    ("cluster = \"demo\"", "cluster = \"demo\"\ncolour = \"red\"", &["line 2", "colour", "client_listen"]),
    ("cluster = \"demo\"", "cluster = 7", &["line 1", "string"]),
    ("cluster = \"demo\"", "cluster = \"de/mo\"", &["line 1", "cluster", "de/mo"]),
    ("cluster = \"demo\"", "cluster = \"\"", &["line 1", "cluster", "empty"]),
    ("cluster = \"demo\"", "cluster = \"demo", &["line 1"]),
    ("cluster = \"demo\"\n", "", &["cluster", "missing"]),
    ("cluster = \"demo\"", "cluster = \"demo\"\ncluster = \"demo\"", &["line 2", "duplicate"]),
    ("\"A\"", "\"C\"", &["line 2", "appliance", "\"C\"", "\"A\"", "\"B\""]),
    ("\"A\"", "\"a\"", &["line 2", "appliance", "\"A\""]),
    ("\"A\"", "[\"A\"]", &["line 2", "string"]),
    ("data = ", "dta = ", &["line 3", "dta", "data"]),
    ("127.0.0.1:19001", "127.0.0.1", &["line 4", "client_listen", "address:port"]),
    ("127.0.0.1:19001", "127.0.0.1:99999", &["line 4", "client_listen"]),
    ("127.0.0.1:19001", "http://127.0.0.1:19001", &["line 4", "client_listen"]),
    ("127.0.0.1:19001", "127.0.0.1:19002", &["line 5", "peer_listen", "client_listen"]),
    ("127.0.0.1:19003", "127.0.0.1:19002", &["line 6", "peer", "own peer_listen"]),
    ("127.0.0.1:19003", "127.0.0.1:19001", &["line 6", "peer", "client_listen"]),
    ("127.0.0.1:19003", "b.example.org", &["line 6", "peer", "host:port"]),
    ("127.0.0.1:19003", "http://b:1", &["line 6", "peer", "host:port"]),
    ("dir:/nonexistent", "/mnt/witness", &["line 7", "witness", "dir:/mnt/witness"]),
    ("dir:/nonexistent", "dir:witness", &["line 7", "witness", "absolute"]),
    ("dir:/nonexistent", "http://witness", &["line 7", "witness", "port"]),
    ("dir:/nonexistent", "htp://witness:7900", &["line 7", "witness", "htp"]),
    ("dir:/nonexistent", "https://witness:7900", &["line 7", "witness", "https"]),
    ("dir:/nonexistent", "http://127.0.0.1:19001", &["line 7", "witness", "client_listen"]),
    ("witness = \"dir:/nonexistent\"", "", &["witness", "missing"]),
    ("cluster = \"demo\"", "\u{0}\u{1}\u{2}", &["line 1"]),
];

#[test]
fn every_mistake_is_told_with_its_line() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        for (index, (from, to, parts)) in MISTAKES.into_iter().enumerate() {
            let config = dir.path().join(format!("mistake-{index}.toml"));
            let text = good(dir.path());
            assert!(text.contains(from), "{from}");
            std::fs::write(&config, text.replacen(from, to, 1)).unwrap();
            let name = config.display().to_string();
            for command in ["serve", "init"] {
                let said = with_config(dir.path(), command, &config).await;
                said.refuses(2, parts);
                said.refuses(2, &[&name]);
            }
        }
        assert!(!dir.path().join("data").exists(), "nothing was made");
    });
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.toml");
        with_config(dir.path(), "serve", &missing)
            .await
            .refuses(2, &["missing.toml", "does not exist", "--config"]);
        with_config(dir.path(), "serve", dir.path()).await.refuses(2, &["directory"]);
        let binary = dir.path().join("binary.toml");
        std::fs::write(&binary, [0xff, 0xfe, 0x00, 0x80]).unwrap();
        with_config(dir.path(), "serve", &binary).await.refuses(2, &["binary.toml"]);
        with_config(dir.path(), "status", &missing).await.refuses(2, &["missing.toml"]);
        // Without a file, and without the flags that would do instead of it.
        duet(dir.path(), &["serve"]).await.refuses(2, &["missing", "cluster"]);
    });
}

#[test]
fn a_flag_that_is_wrong_is_named_itself() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("good.toml");
        std::fs::write(&config, good(dir.path())).unwrap();
        let config = config.display().to_string();
        let flags: [(&str, &str, &str); 4] = [
            ("--appliance", "C", "\"A\""),
            ("--client-listen", "nowhere", "address:port"),
            ("--peer", "nowhere", "host:port"),
            ("--witness", "nowhere", "http://nowhere"),
        ];
        for (flag, value, part) in flags {
            let said = duet(dir.path(), &["serve", "--config", &config, flag, value]).await;
            said.refuses(2, &[&format!("{flag} {value}"), part]);
        }
    });
}
