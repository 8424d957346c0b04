//! The users: each says its numbered messages in order, and goes on only when one is answered.
//!
//! Whatever is not answered is said again under the same id, to any server; now and then it is said to several at once.
//! What each was told first is kept for the comparison afterwards. Owns no judgement over what the servers hold.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::random::Random;
use crate::report::{Violation, Violations};
use crate::server::Servers;

/// How long a server may say nothing before somebody else is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longer than any failure that a campaign makes.
pub(crate) const UNANSWERED_MAX: Duration = Duration::from_secs(120);
/// What is tried again is not tried at once: a server that is gone refuses connections at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What a message makes the machine do, besides noting its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Count,
    /// Sets the bell, or sets it anew.
    Arm,
    Disarm,
    /// Has something done outside, unless that is under way.
    Work,
    /// Ends the session; the next message begins another.
    Finish,
}

impl Kind {
    fn choose(random: &mut Random) -> Self {
        match random.below(100) {
            0 => Self::Finish,
            1..=8 => Self::Work,
            9..=12 => Self::Arm,
            13 => Self::Disarm,
            _ => Self::Count,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Arm => "arm",
            Self::Disarm => "disarm",
            Self::Work => "work",
            Self::Finish => "finish",
        }
    }
}

/// One message that was answered.
#[derive(Debug)]
pub(crate) struct Told {
    pub kind: Kind,
    /// Of the first answer.
    pub digest: u64,
    /// Since the campaign began.
    pub at: Duration,
    /// From the first time that it was said.
    pub took: Duration,
    pub revision: u64,
}

/// Somebody, and what was said: message number `n` is `told[n - 1]`.
#[derive(Debug)]
pub(crate) struct User {
    pub number: usize,
    pub tenant: usize,
    /// The same names occur in every tenant.
    pub subject: String,
    pub told: Vec<Told>,
}

/// What all users share.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub servers: &'a Servers,
    /// The key of each tenant.
    pub keys: &'a [String],
    pub seed: u64,
    pub began: Instant,
    pub over: AtomicBool,
    pub answers: AtomicU64,
    pub repeats: AtomicU64,
    /// Said to several servers at the same moment.
    pub together: AtomicU64,
    /// Sessions of which a server says that they are lost.
    pub told_lost: AtomicU64,
    /// Whether what was acknowledged may be lost.
    pub may_lose: bool,
    pub violations: &'a Violations,
}

pub(crate) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// `message` of `subject` as a request: the path and the body.
pub(crate) fn message(subject: &str, n: usize, kind: Kind) -> (String, String) {
    let name = kind.name();
    let body = json!({
        "message_id": format!("m{n}"),
        "text": format!("{name} {n}"),
        "candidates": [{ "intent": name, "confidence": 1.0 }],
        "parameters": { "n": n },
    });
    (format!("/v1/machines/tally/sessions/{subject}/messages"), body.to_string())
}

/// What an attempt at several servers came to.
enum Outcome {
    Answered(Answer),
    Again,
    /// The store says that it has lost the session.
    Lost,
    Wrong(Violation),
}

