//! Scripts of commands with their output.
//!
//! ```text
//! # a comment; what follows it belongs to the next command
//! $ put a 1                  a command
//! < a line                   what it reads, for as many lines as there are
//! OK                         what it prints
//! ! Error: ...               what it complains of
//! [exit 1]                   how it ends, unless well
//! ```
//! `$watch` is a watch that is ended once it has printed the line `the end`. `# differs: REASON` says that Duet answers
//! otherwise than etcd. What no two servers have in common (ids, times, sizes) is replaced by a word; the first lease a
//! script makes is `{lease1}`, in commands too.
//!
//! With `DUET_TEST_WRITE` in the environment the outputs in the file are replaced by etcd's own.

use std::fmt::Write as _;
use std::path::PathBuf;

use duet::bench::etcd::EtcdCluster;

use crate::harness::{A, B, Pair, Witness};
use crate::tool::{Etcdctl, Said, is_installed, launcher};

/// The line that ends a `$watch`.
const THE_END: &str = "the end";

struct Step {
    /// Comments and empty lines before it.
    preamble: String,
    differs: bool,
    is_watch: bool,
    command: String,
    input: String,
    expected: String,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut preamble = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('$') {
            let (is_watch, command) = match rest.strip_prefix("watch ") {
                Some(_) => (true, rest),
                None => (false, rest.trim_start()),
            };
            steps.push(Step {
                differs: preamble.contains("# differs: "),
                preamble: std::mem::take(&mut preamble),
                is_watch,
                command: command.to_owned(),
                input: String::new(),
                expected: String::new(),
            });
        } else if line.starts_with('#') {
            writeln!(preamble, "{line}").unwrap();
        } else {
            let step = steps.last_mut().expect("a script begins with a command");
            match line.strip_prefix('<') {
                Some(input) => writeln!(step.input, "{}", input.strip_prefix(' ').unwrap_or(input)).unwrap(),
                None => writeln!(step.expected, "{line}").unwrap(),
            }
        }
    }
    for step in &mut steps {
        step.expected.truncate(step.expected.trim_end().len());
    }
    steps
}

fn render(steps: &[Step], outputs: &[String]) -> String {
    let mut text = String::new();
    for (step, output) in steps.iter().zip(outputs) {
        if !text.is_empty() {
            text.push('\n');
        }
        let space = if step.is_watch { "" } else { " " };
        writeln!(text, "{}${space}{}", step.preamble, step.command).unwrap();
        for line in step.input.lines() {
            writeln!(text, "{}", format!("< {line}").trim_end()).unwrap();
        }
        if !output.is_empty() {
            writeln!(text, "{output}").unwrap();
        }
    }
    text
}

/// Splits a command as a shell does; only single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut open, mut quoted) = (String::new(), false, false);
    for character in command.chars() {
        match character {
            '\'' => (open, quoted) = (true, !quoted),
            ' ' if !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            other => {
                word.push(other);
                open = true;
            }
        }
    }
    assert!(!quoted, "a quote is open: {command}");
    if open {
        words.push(word);
    }
    words
}

