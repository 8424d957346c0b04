//! Which of several transitions for one trigger is which of those in the other definition.
//!
//! Transitions have no names. Those that are equal belong together, then those that have most in common, then those that
//! stand in the same order.

use std::collections::{HashMap, VecDeque};

use crate::definition::diff::items::Item;

/// More are not compared each with each.
const COMPARED_MAX: usize = 10_000;

/// Pairs of places in `before` and `after`, of items that have one key.
pub(super) fn pairs(before: &[Item], were: &[usize], after: &[Item], are: &[usize]) -> Vec<(usize, usize)> {
    if let ([was], [is]) = (were, are) {
        return vec![(*was, *is)];
    }
    let (mut paired, were, mut are) = equal(before, were, after, are);
    let few = were.len().saturating_mul(are.len()) <= COMPARED_MAX;
    for was in were {
        let score = |is: &usize| before[was].in_common(&after[*is]);
        let best = match few {
            // Of several that are as much alike, the first.
            true => (0..are.len()).rev().max_by_key(|at| score(&are[*at])),
            false => (!are.is_empty()).then_some(0),
        };
        paired.extend(best.and_then(|best| are.remove(best)).map(|is| (was, is)));
    }
    paired.sort_unstable();
    paired
}

/// Those that are equal, and what is left over on both sides.
fn equal(
    before: &[Item],
    were: &[usize],
    after: &[Item],
    are: &[usize],
) -> (Vec<(usize, usize)>, Vec<usize>, VecDeque<usize>) {
    let mut known: HashMap<String, VecDeque<usize>> = HashMap::new();
    for is in are {
        known.entry(after[*is].fingerprint()).or_default().push_back(*is);
    }
    let (mut paired, mut left) = (Vec::new(), Vec::new());
    for was in were {
        match known.get_mut(&before[*was].fingerprint()).and_then(VecDeque::pop_front) {
            Some(is) => paired.push((*was, is)),
            None => left.push(*was),
        }
    }
    let mut unknown: Vec<usize> = known.into_values().flatten().collect();
    unknown.sort_unstable();
    (paired, left, unknown.into())
}

/// Whether any two of the pairs stand the other way round afterwards. Those of different delays come at different times,
/// whatever their order.
pub(super) fn is_reordered(after: &[Item], paired: &[(usize, usize)]) -> bool {
    let mut last: HashMap<String, usize> = HashMap::new();
    paired.iter().any(|(_, is)| {
        let before = last.insert(after[*is].delay(), *is);
        before.is_some_and(|before| before > *is)
    })
}