impl Load<'_> {
    /// Says messages until the campaign is over; the last is waited for.
    pub fn run(&self, user: &mut User) {
        let client = Client::new(PATIENCE);
        let mut random = Random::new(self.seed, 1_000 + user.number as u64);
        let mut begins = true;
        while !self.over.load(Ordering::Relaxed) {
            let kind = Kind::choose(&mut random);
            if !self.say(user, kind, begins, &client, &mut random) {
                return;
            }
            begins = kind == Kind::Finish;
        }
    }

    /// Whether the message was answered as it must be.
    fn say(&self, user: &mut User, kind: Kind, begins: bool, client: &Client, random: &mut Random) -> bool {
        let n = user.told.len() + 1;
        let (path, body) = message(&user.subject, n, kind);
        let key = &self.keys[user.tenant];
        let first_said = Instant::now();
        let mut times = 0_u32;
        loop {
            // The first message of a session goes to several more often: they race for beginning it.
            let at_once = if random.percent(if begins { 70 } else { 8 }) { 2 + random.below(2) } else { 1 };
            let urls = self.servers.some(at_once, random);
            if urls.len() > 1 {
                self.together.fetch_add(1, Ordering::Relaxed);
            }
            if times > 0 {
                self.repeats.fetch_add(1, Ordering::Relaxed);
            }
            times += 1;
            let urls: Vec<String> = urls.iter().map(|url| format!("{url}{path}")).collect();
            match ask(client, &urls, key, &body) {
                Outcome::Answered(answer) => {
                    return self.note(user, kind, first_said, &answer);
                }
                Outcome::Lost if self.may_lose => {
                    self.told_lost.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                Outcome::Lost => {
                    self.violate(user, n, "the session is said to be lost".to_owned(), &urls);
                    return false;
                }
                Outcome::Wrong(violation) => {
                    self.violate(user, n, violation.what, &violation.look);
                    return false;
                }
                Outcome::Again if first_said.elapsed() > UNANSWERED_MAX => {
                    let what = format!("unanswered for {} s, said {times} times", UNANSWERED_MAX.as_secs());
                    self.violate(user, n, what, &urls);
                    return false;
                }
                Outcome::Again => thread::sleep(PAUSE),
            }
        }
    }

    fn note(&self, user: &mut User, kind: Kind, first_said: Instant, answer: &Answer) -> bool {
        let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let n = user.told.len() + 1;
        if said["transition"]["event"] != kind.name() {
            let what = format!("`{}` was not taken as such", kind.name());
            self.violate(user, n, what, std::slice::from_ref(&answer.body));
            return false;
        }
        user.told.push(Told {
            kind,
            digest: digest(&answer.body),
            at: self.began.elapsed(),
            took: first_said.elapsed(),
            revision: said["revision"].as_u64().unwrap_or_default(),
        });
        self.answers.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn violate(&self, user: &User, n: usize, what: String, look: &[String]) {
        let mut look = look.to_vec();
        look.push(format!("said at {:?}", self.began.elapsed()));
        let what = format!("tenant {}, {}, message m{n}: {what}", user.tenant, user.subject);
        self.violations.add(Violation { what, look });
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Asks all at the same moment. Who answers has to say the same as every other.
fn ask(client: &Client, urls: &[String], key: &str, body: &str) -> Outcome {
    let answers: Vec<Result<Answer, String>> = match urls {
        [] => return Outcome::Again,
        [url] => vec![client.post(url, key, body)],
        urls => thread::scope(|scope| {
            let asked: Vec<_> =
                urls.iter().map(|url| scope.spawn(move || client.post(url, key, body))).collect();
            let panicked = |_| Err("the thread that asked panicked".to_owned());
            asked.into_iter().map(|asked| asked.join().unwrap_or_else(panicked)).collect()
        }),
    };
    let mut first: Option<Answer> = None;
    for answer in answers.into_iter().flatten() {
        if answer.status >= 500 && answer.body.contains("\"corrupt_record\"") {
            return Outcome::Lost;
        }
        let is_answered = answer.status == 200;
        let comes_again =
            answer.status >= 500 || answer.status == 408 || answer.body.contains("\"still_running\"");
        if !is_answered && !comes_again {
            let look = vec![format!("{} {}", answer.status, answer.body)];
            return Outcome::Wrong(Violation { what: "refused".to_owned(), look });
        }
        match &first {
            _ if !is_answered => {}
            None => first = Some(answer),
            Some(other) if other.body == answer.body => {}
            Some(other) => {
                let look = vec![other.body.clone(), answer.body];
                return Outcome::Wrong(Violation { what: "two servers answer differently".to_owned(), look });
            }
        }
    }
    first.map_or(Outcome::Again, Outcome::Answered)
}
