//! Keys that operations join, and the operations on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::{Operation, Outcome, Request};
use crate::txn::{Keys, Step, Txn};

/// Operations that share keys, directly or over others.
pub(super) struct Group<'a> {
    pub(super) operations: Vec<(&'a Operation, &'a Txn)>,
    pub(super) has_leases: bool,
}

/// What an operation reads or writes.
fn keys_of(txn: &Txn) -> impl Iterator<Item = Keys> {
    let conditions = txn.conditions.iter().map(|condition| Keys::One(condition.key.clone()));
    conditions.chain(txn.steps().map(|step| match step {
        Step::Get(keys) | Step::Delete(keys) => keys.clone(),
        Step::Put { key, .. } => Keys::One(key.clone()),
    }))
}

/// Linearizable operations that may have taken place, in groups.
pub(super) fn groups(operations: &[Operation]) -> Vec<Group<'_>> {
    let asked: Vec<(&Operation, &Txn)> = operations
        .iter()
        .filter(|operation| !matches!(operation.outcome, Outcome::Failed { .. }))
        .filter_map(|operation| match &operation.request {
            Request::Txn(txn) => Some((operation, txn)),
            _ => None,
        })
        .collect();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for keys in asked.iter().flat_map(|(_, txn)| keys_of(txn)) {
        // Several keys stand for their first where none of them is named.
        names.insert(keys.start().to_owned());
    }
    let names: Vec<String> = names.into_iter().collect();
    let mut joined = Joined((0..names.len()).collect());
    let firsts: Vec<Option<usize>> = asked
        .iter()
        .map(|(_, txn)| {
            let mut touched =
                (0..names.len()).filter(|name| keys_of(txn).any(|keys| names_it(&keys, &names[*name])));
            let first = touched.next()?;
            touched.for_each(|other| joined.join(first, other));
            Some(first)
        })
        .collect();
    let mut groups: BTreeMap<usize, Group<'_>> = BTreeMap::new();
    for ((operation, txn), first) in asked.into_iter().zip(firsts) {
        let Some(first) = first else { continue };
        let group = groups
            .entry(joined.root(first))
            .or_insert_with(|| Group { operations: Vec::new(), has_leases: false });
        group.has_leases |= txn.steps().any(|step| matches!(step, Step::Put { lease, .. } if *lease != 0));
        group.operations.push((operation, txn));
    }
    groups.into_values().collect()
}

fn names_it(keys: &Keys, name: &str) -> bool {
    keys.has(name) || keys.start() == name
}

/// Union-find.
struct Joined(Vec<usize>);

impl Joined {
    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }
}
