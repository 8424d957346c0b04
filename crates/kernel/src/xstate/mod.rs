//! Definitions from and to the JSON of XState, the statechart library for JavaScript.
//!
//! `import` makes a definition of a machine config, `export` the other way round; both are functions from text to
//! text. Nothing is dropped in silence: what has no counterpart is a `Note` with its place. What a definition says
//! and XState has no word for travels in `meta.statewright` and in actions called `statewright.…`, so that an
//! exported machine imports as the same definition.
//!
//! What XState's JSON is, was taken from `github.com/statelyai/xstate`:
//! - version 5: `packages/core/src` of 5.32.5 (branch `main`, 2026-07-22), above all `StateNode.ts`,
//!   `stateUtils.ts` (targets, initial states, history, order of candidates) and `types.ts`. A config of version 5 that
//!   is JSON names its guards, actions, actors and delays; none of them is in it. What `JSON.stringify(machine)`
//!   writes (`machine.schema.json` there) is read too.
//! - version 6, not released yet: `packages/core/src/machine.schema.json` ("MachineJSON") and
//!   `createMachineFromConfig.ts` of 6.0.0-alpha.23 (branch `next`, 2026-07-23). The notes of release alpha.68
//!   (2026-10-17) rename the functions, such as `machineFromJSON`; its schema was not to be had, and may differ. Read
//!   of it: `@expr` with `@lang` or `@exprLang`, `@xstate.raise`, `@xstate.cancel`, `@xstate.assign`, `context` of a
//!   transition, `type: choice`, `timeout` and `onTimeout`, `onError`, tables of `guards`, `actions` and `delays`,
//!   durations as texts, `schemas.context`.
//!
//! What is there of version 4 (`cond`, `internal`, `data`, events named `""`) is read as what it became.

pub mod export;
pub mod import;
pub mod json;
mod names;
mod states;
mod yaml;

use serde::Serialize;

pub use export::{Exported, Unexported, export};
pub use import::{Imported, import};
pub use json::Json;

/// The key below `meta` under which an export puts aside what XState has no word for.
const EXTRA_KEY: &str = "statewright";
/// The type of a guard whose parameter `expression` is ours.
const GUARD_TYPE: &str = "cel";
/// What `@lang` says of our expressions.
const EXPRESSION_LANGUAGE: &str = "cel";
/// How the types of actions begin that XState has no word for.
const ACTION_PREFIX: &str = "statewright.";

/// Something that was not carried over, or only as something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Where in what was read, as an RFC 6901 pointer: `/states/idle/on/GO/0/guard`.
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        // It may be shown in a terminal, and the names in it are anybody's.
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        write!(f, "{}: {}", path.chars().map(shown).collect::<String>(), self.message)
    }
}

/// The pointer to what `key` names below `path`.
fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}
