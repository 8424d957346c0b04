//! An instance that goes on by another definition of its machine.
//!
//! It stays where it is: nothing is done on the way, timers and calls that mean the same run on, and new ones begin now.
//! Where it cannot stand so, it goes where the definition sends such instances, or stays with the definition that it has.

mod phases;
mod running;
mod talk;

use serde_json::Value;
use std::sync::Arc;

use crate::bound;
use crate::chart::{Apart, StateIndex};
use crate::commit::{Commit, Replaced};
use crate::conversation::ClarificationStatus;
use crate::decide::turn::Turn;
use crate::definition::FieldDefinition;
use crate::diagnostic::nearest;
use crate::id::DefinitionHash;
use crate::input::{Fields, Input};
use crate::machine::Machine;
use crate::migration::{Migration, Otherwise};
use crate::refusal::{Refusal, RefusalCode};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;

/// What a migration is called in a log; and one that led where those go that could not be migrated as they stood.
pub const MIGRATE: &str = "migrate";
pub const PARK: &str = "park";

/// What a migration is decided on.
#[derive(Clone, Copy)]
struct Move<'a> {
    machine: &'a Machine,
    migration: &'a Migration,
    before: &'a Snapshot,
    input: &'a Input,
    now: Timestamp,
}

/// Why an instance cannot be migrated as it stands.
enum Unfit {
    /// The definition says that it stays.
    Stays(String),
    /// In words that go on from "it cannot be migrated: ".
    Because(String),
    /// A field of the context, and what is wrong with its value.
    Field(String, String),
}

impl Unfit {
    fn told(self) -> String {
        match self {
            Self::Stays(why) | Self::Because(why) => why,
            Self::Field(name, problem) => format!("context.{name} {problem}"),
        }
    }

    /// For the log, which may be read by many: no value is told, since only the other definition knows which are secret.
    fn noted(self) -> String {
        match self {
            Self::Field(name, _) => format!("what context.{name} held does not fit"),
            other => other.told(),
        }
    }
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self::Because(refusal.message)
    }
}

/// # Errors
/// `NotMigratable`, with why; the instance stays with the definition that it has.
pub(super) fn migrate(
    machine: &Machine,
    before: &Snapshot,
    input: &Input,
    now: Timestamp,
    to: &DefinitionHash,
    phases: &[Arc<str>],
) -> Result<Commit, Refusal> {
    let refuse = |why: String| Err(Refusal::new(RefusalCode::NotMigratable, before.revision, why));
    if machine.hash != *to || machine.name != before.machine {
        return refuse(format!("`{}` is not of the definition that is asked for", before.machine));
    }
    if before.definition == *to {
        return refuse(format!("it is of version {} already", before.version));
    }
    if let Some(closure) = &before.closure {
        return refuse(format!("it ended at {} ({})", closure.at, closure.reason));
    }
    let nothing = Migration::default();
    let migration = machine.migration(before.version).unwrap_or(&nothing);
    let moving = Move { machine, migration, before, input, now };
    let carried = match &machine.flow {
        Some(flow) => moving.phases(flow, phases),
        None => moving.carried(),
    };
    let (mut commit, why) = match (carried, &migration.otherwise) {
        (Ok(commit), _) => (commit, None),
        (Err(Unfit::Stays(why)), _) => return refuse(why),
        (Err(unfit), None) => return refuse(unfit.told()),
        (Err(unfit), Some(otherwise)) => match moving.parked(otherwise) {
            Ok(commit) => (commit, Some(unfit.noted())),
            Err(also) => return refuse(format!("{}; {}", unfit.told(), also.told())),
        },
    };
    commit.entry.reason = Some(moving.told(why));
    Ok(commit)
}

