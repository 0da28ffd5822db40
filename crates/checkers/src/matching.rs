//! Pairs as many on the left as possible with somebody on the right, each at most once (augmenting paths).

use std::collections::BTreeSet;

/// Partners of the left ones so far.
#[derive(Clone, Debug)]
pub(crate) struct Matching {
    of_left: Vec<Option<usize>>,
    of_right: Vec<Option<usize>>,
}

impl Matching {
    pub(crate) fn new(left: usize, right: usize) -> Self {
        Self { of_left: vec![None; left], of_right: vec![None; right] }
    }

    /// Finds a partner for everybody on the left for whom there can be one; `edges` names who suits whom. Pairs of earlier
    /// calls are kept or exchanged, never left alone.
    pub(crate) fn grow(&mut self, edges: &[Vec<usize>]) {
        for left in 0..self.of_left.len() {
            if self.of_left[left].is_none() {
                self.augment(left, edges, &mut BTreeSet::new());
            }
        }
    }

    pub(crate) fn partner(&self, left: usize) -> Option<usize> {
        self.of_left[left]
    }

    pub(crate) fn partner_of_right(&self, right: usize) -> Option<usize> {
        self.of_right[right]
    }

    fn augment(&mut self, left: usize, edges: &[Vec<usize>], tried: &mut BTreeSet<usize>) -> bool {
        for &right in &edges[left] {
            if !tried.insert(right) {
                continue;
            }
            let free = match self.of_right[right] {
                None => true,
                Some(holder) => self.augment(holder, edges, tried),
            };
            if free {
                self.of_right[right] = Some(left);
                self.of_left[left] = Some(right);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Matching;

    #[test]
    fn partners_are_exchanged_until_everybody_has_one() {
        let edges = [vec![0, 1], vec![0], vec![1, 2]];
        let mut matching = Matching::new(3, 3);
        matching.grow(&edges);
        assert_eq!([0, 1, 2].map(|left| matching.partner(left)), [Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn who_has_no_partner_stays_alone() {
        let mut matching = Matching::new(2, 1);
        matching.grow(&[vec![0], vec![0]]);
        assert_eq!(matching.partner(0), Some(0));
        assert_eq!(matching.partner(1), None);
        assert_eq!(matching.partner_of_right(0), Some(0));
    }
}
