//! What a message may mean (rules R8 and R9): candidates merged, filtered to known intents, adjusted for conflicts.

use std::fmt::{self, Write as _};

use crate::conversation::definition::ConflictPenalty;
use crate::conversation::message::{Confidence, Rule};
use crate::conversation::route::Router;
use crate::conversation::sentence::Sentence;
use crate::conversation::{IntentIndex, Priority};
use crate::input::Fields;

/// An intent that the message may mean.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub intent: IntentIndex,
    pub raw: Confidence,
    pub adjusted: Confidence,
    pub conflicts: bool,
    /// From a caller's classifier, which has seen the text.
    pub by_caller: bool,
    parameters: Fields,
}

impl Reading {
    /// With parameters, it comes from the caller.
    fn new(intent: IntentIndex, raw: Confidence, parameters: Option<&Fields>) -> Self {
        Self {
            intent,
            raw,
            adjusted: raw,
            conflicts: false,
            by_caller: parameters.is_some(),
            parameters: parameters.cloned().unwrap_or_default(),
        }
    }
}

impl<'a> Router<'a> {
    /// R8 and R9: candidates merged, filtered to known intents, and adjusted. The most urgent and best first.
    pub(super) fn readings(&self, normal: &str) -> Vec<Reading> {
        let mut readings: Vec<Reading> = Vec::new();
        for candidate in &self.message.candidates {
            let Some(intent) = self.conversation.intent_by_name(&candidate.intent) else {
                continue;
            };
            let known = readings.iter_mut().find(|r| r.intent == intent);
            let reading = Reading::new(intent, candidate.confidence, Some(&candidate.parameters));
            match known {
                Some(known) if known.raw >= reading.raw => {}
                Some(known) => *known = reading,
                None => readings.push(reading),
            }
        }
        if readings.is_empty() {
            let found = self.conversation.lexicon.recognise(normal, self.locale);
            readings.extend(found.into_iter().map(|(intent, raw)| Reading::new(intent, raw, None)));
        }
        for reading in &mut readings {
            reading.conflicts = self.conflicts(reading);
            reading.adjusted = match (reading.conflicts, self.conversation.thresholds.conflict) {
                (false, _) => reading.raw,
                (true, ConflictPenalty::Subtract(penalty)) => reading.raw.minus(penalty),
                (true, ConflictPenalty::Multiply(share)) => {
                    let product = u32::from(reading.raw.points()) * u32::from(share.points()) / 10_000;
                    Confidence::basis_points(product as u16)
                }
            };
        }
        let priority = |r: &Reading| self.intent(r.intent).priority;
        readings.sort_by_key(|r| (priority(r), std::cmp::Reverse(r.adjusted), r.intent));
        readings
    }

    /// It starts something else than the session is about, or names another entity. P0 never conflicts.
    fn conflicts(&self, reading: &Reading) -> bool {
        let intent = self.intent(reading.intent);
        if intent.priority == Priority::P0 {
            return false;
        }
        let other_topic = match (&intent.starts, &self.session.topic) {
            (Some(starts), Some(topic)) => starts != topic,
            _ => false,
        };
        let other_entity = intent.entity.as_ref().is_some_and(|(parameter, field)| {
            let named = reading.parameters.get(parameter).or(self.message.parameters.get(parameter));
            let own = self.context.get(field).filter(|value| !value.is_null());
            matches!((named, own), (Some(named), Some(own)) if named != own)
        });
        other_topic || other_entity
    }

    pub(super) fn note_readings(&mut self, readings: &[Reading]) {
        let (mut all, mut conflicting) = (String::new(), String::new());
        for Reading { intent, raw, adjusted, conflicts, .. } in readings {
            let name = &self.intent(*intent).name;
            append(&mut all, format_args!("{name} {raw}"));
            if *conflicts {
                append(&mut conflicting, format_args!("{name} {raw} becomes {adjusted}"));
            }
        }
        match all.is_empty() {
            true => self.say(Sentence::NoCandidate),
            false => self.applied(Rule::R8, all),
        }
        match conflicting.is_empty() {
            true => self.say(Sentence::NoConflict),
            false => self.applied(Rule::R9, conflicting),
        }
    }

    /// Conflicting, and sure enough before the penalty that it may not lose silently.
    pub(super) fn must_ask(&self, reading: &Reading) -> bool {
        reading.conflicts && reading.raw >= self.conversation.thresholds.confidence
    }

    /// Those that may be acted on, in the order of `readings`.
    pub(super) fn eligible<'r>(
        &self,
        readings: &'r [Reading],
    ) -> impl Iterator<Item = &'r Reading> + use<'r, 'a> {
        let conversation = self.conversation;
        let enough = conversation.thresholds.confidence;
        let known = move |r: &&Reading| conversation.intent(r.intent).priority != Priority::P4;
        readings.iter().filter(move |r| r.adjusted >= enough).filter(known)
    }
}

/// One more in a list that people read.
fn append(list: &mut String, item: fmt::Arguments<'_>) {
    let comma = if list.is_empty() { "" } else { ", " };
    // A string takes whatever is written.
    let _ = write!(list, "{comma}{item}");
}