/// Runs `scripts/NAME.txt` on a fresh pair, and on a fresh etcd where there is one.
pub async fn play(name: &str) {
    if !is_installed() {
        return;
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/etcdctl/scripts")
        .join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap();
    let steps = parse(&text);
    assert!(!steps.is_empty());

    let mut pair = Pair::lay_out(Witness::Server).await;
    // Where users are on, every command logs in.
    pair.configure("bcrypt_cost = 4");
    pair.start_new().await;
    let appliances = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
    let ours = run(&steps, &appliances, &pair).await;
    let theirs = match etcd(&pair).await {
        Some((_running, etcd)) => Some(run(&steps, &[etcd], &pair).await),
        None => None,
    };

    if std::env::var_os("DUET_TEST_WRITE").is_some() {
        let theirs = theirs.expect("only a real etcd can write a script");
        let outputs = steps.iter().zip(ours.iter().zip(theirs));
        let outputs: Vec<String> =
            outputs.map(|(step, (ours, theirs))| if step.differs { ours.clone() } else { theirs }).collect();
        std::fs::write(&file, render(&steps, &outputs)).unwrap();
        return;
    }
    let mut wrong = String::new();
    for (index, step) in steps.iter().enumerate() {
        if ours[index] != step.expected {
            let (command, expected, seen) = (&step.command, &step.expected, &ours[index]);
            writeln!(wrong, "$ {command}\n--- expected\n{expected}\n--- of Duet\n{seen}\n").unwrap();
        }
        if let Some(theirs) = &theirs
            && (theirs[index] == step.expected) == step.differs
        {
            let (command, expected, seen) = (&step.command, &step.expected, &theirs[index]);
            let but = if step.differs { " (said to differ)" } else { "" };
            writeln!(wrong, "$ {command}\n--- expected{but}\n{expected}\n--- of etcd\n{seen}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{name}.txt:\n{wrong}");
}

/// A fresh etcd of one member, if its server is installed.
async fn etcd(pair: &Pair) -> Option<(EtcdCluster, Etcdctl)> {
    if std::process::Command::new("etcd").arg("--version").output().is_err() {
        println!("not compared with etcd: its server is not installed");
        return None;
    }
    let cluster =
        EtcdCluster::start(&launcher(), "etcd".as_ref(), &pair.dir().join("etcd"), 1).await.unwrap();
    let etcdctl = Etcdctl::new(cluster.urls());
    Some((cluster, etcdctl))
}

/// Runs every step, at one endpoint and the next in turn; what they print, normalised.
async fn run(steps: &[Step], endpoints: &[Etcdctl], pair: &Pair) -> Vec<String> {
    let mut leases: Vec<Lease> = Vec::new();
    let mut outputs = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let etcdctl = &endpoints[index % endpoints.len()];
        let mut command = step.command.clone();
        for (number, lease) in leases.iter().enumerate() {
            command = command.replace(&format!("{{lease{}}}", number + 1), &lease.hex);
        }
        let words = words(&command);
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = if step.is_watch {
            let log = pair.dir().join(format!("watch-{}-{index}.log", endpoints.len()));
            let mut watch = etcdctl.start(&log, &args);
            watch.until(pair, THE_END, |lines| lines.iter().any(|line| line == THE_END)).await.join("\n")
        } else {
            transcript(&etcdctl.run_with_input(&args, &step.input).await)
        };
        leases.extend(Lease::granted_by(&output));
        outputs.push(normalise(&output, &leases));
    }
    outputs
}

fn transcript(said: &Said) -> String {
    let mut text = said.out.trim_end().to_owned();
    for line in said.err.lines() {
        write!(text, "\n! {line}").unwrap();
    }
    if said.code != 0 {
        write!(text, "\n[exit {}]", said.code).unwrap();
    }
    text.trim_start_matches('\n').to_owned()
}

struct Lease {
    hex: String,
    decimal: String,
}

impl Lease {
    fn granted_by(output: &str) -> Option<Self> {
        let hex = output.strip_prefix("lease ")?.split_once(" granted with TTL")?.0;
        let known = output.contains("remaining(") || output.contains("already expired");
        let id = i64::from_str_radix(hex, 16).ok().filter(|_| !known)?;
        Some(Self { hex: hex.to_owned(), decimal: id.to_string() })
    }
}

/// Numbers that follow these are a server's own.
const OWN: [&str; 10] = [
    "\"cluster_id\":",
    "\"member_id\":",
    "\"raft_term\":",
    "\"ClusterID\" : ",
    "\"MemberID\" : ",
    "\"RaftTerm\" : ",
    "remaining(",
    "\"ttl\":",
    "\"TTL\" : ",
    "took = ",
];

fn normalise(output: &str, leases: &[Lease]) -> String {
    let mut text = output.to_owned();
    for (number, lease) in leases.iter().enumerate() {
        let name = format!("{{lease{}}}", number + 1);
        text = text.replace(&lease.hex, &name).replace(&lease.decimal, &name);
    }
    for marker in OWN {
        text = mask_numbers(&text, marker);
    }
    text = sort_attached(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// etcd tells the keys of a lease in any order.
fn sort_attached(text: &str) -> String {
    let marker = "attached keys([";
    let Some((front, (keys, back))) =
        text.split_once(marker).and_then(|(front, rest)| Some((front, rest.split_once("])")?)))
    else {
        return text.to_owned();
    };
    let mut keys: Vec<&str> = keys.split(' ').collect();
    keys.sort_unstable();
    format!("{front}{marker}{}]){back}", keys.join(" "))
}

/// Replaces the digits after each `marker` by a letter.
fn mask_numbers(text: &str, marker: &str) -> String {
    let mut parts = text.split(marker);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        masked.push_str(marker);
        masked.push_str(if rest.len() < part.len() { "N" } else { "" });
        masked.push_str(rest);
    }
    masked
}

#[test]
fn scripts_are_read_and_written_alike() {
    let text = "$ put 'a b' 1\nOK\n\n# differs: for a reason\n$ txn\n< mod(\"a\") > \"0\"\n<\n! Error: no\n[exit 1]\n";
    let steps = parse(text);
    assert_eq!(steps.len(), 2);
    assert_eq!(words(&steps[0].command), ["put", "a b", "1"]);
    assert_eq!(words("get ''"), ["get", ""]);
    assert!(steps[1].differs && !steps[0].differs);
    assert_eq!(steps[1].input, "mod(\"a\") > \"0\"\n\n");
    let outputs: Vec<String> = steps.iter().map(|step| step.expected.clone()).collect();
    assert_eq!(render(&steps, &outputs), text);
    let leases = [Lease { hex: "00ff".into(), decimal: "255".into() }];
    assert_eq!(
        normalise("lease 00ff remaining(58s) \"member_id\":77,", &leases),
        "lease {lease1} remaining(Ns) \"member_id\":N,"
    );
}
