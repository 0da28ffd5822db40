//! Golden texts of `duet status`: what people see in the states that matter.

use duet_server::StatusReport;
use serde_json::{Value, json};

use super::{PairView, Record, Seen, render};
use crate::error::Exit;
use crate::terminal::Paint;

fn report(changes: &Value) -> StatusReport {
    let mut base = json!({
        "cluster": { "name": "demo", "id": "00f3a1b2c3d4e5f6" },
        "appliance": "A", "role": "primary", "since_ms": 1000, "serving": true,
        "lsn": 104, "epoch": 3, "digest": "00", "flushed": 104, "committed": 104, "applied": 104, "revision": 105,
        "conf": { "epoch": 3, "primary": "A", "in_sync": ["A", "B"] },
        "tent": null, "pending": null, "max_epoch": 3, "parted": false,
        "peer": {
            "connected": true, "lsn": 104, "epoch": 3, "lag": 0, "matched": 104, "heard_ms_ago": 5, "leaving": false,
            "copying": false, "client_url": "http://127.0.0.1:3379", "error": null
        },
        "witness": {
            "kind": "server", "location": "http://127.0.0.1:7900", "reachable": true, "error": null, "read_ms_ago": 300,
            "record": {
                "cluster": "00f3a1b2c3d4e5f6", "revision": 7, "writer": "A",
                "conf": { "epoch": 3, "primary": "A", "in_sync": ["A", "B"] },
                "part": null, "floor": { "A": 100, "B": 100 }, "left": { "A": null, "B": null }
            }
        },
        "waiting": null, "explanation": null, "leaving": false, "damaged": false, "version": "0.1.0",
        "data_dir": "/var/lib/duet", "disk": "00", "client_url": "http://127.0.0.1:2379"
    });
    merge(&mut base, changes);
    serde_json::from_value(base).unwrap()
}

fn merge(base: &mut Value, changes: &Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change.clone(),
    }
}

fn up(changes: &Value) -> Seen {
    Seen::Up(Box::new(report(changes)))
}

fn down(url: &str) -> Seen {
    Seen::Down { appliance: None, url: Some(url.into()), reason: "nothing listens there".into() }
}

fn secondary(changes: &Value) -> Seen {
    let mut base = json!({
        "appliance": "B", "role": "secondary", "serving": false, "client_url": "http://127.0.0.1:3379",
        "peer": { "client_url": "http://127.0.0.1:2379" }
    });
    merge(&mut base, changes);
    up(&base)
}

/// As if the witness had been read from here, with the same content.
fn check(view: &PairView, golden: &str) {
    let mut view = view.clone();
    view.record = view.speaker().and_then(Record::of).map(Ok);
    let text = render(&view, Paint::plain());
    let trimmed: String = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    assert_eq!(trimmed, golden, "\n{text}");
}

#[test]
fn a_healthy_pair() {
    // The order in which they were asked does not matter.
    let view = PairView::of(secondary(&json!({})), up(&json!({})));
    assert_eq!(super::verdict(&view), Exit::Done);
    check(
        &view,
        "\
Pair demo: A is primary, both are in sync.

  A  primary    LSN X 104 (epoch 3)     takes writes     http://127.0.0.1:2379
  B  secondary  LSN Y 104 (epoch 3)     follows, lag 0   http://127.0.0.1:3379

  agreed    epoch 3, primary A, in sync A and B
  witness   server http://127.0.0.1:7900, answers
            epoch 3, primary A, in sync A and B; no LSN left

  if A crashes          B takes over at once; no acknowledged write is lost
  if B crashes          A goes on alone
  if the witness fails  both go on; only a crash on top of it would stop writes
",
    );
}

#[test]
fn one_alone_and_the_other_down() {
    let solo = json!({ "epoch": 5, "primary": "A", "in_sync": ["A"] });
    let view = PairView::of(
        down("http://127.0.0.1:3379"),
        up(&json!({
            "lsn": 230, "epoch": 5, "conf": solo,
            "peer": { "connected": false, "lag": null, "error": "connection refused" },
            "witness": { "record": { "conf": solo, "left": { "B": { "lsn": 104, "epoch": 3, "was_primary": false } } } }
        })),
    );
    check(
        &view,
        "\
Pair demo: A is primary and alone, B does not answer.

  A  primary    LSN X 230 (epoch 5)     takes writes     http://127.0.0.1:2379
     no connection to its peer: connection refused
  B  down       http://127.0.0.1:3379: nothing listens there

  agreed    epoch 5, primary A, in sync A
  witness   server http://127.0.0.1:7900, answers
            epoch 5, primary A, in sync A; LSN Y 104 left by B

  if A crashes          writes stop until A is back: B does not have everything
  if the witness fails  A goes on
",
    );
}

