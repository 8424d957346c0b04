//! Which of several transitions for one trigger is which of those in the other definition.
//!
//! Transitions have no names. Those that are equal belong together, then those that have most in common, then those that
//! stand in the same order.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use crate::definition::diff::items::Item;

/// More are not compared each with each.
const COMPARED_MAX: usize = 10_000;

/// Pairs of places in `before` and `after`, of items that have one key.
pub(super) fn pairs(before: &[Item], were: &[usize], after: &[Item], are: &[usize]) -> Vec<(usize, usize)> {
    if let ([was], [is]) = (were, are) {
        return vec![(*was, *is)];
    }
    let (mut paired, were, are) = equal(before, were, after, are);
    match were.len().saturating_mul(are.len()) <= COMPARED_MAX {
        true => paired.extend(most_alike(before, &were, after, &are)),
        false => paired.extend(were.into_iter().zip(are)),
    }
    paired.sort_unstable();
    paired
}

/// Those that have most in common first; of several that are as much alike, the first.
fn most_alike(before: &[Item], were: &[usize], after: &[Item], are: &[usize]) -> Vec<(usize, usize)> {
    let each = were.iter().flat_map(|was| are.iter().map(move |is| (*was, *is)));
    let mut ranked: Vec<(usize, usize)> = each.collect();
    ranked.sort_by_cached_key(|(was, is)| Reverse(before[*was].in_common(&after[*is])));
    let (mut gone, mut new) = (HashSet::new(), HashSet::new());
    ranked.retain(|(was, is)| {
        let free = !gone.contains(was) && !new.contains(is);
        if free {
            gone.insert(*was);
            new.insert(*is);
        }
        free
    });
    ranked
}

/// Those that are equal, and what is left over on both sides.
fn equal(
    before: &[Item],
    were: &[usize],
    after: &[Item],
    are: &[usize],
) -> (Vec<(usize, usize)>, Vec<usize>, Vec<usize>) {
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
    (paired, left, unknown)
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
