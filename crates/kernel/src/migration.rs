//! A `Migration`: what an instance of another version is called by a definition, and what becomes of its context.
//!
//! Names map to names: of the other version nothing else is known here, and nothing else is needed. How an instance is
//! put where its names lead is `decide`'s business.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::chart::{Computed, ReplyIndex, StateIndex};
use crate::definition::TIMER_PREFIX;
use crate::expression::Scope;
use crate::input::Fields;
use crate::machine::Machine;
use crate::snapshot::Snapshot;
use crate::time::Timestamp;

#[derive(Debug, Default)]
pub struct Migration {
    /// The versions that it is for; with none named, all that no other is for.
    pub from: Vec<u32>,
    /// What states, or phases of a flow, are called there, and what they are here; states of several regions have commas
    /// between them. What is nothing here stays there.
    pub moves: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// What the fields of the context hold afterwards that do not hold the same as before.
    pub context: Vec<(Arc<str>, Computed)>,
    pub otherwise: Option<Otherwise>,
}

/// Where those go that cannot be migrated as they stand, and what they are told.
#[derive(Debug)]
pub struct Otherwise {
    pub target: StateIndex,
    pub reply: Option<ReplyIndex>,
}

impl Machine {
    /// What is declared for instances of this version. Where nothing is, names mean the same as before.
    pub fn migration(&self, version: u32) -> Option<&Migration> {
        let named = self.migrations.iter().find(|migration| migration.from.contains(&version));
        named.or_else(|| self.migrations.iter().find(|migration| migration.from.is_empty()))
    }

    /// Whether there is a place here for instances of some other version in these states, with commas between them; or
    /// something says that there is none.
    pub fn provides_for(&self, states: &str) -> bool {
        let nothing = Migration::default();
        let migrations = || self.migrations.iter().chain(std::iter::once(&nothing));
        let has = |path: &str| self.chart.by_path(path).is_some_and(|state| !self.chart.is_history(state));
        migrations().any(|migration| {
            migration.otherwise.is_some()
                || states.split(',').all(|path| match migration.moved(path) {
                    Some(here) => here.split(',').all(has),
                    None => true,
                })
        })
    }
}

impl Migration {
    /// What a state of the other version is called here. The longest path that is named counts, and what is below it is
    /// called as it was. `None`: it stays there.
    pub fn moved(&self, path: &str) -> Option<String> {
        let mut above = path;
        loop {
            match (self.moves.get(above), above.rfind('.')) {
                (Some(None), _) => return None,
                (Some(Some(here)), _) => return Some(format!("{here}{}", &path[above.len()..])),
                (None, Some(dot)) => above = &above[..dot],
                (None, None) => return Some(path.to_owned()),
            }
        }
    }

    /// States of the other version, with commas between them, as they are called here.
    pub fn moved_all(&self, states: &str) -> Option<String> {
        let here: Option<Vec<String>> = states.split(',').map(|path| self.moved(path)).collect();
        here.map(|here| here.join(","))
    }

    /// What the timer of a state's delay is called here; others are called as before.
    pub fn timer(&self, id: &str) -> Option<String> {
        let delayed = id.strip_prefix(TIMER_PREFIX).and_then(|delayed| delayed.split_once('.'));
        match delayed {
            Some((delay, path)) => Some(format!("{TIMER_PREFIX}{delay}.{}", self.moved(path)?)),
            None => Some(id.to_owned()),
        }
    }

    /// The declared fields of the context of `before`, each with its value or why there is none.
    pub fn fields<'m>(
        &'m self,
        before: &Snapshot,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'m str, Result<Value, String>)> {
        let locals =
            [Value::Object(Fields::clone(&before.context)), before.state().into(), before.version.into()];
        self.context.iter().map(move |(name, value)| {
            let value = match value {
                Computed::Literal(value) => Ok(value.clone()),
                Computed::Expression(expression) => {
                    let nothing = Fields::new();
                    let scope = Scope { now, locals: &locals, ..Scope::empty(&nothing) };
                    let told = |problem| format!("`{}`: {problem}", expression.source);
                    expression.evaluate(scope).map_err(told)
                }
            };
            (&**name, value)
        })
    }
}
