//! What the router says in a trace again and again, and the letter that stands for it in the log.
//!
//! A sentence may name what the decision says of itself: `{intent}`, `{raw}` and `{adjusted}` of its `Why`. Those with
//! such a name are worded by the router and found again here; what never varies is said with `Sentence` and worded nowhere
//! else, so that none lacks a letter. Which rule says what when is `route`'s business.

use std::borrow::Cow;

use crate::conversation::message::{Rule, TraceStep, Why};

/// A sentence of a rule.
#[derive(Debug)]
struct Row {
    letter: char,
    rule: Rule,
    applied: bool,
    text: &'static str,
}

macro_rules! sentences {
    ($($name:ident $letter:literal $rule:ident $applied:literal $text:literal)*) => {
        /// One that never varies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Sentence { $($name),* }

        static SAID: Table = Table::of(&[$(row($letter, Rule::$rule, $applied, $text)),*]);
    };
}

const fn row(letter: char, rule: Rule, applied: bool, text: &'static str) -> Row {
    Row { letter, rule, applied, text }
}

// Both tables rule by rule. A letter means its sentence for ever: a sentence that is said no more stays (in `WORDED`), one that
// is worded anew gets another row and the next letter. The next one is 'U'.

sentences! {
    Nothing              'a' R0  true  "no text, no payload, no media"
    SomeMessage          'b' R0  false "a message"
    NotHandedOver        'c' R1  false "no person has taken over"
    ResumeCommand        'd' R1  true  "the resume command"
    RecordedOnly         'e' R1  true  "a person has taken over; recorded only"
    NoButton             'f' R2  false "no button was pressed"
    LiveButton           'g' R2  true  "a live button"
    StaleButton          'h' R2  true  "a stale button, still legal"
    ExpiredButton        'i' R2  true  "a button of a menu that has expired"
    QuestionLives        'j' R3  false "the pending question lives"
    NoQuestionToExpire   'k' R3  false "no question is pending"
    NotUrgent            'l' R4  false "not exactly a P0 phrase"
    NoAnswerByText       'n' R5  false "no text, or one that quotes another message"
    SeveralOptions       'o' R5  true  "it could be several options"
    NoOption             'p' R5  false "no option matches"
    SeveralOfMenu        'q' R5  false "it could be several of the menu shown last"
    NothingOfMenu        'r' R5  false "no question waits for this, and it names nothing of the menu"
    NoQuestionToSetAside 's' R6  false "no question is pending"
    NotMeantAsAnswer     't' R6  false "not meant as an answer"
    NeitherAnswerNorElse 'u' R6  true  "neither an answer nor surely something else"
    NoFreeText           'w' R7  false "the state takes no free text"
    FreeText             'x' R7  true  "the state takes free text"
    Media                'A' R7  true  "the state takes media"
    MediaHeld            'B' R7  true  "media, which this state does not take; held"
    Number               'C' R7  true  "the state takes a number"
    NoCandidate          'D' R8  false "no candidate"
    NoConflict           'F' R9  false "nothing conflicts"
    NoStrongConflict     'H' R10 false "no strong candidate conflicts"
    Destructive          'M' R12 true  "destructive; asked whether to be sure"
    NothingToChoose      'N' R12 false "nothing to choose from"
    NoRival              'O' R12 false "no rival of the same priority is close"
}

/// What the router words itself, as it does most often.
static WORDED: Table = Table::of(&[
    row('m', Rule::R4, true, "exactly a phrase of `{intent}`"),
    row('v', Rule::R6, true, "`{intent}` at {adjusted} sets the question aside"),
    row('y', Rule::R7, false, "free text, but surely `{intent}` at {adjusted}"),
    row('z', Rule::R7, false, "free text, but `{intent}` at {raw} conflicts"),
    row('E', Rule::R8, true, "{intent} {raw}"),
    row('G', Rule::R9, true, "{intent} {raw} becomes {adjusted}"),
    row('I', Rule::R10, true, "`{intent}` at {raw} conflicts with the session; asked"),
    row('J', Rule::R11, true, "`{intent}` at {adjusted} is the best"),
    row('K', Rule::R11, true, "`{intent}` at {adjusted} is first"),
    row('L', Rule::R11, false, "nothing reaches 7000"),
    row('P', Rule::R13, true, "best raw is {raw}: asked what was meant"),
    row('Q', Rule::R13, true, "nothing was understood; failure 1: Rephrase"),
    row('R', Rule::R13, true, "nothing was understood; failure 2: Menu"),
    row('S', Rule::R13, true, "the question was missed too often; failure 1: Rephrase"),
    row('T', Rule::R13, true, "the question was missed too often; failure 2: Menu"),
]);

const RULES: usize = Rule::R13 as usize + 1;

#[derive(Debug)]
struct Table {
    rows: &'static [Row],
    /// Where the rows of each rule begin.
    starts: [usize; RULES + 1],
}

impl Table {
    /// It does not compile with rows that are in no order.
    const fn of(rows: &'static [Row]) -> Self {
        let mut starts = [0; RULES + 1];
        let (mut row, mut rule) = (0, 0);
        while rule <= RULES {
            starts[rule] = row;
            while row < rows.len() && rows[row].rule as usize == rule {
                row += 1;
            }
            rule += 1;
        }
        assert!(row == rows.len(), "the rows have to stand in the order of the rules");
        Self { rows, starts }
    }

    fn rows_of(&self, rule: Rule) -> &'static [Row] {
        let rule = rule as usize;
        &self.rows[self.starts[rule]..self.starts[rule + 1]]
    }
}