impl Move<'_> {
    /// For the log: between which versions, what of the context went, and why it could not stay where it was.
    fn told(self, why: Option<String>) -> String {
        let gone = self.before.context.keys().filter(|name| self.machine.field(name).is_none());
        let gone: Vec<String> = gone.map(|name| format!("`{name}`")).collect();
        let mut told = format!("from version {} to {}", self.before.version, self.machine.version);
        if !gone.is_empty() {
            told.push_str(&format!(", without {}", gone.join(", ")));
        }
        match why {
            Some(why) => format!("{told}; {why}"),
            None => told,
        }
    }

    fn check_kind(self) -> Result<(), Unfit> {
        let because = |why: &str| Err(Unfit::Because(why.to_owned()));
        if self.before.flow.is_some() {
            return because("it is a flow, and this definition has no phases");
        }
        let talks = self.machine.conversation.is_some();
        match (self.before.subject.is_some(), self.before.conversation.is_some()) {
            (true, talked) if talked != talks => because(
                "only one of the two definitions is a conversation, so that it is no session in the other",
            ),
            _ => Ok(()),
        }
    }

    /// Where it is, as this definition calls that.
    fn carried(self) -> Result<Commit, Unfit> {
        self.check_kind()?;
        let states = self.states()?;
        let mut turn = self.turn(self.context(false)?);
        let chart = &self.machine.chart;
        let active = chart.active_with(&states);
        turn.after.configuration = active
            .iter()
            .filter(|state| chart.is_atomic(**state))
            .map(|s| Arc::clone(&chart.state(*s).path))
            .collect();
        turn.position.history = self.history();
        turn.position.invocations = self.calls(&active);
        self.talk(&mut turn);
        turn.position.timers = self.timers(&active, &turn);
        turn.stand(&states, self.now, MIGRATE)?;
        Ok(turn.commit_event(MIGRATE, None))
    }

    /// Where the definition sends those who cannot stay where they are: as after a recovery, with as much of the context
    /// as fits.
    fn parked(self, otherwise: &Otherwise) -> Result<Commit, Unfit> {
        self.check_kind()?;
        let mut turn = self.turn(self.context(true)?);
        turn.resolve_pending(ClarificationStatus::Cancelled, None);
        turn.forget_conversation();
        if let Some(reply) = otherwise.reply {
            let context = Arc::clone(&turn.position.context);
            turn.trail.replies.push((reply, context));
        }
        turn.jump(otherwise.target, PARK)?;
        let same = |(name, value): &(&String, &Value)| turn.position.context.get(*name) == Some(*value);
        let kept = self.before.context.iter().filter(same).map(|(name, _)| name.clone()).collect();
        // Values are not told: which of them were secret, only the other definition knows.
        let replaced = Replaced { state: self.before.state(), context: Fields::new(), kept };
        Ok(turn.commit_event(PARK, Some(replaced)))
    }

    fn turn(&self, context: Fields) -> Turn<'_> {
        Turn::migrate(self.machine, self.before, self.input, self.now, context)
    }

    /// The states that are active here, each in another region.
    fn states(self) -> Result<Vec<StateIndex>, Unfit> {
        let mut here = Vec::new();
        for leaf in &self.before.configuration {
            match self.migration.moved(leaf) {
                Some(moved) => here.push(moved),
                None => {
                    let why = format!("the migration leaves what is in `{leaf}` where it is");
                    return Err(Unfit::Stays(why));
                }
            }
        }
        let chart = &self.machine.chart;
        chart.together(here.iter().flat_map(|paths| paths.split(','))).map_err(|apart| {
            Unfit::Because(match apart {
                Apart::Unknown(path) => {
                    let help = nearest(path, chart.states.iter().skip(1).map(|state| &*state.path));
                    let version = self.machine.version;
                    format!(
                        "version {version} has no state `{path}`, and no migration says where that leads; {help}"
                    )
                }
                Apart::NotWith(other, path) => {
                    format!("`{other}` and `{path}` cannot be active together here")
                }
            })
        })
    }

    /// The context as this definition has it: what a migration declares, else what the field held before, else what it
    /// begins with. With `as_far` as it fits, what does not is as in a new instance.
    fn context(self, as_far: bool) -> Result<Fields, Unfit> {
        let wrong = |name: &str, problem: String| Err(Unfit::Field(name.to_owned(), problem));
        let declared: Vec<(&str, Result<Value, String>)> =
            self.migration.fields(self.before, self.now).collect();
        let mut context = Fields::new();
        for field in &self.machine.fields {
            let name = &field.name.value;
            let found = match declared.iter().find(|(declared, _)| declared == name) {
                Some((_, Ok(value))) => Some(value),
                Some((_, Err(_))) if as_far => None,
                Some((_, Err(problem))) => return wrong(name, format!("cannot be made: {problem}")),
                // Where nothing may be null, nothing is as in a new instance.
                None => self
                    .before
                    .context
                    .get(name)
                    .filter(|value| !value.is_null() || field.accepts(value).is_ok()),
            };
            let value = match found.map(|value| (value, field.accepts(value))) {
                Some((value, Ok(()))) => value.clone(),
                Some((_, Err(problem))) if !as_far => return wrong(name, problem),
                _ => match fresh(field) {
                    Some(value) => value,
                    None => return wrong(name, "is required".to_owned()),
                },
            };
            context.insert(name.clone(), value);
        }
        bound::check(&context).map_err(|problem| Unfit::Because(format!("the context {problem}")))?;
        Ok(context)
    }
}

/// What a field holds in a new instance to which nothing was given.
fn fresh(field: &FieldDefinition) -> Option<Value> {
    match &field.default {
        Some(default) => Some(default.value.clone()),
        None => (!field.required).then(|| field.empty()),
    }
}
