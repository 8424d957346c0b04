//! What a campaign came to: figures, and what should not have been.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// How many are kept; the first says most.
const VIOLATIONS_MAX: usize = 10;
/// Of a record as a person reads it; JSON has all of it.
const LINE_MAX: usize = 3_000;

/// Something that a server has promised and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub what: String,
    /// What one needs for looking at it: answers, records, addresses.
    pub look: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)?;
        self.look.iter().try_for_each(|line| {
            let (cut, more) = match line.char_indices().nth(LINE_MAX) {
                Some((at, _)) => (&line[..at], " …"),
                None => (line.as_str(), ""),
            };
            write!(formatter, "\n    {cut}{more}")
        })
    }
}

/// The first that were found, by any thread.
#[derive(Debug, Default)]
pub(crate) struct Violations(Mutex<Vec<Violation>>);

impl Violations {
    pub fn add(&self, violation: Violation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < VIOLATIONS_MAX {
            all.push(violation);
        }
    }

    pub fn say(&self, what: impl Into<String>, look: Vec<String>) {
        self.add(Violation { what: what.into(), look });
    }

    pub fn all(&self) -> Vec<Violation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The figures of one campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The store, and what it says its acknowledgement is worth.
    pub store: String,
    pub durability: String,
    pub seed: u64,
    pub servers: usize,
    pub users: usize,
    /// How long messages were said.
    pub lasted: Duration,
    pub answers: u64,
    /// Messages said again, because nobody had answered.
    pub repeats: u64,
    /// Messages said to several servers at the same moment.
    pub together: u64,
    pub kills: u64,
    pub stops: u64,
    /// Times that the database, or a master of it, was taken away.
    pub interruptions: u64,
    /// From the first time that a message was said to its answer.
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
    /// The longest time in which nobody had an answer, and what had happened last before it ended.
    pub gap: Duration,
    pub gap_after: String,
    pub sessions: u64,
    pub timers: u64,
    /// How late the latest timer fired.
    pub timer_late: Duration,
    pub effects: u64,
    /// Effects that came more than once, under the same key.
    pub effects_twice: u64,
    /// How long the servers needed afterwards until nothing was left to be done.
    pub settled_in: Duration,
    /// Ids that were said again to every server after the end.
    pub asked_again: u64,
    /// Acknowledged, and not there any more.
    pub lost: u64,
    /// Sessions of which a server itself said that they were lost.
    pub told_lost: u64,
    pub violations: Vec<Violation>,
}

impl Report {
    pub fn answers_a_second(&self) -> f64 {
        self.answers as f64 / self.lasted.as_secs_f64().max(0.001)
    }

    /// One object, times in milliseconds.
    pub fn to_json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
        let violations: Vec<Value> =
            self.violations.iter().map(|found| json!({ "what": found.what, "look": found.look })).collect();
        json!({
            "store": self.store, "durability": self.durability, "seed": self.seed,
            "servers": self.servers, "users": self.users, "lasted_ms": ms(self.lasted),
            "answers": self.answers, "answers_a_second": self.answers_a_second().round(),
            "repeats": self.repeats, "together": self.together,
            "kills": self.kills, "stops": self.stops, "interruptions": self.interruptions,
            "p50_ms": ms(self.p50), "p99_ms": ms(self.p99), "longest_ms": ms(self.longest),
            "gap_ms": ms(self.gap), "gap_after": self.gap_after,
            "sessions": self.sessions, "timers": self.timers, "timer_late_ms": ms(self.timer_late),
            "effects": self.effects, "effects_twice": self.effects_twice,
            "settled_in_ms": ms(self.settled_in), "asked_again": self.asked_again,
            "lost": self.lost, "told_lost": self.told_lost, "violations": violations,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |time: Duration| time.as_secs_f64();
        writeln!(
            f,
            "store      {} ({}), {} servers, {} users, seed {}",
            self.store, self.durability, self.servers, self.users, self.seed
        )?;
        writeln!(
            f,
            "answers    {} in {:.1} s, {:.0} a second; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} s",
            self.answers,
            s(self.lasted),
            self.answers_a_second(),
            s(self.p50) * 1e3,
            s(self.p99) * 1e3,
            s(self.longest)
        )?;
        writeln!(
            f,
            "repeats    {} unanswered, {} said to several servers at once, {} asked of every server afterwards",
            self.repeats, self.together, self.asked_again
        )?;
        writeln!(
            f,
            "chaos      {} kills, {} stops, {} interruptions of the database",
            self.kills, self.stops, self.interruptions
        )?;
        writeln!(f, "gap        {:.2} s without any answer, after: {}", s(self.gap), self.gap_after)?;
        writeln!(
            f,
            "timers     {} fired once each, the latest {:.2} s late",
            self.timers,
            s(self.timer_late)
        )?;
        writeln!(
            f,
            "effects    {} delivered, {} of them more than once under one key; all at rest {:.1} s after the end",
            self.effects,
            self.effects_twice,
            s(self.settled_in)
        )?;
        write!(
            f,
            "sessions   {}; {} acknowledged messages lost, {} sessions said to be lost",
            self.sessions, self.lost, self.told_lost
        )?;
        for (number, violation) in self.violations.iter().enumerate() {
            write!(f, "\nviolation {}: {violation}", number + 1)?;
        }
        if self.violations.is_empty() { write!(f, "\nno violation") } else { Ok(()) }
    }
}
