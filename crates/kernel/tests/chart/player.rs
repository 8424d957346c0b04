//! Plays inputs on a machine, by hand and by text, and says in one line what each did.
//!
//! `check` compares a transcript. Every play runs twice, once with the snapshot written and read back, as stores do,
//! between every two inputs; that makes no difference.

use std::collections::BTreeMap;

use kernel::commit::{Answer, Commit, EffectKind};
use kernel::decide::decide;
use kernel::definition::load;
use kernel::id::{InputKey, InstanceId, TenantId};
use kernel::input::{CallOutcome, Cause, Fields, Input, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::Value;

/// The fields that the definitions of these tests may use without declaring them.
const HEAD: &str = "\
machine: m
context:
  log:  { type: array, items: string, default: [] }
  n:    { type: integer, default: 0 }
  text: { type: string, nullable: true }
  seen: { type: any }
";

pub struct Player<'m> {
    machine: &'m Machine,
    /// Write and read the snapshot, as stores do, before each input.
    saves: bool,
    pub snapshot: Option<Snapshot>,
    now: Timestamp,
    count: usize,
    /// The keys of the calls that were made last, by id.
    calls: BTreeMap<String, String>,
}

impl<'m> Player<'m> {
    pub fn new(machine: &'m Machine, saves: bool) -> Self {
        Self {
            machine,
            saves,
            snapshot: None,
            now: Timestamp::from_millis(0),
            count: 0,
            calls: BTreeMap::new(),
        }
    }

    pub fn at(&mut self, seconds: i64) {
        self.now = Timestamp::from_millis(seconds * 1_000);
    }

    pub fn give(&mut self, cause: Cause) -> Result<Commit, Refusal> {
        self.count += 1;
        if self.saves {
            self.snapshot = self.snapshot.as_ref().map(crate::restored::restored);
        }
        let input = Input {
            tenant: TenantId::default_tenant(),
            key: InputKey::parse(&format!("k{}", self.count)).unwrap(),
            cause,
            expected: None,
            by: None,
            trace: None,
        };
        let commit = decide(self.machine, self.snapshot.as_ref(), &input, self.now)?;
        self.snapshot.clone_from(&commit.after);
        for effect in &commit.effects {
            if let EffectKind::Call { id, .. } = &effect.kind {
                self.calls.insert(id.clone(), effect.key.clone());
            }
        }
        Ok(commit)
    }

    pub fn create(&mut self, context: Fields) -> Result<Commit, Refusal> {
        self.give(Cause::Create {
            machine: self.machine.name.clone(),
            id: Some(instance()),
            subject: None,
            context,
            start: Start::default(),
        })
    }

    pub fn event(&mut self, event: &str, payload: Fields) -> Result<Commit, Refusal> {
        self.give(Cause::Event { instance: instance(), event: event.to_owned(), payload })
    }

    /// Fires the timer that is due first, if one is.
    pub fn fire(&mut self) -> Option<(String, Result<Commit, Refusal>)> {
        let timer = self.snapshot.as_ref()?.due_timer(self.now, |_| true)?.clone();
        let result = self.give(Cause::Timer {
            instance: instance(),
            timer: timer.id.to_string(),
            deadline: timer.deadline,
        });
        Some((timer.id.to_string(), result))
    }

    fn play(&mut self, input: &str) -> String {
        let (word, rest) = input.split_once(' ').unwrap_or((input, ""));
        let fields: Fields = serde_json::from_str(rest).unwrap_or_default();
        let before = self.snapshot.clone();
        if let Some(seconds) = word.strip_prefix('@') {
            self.at(seconds.parse().unwrap());
            return self.fire_all();
        }
        let result = match word {
            "create" => self.create(fields),
            "done" | "fail" => self.answer_call(word, rest),
            "recover" => self.give(Cause::Recover { instance: instance(), reason: "stuck".into() }),
            event => self.event(event, fields),
        };
        told(before.as_ref(), result)
    }

    /// `done ID {…}` or `fail ID {…}`, for the call of this id that was made last.
    fn answer_call(&mut self, word: &str, rest: &str) -> Result<Commit, Refusal> {
        let (id, json) = rest.split_once(' ').unwrap_or((rest, "{}"));
        let fields = serde_json::from_str(json).unwrap();
        let outcome = if word == "done" { CallOutcome::Done(fields) } else { CallOutcome::Failed(fields) };
        self.give(Cause::Result { instance: instance(), call: self.calls[id].clone(), outcome })
    }

    /// Answers the call that has been under way for longest, if there is one.
    pub fn answer_first(&mut self, done: bool) -> Option<Result<Commit, Refusal>> {
        let call = self.snapshot.as_ref()?.invocations.first()?.key.clone();
        let outcome =
            if done { CallOutcome::Done(Fields::new()) } else { CallOutcome::Failed(Fields::new()) };
        Some(self.give(Cause::Result { instance: instance(), call, outcome }))
    }

