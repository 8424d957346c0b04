//! The built-in recogniser: phrases, patterns, keywords and near misses, per language, without any network.
//!
//! Owns how text is normalised and what each kind of match is worth. It only advises; `route` decides.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::conversation::IntentIndex;
use crate::conversation::definition::{IntentDefinition, Priority, Worded};
use crate::conversation::message::Confidence;
use crate::diagnostic::Diagnostic;
use crate::expression::bounded_regex;

pub const PHRASE: Confidence = Confidence::CERTAIN;
pub const PATTERN: Confidence = Confidence::basis_points(9_500);
pub const ALL_KEYWORDS: Confidence = Confidence::basis_points(8_500);
pub const ANY_KEYWORD: Confidence = Confidence::basis_points(7_500);
/// Below the usual threshold: a near miss is asked about, never acted upon.
pub const NEAR_KEYWORD: Confidence = Confidence::basis_points(6_500);
const NEGATION: Confidence = Confidence::basis_points(4_000);

/// A word this many places before a keyword can negate it ("do not send an update").
const NEGATION_WINDOW: usize = 3;
const NEGATIONS: [&str; 12] =
    ["not", "no", "don't", "dont", "never", "without", "ne", "n'est", "pas", "non", "sans", "jamais"];

/// Shorter words have too many neighbours.
const NEAR_LETTERS_MIN: usize = 4;
/// Longer texts are stories, not commands; only their beginning is searched for keywords.
const TOKENS_MAX: usize = 200;

/// NFKC, case folded, without zero-width characters, spaces collapsed and trimmed.
pub fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for c in text.nfkc().flat_map(char::to_lowercase) {
        let zero_width =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{00ad}' | '\u{fe0f}');
        let apostrophe = if c == '\u{2019}' { '\'' } else { c };
        if zero_width {
            continue;
        }
        if !apostrophe.is_whitespace() {
            normal.push(apostrophe);
        } else if !normal.is_empty() && !normal.ends_with(' ') {
            normal.push(' ');
        }
    }
    normal.truncate(normal.trim_end().len());
    normal
}

/// The normalised text without the punctuation around it: "annuler !" is `annuler`, and "?" stays `?`.
pub fn bare(normal: &str) -> &str {
    let bare = normal.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.is_empty() { normal } else { bare }
}

#[derive(Debug, Default)]
pub struct Lexicon {
    phrases: HashMap<String, Vec<Listed>>,
    keywords: HashMap<String, Vec<Listed>>,
    patterns: Vec<(Regex, Listed)>,
    /// How many keywords an intent has in a language.
    keyword_count: HashMap<Listed, usize>,
    priorities: Vec<Priority>,
}

/// An intent under one language, or under all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Listed {
    locale: Option<String>,
    intent: IntentIndex,
}

impl Listed {
    fn speaks(&self, locale: Option<&str>) -> bool {
        match (&self.locale, locale) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        }
    }
}

impl Lexicon {
    pub(crate) fn compile(intents: &[IntentDefinition], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut lexicon = Self::default();
        for (number, intent) in intents.iter().enumerate() {
            let index = IntentIndex(number as u16);
            let listed = |w: &Worded| Listed { locale: w.locale.clone(), intent: index };
            lexicon.priorities.push(intent.priority);
            for phrase in &intent.phrases {
                let text = bare(&normalise(&phrase.text.value)).to_owned();
                lexicon.phrases.entry(text).or_default().push(listed(phrase));
            }
            for keyword in &intent.keywords {
                let text = bare(&normalise(&keyword.text.value)).to_owned();
                *lexicon.keyword_count.entry(listed(keyword)).or_default() += 1;
                lexicon.keywords.entry(text).or_default().push(listed(keyword));
            }
            for pattern in &intent.patterns {
                let anchored = format!("^(?:{})$", pattern.text.value);
                match bounded_regex(&anchored) {
                    Ok(regex) => lexicon.patterns.push((regex, listed(pattern))),
                    Err(error) => {
                        let text = error.to_string();
                        let last = text.lines().last().unwrap_or("not a pattern");
                        diagnostics.push(Diagnostic::error(
                            "bad_pattern",
                            pattern.text.place,
                            format!("the pattern `{}` cannot be used: {last}", pattern.text.value),
                            "write a regular expression; it is matched against the whole normalised text"
                                .into(),
                        ));
                    }
                }
            }
        }
        lexicon
    }

    /// The intent whose phrase is the whole text, of those that `wanted` admits; of two the more urgent.
    pub fn exact(
        &self,
        normal: &str,
        locale: Option<&str>,
        wanted: impl Fn(IntentIndex) -> bool,
    ) -> Option<IntentIndex> {
        let listed = self.phrases.get(bare(normal))?;
        let of = |locale: Option<&str>| {
            let fits = listed.iter().filter(|l| l.speaks(locale) && wanted(l.intent));
            fits.map(|l| l.intent).min_by_key(|i| (self.priorities[usize::from(i.0)], *i))
        };
        of(locale).or_else(|| of(None))
    }

