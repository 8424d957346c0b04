//! A `Mapping`: how a record of another system becomes an instance here.
//!
//! Owns what may be written in a mapping, how it is checked against the machine that it is for, and what a record comes to.
//! Where records come from, and what is done with what they come to, is not known here.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::definition::document::{self, Node, Placed};
use crate::definition::reader::{Entries, Reader};
use crate::diagnostic::{Diagnostic, Place, Severity, nearest, shorten};
use crate::expression::{Expression, Names, Scope, Type};
use crate::id::{InputKey, InstanceId, Subject};
use crate::input::{Fields, Former};
use crate::machine::Machine;
use crate::time::Timestamp;

/// What an expression calls the record.
const RECORD: &str = "record";
const KEYS: [&str; 15] = [
    "machine",
    "id",
    "key",
    "subject",
    "state",
    "states",
    "skip",
    "context",
    "began_at",
    "changed_at",
    "expires_at",
    "reason",
    "locale",
    "topic",
    "follow",
];
/// A number of this size is milliseconds since 1970, a smaller one seconds: as seconds it would be the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// Checked against a machine.
#[derive(Debug)]
pub struct Mapping {
    id: Option<Expression>,
    key: Option<Expression>,
    subject: Option<Expression>,
    state: Expression,
    /// What the other system calls a state, and what that is here.
    states: BTreeMap<String, String>,
    skip: Option<Expression>,
    /// With whether the field may be null.
    context: Vec<(String, bool, Expression)>,
    began_at: Option<Expression>,
    changed_at: Option<Expression>,
    expires_at: Option<Expression>,
    reason: Option<Expression>,
    locale: Option<Expression>,
    topic: Option<Expression>,
    /// The column of a table that says when a row last changed.
    pub follow: Option<String>,
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Mapped {
    Skipped,
    Instance(Box<Arrival>),
}

/// An instance that is to come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arrival {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<InputKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    pub context: Fields,
    #[serde(flatten)]
    pub former: Former,
}

/// The machine that a mapping is for, as far as its text says so.
pub fn machine_of(source: &str) -> Option<String> {
    let node = document::read(source).ok()?;
    node.to_json().get("machine")?.as_str().map(str::to_owned)
}

/// Reads a mapping for this machine, with everything that is wrong or doubtful. There is one if nothing is an error.
pub fn load(source: &str, machine: &Machine) -> (Option<Mapping>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mapping = match document::read(source) {
        Ok(node) => Loading { reader: Reader { diagnostics: &mut diagnostics }, machine }.mapping(&node),
        Err(problem) => {
            diagnostics.push(*problem);
            None
        }
    };
    let is_good = diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error);
    (mapping.filter(|_| is_good), diagnostics)
}

struct Loading<'d, 'm> {
    reader: Reader<'d>,
    machine: &'m Machine,
}

impl Loading<'_, '_> {
    fn mapping(&mut self, node: &Node) -> Option<Mapping> {
        let entries = self.reader.entries(node, "a mapping", &KEYS)?;
        self.check_machine(&entries);
        if entries.get("id").is_none() && entries.get("key").is_none() {
            let message = "nothing tells one record from another".to_owned();
            let help = "add `id: record.session_id`, or a `key` where ids are to be new ones";
            self.reader.error("missing_key", entries.place, message, help);
        }
        let states = entries.get("states").map(|node| self.states(node)).unwrap_or_default();
        let context = entries.get("context").map(|node| self.context(node)).unwrap_or_default();
        let mut of = |name| entries.get(name).and_then(|node| self.expression(node, name));
        let [id, key, subject, state, skip] = ["id", "key", "subject", "state", "skip"].map(&mut of);
        let [began_at, changed_at, expires_at] = ["began_at", "changed_at", "expires_at"].map(&mut of);
        let [reason, locale, topic] = ["reason", "locale", "topic"].map(&mut of);
        if let (Some(skip), Some(node)) = (&skip, entries.get("skip"))
            && let Err(problem) = skip.check_truth("`skip`")
        {
            self.reader.error("type_mismatch", node.place, problem, "compare it with something");
        }
        if entries.get("state").is_none() {
            let message = "nothing says in which state a record is".to_owned();
            self.reader.error("missing_key", entries.place, message, "add `state: record.state`");
        }
        let follow = entries.get("follow").and_then(|node| self.reader.text(node, "`follow`"));
        let state = state?;
        Some(Mapping {
            follow: follow.map(|follow| follow.value),
            id,
            key,
            subject,
            state,
            states,
            skip,
            context,
            began_at,
            changed_at,
            expires_at,
            reason,
            locale,
            topic,
        })
    }

