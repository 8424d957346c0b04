//! A batch of commits, prepared, and its chains: the commits of one instance, each decided on what the one before leaves.
//!
//! A backend that saves many commits with one statement saves chains, each whole or not at all. What was not saved so is
//! then saved one by one, which says for each commit what became of it. Knows commits and no backend.

use std::collections::{HashMap, HashSet};

use kernel::commit::Commit;

use crate::Outcome;
use crate::record::{Prepared, Records};

/// Commits in their order, each prepared, or with why no backend can save it.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub commits: &'a [Commit],
    pub prepared: Vec<Result<Prepared<'a>, String>>,
}

/// Commits of one instance, by their places in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub places: Vec<usize>,
    /// Whether all of it may be saved at once: each revision follows from the one before, every part can be stored, and
    /// no receipt comes twice in the batch.
    pub is_sound: bool,
}

impl<'a> Batch<'a> {
    pub fn new(records: &Records, commits: &'a [Commit]) -> Self {
        let prepared = commits.iter().map(|commit| records.prepare(commit)).collect();
        Self { commits, prepared }
    }

    /// In the order of their first commits.
    pub fn chains(&self) -> Vec<Chain> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut found = HashMap::new();
        let mut receipts = HashSet::new();
        for (place, commit) in self.commits.iter().enumerate() {
            let index = *found.entry((&commit.tenant, &commit.instance)).or_insert(chains.len());
            if index == chains.len() {
                chains.push(Chain { places: Vec::new(), is_sound: true });
            }
            let chain = &mut chains[index];
            let last = chain.places.last().map(|last| self.commits[*last].entry.revision);
            let follows = last.is_none_or(|last| last == commit.expected);
            // In this order: a receipt is seen whatever else is wrong.
            let is_first = receipts.insert(commit.entry.receipt);
            chain.is_sound &= is_first && follows && self.prepared[place].is_ok();
            chain.places.push(place);
        }
        chains
    }

    /// Saves the commits at these places, which are in order, each by itself, and puts what became of them into
    /// `outcomes`. `save` is told whether an earlier one of them on the same instance was not saved: what was decided
    /// on that stands on nothing, and is a repeat or stale.
    pub fn one_by_one<E>(
        &self,
        places: impl IntoIterator<Item = usize>,
        outcomes: &mut [Option<Outcome>],
        mut save: impl FnMut(&Prepared<'a>, bool) -> Result<Outcome, E>,
    ) -> Result<(), E> {
        let mut passed_over = HashSet::new();
        for place in places {
            let commit = &self.commits[place];
            let instance = (&commit.tenant, &commit.instance);
            let outcome = match &self.prepared[place] {
                Ok(prepared) => save(prepared, passed_over.contains(&instance))?,
                Err(problem) => Outcome::TooLarge(problem.clone()),
            };
            if outcome != Outcome::Committed {
                passed_over.insert(instance);
            }
            outcomes[place] = Some(outcome);
        }
        Ok(())
    }

    /// `one_by_one` for the whole batch.
    pub fn all_one_by_one<E>(
        &self,
        save: impl FnMut(&Prepared<'a>, bool) -> Result<Outcome, E>,
    ) -> Result<Vec<Outcome>, E> {
        let mut outcomes = vec![None; self.commits.len()];
        self.one_by_one(0..self.commits.len(), &mut outcomes, save)?;
        Ok(outcomes.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Draft;

    /// Chains as `places`, with `!` behind what is not sound.
    fn check(commits: &[Commit], expected: &[&str]) {
        let chains = Batch::new(&Records::default(), commits).chains();
        let shown = chains.iter().map(|chain| {
            let mark = if chain.is_sound { "" } else { "!" };
            format!("{:?}{mark}", chain.places)
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_chain_has_the_commits_of_one_instance() {
        let (a, b) = (Draft::creation("a"), Draft::creation("b"));
        let next = Draft::change(&a.snapshot());
        let refused = Draft::refusal(&next.snapshot());
        check(&[], &[]);
        check(&[a.build(), b.build(), next.build(), refused.build()], &["[0, 2, 3]", "[1]"]);
    }

    #[test]
    fn what_cannot_be_saved_at_once_is_not_sound() {
        let a = Draft::creation("a");
        let next = Draft::change(&a.snapshot());
        // A revision that does not follow.
        check(&[a.clone().build(), a.clone().key("other").build()], &["[0, 1]!"]);
        // A receipt that comes twice, within an instance and elsewhere.
        check(&[a.clone().key("k").build(), next.key("k").build()], &["[0, 1]!"]);
        let elsewhere = Draft::creation("b").key("k");
        check(&[a.key("k").build(), elsewhere.build()], &["[0]", "[1]!"]);
    }

    #[test]
    fn what_no_backend_can_save_makes_its_chain_unsound() {
        let commits = [Draft::creation("a").build()];
        let batch = Batch::new(&Records { bytes_max: 10, ..Records::default() }, &commits);
        assert!(!batch.chains()[0].is_sound);
        let outcomes = batch.all_one_by_one(|_, _| Err("nothing is asked of the backend"));
        let [Outcome::TooLarge(problem)] = &outcomes.unwrap()[..] else { panic!("it is too large") };
        assert!(problem.ends_with("bytes; 10 are allowed"), "{problem}");
    }
}