    /// The language of a text whose phrase, or whose keywords, belong to one language alone.
    pub fn language(&self, normal: &str) -> Option<&str> {
        let whole = self.phrases.get(bare(normal)).into_iter().flatten();
        let words = normal.split_whitespace().take(TOKENS_MAX).filter_map(|w| self.keywords.get(bare(w)));
        let mut locales = whole.chain(words.flatten()).map(|listed| listed.locale.as_deref());
        let first = locales.next()??;
        locales.all(|locale| locale == Some(first)).then_some(first)
    }

    /// What each intent is worth for a normalised text: in the given language, and if that says nothing in all.
    pub fn recognise(&self, normal: &str, locale: Option<&str>) -> BTreeMap<IntentIndex, Confidence> {
        let found = self.recognise_in(normal, locale);
        if found.is_empty() && locale.is_some() { self.recognise_in(normal, None) } else { found }
    }

    fn recognise_in(&self, normal: &str, locale: Option<&str>) -> BTreeMap<IntentIndex, Confidence> {
        let mut worth: BTreeMap<IntentIndex, Confidence> = BTreeMap::new();
        let mut raise = |intent: IntentIndex, confidence: Confidence| {
            let slot = worth.entry(intent).or_default();
            *slot = (*slot).max(confidence);
        };
        for listed in self.phrases.get(bare(normal)).into_iter().flatten() {
            if listed.speaks(locale) {
                raise(listed.intent, PHRASE);
            }
        }
        for (regex, listed) in &self.patterns {
            if listed.speaks(locale) && regex.is_match(normal) {
                raise(listed.intent, PATTERN);
            }
        }
        let tokens: Vec<&str> =
            normal.split_whitespace().map(bare).filter(|t| !t.is_empty()).take(TOKENS_MAX).collect();
        let mut hits: HashMap<&Listed, (usize, bool)> = HashMap::new();
        for at in 0..tokens.len() {
            let negated = is_negated(&tokens, at);
            // A keyword may be of up to three words.
            for end in at + 1..=tokens.len().min(at + 3) {
                let words = tokens[at..end].join(" ");
                for listed in self.keywords.get(&words).into_iter().flatten() {
                    if listed.speaks(locale) {
                        let hit = hits.entry(listed).or_insert((0, true));
                        *hit = (hit.0 + 1, hit.1 && negated);
                    }
                }
            }
        }
        for (listed, (count, negated)) in &hits {
            let all = self.keyword_count.get(*listed).is_some_and(|all| *all > 1 && count >= all);
            let confidence = if all { ALL_KEYWORDS } else { ANY_KEYWORD };
            raise(listed.intent, if *negated { confidence.minus(NEGATION) } else { confidence });
        }
        if hits.is_empty() {
            self.near_misses(&tokens, locale, &mut raise);
        }
        worth
    }

    fn near_misses(
        &self,
        tokens: &[&str],
        locale: Option<&str>,
        raise: &mut impl FnMut(IntentIndex, Confidence),
    ) {
        for (at, token) in tokens.iter().enumerate() {
            if token.chars().count() < NEAR_LETTERS_MIN {
                continue;
            }
            for (keyword, listed) in &self.keywords {
                if !is_near(token, keyword) {
                    continue;
                }
                let confidence =
                    if is_negated(tokens, at) { NEAR_KEYWORD.minus(NEGATION) } else { NEAR_KEYWORD };
                for listed in listed.iter().filter(|l| l.speaks(locale)) {
                    raise(listed.intent, confidence);
                }
            }
        }
    }
}

fn is_negated(tokens: &[&str], at: usize) -> bool {
    let before = &tokens[at.saturating_sub(NEGATION_WINDOW)..at];
    let after = tokens.get(at + 1).is_some_and(|t| *t == "pas");
    after || before.iter().any(|t| NEGATIONS.contains(t))
}

/// One slip in a word of four to seven letters, two in a longer one (optimal string alignment distance). A slip that
/// spoils both ends of a word is too much to guess at; asking for one of them spares measuring most pairs.
pub fn is_near(one: &str, other: &str) -> bool {
    let same_end =
        one.chars().next() == other.chars().next() || one.chars().next_back() == other.chars().next_back();
    let letters = other.chars().count();
    let slips_max = if letters < 8 { 1 } else { 2 };
    let near = same_end && letters >= NEAR_LETTERS_MIN && one.chars().count().abs_diff(letters) <= slips_max;
    near && strsim::osa_distance(one, other) <= slips_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_normalised_before_anything_looks_at_it() {
        for (text, normal) in [
            ("  Annuler\u{200b} ", "annuler"),
            ("ARRE\u{302}TER", "arrêter"),
            ("ﬁn\tde  tâche", "fin de tâche"),
            ("don\u{2019}t", "don't"),
            ("\u{200d}", ""),
        ] {
            assert_eq!(normalise(text), normal, "{text:?}");
        }
        for (normal, expected) in [("cancel !", "cancel"), ("?", "?"), ("", "")] {
            assert_eq!(bare(normal), expected);
        }
    }

    #[test]
    fn near_words_are_one_slip_away_or_two_when_long() {
        for (one, other, near) in [
            ("updaet", "update", true),
            ("cat", "car", false),
            ("progres", "progress", true),
            ("completly", "completed", true),
            ("photo", "phone", false),
        ] {
            assert_eq!(is_near(one, other), near, "{one} {other}");
        }
    }
}
