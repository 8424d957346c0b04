//! The built-in recogniser: phrases, patterns, keywords and near misses, per language, without any network.
//!
//! Owns how text is normalised and what each kind of match is worth. It only advises; `route` decides.

mod near;

use std::borrow::Cow;

use regex::Regex;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use crate::conversation::IntentIndex;
use crate::conversation::definition::{IntentDefinition, Priority, Worded};
use crate::conversation::message::Confidence;
use crate::conversation::recognise::near::NearWords;
use crate::diagnostic::Diagnostic;
use crate::expression::bounded_regex;
use crate::lookup::Lookup;

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

/// Words in a row that one keyword can be.
const KEYWORD_WORDS_MAX: usize = 3;
/// Longer texts are stories, not commands; only their beginning is searched for keywords.
const TOKENS_MAX: usize = 200;

/// NFKC, case folded, without zero-width characters, spaces collapsed and trimmed.
pub fn normalise(text: &str) -> Cow<'_, str> {
    if is_normal_ascii(text) {
        return Cow::Borrowed(text);
    }
    // Most texts are normal already, as far as composition goes, and asking is cheaper than composing.
    match is_nfkc_quick(text.chars()) {
        IsNormalized::Yes => fold(text.chars(), text.len()).into(),
        _ => fold(text.nfkc(), text.len()).into(),
    }
}

/// Whether a text of the commonest letters is as it should be already, which most are.
fn is_normal_ascii(text: &str) -> bool {
    let mut before = b' ';
    let fits = text.bytes().all(|byte| {
        let single_space = byte == b' ' && before != b' ';
        before = byte;
        single_space || (byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    });
    fits && before != b' '
}

fn fold(chars: impl Iterator<Item = char>, length: usize) -> String {
    let mut normal = String::with_capacity(length);
    for c in chars {
        if c.is_ascii_graphic() {
            normal.push(c.to_ascii_lowercase());
        } else {
            c.to_lowercase().for_each(|c| push_folded(&mut normal, c));
        }
    }
    normal.truncate(normal.trim_end().len());
    normal
}

fn push_folded(normal: &mut String, c: char) {
    let zero_width = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{00ad}' | '\u{fe0f}');
    if zero_width {
        return;
    }
    let apostrophe = if c == '\u{2019}' { '\'' } else { c };
    if !apostrophe.is_whitespace() {
        normal.push(apostrophe);
    } else if !normal.is_empty() && !normal.ends_with(' ') {
        normal.push(' ');
    }
}

/// The normalised text without the punctuation around it: "annuler !" is `annuler`, and "?" stays `?`.
pub fn bare(normal: &str) -> &str {
    let plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if plain(normal.as_bytes().first()) && plain(normal.as_bytes().last()) {
        return normal;
    }
    let bare = normal.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.is_empty() { normal } else { bare }
}

#[derive(Debug, Default)]
pub struct Lexicon {
    phrases: Lookup<String, Vec<Listed>>,
    keywords: Lookup<String, Vec<Listed>>,
    /// Words in the longest keyword.
    keyword_words_max: usize,
    near: NearWords<Listed>,
    patterns: Vec<(Regex, Listed)>,
    /// How many keywords an intent has in a language.
    keyword_count: Lookup<Listed, usize>,
    priorities: Vec<Priority>,
    locales: Vec<String>,
}

/// An intent under one language, or under all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Listed {
    locale: Option<LocaleIndex>,
    intent: IntentIndex,
}

/// A language by its place in `Lexicon::locales`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LocaleIndex(usize);

