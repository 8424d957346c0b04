//! Which of its readings a message is taken for (rules R10 to R13), or what is asked, or the ladder of fallbacks.

use crate::conversation::clarification::Choice;
use crate::conversation::message::Rule;
use crate::conversation::route::reading::Reading;
use crate::conversation::route::{Act, Chosen, Question, Router};
use crate::conversation::sentence::Sentence;
use crate::conversation::{LadderStep, Priority};

/// A question offers at most this many readings, and "none of these".
const READINGS_MAX: usize = 2;

impl Router<'_> {
    pub(super) fn r10_conflict(&mut self, readings: &[Reading]) -> Option<Chosen> {
        let best = self.eligible(readings).next().map(|r| self.intent(r.intent).priority);
        let strong = |r: &&Reading| {
            let priority = self.intent(r.intent).priority;
            self.must_ask(r) && best.is_none_or(|best| priority <= best)
        };
        let Some(reading) = readings.iter().find(strong) else {
            self.say(Sentence::NoStrongConflict);
            return None;
        };
        let name = &self.intent(reading.intent).name;
        self.applied(Rule::R10, format!("`{name}` at {} conflicts with the session; asked", reading.raw));
        let choices = vec![Choice::Continue, Choice::Intent(name.clone())];
        let original = self.message.clone();
        Some(Chosen::of(reading, Act::Ask(Question { sentence: "ask_switch", choices, original })))
    }

    pub(super) fn r11_choose(&mut self, readings: &[Reading]) -> Option<Chosen> {
        let mut eligible = self.eligible(readings);
        let Some(first) = eligible.next() else {
            self.passed(Rule::R11, format!("nothing reaches {}", self.conversation.thresholds.confidence));
            self.say(Sentence::NothingToChoose);
            return None;
        };
        let intent = self.intent(first.intent);
        let rivals: Vec<&Reading> = eligible
            .filter(|r| self.intent(r.intent).priority == intent.priority)
            .filter(|r| first.adjusted.minus(r.adjusted) < self.conversation.thresholds.ambiguity)
            .collect();
        if let Some(rival) = rivals.first() {
            let gap = first.adjusted.minus(rival.adjusted);
            let other = &self.intent(rival.intent).name;
            self.applied(Rule::R11, format!("`{}` at {} is first", intent.name, first.adjusted));
            self.applied(Rule::R12, format!("`{other}` is only {gap} behind; asked"));
            let choices = self.choices(std::iter::once(first).chain(rivals));
            let original = self.message.clone();
            return Some(Chosen::of(first, Act::Ask(Question { sentence: "which_one", choices, original })));
        }
        self.applied(Rule::R11, format!("`{}` at {} is the best", intent.name, first.adjusted));
        self.say(Sentence::NoRival);
        Some(self.take(first.intent, first.raw, first.adjusted, self.message.clone()))
    }

    /// The best readings, and "none of these". What would be refused here is offered only if nothing else is left.
    fn choices<'r>(&self, readings: impl Iterator<Item = &'r Reading>) -> Vec<Choice> {
        let choice = |r: &Reading| Choice::Intent(self.intent(r.intent).name.clone());
        let (open, closed): (Vec<&Reading>, Vec<&Reading>) = readings.partition(|r| self.is_open(r.intent));
        let offered = if open.is_empty() { closed } else { open };
        offered.into_iter().take(READINGS_MAX).map(choice).chain([Choice::NoneOfThese]).collect()
    }

    pub(super) fn r13_fallback(&mut self, readings: &[Reading]) -> Chosen {
        let known = |r: &&Reading| self.intent(r.intent).priority != Priority::P4;
        let likely = |r: &&Reading| r.raw >= self.conversation.thresholds.suggestion;
        let mut likely: Vec<&Reading> = readings.iter().filter(known).filter(likely).collect();
        likely.sort_by_key(|r| std::cmp::Reverse(r.raw));
        let Some(best) = likely.first().copied() else {
            return self.ladder("nothing was understood");
        };
        self.applied(Rule::R13, format!("best raw is {}: asked what was meant", best.raw));
        let choices = self.choices(likely.into_iter());
        let original = self.message.clone();
        Chosen::of(best, Act::Ask(Question { sentence: "did_you_mean", choices, original }))
    }

    pub(super) fn ladder(&mut self, because: &'static str) -> Chosen {
        let ladder = &self.conversation.ladder;
        let failures = self.session.failures as usize;
        let step = ladder.get(failures.min(ladder.len().saturating_sub(1))).copied();
        let step = step.unwrap_or(LadderStep::Rephrase);
        self.applied(Rule::R13, format!("{because}; failure {}: {step:?}", failures + 1));
        Chosen::plain(Act::Fallback(step))
    }
}
