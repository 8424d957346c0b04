//! Which option of a question an answer means (rule R5).

use std::borrow::Cow;

use crate::conversation::clarification::{Choice, Clarification};
use crate::conversation::recognise::{bare, normalise};
use crate::conversation::{Conversation, Priority};

/// Jaro-Winkler similarity from which a misspelt label counts, and how far ahead of the next it must be.
const NEAR_LABEL: f64 = 0.92;
const NEAR_LABEL_MARGIN: f64 = 0.05;
/// Fewer letters begin too many words.
const PREFIX_LETTERS_MIN: usize = 3;

const ORDINALS: [[&str; 4]; 5] = [
    ["first", "the first", "premier", "le premier"],
    ["second", "the second", "deuxième", "le deuxième"],
    ["third", "the third", "troisième", "le troisième"],
    ["fourth", "the fourth", "quatrième", "le quatrième"],
    ["fifth", "the fifth", "cinquième", "le cinquième"],
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Option(usize, &'static str),
    /// It could be several: ask again.
    Ambiguous,
    Nothing,
}

/// The first of: the option's id, its label or another phrase for it, an ordinal word, a number, a unique beginning,
/// a misspelt label. A number that stands in exactly one label means that label before any position. `normal` is the
/// `text`, normalised.
pub(crate) fn match_answer(
    conversation: &Conversation,
    question: &Clarification,
    text: &str,
    normal: &str,
    locale: Option<&str>,
) -> Answered {
    let answer = bare(normal);
    let labels: Vec<Cow<'_, str>> = question.options.iter().map(|o| normalise(&o.label)).collect();
    if let Some(at) = question.options.iter().position(|o| o.id == text.trim()) {
        return Answered::Option(at, "the option's id");
    }
    if let Some(answered) = match_label(answer, &labels) {
        return answered;
    }
    let named = |choice: &Choice| match choice {
        Choice::Intent(name) | Choice::Confirmed(name) => conversation.intent_by_name(name),
        Choice::Continue | Choice::NoneOfThese => None,
    };
    let offered = |intent| question.options.iter().position(|o| named(&o.choice) == Some(intent));
    let known = |intent| offered(intent).is_some() && conversation.intent(intent).priority != Priority::P0;
    if let Some(at) = conversation.lexicon.exact(normal, locale, known).and_then(offered) {
        return Answered::Option(at, "another phrase for the option");
    }
    match_number(answer, &labels).unwrap_or_else(|| match_likely(answer, &labels))
}

/// The option whose label the answer is. Labels are normalised, the answer is bare besides.
pub(crate) fn match_label(answer: &str, labels: &[Cow<'_, str>]) -> Option<Answered> {
    let at = labels.iter().position(|label| bare(label) == answer && !answer.is_empty())?;
    Some(Answered::Option(at, "the option's label"))
}

/// What a number means; `None` if the answer is none.
pub(crate) fn match_number(answer: &str, labels: &[Cow<'_, str>]) -> Option<Answered> {
    let number = answer.parse::<usize>().ok()?;
    let holds = |label: &Cow<'_, str>| label.split(|c: char| !c.is_alphanumeric()).any(|word| word == answer);
    let mut holding = (0..labels.len()).filter(|at| holds(&labels[*at]));
    Some(match (holding.next(), holding.next()) {
        (Some(at), None) => Answered::Option(at, "a number that stands in one label"),
        (Some(_), Some(_)) => Answered::Ambiguous,
        (None, _) if (1..=labels.len()).contains(&number) => Answered::Option(number - 1, "a position"),
        (None, _) => Answered::Nothing,
    })
}

/// An ordinal word, the beginning of one label only, or nearly a label.
pub(crate) fn match_likely(answer: &str, labels: &[Cow<'_, str>]) -> Answered {
    if let Some(at) = ORDINALS.iter().take(labels.len()).position(|words| words.contains(&answer)) {
        return Answered::Option(at, "an ordinal word");
    }
    if answer.chars().count() >= PREFIX_LETTERS_MIN {
        let begins = |label: &Cow<'_, str>| label.starts_with(answer);
        let mut beginning = (0..labels.len()).filter(|at| begins(&labels[*at]));
        if let (Some(at), None) = (beginning.next(), beginning.next()) {
            return Answered::Option(at, "the beginning of one label");
        }
    }
    by_likeness(answer, labels)
}

fn by_likeness(answer: &str, labels: &[Cow<'_, str>]) -> Answered {
    if !labels.iter().any(|label| could_be_near(answer, bare(label))) {
        return Answered::Nothing;
    }
    let mut likeness: Vec<(f64, usize)> = labels
        .iter()
        .enumerate()
        .map(|(at, label)| (strsim::jaro_winkler(answer, bare(label)), at))
        .collect();
    likeness.sort_by(|one, other| other.0.total_cmp(&one.0));
    let second = likeness.get(1).map_or(0.0, |(likeness, _)| *likeness);
    match likeness.first() {
        Some((best, at)) if *best >= NEAR_LABEL && best - second >= NEAR_LABEL_MARGIN => {
            Answered::Option(*at, "a label, misspelt")
        }
        _ => Answered::Nothing,
    }
}

/// Whether two texts may be as like as `NEAR_LABEL`, as far as their lengths tell. If the shorter is three fifths of the
/// longer, and all of it alike and in order, its likeness is (3/5 + 1 + 1) / 3, and with four letters in front 0.92.
fn could_be_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.chars().count(), other.chars().count());
    5 * one.min(other) >= 3 * one.max(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_near_could_be_near(one in "[ab]{1,12}", rest in "[ab]{0,12}") {
            let longer = format!("{one}{rest}");
            let near = strsim::jaro_winkler(&one, &longer) >= NEAR_LABEL;
            prop_assert!(!near || could_be_near(&one, &longer), "{one} {longer}");
        }
    }
}