impl Listed {
    fn speaks(self, locale: Option<LocaleIndex>) -> bool {
        match (self.locale, locale) {
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
            lexicon.priorities.push(intent.priority);
            for phrase in &intent.phrases {
                let text = bare(&normalise(&phrase.text.value)).to_owned();
                let listed = lexicon.list(phrase, index);
                lexicon.phrases.entry(text).or_default().push(listed);
            }
            for keyword in &intent.keywords {
                let text = bare(&normalise(&keyword.text.value)).to_owned();
                let listed = lexicon.list(keyword, index);
                *lexicon.keyword_count.entry(listed).or_default() += 1;
                lexicon.keyword_words_max = lexicon.keyword_words_max.max(text.split(' ').count());
                lexicon.near.add(&text, listed);
                lexicon.keywords.entry(text).or_default().push(listed);
            }
            for pattern in &intent.patterns {
                let listed = lexicon.list(pattern, index);
                let anchored = format!("^(?:{})$", pattern.text.value);
                match bounded_regex(&anchored) {
                    Ok(regex) => lexicon.patterns.push((regex, listed)),
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

    fn list(&mut self, worded: &Worded, intent: IntentIndex) -> Listed {
        let locale = worded.locale.as_ref().map(|locale| {
            self.locale(locale).unwrap_or_else(|| {
                self.locales.push(locale.clone());
                LocaleIndex(self.locales.len() - 1)
            })
        });
        Listed { locale, intent }
    }

    fn locale(&self, name: &str) -> Option<LocaleIndex> {
        self.locales.iter().position(|locale| locale == name).map(LocaleIndex)
    }

    /// The language that is asked for. One that nothing is written in is one more than there are.
    fn asked(&self, locale: Option<&str>) -> Option<LocaleIndex> {
        locale.map(|name| self.locale(name).unwrap_or(LocaleIndex(self.locales.len())))
    }

    /// The intent whose phrase is the whole text, of those that `wanted` admits; of two the more urgent.
    pub fn exact(
        &self,
        normal: &str,
        locale: Option<&str>,
        wanted: impl Fn(IntentIndex) -> bool,
    ) -> Option<IntentIndex> {
        let listed = self.phrases.get(bare(normal))?;
        let of = |locale: Option<LocaleIndex>| {
            let fits = listed.iter().filter(|l| l.speaks(locale) && wanted(l.intent));
            fits.map(|l| l.intent).min_by_key(|i| (self.priorities[usize::from(i.0)], *i))
        };
        of(self.asked(locale)).or_else(|| of(None))
    }

    /// The language of a text whose phrase, or whose keywords, belong to one language alone.
    pub fn language(&self, normal: &str) -> Option<&str> {
        let whole = self.phrases.get(bare(normal)).into_iter().flatten();
        let words = normal.split_whitespace().take(TOKENS_MAX).filter_map(|w| self.keywords.get(bare(w)));
        let mut locales = whole.chain(words.flatten()).map(|listed| listed.locale);
        let first = locales.next()??;
        locales.all(|locale| locale == Some(first)).then(|| self.locales[first.0].as_str())
    }

    /// What each intent is worth for a normalised text: in the given language, and if that says nothing in all. By
    /// intent.
    pub fn recognise(&self, normal: &str, locale: Option<&str>) -> Vec<(IntentIndex, Confidence)> {
        let mut tokens = Vec::with_capacity(TOKENS_MAX.min(normal.len() / 2 + 1));
        tokens.extend(normal.split_whitespace().map(bare).filter(|t| !t.is_empty()).take(TOKENS_MAX));
        let found = self.recognise_in(normal, &tokens, self.asked(locale));
        if found.is_empty() && locale.is_some() { self.recognise_in(normal, &tokens, None) } else { found }
    }

    fn recognise_in(
        &self,
        normal: &str,
        tokens: &[&str],
        locale: Option<LocaleIndex>,
    ) -> Vec<(IntentIndex, Confidence)> {
        let mut worth: Vec<(IntentIndex, Confidence)> = Vec::new();
        let mut raise = |intent: IntentIndex, confidence: Confidence| match worth
            .binary_search_by_key(&intent, |w| w.0)
        {
            Ok(at) => worth[at].1 = worth[at].1.max(confidence),
            Err(at) => worth.insert(at, (intent, confidence)),
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
        let hits = self.keyword_hits(tokens, locale);
        for (listed, count, negated) in &hits {
            let all = self.keyword_count.get(listed).is_some_and(|all| *all > 1 && count >= all);
            let confidence = if all { ALL_KEYWORDS } else { ANY_KEYWORD };
            raise(listed.intent, if *negated { confidence.minus(NEGATION) } else { confidence });
        }
        if hits.is_empty() {
            self.near_misses(tokens, locale, &mut raise);
        }
        worth
    }

    /// Who is hinted at by how many keywords, and whether all of them are negated.
    fn keyword_hits(&self, tokens: &[&str], locale: Option<LocaleIndex>) -> Vec<(Listed, usize, bool)> {
        let mut hits: Vec<(Listed, usize, bool)> = Vec::new();
        let mut words = String::with_capacity(64);
        for at in 0..tokens.len() {
            words.clear();
            for token in tokens[at..].iter().take(self.keyword_words_max.min(KEYWORD_WORDS_MAX)) {
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(token);
                for listed in self.keywords.get(words.as_str()).into_iter().flatten() {
                    if !listed.speaks(locale) {
                        continue;
                    }
                    let negated = is_negated(tokens, at);
                    match hits.iter_mut().find(|(seen, ..)| seen == listed) {
                        Some(hit) => *hit = (*listed, hit.1 + 1, hit.2 && negated),
                        None => hits.push((*listed, 1, negated)),
                    }
                }
            }
        }
        hits
    }

    fn near_misses(
        &self,
        tokens: &[&str],
        locale: Option<LocaleIndex>,
        raise: &mut impl FnMut(IntentIndex, Confidence),
    ) {
        for (at, token) in tokens.iter().enumerate() {
            for listed in self.near.of(token, |listed| listed.speaks(locale)) {
                let negated = is_negated(tokens, at);
                raise(listed.intent, if negated { NEAR_KEYWORD.minus(NEGATION) } else { NEAR_KEYWORD });
            }
        }
    }
}

fn is_negated(tokens: &[&str], at: usize) -> bool {
    let before = &tokens[at.saturating_sub(NEGATION_WINDOW)..at];
    let after = tokens.get(at + 1).is_some_and(|t| *t == "pas");
    after || before.iter().any(|t| NEGATIONS.contains(t))
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
            ("it's all   done", "it's all done"),
            (" a\u{b}b\nC ", "a b c"),
            ("as it should be", "as it should be"),
            (" ", ""),
        ] {
            assert_eq!(normalise(text), normal, "{text:?}");
        }
        for (normal, expected) in [("cancel !", "cancel"), ("?", "?"), ("", "")] {
            assert_eq!(bare(normal), expected);
        }
    }
}
