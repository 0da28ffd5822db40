//! Linearizability from values alone: is there any order of the operations that agrees with real time and explains every
//! answer? Searched as by Wing and Gong, with Lowe's memory of what was tried. Exponential at worst: for small histories.
//!
//! Keys that no operation joins are judged apart. Revisions are not believed: a condition on one may hold or not, as its
//! answer says. Groups with leases are left out, for their keys vanish without an operation.

mod group;
mod search;

use crate::operation::Operation;
use crate::violation::Violation;

/// What came of it, if nothing is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Groups of keys for which an order was found.
    pub orders: usize,
    /// Groups for which the search was given up.
    pub given_up: usize,
    /// Groups that were not judged because of leases.
    pub left_out: usize,
}

/// Searches an order for each group of keys, with at most `budget` steps each.
///
/// # Errors
///
/// There is no such order.
pub fn check(operations: &[Operation], budget: usize) -> Result<Found, Violation> {
    let mut found = Found::default();
    for group in group::groups(operations) {
        if group.has_leases {
            found.left_out += 1;
            continue;
        }
        match search::order(&group.operations, budget) {
            Ok(true) => found.orders += 1,
            Ok(false) => found.given_up += 1,
            Err(sentence) => return Err(Violation::new("linearizable", sentence)),
        }
    }
    Ok(found)
}
