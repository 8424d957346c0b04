//! Patterns of `matches`: compiled when the expression is, and bounded.
//!
//! Owns the bounds and what a match costs. Matching takes time in proportion to the text and, at worst, to the
//! places of the pattern that may be alive at once, so both are paid for.

use regex::{Regex, RegexBuilder};

use super::failure::Outcome;
use super::fuel::Fuel;

/// What a compiled pattern may take: a definition may have many. A `\w`, which knows all alphabets, takes ten KiB.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// The cache that makes a search fast.
const CACHE_BYTES_MAX: usize = 256 * 1024;
/// A search is prepared.
const MATCH_STEPS: usize = 8;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// What a byte of text costs at worst, in steps: one for each place, as was measured with `1[01]{30}2` and the
    /// like. Most patterns take a hundredth of that, and nobody can tell which do.
    places: usize,
}

impl Pattern {
    /// # Errors
    /// A fragment with the pattern's first problem.
    pub fn compile(source: &str) -> Result<Self, String> {
        let places = places(source)?;
        let regex = bounded(source).map_err(|error| problem(source, &error))?;
        Ok(Self { regex, places: places.max(1) })
    }

    pub fn is_match(&self, text: &str, fuel: &mut Fuel) -> Outcome<bool> {
        fuel.spend_many(MATCH_STEPS.saturating_add(text.len().saturating_mul(self.places)))?;
        Ok(self.regex.is_match(text))
    }
}

/// A regular expression that takes no more memory than one of many may.
///
/// # Errors
/// The library's, for what is none, or is too large.
pub(crate) fn bounded(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).build()
}

fn problem(source: &str, error: &regex::Error) -> String {
    let source: String = source.chars().take(60).collect();
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!(
                "the pattern {source:?} is too large; repeat less in it, or write [A-Za-z0-9_] instead of \\w"
            )
        }
        _ => {
            let report = error.to_string();
            let last = report.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the pattern {source:?} is no regular expression: {last}")
        }
    }
}

/// How many characters and classes a pattern has when its counted repetitions are written out.
///
/// This is an upper bound of what may be alive at once while matching; it need not understand more of the syntax.
fn places(source: &str) -> Result<usize, String> {
    let mut groups: Vec<usize> = Vec::new();
    let (mut sum, mut last) = (0_usize, 0_usize);
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        let item = match c {
            '\\' => {
                // `\p{Greek}` and `\x{3B1}`: what is in braces is no repetition.
                let named = rest.next().is_some_and(|c| "pPxuU".contains(c));
                if named && rest.peek() == Some(&'{') {
                    rest.by_ref().find(|c| *c == '}');
                }
                1
            }
            '[' => {
                skip_class(&mut rest);
                1
            }
            '(' => {
                if rest.peek() == Some(&'?') {
                    skip_flags(&mut rest)?;
                }
                groups.push(sum + last);
                (sum, last) = (0, 0);
                continue;
            }
            ')' => {
                let inside = sum + last;
                (sum, last) = (groups.pop().unwrap_or_default(), 0);
                inside
            }
            '{' => {
                let counts: String = rest.by_ref().take_while(|c| *c != '}').collect();
                let count = counts.split(',').filter_map(|n| n.trim().parse::<usize>().ok()).max();
                last = last.saturating_mul(count.unwrap_or(1).saturating_add(1));
                continue;
            }
            '*' | '+' | '?' | '|' | '^' | '$' => continue,
            _ => 1,
        };
        sum = sum.saturating_add(last);
        last = item;
    }
    Ok(groups.into_iter().fold(sum.saturating_add(last), usize::saturating_add))
}

/// What is left of a class behind its `[`. Classes nest, and a `]` that comes first is one of its characters.
fn skip_class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut depth = 1;
    let mut is_first = true;
    while let Some(c) = rest.next() {
        let was_first = std::mem::replace(&mut is_first, c == '[');
        match c {
            '\\' => drop(rest.next()),
            '^' if was_first => is_first = rest.peek() == Some(&']'),
            '[' => depth += 1,
            ']' if !was_first => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// `?:`, `?P<name>`, `?<name>` and `?i-s:`. Free spacing would make comments of what is counted as a pattern.
fn skip_flags(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
    rest.next();
    let mut flags = String::new();
    while let Some(c) = rest.peek().copied().filter(|c| *c != ')') {
        rest.next();
        match c {
            ':' => break,
            '<' => {
                rest.find(|c| *c == '>');
                return Ok(());
            }
            _ => flags.push(c),
        }
    }
    if flags.contains('x') {
        return Err("a pattern may not have the flag `x`; write it without spaces and comments".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_with_their_repetitions() {
        for (pattern, expected) in [
            ("", 0),
            ("^[a-z]+@[a-z]+$", 3),
            ("a{3}", 4),
            ("(?:ab|c){2,4}d", 16),
            ("(?P<n>ab){2}{3}", 24),
            (r"\p{Greek}{2}\{2}", 6),
            ("[]a{9}[b]]{1}", 2),
            ("[^](]{2}", 3),
            ("[^^a]b", 2),
            ("(?i)a", 1),
            ("((a{10}){10}){10}", 1331),
        ] {
            assert_eq!(places(pattern), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_bounded_are_refused() {
        for (pattern, part) in [
            ("(", "unclosed group"),
            (r"\w{100}", "is too large"),
            ("(?x)a # [", "may not have the flag `x`"),
            ("(?i-x:a)", "may not have the flag `x`"),
        ] {
            let error = Pattern::compile(pattern).unwrap_err();
            assert!(error.contains(part), "{pattern}: {error}");
        }
        assert!(Pattern::compile(r"^\+?\d{6,15}$").is_ok());
        assert!(Pattern::compile(r"\w{5}").is_ok());
    }
}