    fn check_machine(&mut self, entries: &Entries<'_>) {
        let Some(node) = entries.get("machine") else {
            let message = "nothing says which machine it is for".to_owned();
            let help = format!("add `machine: {}`", self.machine.name);
            return self.reader.error("missing_key", entries.place, message, help);
        };
        let Some(name) = self.reader.text(node, "`machine`") else { return };
        if name.value != self.machine.name.as_str() {
            let message =
                format!("it is for `{}`, and this is `{}`", shorten(&name.value), self.machine.name);
            self.reader.error("bad_value", name.place, message, "name the machine that it is for");
        }
    }

    fn expression(&mut self, node: &Node, what: &str) -> Option<Expression> {
        let source = self.reader.text(node, &format!("`{what}`"))?;
        self.compile(&source)
    }

    fn compile(&mut self, source: &Placed<String>) -> Option<Expression> {
        let locals = [(RECORD.to_owned(), Type::ANY)];
        let compiled = Expression::compile(&source.value, &Names { locals: &locals, ..Names::default() });
        let help = "write CEL over `record`, such as `record.user_id`; a fixed text has quotes of its own: `\"'idle'\"`";
        match compiled {
            Ok(expression) => {
                let reads = expression.reads();
                let strange = [
                    ("context", reads.context != Default::default()),
                    ("event", reads.event != Default::default() || reads.event_name),
                    ("active", reads.active),
                ];
                if let Some((name, _)) = strange.into_iter().find(|(_, is_read)| *is_read) {
                    let message = format!("`{name}` is not known here: there is no instance yet");
                    self.reader.error("bad_expression", source.place, message, help);
                    return None;
                }
                Some(expression)
            }
            Err(problem) => {
                let message =
                    format!("the expression `{}` cannot be used: {problem}", shorten(&source.value));
                self.reader.error("bad_expression", source.place, message, help);
                None
            }
        }
    }

    fn states(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        let Some(entries) = self.reader.named(node, "`states`") else { return states };
        for (there, here) in entries.iter() {
            let Some(here) = self.reader.text(here, "a state") else { continue };
            self.check_states(&here.value, here.place);
            states.insert(there.value.clone(), here.value);
        }
        states
    }

    fn check_states(&mut self, paths: &str, place: Place) {
        let chart = &self.machine.chart;
        for path in paths.split(',').filter(|path| chart.by_path(path).is_none()) {
            let message = format!("the machine `{}` has no state `{}`", self.machine.name, shorten(path));
            let help = nearest(path, chart.states.iter().skip(1).map(|state| &*state.path));
            self.reader.error("unknown_target", place, message, help);
        }
    }

    fn context(&mut self, node: &Node) -> Vec<(String, bool, Expression)> {
        let mut context = Vec::new();
        let Some(entries) = self.reader.named(node, "`context`") else { return context };
        for (name, node) in entries.iter() {
            let Some(field) = self.machine.field(&name.value) else {
                let known = self.machine.fields.iter().map(|field| field.name.value.as_str());
                let message = format!("the context has no field `{}`", shorten(&name.value));
                self.reader.error("unknown_field", name.place, message, nearest(&name.value, known));
                continue;
            };
            let Some(expression) = self.expression(node, &name.value) else { continue };
            if let Err(problem) = expression.check_assignment(field) {
                let help = "change the expression, or the type of the field";
                self.reader.error("type_mismatch", node.place, problem, help);
            }
            context.push((name.value.clone(), field.nullable, expression));
        }
        context
    }
}

