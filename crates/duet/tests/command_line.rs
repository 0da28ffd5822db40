//! The real binary: wrong use and a hostile environment are told in plain words, with the documented exit code.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn duet(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DUET_") {
            command.env_remove(name);
        }
    }
    command.args(args).output().expect("the binary runs")
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// One line what, at most one line what to do, the code, and nothing of Rust.
fn refuses(args: &[&str], code: i32, what: &str) {
    let output = duet(args);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    let errors: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert!((1..=2).contains(&errors.len()), "{args:?}: {text}");
    assert!(errors[0].contains(what), "{args:?}: {text}");
    for rust in ["panicked", "Os {", "Err(", "Some(", "os error", "RUST_BACKTRACE"] {
        assert!(!text.contains(rust), "{args:?}: {text}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn wrong_command_lines() {
    refuses(&[], 2, "duet needs a command");
    refuses(&["demo", "--fast"], 2, "unexpected argument '--fast'");
    refuses(&["status", "--endpoint", "nonsense"], 2, "--endpoint nonsense: not an address");
    refuses(&["bench", "put", "--value-size", "99999999"], 2, "--value-size 99999999");
    refuses(&["bench", "compare", "--etcd", "/nonexistent/etcd"], 2, "cannot run /nonexistent/etcd");
}

#[test]
fn wrong_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, "cluster = \"demo\"\ncolour = \"red\"\n").unwrap();
    refuses(&["serve", "--config", path(&file)], 2, "a.toml, line 2");
    refuses(
        &["serve", "--config", "/nonexistent/a.toml"],
        2,
        "cannot read /nonexistent/a.toml: it does not exist",
    );
    refuses(&["init"], 2, "missing field");
}

#[test]
fn a_witness_that_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = dir.path().join("witness");
    refuses(&["witness", "--listen", &address, "--data", path(&data)], 1, "in use");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    refuses(
        &["witness", "--listen", "127.0.0.1:0", "--data", path(&file.join("x"))],
        1,
        "cannot use the data directory",
    );
    refuses(&["witness", "--listen", "here", "--data", path(&data)], 2, "--listen here: not an address");
}

/// A configuration file that nothing is wrong with; its witness does not run.
fn good_config(dir: &Path, client_port: u16) -> std::path::PathBuf {
    let port = || duet::process::free_port().expect("a free port");
    let file = dir.join("a.toml");
    let text = format!(
        "cluster = \"test\"\nappliance = \"A\"\ndata = \"{}\"\nclient_listen = \"127.0.0.1:{client_port}\"\n\
         peer_listen = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\nwitness = \"http://127.0.0.1:{}\"\n",
        dir.join("data").display(),
        port(),
        port(),
        port()
    );
    std::fs::write(&file, text).expect("a file");
    file
}

#[test]
fn an_appliance_that_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = good_config(dir.path(), taken.local_addr().unwrap().port());
    refuses(&["serve", "--config", path(&config)], 1, "in use");
    refuses(&["init", "--config", path(&config)], 1, "the witness");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let listen = format!("127.0.0.1:{}", duet::process::free_port().unwrap());
    let data = file.join("x");
    let args = ["serve", "--config", path(&config), "--client-listen", &listen, "--data", path(&data)];
    refuses(&args, 1, "data directory");
}

#[test]
fn nobody_there() {
    // A port that was free a moment ago, below the range of outgoing connections.
    let port = duet::process::free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let output = duet(&["status", "--endpoint", &url]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("No appliance answers.") && text.contains("nothing listens there"), "{text}");
    refuses(&["stop", "--endpoint", &url], 3, "nothing listens there");
    refuses(&["switchover", "--endpoint", &url], 3, "no appliance answers");
    refuses(&["bench", "put", "--endpoints", &url], 3, "cannot connect to");
}

#[test]
fn version_and_help() {
    let output = duet(&["version", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["duet"], env!("CARGO_PKG_VERSION"));
    let output = duet(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.ends_with('\n') && !text.contains('\x1b'), "{text}");
}
