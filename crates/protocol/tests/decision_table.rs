//! The decision table is total, no row is dead, and the page people read says the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use duet_protocol::decision::{Alone, Data, Move, PeerSeen, Situation, TABLE, WitnessSeen, decide};

fn every_situation() -> Vec<Situation> {
    let data = [Data::Sound, Data::Blank, Data::Damaged, Data::Diverged, Data::Installing];
    let peers = [
        PeerSeen::Silent,
        PeerSeen::Primary,
        PeerSeen::EqualAndMine,
        PeerSeen::Mine,
        PeerSeen::Theirs,
        PeerSeen::TheirsLate,
        PeerSeen::New,
    ];
    let witnesses = [
        WitnessSeen::Unasked,
        WitnessSeen::Silent,
        WitnessSeen::Absent,
        WitnessSeen::Foreign,
        WitnessSeen::Member,
        WitnessSeen::Equal,
        WitnessSeen::Behind,
        WitnessSeen::OtherHistory,
        WitnessSeen::PeerWentOn,
        WitnessSeen::Agreed,
        WitnessSeen::SetBack,
        WitnessSeen::Moving,
    ];
    let alones = [Alone::May, Alone::Parted, Alone::Agreed, Alone::No];
    let mut all = Vec::new();
    for data in data {
        for peer in peers {
            for promised in [false, true] {
                for witness in witnesses {
                    for alone in alones {
                        all.push(Situation { data, peer, promised, witness, alone });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn every_situation_has_a_row_and_every_row_a_situation() {
    let reached: BTreeSet<_> = every_situation().iter().map(|situation| decide(situation).name).collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(reached, rows);
    assert_eq!(rows.len(), TABLE.len(), "names are unique");
}

#[test]
fn nothing_is_claimed_that_the_rules_forbid() {
    for situation in every_situation() {
        let row = decide(&situation);
        let claims = !matches!(row.then, Move::Follow | Move::Wait);
        let context = format!("{situation:?} -> {}", row.name);
        if claims {
            assert_eq!(situation.data, Data::Sound, "unsound data never claims: {context}");
            assert!(!situation.promised, "a promise is kept: {context}");
            assert_ne!(situation.peer, PeerSeen::Primary, "a primary is followed: {context}");
        }
        match row.then {
            Move::BeginAlone => assert_eq!(situation.alone, Alone::May, "{context}"),
            Move::Take => assert!(
                matches!(situation.witness, WitnessSeen::Unasked | WitnessSeen::Member | WitnessSeen::Equal),
                "{context}"
            ),
            Move::ColdPair => assert_eq!(situation.peer, PeerSeen::EqualAndMine, "{context}"),
            Move::ColdSolo => assert_eq!(situation.peer, PeerSeen::Mine, "{context}"),
            Move::Follow => assert_eq!(situation.peer, PeerSeen::Primary, "{context}"),
            Move::Wait => {}
        }
        // Whoever alone has every acknowledged write is never kept waiting for ever by a silent world.
        let free = situation.data == Data::Sound && !situation.promised && situation.peer == PeerSeen::Silent;
        if free && situation.alone == Alone::May && situation.witness != WitnessSeen::Foreign {
            assert_ne!(row.then, Move::Wait, "{context}");
        }
    }
}

/// The table as docs/protocol.md shows it.
fn as_markdown() -> String {
    let mut text = String::from("| row | when | then | what `duet status` says |\n|---|---|---|---|\n");
    for row in TABLE {
        let then = match row.then {
            Move::Follow => "follow",
            Move::Wait => "wait",
            Move::Take => "ask the witness: TAKE",
            Move::BeginAlone => "begin alone",
            Move::ColdPair => "cold start, both in sync",
            Move::ColdSolo => "cold start, alone",
        };
        let _ = writeln!(text, "| {} | {} | {then} | {} |", row.name, row.condition, row.reason);
    }
    text
}

#[test]
fn the_documented_table_is_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- decision-table -->\n", "<!-- /decision-table -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    let wanted = as_markdown();
    if shown != wanted && std::env::var_os("DUET_UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, wanted, "run the test once with DUET_UPDATE_DOCS=1 to write the table into the page");
}
