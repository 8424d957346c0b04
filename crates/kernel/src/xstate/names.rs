//! Names that are legal with us for names that need not be.
//!
//! Owns the letters of a name and keeping names apart; what is called so is for the callers to know.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::IDENTIFIER_BYTES_MAX;

/// Room for a suffix that tells two names apart.
const NAME_BYTES_MAX: usize = IDENTIFIER_BYTES_MAX - 16;

/// Letters, digits, `_` and `-`, beginning with a letter or `_`.
pub(super) fn legal_name(text: &str) -> String {
    let word = legal_word(text);
    match word.chars().next() {
        Some(head) if head.is_alphabetic() || head == '_' => word,
        _ => format!("_{word}"),
    }
}

/// Words of letters, digits, `_` and `-`, joined by dots.
pub(super) fn legal_event(text: &str) -> String {
    let words: Vec<String> = shortened(text).split('.').map(legal_word).collect();
    words.join(".")
}

fn legal_word(text: &str) -> String {
    let good = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let word: String = shortened(text).chars().map(good).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

fn shortened(text: &str) -> &str {
    let end = (0..=NAME_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Names of one kind that have to differ, each for another name elsewhere.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_original: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    /// How far the suffixes of a name have been tried, as a hostile file has thousands that become the same.
    tried: BTreeMap<String, u32>,
}

impl Names {
    /// The name that stands for `original`: `wished`, or, if that one stands for something else, one like it.
    pub fn stand_in(&mut self, original: &str, wished: String) -> String {
        if let Some(known) = self.by_original.get(original) {
            return known.clone();
        }
        let tried = self.tried.entry(wished.clone()).or_insert(1);
        let mut name = wished.clone();
        while self.taken.contains(&name) {
            *tried += 1;
            name = format!("{wished}_{tried}");
        }
        self.taken.insert(name.clone());
        self.by_original.insert(original.to_owned(), name.clone());
        name
    }

    /// Whether this is the name of something.
    pub fn has(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    pub fn get(&self, original: &str) -> Option<&str> {
        self.by_original.get(original).map(String::as_str)
    }
}

/// `wished`, or the first of `wished_2`, `wished_3`, … that is not taken.
pub(super) fn free_name(wished: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = wished.to_owned();
    for number in 2_u32.. {
        if !taken(&name) {
            break;
        }
        name = format!("{wished}_{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_legal_and_kept_apart() {
        for (original, name) in [
            ("idle", "idle"),
            ("not yet", "not_yet"),
            ("a.b", "a_b"),
            ("1st", "_1st"),
            ("-x", "_-x"),
            ("", "_"),
            ("états", "états"),
        ] {
            assert_eq!(legal_name(original), name);
        }
        assert_eq!(legal_event("user clicked.ok!..now"), "user_clicked.ok_._.now");
        assert!(legal_name(&"é".repeat(1_000)).len() <= NAME_BYTES_MAX);

        let mut names = Names::default();
        assert_eq!(names.stand_in("a b", legal_name("a b")), "a_b");
        assert_eq!(names.stand_in("a_b", legal_name("a_b")), "a_b_2");
        assert_eq!(names.stand_in("a b", legal_name("a b")), "a_b");
    }
}