/// A record while it is mapped.
struct Reading<'r> {
    locals: [Value; 1],
    nothing: &'r Fields,
    now: Timestamp,
}

impl Reading<'_> {
    fn value(&self, what: &str, of: Option<&Expression>) -> Result<Value, String> {
        let Some(expression) = of else { return Ok(Value::Null) };
        let scope = Scope { now: self.now, locals: &self.locals, ..Scope::empty(self.nothing) };
        expression
            .evaluate(scope)
            .map_err(|problem| format!("`{what}` ({}): {problem}", shorten(&expression.source)))
    }

    /// What is null is absent; a number is its digits.
    fn text(&self, what: &str, of: Option<&Expression>) -> Result<Option<String>, String> {
        match self.value(what, of)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            Value::Number(number) => Ok(Some(number.to_string())),
            other => Err(format!("`{what}` must be text, and this is {other}")),
        }
    }

    /// Empty text is absent too: that is what a table without nulls has.
    fn time(&self, what: &str, of: Option<&Expression>) -> Result<Option<Timestamp>, String> {
        let value = self.value(what, of)?;
        let wrong = || {
            Err(format!(
                "`{what}` is {value}, which is no time: write one such as 2026-01-31T12:00:00Z, or seconds or milliseconds since 1970"
            ))
        };
        match &value {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => Timestamp::parse(text).map_or_else(wrong, |time| Ok(Some(time))),
            Value::Number(number) => match number.as_f64() {
                Some(ms) if ms.abs() >= MILLISECONDS_FROM => Ok(Some(Timestamp::from_millis(ms as i64))),
                Some(seconds) => Ok(Some(Timestamp::from_millis((seconds * 1_000.0) as i64))),
                None => wrong(),
            },
            _ => wrong(),
        }
    }
}

impl Mapping {
    /// What a record comes to; `now` is what its expressions call so.
    ///
    /// # Errors
    /// Why it comes to nothing, for whoever mends the record or the mapping.
    pub fn apply(&self, record: &Value, now: Timestamp) -> Result<Mapped, String> {
        let nothing = Fields::new();
        let reading = Reading { locals: [record.clone()], nothing: &nothing, now };
        match reading.value("skip", self.skip.as_ref())? {
            Value::Bool(true) => return Ok(Mapped::Skipped),
            Value::Bool(false) | Value::Null => {}
            other => return Err(format!("`skip` must be true or false, and this is {other}")),
        }
        let id = reading.text("id", self.id.as_ref())?.map(|id| InstanceId::parse(&id)).transpose()?;
        let key = reading.text("key", self.key.as_ref())?.map(|key| InputKey::parse(&key)).transpose()?;
        if id.is_none() && key.is_none() {
            return Err("it has neither an `id` nor a `key`".to_owned());
        }
        let subject = reading.text("subject", self.subject.as_ref())?;
        let subject = subject.map(|subject| Subject::parse(&subject)).transpose()?;
        let mut context = Fields::new();
        for (name, nullable, expression) in &self.context {
            let value = reading.value(name, Some(expression))?;
            // Where a field cannot be null, what is not there is as in a new instance.
            if *nullable || !value.is_null() {
                context.insert(name.clone(), value);
            }
        }
        let former = Former {
            state: self.state(&reading)?,
            began_at: reading.time("began_at", self.began_at.as_ref())?,
            changed_at: reading.time("changed_at", self.changed_at.as_ref())?,
            expires_at: reading.time("expires_at", self.expires_at.as_ref())?,
            reason: reading.text("reason", self.reason.as_ref())?,
            locale: reading.text("locale", self.locale.as_ref())?,
            topic: reading.text("topic", self.topic.as_ref())?,
        };
        Ok(Mapped::Instance(Box::new(Arrival { id, key, subject, context, former })))
    }

    fn state(&self, reading: &Reading<'_>) -> Result<String, String> {
        let Some(there) = reading.text("state", Some(&self.state))? else {
            return Err("it has no `state`".to_owned());
        };
        Ok(self.states.get(&there).cloned().unwrap_or(there))
    }
}
