//! `duet witness add`, `rotate`, `end-old`, `remove`, `list`, `backup`, `restore`: orders to the witness of a data directory,
//! whether its server runs or not.

use std::fmt::Write as _;

use duet_witness::server::{AdminError, Administrator, Contents, Order, PairSeen, restore};
use duet_witness::{ClusterName, Token};

use super::failure;
use crate::cli::{BackupArgs, ListArgs, PairArgs, RestoreArgs, WitnessCommand};
use crate::error::{Exit, Failure, without_numbers};
use crate::terminal::print;

/// Carries out an order.
pub async fn run(command: &WitnessCommand) -> Result<Exit, Failure> {
    match command {
        WitnessCommand::Add(args) => {
            let token = order(args, Order::Add).await?;
            hand_out(token, "on both appliances: witness_token_file = a file with it that only Duet reads");
        }
        WitnessCommand::Rotate(args) if args.now => {
            let token = order(&args.pair, Order::Replace).await?;
            hand_out(token, "all older tokens are refused from now on: change both appliances' files");
        }
        WitnessCommand::Rotate(args) => {
            let token = order(&args.pair, Order::Rotate).await?;
            let then =
                format!("change both appliances' files, then: duet witness end-old {}", args.pair.name);
            hand_out(token, &then);
        }
        WitnessCommand::EndOld(args) => {
            order(args, Order::EndOld).await?;
            print(&format!("The pair {} has its newest token only.\n", args.name));
        }
        WitnessCommand::Remove(args) => {
            order(args, Order::Remove).await?;
            print(&format!("The pair {} is not registered any more, and its record is gone.\n", args.name));
        }
        WitnessCommand::List(args) => list(args).await?,
        WitnessCommand::Backup(args) => back_up(args).await?,
        WitnessCommand::Restore(args) => make_again(args)?,
        WitnessCommand::Check(args) => return super::check::run(args).await,
        WitnessCommand::Status(args) => return super::status::run(args).await,
    }
    Ok(Exit::Done)
}

async fn order(args: &PairArgs, order: Order) -> Result<Option<Token>, Failure> {
    let name: ClusterName = args
        .name
        .parse()
        .map_err(|error| Failure::usage(format!("{}: {error}", args.name), "give the pair's cluster name"))?;
    let administrator = Administrator::of(&args.at.data).await.map_err(|error| refused(&error))?;
    administrator.order(order, &name).await.map_err(|error| refused(&error))
}

/// The token alone goes to standard output, so that it can be sent into a file.
fn hand_out(token: Option<Token>, then: &str) {
    if let Some(token) = token {
        print(&format!("{}\n", token.reveal()));
        eprintln!("{then}");
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let administrator = Administrator::of(&args.at.data).await.map_err(|error| refused(&error))?;
    let pairs = administrator.list().await.map_err(|error| refused(&error))?;
    print(&if args.json {
        serde_json::to_string_pretty(&pairs).unwrap_or_default() + "\n"
    } else {
        table(&pairs, administrator.is_online())
    });
    Ok(())
}

fn table(pairs: &[PairSeen], running: bool) -> String {
    let width = pairs.iter().map(|pair| pair.name.len()).max().unwrap_or(0).max("pair".len());
    let ago = |seconds: Option<u32>| match seconds {
        Some(seconds) => format!("{seconds} s ago"),
        None if running => "not since the start".to_owned(),
        None => "-".to_owned(),
    };
    let mut text =
        format!("{:width$}  {:12}  {:6}  {:20}  last write\n", "pair", "tokens", "record", "last request");
    for pair in pairs {
        let tokens = match pair.tokens {
            0 => "unregistered",
            1 => "1",
            _ => "2 (one old)",
        };
        let record = if pair.record { "yes" } else { "no" };
        let (asked, written) = (ago(pair.last_request_seconds), ago(pair.last_write_seconds));
        let _ = writeln!(text, "{:width$}  {tokens:12}  {record:6}  {asked:20}  {written}", pair.name);
    }
    text
}

async fn back_up(args: &BackupArgs) -> Result<(), Failure> {
    let administrator = Administrator::of(&args.at.data).await.map_err(|error| refused(&error))?;
    let Contents { pairs, records } =
        administrator.back_up(&args.file).await.map_err(|error| refused(&error))?;
    print(&format!("{}: {pairs} pairs, {records} records\n", args.file.display()));
    Ok(())
}

fn make_again(args: &RestoreArgs) -> Result<(), Failure> {
    let restored = restore(&args.file, &args.at.data, args.with_records);
    let Contents { pairs, records } = restored.map_err(|error| match error {
        duet_witness::server::BackupError::Serve(error) => failure(&error),
        other => Failure::new(
            format!("{}: {}", args.file.display(), without_numbers(&other.to_string())),
            "use another backup; nothing was made",
        ),
    })?;
    let then = if args.with_records {
        "Start it, and never the old witness again.\n"
    } else {
        "Start it; each pair refills its record by itself as soon as both of its appliances are there.\n"
    };
    print(&format!("{}: {pairs} pairs, {records} records. {then}", args.at.data.display()));
    Ok(())
}

fn refused(error: &AdminError) -> Failure {
    let remedy = match error {
        AdminError::Serve(error) => return failure(error),
        AdminError::Order(_) => "see: duet witness list",
        AdminError::NoWitness(_) => "give the --data DIR of `duet witness`",
        AdminError::Broken { .. } => "look at its log, then at: duet witness list",
        AdminError::Write { .. } => "give another FILE, or make room",
        AdminError::Backup(_) => "try again; nothing was kept",
    };
    Failure::new(without_numbers(&error.to_string()), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_listed_in_columns() {
        let seen = |name: &str, tokens, record, last| PairSeen {
            name: name.into(),
            tokens,
            record,
            last_request_seconds: last,
            last_write_seconds: None,
        };
        let pairs = [seen("berlin", 2, true, Some(7)), seen("x", 0, true, None)];
        let expected = "\
pair    tokens        record  last request          last write
berlin  2 (one old)   yes     7 s ago               not since the start
x       unregistered  yes     not since the start   not since the start
";
        assert_eq!(table(&pairs, true), expected);
        assert!(table(&pairs, false).contains("x       unregistered  yes     -                     -\n"));
    }
}
