//! The `duet` command: reads the command line, carries it out, says in two lines what went wrong.

use std::process::ExitCode;

use duet::cli::{Parsed, parse};
use duet::terminal::{Paint, print};

/// Requests are allocated on one thread and freed on another, a million times a second: costs the system's allocator twice
/// as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match parse(std::env::args_os()) {
        Ok(Parsed::Print(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Run(cli)) => duet::run::run(*cli),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", failure.render(Paint::stderr()));
            failure.exit.into()
        }
    }
}
