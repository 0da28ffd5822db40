//! `duet witness check`: what it says, and its exit codes.

use std::process::{Command, Output};

use crate::component::free_port;
use crate::fake::{Fake, Wrong};
use crate::harness::run;

const SECRET: &str = "hush-hush";

/// With keys in the environment.
fn check(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duet"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("DUET_") || name.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_ACCESS_KEY_ID", "duet").env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.args(["witness", "check"]).args(args).output().expect("the binary runs")
}

#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let text = format!("{out}{err}");
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    for never in [SECRET, "panicked", "os error", "Err("] {
        assert!(!text.contains(never), "{never:?} is in: {text}");
    }
    out.into_owned()
}

fn url(store: &Fake) -> String {
    format!("s3://witnesses?endpoint=http://127.0.0.1:{}", store.port)
}

#[test]
fn a_good_store() {
    run(async {
        let store = Fake::start(Wrong::Nothing).await;
        let url = url(&store);
        let words = ["S3 bucket witnesses/duet", "20 racing writes counted", "median", "it can be a witness"];
        says(&check(&[&url]), 0, &words);
        let text = says(&check(&[&url, "--cluster", "site-7", "--json"]), 0, &[]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["fit"], &value["raced"]), (&true.into(), &20.into()), "{value}");
        assert_eq!(value["record"]["what"], "not there yet: duet init makes it");
        assert!(value["write"]["median_ms"].as_f64().unwrap() > 0.0, "{value}");
        assert_eq!(store.names(), ["duet/duet-witness-check/record"], "no pair's record is touched");
    });
}

#[test]
fn stores_that_are_no_witness() {
    run(async {
        for (wrong, code, words) in [
            (Wrong::IgnoresConditions, 1, "NO WITNESS: it makes the record a second time"),
            (Wrong::ComparesTooEarly, 1, "NO WITNESS: it lost a write"),
            (Wrong::ReadOnly, 3, "not known: the S3 bucket witnesses/duet"),
        ] {
            let store = Fake::start(wrong).await;
            let text = says(&check(&[&url(&store)]), code, &[words]);
            assert_eq!(text.contains("allow s3:PutObject"), wrong == Wrong::ReadOnly, "{text}");
        }
    });
}

#[test]
fn nobody_there() {
    let port = free_port();
    says(&check(&[&format!("s3://w?endpoint=http://127.0.0.1:{port}")]), 3, &["cannot be reached"]);
    says(&check(&[&format!("etcd://127.0.0.1:{port}/duet")]), 3, &["cannot be reached"]);
    says(&check(&[&format!("http://127.0.0.1:{port}")]), 3, &["not known: the witness at"]);
    says(&check(&["dir:/nonexistent/share"]), 3, &["cannot write in /nonexistent/share", "mount the share"]);
}

#[test]
fn a_directory_is_tested_and_not_marked() {
    let share = tempfile::tempdir().unwrap();
    let url = format!("dir:{}", share.path().display());
    for _ in 0..2 {
        says(&check(&[&url]), 0, &["it can be a witness"]);
    }
    let names: Vec<_> =
        std::fs::read_dir(share.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["duet-witness-check"], "whether it is a witness is for duet init to say");
}

#[test]
fn wrong_use() {
    says(&check(&[]), 2, &["URL"]);
    says(&check(&["ftp://x"]), 2, &["no witness of kind \"ftp\""]);
    says(&check(&[&format!("s3://duet:{SECRET}@bucket")]), 2, &["credentials=FILE"]);
    says(&check(&["dir:/tmp", "--cluster", "a b"]), 2, &["--cluster"]);
}