    fn fire_all(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let before = self.snapshot.clone();
            let Some((timer, result)) = self.fire() else {
                break;
            };
            lines.push(format!("{timer}: {}", told(before.as_ref(), result)));
            assert!(lines.len() < 50, "timers fire for ever: {}", lines.join(" / "));
        }
        match lines.is_empty() {
            true => "nothing is due".into(),
            false => lines.join(" / "),
        }
    }
}

/// The state, then whatever changed: the log, other fields, timers, replies, closure.
fn told(before: Option<&Snapshot>, result: Result<Commit, Refusal>) -> String {
    let commit = match result {
        Ok(commit) => commit,
        Err(refusal) => {
            let shown = matches!(
                refusal.code.as_str(),
                "expression_failed" | "step_limit" | "invalid_context" | "invariant_violated"
            );
            let message = if shown { refusal.message } else { String::new() };
            return format!("refused {} {message}", refusal.code.as_str()).trim_end().to_owned();
        }
    };
    let after = commit.after.unwrap();
    let mut line = after.state();
    if !commit.entry.success {
        line += &format!("; {}", commit.entry.code.unwrap_or_default());
    }
    let old = |name: &str| before.and_then(|b| b.context.get(name)).cloned();
    let words = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items.len(),
        _ => 0,
    };
    for (name, value) in &*after.context {
        if name == "log" {
            let new = &value.as_array().unwrap()[words(old(name))..];
            let new: Vec<&str> = new.iter().filter_map(Value::as_str).collect();
            if !new.is_empty() {
                line += &format!("; log {}", new.join(" "));
            }
        } else if before.is_some() && old(name).as_ref() != Some(value) {
            line += &format!("; {name}={value}");
        }
    }
    if before.map_or(&[][..], |b| &b.timers) != after.timers {
        let timer = |t: &kernel::snapshot::Timer| format!("{}@{}", t.id, t.deadline.as_millis() / 1_000);
        let timers: Vec<String> = after.timers.iter().map(timer).collect();
        line += &format!("; timers {}", if timers.is_empty() { "none".into() } else { timers.join(" ") });
    }
    for effect in &commit.effects {
        if let EffectKind::Call { id, src, input } = &effect.kind {
            line += &format!("; calls {id} {src} {}", Value::Object(input.clone()));
        }
    }
    let ids = |s: &Snapshot| s.invocations.iter().map(|call| call.id.to_string()).collect::<Vec<_>>();
    let over: Vec<String> = before.map(ids).unwrap_or_default();
    let over: Vec<String> = over.into_iter().filter(|id| !ids(&after).contains(id)).collect();
    if !over.is_empty() {
        line += &format!("; over {}", over.join(" "));
    }
    let Answer::Event(answer) = commit.entry.answer else { panic!("an event is answered as one") };
    for reply in answer.reply {
        line += &format!("; says {:?}", reply.text);
    }
    if let Some(closure) = after.closure {
        line += &format!("; closed {}", closure.reason);
        if !closure.output.is_empty() {
            line += &format!(" with {}", Value::Object(closure.output));
        }
    }
    line
}

fn instance() -> InstanceId {
    InstanceId::parse("i").unwrap()
}

/// A machine of `states`, in which `L(word)` appends a word to the log.
pub fn machine(states: &str) -> Machine {
    let source = completed(states);
    let (machine, diagnostics) = load(&source);
    let told: Vec<String> = diagnostics.iter().map(|d| d.render("m", &source)).collect();
    machine.unwrap_or_else(|| panic!("{}", told.join("\n")))
}

pub fn completed(states: &str) -> String {
    let mut source = HEAD.to_owned();
    let mut rest = states;
    while let Some(at) = rest.find("L(") {
        let (before, after) = rest.split_at(at);
        let (word, after) = after[2..].split_once(')').unwrap();
        source += &format!("{before}{{ assign: {{ log: 'context.log + [\"{word}\"]' }} }}");
        rest = after;
    }
    source + rest
}

/// Plays the left sides of `script` and compares its right sides.
pub fn check(states: &str, script: &str) {
    let machine = machine(states);
    let lines = || script.lines().map(str::trim).filter(|line| !line.is_empty());
    for saves in [false, true] {
        let mut player = Player::new(&machine, saves);
        let mut played = String::new();
        for line in lines() {
            let input = line.split(" ->").next().unwrap().trim();
            played += &format!("{input} -> {}\n", player.play(input));
        }
        let written: String = lines()
            .map(|line| {
                let (input, told) = line.split_once("->").unwrap_or((line, ""));
                format!("{} -> {}\n", input.trim(), told.trim())
            })
            .collect();
        assert!(
            played == written,
            "saved between inputs: {saves}; it is\n\n{played}\nand should be\n\n{written}"
        );
    }
}