#[test]
fn a_full_copy_says_how_far_it_is() {
    let line = |copy: Value| {
        let peer = json!({ "peer": { "copying": true, "copy": copy } });
        let text = render(&PairView::of(up(&peer), secondary(&json!({}))), Paint::plain());
        text.lines().find(|line| line.contains("full copy")).unwrap_or_default().trim().to_owned()
    };
    let begun = json!({ "bytes": 0, "of": 3_000, "bytes_per_second": 0, "seconds_left": null });
    assert_eq!(line(begun), "it sends its peer a full copy: 0 % of 2.9 KiB, 0 B/s");
    let later =
        json!({ "bytes": 1u64 << 30, "of": 5u64 << 29, "bytes_per_second": 90_000_000, "seconds_left": 18 });
    assert_eq!(line(later), "it sends its peer a full copy: 40 % of 2.5 GiB, 85.8 MiB/s, 18 s left");
    assert_eq!(line(Value::Null), "it sends its peer a full copy", "an older appliance does not say");
}

#[test]
fn one_that_waits_says_why() {
    let conf = json!({ "epoch": 4, "primary": "B", "in_sync": ["B"] });
    let view = PairView::of(
        up(&json!({
            "role": "starting", "serving": false, "conf": conf,
            "waiting": "B has newer data (LSN Y 120 at the witness, LSN X 104 here): waiting for B.",
            "peer": { "connected": false, "client_url": null },
            "witness": { "record": { "conf": conf, "part": { "lsn": 120, "epoch": 4, "digest": "00" } } }
        })),
        Seen::Down { appliance: None, url: None, reason: "its peer has not told it yet where it is".into() },
    );
    assert_eq!(super::verdict(&view), Exit::NoPrimary);
    check(
        &view,
        "\
Pair demo: no appliance takes writes now.

  A  starting   LSN X 104 (epoch 3)     waits            http://127.0.0.1:2379
     B has newer data (LSN Y 120 at the witness, LSN X 104 here): waiting for B.
  B  down       address unknown: its peer has not told it yet where it is

  agreed    epoch 4, primary B, in sync B
  witness   server http://127.0.0.1:7900, answers
            epoch 4, primary B, in sync B; LSN Y 120 left by B
",
    );
}

#[test]
fn a_silent_witness_changes_the_outlook() {
    let witness = json!({ "witness": { "reachable": false, "error": "the witness at 127.0.0.1:7900 cannot be reached" } });
    let view = PairView::of(up(&witness), secondary(&witness));
    let text = render(&view, Paint::plain());
    for line in [
        "does not answer: the witness at 127.0.0.1:7900 cannot be reached",
        "epoch 3, primary A, in sync A and B; no LSN left (A read it 0 s ago)",
        "if A crashes          B waits for A or for the witness; writes stop, nothing is lost",
        "if the witness fails  it does not answer now",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn nobody_answers() {
    let view = PairView::of(down("http://127.0.0.1:2379"), down("http://127.0.0.1:3379"));
    assert_eq!(super::verdict(&view), Exit::Unreachable);
    check(
        &view,
        "\
No appliance answers.

  ?  down       http://127.0.0.1:2379: nothing listens there
  ?  down       http://127.0.0.1:3379: nothing listens there
",
    );
}

#[test]
fn both_down_and_the_witness_known_from_the_configuration() {
    let mut view = PairView::of(down("http://127.0.0.1:2379"), down("http://127.0.0.1:3379"));
    view.record = Some(Ok(Record::of(&report(&json!({}))).unwrap()));
    let text = render(&view, Paint::plain());
    assert!(text.ends_with("\n\n  witness   epoch 3, primary A, in sync A and B; no LSN left\n"), "{text}");
    view.record = Some(Err("the witness at 127.0.0.1:7900 cannot be reached".into()));
    let text = render(&view, Paint::plain());
    assert!(text.ends_with("\n\n  witness   the witness at 127.0.0.1:7900 cannot be reached\n"), "{text}");
}

#[test]
fn the_form_for_machines() {
    let view = PairView::of(up(&json!({})), down("http://127.0.0.1:3379"));
    let document = serde_json::to_value(super::document(&view)).unwrap();
    assert_eq!(document["primary"], "A");
    assert_eq!(document["appliances"][0]["up"], true);
    assert_eq!(document["appliances"][0]["report"]["lsn"], 104);
    assert_eq!(document["appliances"][1]["up"], false);
    assert_eq!(document["appliances"][1]["appliance"], "B");
}
