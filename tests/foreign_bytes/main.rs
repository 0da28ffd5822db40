//! Every parser that meets bytes from outside, fed with bytes that are nearly right.
//!
//! What must hold of a parser stands beside it, in the `fuzzing` module of its crate: no panic, one form for what it takes,
//! nothing taken with a wrong checksum. The same functions are the targets of the coverage-guided fuzzing in `fuzz/`.
//! Here they get the same few thousand mutations of valid samples in every run, and two more things are checked: that what
//! has a checksum is never taken once it was changed, and that no length is believed before the bytes are there.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

mod client_port;
mod http;
mod memory;
mod mutate;

use mutate::Mutator;

/// Mutations for a parser of bytes.
const MANY: u32 = 30_000;

/// Mutations where each opens files.
const SOME: u32 = 1_500;

/// Shows the bytes that made a parser panic.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with these {} bytes: {:02x?}", self.0.len(), self.0);
        }
    }
}

/// Feeds a parser with `rounds` mutations; calls `taken` with those it took.
fn feed(samples: &[Vec<u8>], rounds: u32, parse: impl Fn(&[u8]) -> bool, mut taken: impl FnMut(&[u8])) {
    let before = memory::peak();
    let mut mutator = Mutator::new(samples.to_vec(), 1);
    for _ in 0..rounds {
        let bytes = mutator.next();
        let shown = Shown(&bytes);
        if parse(&bytes) {
            taken(&bytes);
        }
        drop(shown);
    }
    memory::assert_bounded(before);
}

/// A parser takes its samples, and of what is changed only what is sound.
fn sound(samples: &[Vec<u8>], parse: fn(&[u8]) -> bool) {
    for sample in samples {
        assert!(parse(sample), "a sample is taken: {sample:02x?}");
    }
    feed(samples, MANY, parse, |_| {});
}

/// As [`sound`], and nothing that was changed is taken.
fn sealed(samples: &[Vec<u8>], parse: fn(&[u8]) -> bool) {
    for sample in samples {
        assert!(parse(sample), "a sample is taken: {sample:02x?}");
    }
    feed(samples, MANY, parse, |bytes| {
        let _shown = Shown(bytes);
        assert!(samples.iter().any(|sample| sample == bytes), "taken, although it was changed");
    });
}

/// Whatever happens, nothing panics.
fn harmless(samples: &[Vec<u8>], rounds: u32, parse: fn(&[u8])) {
    for sample in samples {
        parse(sample);
    }
    let parse = |bytes: &[u8]| {
        parse(bytes);
        false
    };
    feed(samples, rounds, parse, |_| {});
}

mod disk {
    use duet_storage::fuzzing as door;

    /// Edits of files have no samples; any bytes are some.
    fn edits() -> Vec<Vec<u8>> {
        vec![vec![0; 11], (0..41).collect(), (100..=200).collect()]
    }

    #[test]
    fn log_records() {
        super::sealed(&door::log_record_samples(), door::log_record);
    }

    #[test]
    fn segment_headers() {
        super::sealed(&door::segment_header_samples(), door::segment_header);
    }

    #[test]
    fn whole_logs() {
        super::harmless(&edits(), super::SOME, door::log_files);
    }

    #[test]
    fn own_states() {
        super::sealed(&door::own_state_samples(), door::own_state);
    }

    #[test]
    fn applied_positions() {
        super::sound(&[vec![7; 32]], door::applied_position);
    }

    #[test]
    fn state_stores() {
        super::harmless(&edits(), super::SOME, door::state_store_file);
    }
}

mod data_model {
    use duet_mvcc::fuzzing as door;

    #[test]
    fn commands() {
        super::sound(&door::command_samples(), door::command);
    }

    #[test]
    fn histories() {
        super::harmless(&door::history_samples(), super::MANY, door::history);
    }

    #[test]
    fn checkpoints() {
        super::harmless(&door::checkpoint_samples(), super::MANY, door::checkpoint);
    }
}

mod peer {
    use duet_server::fuzzing as door;

    #[test]
    fn frames() {
        let samples = door::frame_samples();
        for sample in &samples {
            assert!(door::frame(sample));
        }
        // Frames in another order are frames; each of them must be one of the samples, or an empty one.
        let empty = vec![0; 8];
        super::feed(&samples, super::MANY, door::frame, |mut bytes| {
            while !bytes.is_empty() {
                let known = samples.iter().chain([&empty]).find(|known| bytes.starts_with(known));
                bytes = &bytes[known.expect("taken, although it was changed").len()..];
            }
        });
    }

