//! Words that are nearly another: what counts as misspelt, and finding all that a word may have been meant for.
//!
//! A slip that spoils both ends of a word is too much to guess at. So words are found by their first and their last
//! letter, which spares measuring most pairs.

use std::collections::BTreeMap;
use std::str::Chars;

/// Shorter words have too many neighbours.
const LETTERS_MIN: usize = 4;
/// From here on a word may have two slips.
const LONG_LETTERS: usize = 8;

/// Words with what each stands for, found by a misspelt one.
#[derive(Debug)]
pub(super) struct NearWords<T> {
    words: Vec<Word<T>>,
    by_first: BTreeMap<char, Vec<usize>>,
    by_last: BTreeMap<char, Vec<usize>>,
}

#[derive(Debug)]
struct Word<T> {
    text: String,
    letters: Letters,
    stands_for: T,
}

/// What can be told of a word's letters without comparing them one by one.
#[derive(Clone, Copy, Debug)]
struct Letters {
    count: usize,
    first: char,
    last: char,
    /// Which there are, as far as five bits of each tell.
    present: u32,
}

impl Letters {
    /// None for a word that is too short.
    fn of(word: &str) -> Option<Self> {
        let (mut count, mut present, mut last) = (0, 0, None);
        for letter in word.chars() {
            count += 1;
            present |= 1 << (letter as u32 % 32);
            last = Some(letter);
        }
        let (first, last) = word.chars().next().zip(last).filter(|_| count >= LETTERS_MIN)?;
        Some(Self { count, first, last, present })
    }

    /// Whether so many slips could make one word of the other, as far as this tells.
    fn could_be(self, other: Self, slips: usize) -> bool {
        // A slip takes one letter away at most, and brings one in.
        let (lost, brought) = (self.present & !other.present, other.present & !self.present);
        let few = |letters: u32| letters.count_ones() as usize <= slips;
        self.count.abs_diff(other.count) <= slips && few(lost) && few(brought)
    }
}

impl<T> Default for NearWords<T> {
    fn default() -> Self {
        Self { words: Vec::new(), by_first: BTreeMap::new(), by_last: BTreeMap::new() }
    }
}

impl<T> NearWords<T> {
    pub fn add(&mut self, word: &str, stands_for: T) {
        let Some(letters) = Letters::of(word) else { return };
        let number = self.words.len();
        self.by_first.entry(letters.first).or_default().push(number);
        self.by_last.entry(letters.last).or_default().push(number);
        self.words.push(Word { text: word.to_owned(), letters, stands_for });
    }

    /// What a word may have been meant for, of what is wanted.
    pub fn of(&self, written: &str, wanted: impl Fn(&T) -> bool) -> Vec<&T> {
        let mut near = Vec::new();
        let Some(letters) = Letters::of(written) else { return near };
        let by_first = self.by_first.get(&letters.first).into_iter().flatten();
        let by_last = self.by_last.get(&letters.last).into_iter().flatten();
        let only_last = by_last.filter(|number| self.words[**number].letters.first != letters.first);
        for word in by_first.chain(only_last).map(|number| &self.words[*number]) {
            // One slip in a word of four to seven letters, two in a longer one.
            let slips = if word.letters.count < LONG_LETTERS { 1 } else { 2 };
            if wanted(&word.stands_for)
                && letters.could_be(word.letters, slips)
                && within(written.chars(), word.text.chars(), slips)
            {
                near.push(&word.stands_for);
            }
        }
        near
    }
}

/// Whether so many slips make one of the other: a letter that is wrong, missing or too many, or two in the wrong order
/// (optimal string alignment). With two slips at most, trying each is cheaper than measuring.
fn within(mut one: Chars<'_>, mut other: Chars<'_>, slips: usize) -> bool {
    let (mut one_rest, mut other_rest) = (one.clone(), other.clone());
    let (a, b) = loop {
        match (one_rest.next(), other_rest.next()) {
            (Some(a), Some(b)) if a == b => (one, other) = (one_rest.clone(), other_rest.clone()),
            (Some(a), Some(b)) => break (a, b),
            _ => return one.count().max(other.count()) <= slips,
        }
    };
    let Some(slips) = slips.checked_sub(1) else { return false };
    let swapped = |mut one: Chars<'_>, mut other: Chars<'_>| {
        one.next() == Some(b) && other.next() == Some(a) && within(one, other, slips)
    };
    within(one_rest.clone(), other_rest.clone(), slips)
        || within(one_rest.clone(), other, slips)
        || within(one, other_rest.clone(), slips)
        || swapped(one_rest, other_rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(word: &str, written: &str) -> bool {
        let mut words = NearWords::default();
        words.add(word, ());
        !words.of(written, |()| true).is_empty()
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