impl Sentence {
    /// The step of a trace that says it.
    pub fn step(self) -> TraceStep {
        let Row { rule, applied, text, .. } = SAID.rows[self as usize];
        TraceStep { rule, applied, because: Cow::Borrowed(text) }
    }
}

fn all() -> impl Iterator<Item = &'static Row> {
    SAID.rows.iter().chain(WORDED.rows)
}

/// The letter for a step of the trace of `why`, if it is one of the sentences.
pub(crate) fn letter_of(step: &TraceStep, why: &Why) -> Option<char> {
    let mut rows = SAID.rows_of(step.rule).iter().chain(WORDED.rows_of(step.rule));
    rows.find(|row| row.applied == step.applied && says(row.text, &step.because, why)).map(|row| row.letter)
}

/// The step that a letter stands for in a trace of `why`. `None` when no sentence has the letter, or `why` has not what
/// the sentence names.
pub(crate) fn step_of(letter: char, why: &Why) -> Option<TraceStep> {
    let row = all().find(|row| row.letter == letter)?;
    let because = match row.text.contains('{') {
        false => Cow::Borrowed(row.text),
        true => Cow::Owned(worded(row.text, why)?),
    };
    Some(TraceStep { rule: row.rule, applied: row.applied, because })
}

/// The text before the first name in a sentence, the name, and what comes after it.
fn split(sentence: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = sentence.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

/// Whether `text` is the sentence, with what `why` says for its names.
fn says(sentence: &str, text: &str, why: &Why) -> bool {
    let (mut sentence, mut text) = (sentence, text);
    while let Some((before, name, after)) = split(sentence) {
        let Some(rest) = text.strip_prefix(before) else { return false };
        let rest = match name {
            "intent" => why.intent.as_deref().and_then(|intent| rest.strip_prefix(intent)),
            "raw" => strip_number(rest, why.raw.into()),
            _ => strip_number(rest, why.adjusted.into()),
        };
        let Some(rest) = rest else { return false };
        (sentence, text) = (after, rest);
    }
    sentence == text
}

fn worded(sentence: &str, why: &Why) -> Option<String> {
    let mut text = String::with_capacity(sentence.len() + 16);
    let mut sentence = sentence;
    while let Some((before, name, after)) = split(sentence) {
        text.push_str(before);
        match name {
            "intent" => text.push_str(why.intent.as_deref()?),
            "raw" => text.push_str(&why.raw.to_string()),
            _ => text.push_str(&why.adjusted.to_string()),
        }
        sentence = after;
    }
    text.push_str(sentence);
    Some(text)
}

/// What comes after a number as it is printed, if that is what the text begins with.
pub(crate) fn strip_number(text: &str, number: u64) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let is_plain = digits == "0" || !digits.starts_with('0');
    (is_plain && digits.parse() == Ok(number)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    fn why() -> Why {
        let intent = Some("cancel".to_owned());
        Why { rule: Rule::R11, intent, raw: 9_000, adjusted: 7_500, trace: Vec::new() }
    }

    #[test]
    fn a_letter_stands_for_one_sentence_and_comes_back_as_it() {
        for row in all() {
            assert!(row.letter.is_ascii_alphabetic(), "`{}` is printed as it is", row.letter);
            let step = step_of(row.letter, &why()).unwrap();
            assert_eq!((step.rule, step.applied), (row.rule, row.applied), "`{}` is another's", row.letter);
            assert_eq!(letter_of(&step, &why()), Some(row.letter), "{step:?}");
        }
        assert_eq!(step_of('?', &why()), None);
    }

    #[test]
    fn a_sentence_with_names_is_found_by_what_the_decision_says_only() {
        let letter = |because: &'static str, why: &Why| {
            letter_of(&TraceStep { rule: Rule::R11, applied: true, because: because.into() }, why)
        };
        let nameless = Why { intent: None, ..why() };
        let none = Why { intent: Some(String::new()), raw: 0, adjusted: 0, ..why() };
        for (because, why, expected) in [
            ("`cancel` at 7500 is the best", &why(), Some('J')),
            ("`cancel` at 7500 is the best", &nameless, None),
            ("`cancel` at 9000 is the best", &why(), None),
            ("`cancel` at 07500 is the best", &why(), None),
            ("`cancel` at  is the best", &why(), None),
            ("`cancels` at 7500 is the best", &why(), None),
            ("`cancel` at 7500 is the best.", &why(), None),
            ("`` at 0 is the best", &none, Some('J')),
            ("`` at 00 is the best", &none, None),
        ] {
            assert_eq!(letter(because, why), expected, "{because}");
        }
        assert_eq!(step_of('J', &nameless), None);
    }

    /// Up to which letter, and the digest of what these mean. Whoever adds letters adds a line for them, and leaves those
    /// before it as they are.
    const LETTERS: [(usize, u128); 1] = [(46, 123_544_382_465_239_198_904_682_707_471_280_070_132)];

    #[test]
    fn letters_mean_what_they_have_always_meant() {
        let mut rows: Vec<&Row> = all().collect();
        rows.sort_by_key(|row| (row.letter.is_uppercase(), row.letter));
        let said = |row: &Row| format!("{} {:?} {} {}", row.letter, row.rule, row.applied, row.text);
        let lines: Vec<String> = rows.into_iter().map(said).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut before = 0;
        for (letters, digest) in LETTERS {
            let these = &lines[before..letters];
            assert_eq!(Digest::of_parts(these).0, digest, "{these:#?}");
            before = letters;
        }
        assert_eq!(before, lines.len(), "a letter has no digest yet");
    }
}