    #[test]
    fn hellos() {
        super::sound(&door::hello_samples(), door::hello);
    }

    #[test]
    fn messages() {
        super::sound(&door::message_samples(), door::message);
    }

    #[test]
    fn copies() {
        super::sound(&door::copy_samples(), door::copy);
    }
}

mod witness {
    use duet_witness::fuzzing as door;

    #[test]
    fn stored_records() {
        super::sealed(&door::stored_samples(), door::stored);
    }

    #[test]
    fn records() {
        super::sound(&door::record_samples(), door::record);
    }

    #[test]
    fn conditions_of_writes() {
        super::sound(&door::condition_samples(), door::condition);
    }

    #[test]
    fn urls() {
        super::sound(&door::url_samples(), door::url);
    }
}

mod json {
    use duet_etcd_api::json::{Scanner, from_json, to_json};
    use duet_etcd_api::schema::Schema;

    /// The JSON form of a transaction, or of a request of a watch; what is taken has one form.
    fn request(bytes: &[u8]) -> bool {
        let schema = Schema::api();
        let one = |path: &str| {
            let Some(method) = schema.method(path) else { panic!("{path} is a method") };
            let Ok(message) = from_json(schema, method.input, bytes) else { return false };
            let mut text = String::new();
            to_json(schema, method.input, &message, &mut text).expect("what was read can be written");
            let again = from_json(schema, method.input, text.as_bytes()).expect("and read again");
            let mut same = String::new();
            to_json(schema, method.input, &again, &mut same).expect("and written again");
            assert!(text == same, "a message has one form: {text} and {same}");
            true
        };
        let is_json = Scanner::check(bytes).is_ok();
        // Bytes that are no JSON never come to the second stage, and must do it no harm either.
        let taken = [one("/etcdserverpb.KV/Txn"), one("/etcdserverpb.Watch/Watch")];
        is_json && taken.contains(&true)
    }

    #[test]
    fn requests() {
        let samples = [
            r#"{"compare":[{"target":"VERSION","key":"aw==","version":"0","result":"GREATER"}],
               "success":[{"request_range":{"key":"aw==","rangeEnd":"AA==","limit":5,"sort_order":2}},
               {"requestPut":{"key":[107,200],"value":"dg==","lease":"-1"}},{"requestTxn":{"failure":[null,{}]}}]}"#,
            r#"{"create_request":{"key":"a2V5","start_revision":"-9","filters":["NOPUT",1],"prev_kv":true}}"#,
            " null ",
        ];
        super::sound(&samples.map(|text| text.as_bytes().to_vec()), request);
    }

    /// Bytes as a service might answer them.
    fn answer(bytes: &[u8]) -> bool {
        let schema = Schema::api();
        let mut taken = false;
        for path in ["/etcdserverpb.KV/Txn", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Cluster/MemberList"]
        {
            let Some(method) = schema.method(path) else { panic!("{path} is a method") };
            let mut text = String::new();
            if to_json(schema, method.output, bytes, &mut text).is_ok() {
                assert!(Scanner::check(text.as_bytes()).is_ok(), "what is written is JSON: {text}");
                taken = true;
            }
        }
        taken
    }

    #[test]
    fn answers() {
        let nested = [0x0a, 4, 0x08, 0xff, 0xff, 0x01, 0x10, 1, 0x1a, 6, 0x0a, 4, 0x12, 2, 0x10, 1];
        super::sound(&[nested.to_vec(), vec![0x12, 5, 0x0a, 0, 0x1a, 1, b'<'], Vec::new()], answer);
    }
}

mod people_and_clients {
    use duet_server::fuzzing as door;

    #[test]
    fn configurations() {
        super::sound(&door::config_samples(), door::config);
    }

    #[test]
    fn streams() {
        super::harmless(&door::authority_samples(), super::MANY, door::client_stream);
    }

    #[test]
    fn requests() {
        let samples = door::request_samples();
        let taken = samples.iter().filter(|sample| door::request(sample)).count();
        assert_eq!(taken, samples.len() - 1, "all but the range become commands");
        super::feed(&samples, super::MANY, door::request, |_| {});
    }
}
