//! Words that are nearly another: what counts as misspelt, and finding all that a word may have been meant for.
//!
//! A slip that spoils both ends of a word is too much to guess at. So words are found by their first and their last
//! letter, which spares measuring most pairs.

use std::collections::HashMap;

/// Shorter words have too many neighbours.
const LETTERS_MIN: usize = 4;
/// From here on a word may have two slips.
const LONG_LETTERS: usize = 8;

/// Words with what each stands for, found by a misspelt one.
#[derive(Debug)]
pub(super) struct NearWords<T> {
    words: Vec<(Letters, T)>,
    by_first: HashMap<char, Vec<usize>>,
    by_last: HashMap<char, Vec<usize>>,
}

/// The letters of a word, and which there are, as far as five bits of each tell.
#[derive(Debug)]
struct Letters {
    all: Vec<char>,
    present: u32,
}

impl Letters {
    fn of(word: &str) -> Self {
        let all: Vec<char> = word.chars().collect();
        let present = all.iter().fold(0, |present, letter| present | 1 << (*letter as u32 % 32));
        Self { all, present }
    }
}

impl<T> Default for NearWords<T> {
    fn default() -> Self {
        Self { words: Vec::new(), by_first: HashMap::new(), by_last: HashMap::new() }
    }
}

impl<T> NearWords<T> {
    pub fn add(&mut self, word: &str, stands_for: T) {
        let letters = Letters::of(word);
        if letters.all.len() < LETTERS_MIN {
            return;
        }
        let number = self.words.len();
        self.by_first.entry(letters.all[0]).or_default().push(number);
        self.by_last.entry(letters.all[letters.all.len() - 1]).or_default().push(number);
        self.words.push((letters, stands_for));
    }

    /// What a word may have been meant for.
    pub fn of<'n>(&'n self, written: &str) -> impl Iterator<Item = &'n T> + use<'n, T> {
        let letters = Letters::of(written);
        let all = &letters.all;
        let ends = (all.len() >= LETTERS_MIN).then(|| (all[0], all[all.len() - 1]));
        let listed = |index: &'n HashMap<char, Vec<usize>>, end: char| index.get(&end).into_iter().flatten();
        let first = ends.into_iter().flat_map(move |(first, _)| listed(&self.by_first, first));
        let last = ends.into_iter().flat_map(move |(first, last)| {
            listed(&self.by_last, last).filter(move |word| self.words[**word].0.all[0] != first)
        });
        first
            .chain(last)
            .map(|number| &self.words[*number])
            .filter_map(move |(word, stands_for)| are_near(&letters, word).then_some(stands_for))
    }
}

/// One slip in a word of four to seven letters, two in a longer one.
fn are_near(one: &Letters, other: &Letters) -> bool {
    let slips_max = if other.all.len() < LONG_LETTERS { 1 } else { 2 };
    // A slip takes one letter away at most, and brings one in.
    let strangers = (one.present ^ other.present).count_ones() as usize;
    one.all.len().abs_diff(other.all.len()) <= slips_max
        && strangers <= 2 * slips_max
        && within(&one.all, &other.all, slips_max)
}

/// Whether so many slips make one of the other: a letter that is wrong, missing or too many, or two in the wrong order
/// (optimal string alignment). With two slips at most, trying each is cheaper than measuring.
fn within(one: &[char], other: &[char], slips: usize) -> bool {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) else {
        return one.len().max(other.len()) <= slips;
    };
    let Some(slips) = slips.checked_sub(1) else { return false };
    let swapped = one_rest.first() == Some(b) && other_rest.first() == Some(a);
    within(one_rest, other_rest, slips)
        || within(one_rest, other, slips)
        || within(one, other_rest, slips)
        || (swapped && within(&one_rest[1..], &other_rest[1..], slips))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(word: &str, written: &str) -> bool {
        let mut words = NearWords::default();
        words.add(word, ());
        words.of(written).next().is_some()
    }

    #[test]
    fn near_words_are_one_slip_away_or_two_when_long() {
        for (written, word, near) in [
            ("updaet", "update", true),
            ("cat", "car", false),
            ("progres", "progress", true),
            ("completly", "completed", true),
            ("photo", "phone", false),
            ("pdate", "update", true),
            ("updat", "update", true),
            ("xpdatx", "update", false),
            ("tâches", "tâche", true),
        ] {
            assert_eq!(found(word, written), near, "{written} {word}");
        }
    }

    proptest! {
        #[test]
        fn what_is_near_is_what_measuring_each_pair_says(one in "[abc]{1,10}", other in "[abc]{1,10}") {
            let ends = one.chars().next() == other.chars().next() || one.chars().last() == other.chars().last();
            let long_enough = one.len() >= LETTERS_MIN && other.len() >= LETTERS_MIN;
            let slips_max = if other.len() < LONG_LETTERS { 1 } else { 2 };
            let near = ends && long_enough && strsim::osa_distance(&one, &other) <= slips_max;
            prop_assert_eq!(found(&other, &one), near);
        }
    }
}
