//! What the checkers say of what was seen.

use duet_checkers::{History, Keys, Operation, Outcome, Request, Txn, check, linearizability};

use crate::workload::REGISTERS;

/// Steps of the search for an order, for each register.
const BUDGET: usize = 300_000;
/// Fewer acknowledged operations than this prove nothing.
const LEAST: usize = 300;

/// Every promise was kept, and there was enough to be judged.
pub fn judge(history: &History) {
    let operations = &history.operations;
    let count =
        |is: fn(&Outcome) -> bool| operations.iter().filter(|operation| is(&operation.outcome)).count();
    let acknowledged = count(|outcome| matches!(outcome, Outcome::Acknowledged { .. }));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    let events: usize = history.watches.iter().map(|watch| watch.events.len()).sum();
    println!(
        "{acknowledged} operations acknowledged, {unknown} unknown, {} failed; {} changes; {} watches were \
         shown {events} events; {} reports",
        operations.len() - acknowledged - unknown,
        history.changes.len(),
        history.watches.len(),
        history.reports.len(),
    );
    let violations: Vec<String> = check(history).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "broken promises:\n{}", violations.join("\n"));
    let registers: Vec<Operation> =
        operations.iter().filter(|operation| is_about_a_register(operation)).cloned().collect();
    match linearizability::check(&registers, BUDGET) {
        Ok(found) => println!("an order by values alone: {found:?}"),
        Err(violation) => panic!("broken promise: {violation}"),
    }
    assert!(acknowledged > LEAST, "so few operations prove nothing: {acknowledged}");
    assert!(events > 0 && !history.reports.is_empty());
}

fn is_about_a_register(operation: &Operation) -> bool {
    let Request::Txn(Txn { then, .. }) = &operation.request else { return false };
    let [step] = &then[..] else { return false };
    match step {
        duet_checkers::Step::Get(Keys::One(key)) | duet_checkers::Step::Delete(Keys::One(key)) => {
            key.starts_with(REGISTERS)
        }
        duet_checkers::Step::Put { key, .. } => key.starts_with(REGISTERS),
        _ => false,
    }
}
