//! Patterns of `matches`: compiled when the expression is, and bounded.
//!
//! Owns the bounds and what a match costs. Matching takes time in proportion to the text and, at worst, to the
//! places of the pattern that may be alive at once, so both are paid for.

use regex::{Regex, RegexBuilder};

use super::failure::Outcome;
use super::fuel::Fuel;

/// A compiled pattern takes no more than this. What needs more is a list of words, for `in`.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// The cache that makes a search fast.
const CACHE_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// What a byte of text costs at worst, in sixteenths of a step.
    weight: usize,
}

impl Pattern {
    /// # Errors
    /// A fragment with the pattern's first problem.
    pub fn compile(source: &str) -> Result<Self, String> {
        let places = places(source)?;
        let regex = RegexBuilder::new(source)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
            .map_err(|error| problem(source, &error))?;
        Ok(Self { regex, weight: 1 + places })
    }

    pub fn is_match(&self, text: &str, fuel: &mut Fuel) -> Outcome<bool> {
        fuel.spend_many(8 + text.len() * self.weight / 16)?;
        Ok(self.regex.is_match(text))
    }
}

fn problem(source: &str, error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("the pattern {source:?} is too large; repeat less in it"),
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
                let mut depth = 1;
                while let Some(c) = rest.next().filter(|_| depth > 0) {
                    match c {
                        '\\' => drop(rest.next()),
                        '[' => depth += 1,
                        ']' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
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
                sum = groups.pop().unwrap_or_default();
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
