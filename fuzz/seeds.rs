//! Writes valid samples into the corpus of each target that has some: `seeds CORPUS_DIRECTORY`.

use std::path::Path;

use duet_mvcc::fuzzing as mvcc;
use duet_server::fuzzing as server;
use duet_storage::fuzzing as storage;
use duet_witness::fuzzing as witness;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).expect("the corpus directory");
    let all = [
        ("log_record", storage::log_record_samples()),
        ("segment_header", storage::segment_header_samples()),
        ("own_state", storage::own_state_samples()),
        ("command", mvcc::command_samples()),
        ("history", mvcc::history_samples()),
        ("checkpoint", mvcc::checkpoint_samples()),
        ("frame", server::frame_samples()),
        ("hello", server::hello_samples()),
        ("message", server::message_samples()),
        ("copy", server::copy_samples()),
        ("config", server::config_samples()),
        ("client_stream", server::authority_samples()),
        ("request", server::request_samples()),
        ("stored", witness::stored_samples()),
        ("record", witness::record_samples()),
        ("condition", witness::condition_samples()),
        ("url", witness::url_samples()),
    ];
    for (target, samples) in all {
        let corpus = Path::new(&directory).join(target);
        std::fs::create_dir_all(&corpus)?;
        for (index, sample) in samples.iter().enumerate() {
            std::fs::write(corpus.join(format!("sample-{index}")), sample)?;
        }
    }
    Ok(())
}
