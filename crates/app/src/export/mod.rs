//! What is exported for analysis: five tables, their columns, and their rows as the store has them now.
//!
//! Reads only. What a definition calls secret is in no row: a file that somebody analyses is nowhere encrypted.

mod rows;

use std::collections::HashMap;
use std::ops::ControlFlow;

use engine::{Engine, EngineError};
use kernel::id::{DefinitionHash, MachineName, TenantId};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::Serialize;
use store::{ClarificationQuery, HistoryQuery, InstanceQuery, Page, PhaseQuery};

use crate::access::Sight;
use crate::access::sight::Veil;
use rows::{ClarificationRow, PhaseRow, SessionRow, TransitionRow};

/// Records that are read at a time.
const PAGE: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Instances of machines.
    Sessions,
    /// Instances of flows.
    Flows,
    /// Every input to either, refused ones too.
    Transitions,
    Clarifications,
    /// Every phase of every flow.
    Phases,
}

/// What a column holds. Any may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    /// RFC 3339, in UTC, to the millisecond.
    Time,
    /// Any JSON; where a table has no such thing, its text.
    Json,
}

pub type Column = (&'static str, Kind);

impl Table {
    pub const ALL: [Self; 5] =
        [Self::Sessions, Self::Flows, Self::Transitions, Self::Clarifications, Self::Phases];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Flows => "flows",
            Self::Transitions => "transitions",
            Self::Clarifications => "clarifications",
            Self::Phases => "phases",
        }
    }

    /// # Errors
    /// Names those that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| {
            format!("there is no table `{name}`; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }

    /// In the order in which a row has them.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Sessions | Self::Flows => &rows::SESSION,
            Self::Transitions => &rows::TRANSITION,
            Self::Clarifications => &rows::CLARIFICATION,
            Self::Phases => &rows::PHASE,
        }
    }
}

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub table: Table,
    pub tenant: TenantId,
    pub machine: Option<MachineName>,
    /// Of whoever asks. What is secret is left out for everybody.
    pub sight: Sight,
    /// By the time at which a session or flow changed last, a transition was, a clarification was asked, or a phase came
    /// into its state; `until` itself is out.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Wanted {
    fn has(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Takes a row, each a line of JSON without its end, and says whether to go on.
pub type Take<'a> = &'a mut dyn FnMut(Vec<u8>) -> ControlFlow<()>;

/// Gives every row, page by page, the newest instances first and each one's log from its beginning. What changes meanwhile is
/// in it as it was or as it is.
///
/// # Errors
/// When the store cannot be read: the rows before were given.
pub fn rows(engine: &Engine, wanted: &Wanted, take: Take<'_>) -> Result<(), EngineError> {
    match wanted.table {
        Table::Sessions | Table::Flows => instances(engine, wanted, |veil, snapshot| {
            if snapshot.flow.is_some() != (wanted.table == Table::Flows) || !wanted.has(snapshot.updated_at) {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(take(line(&SessionRow::of(snapshot, veil))))
        }),
        Table::Transitions => {
            instances(engine, wanted, |veil, snapshot| transitions(engine, wanted, snapshot, veil, take))
        }
        Table::Clarifications => clarifications(engine, wanted, take),
        Table::Phases => phases(engine, wanted, take),
    }
}

fn line(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).unwrap_or_default()
}

fn instances(
    engine: &Engine,
    wanted: &Wanted,
    mut each: impl FnMut(&Veil, &Snapshot) -> Result<ControlFlow<()>, EngineError>,
) -> Result<(), EngineError> {
    let mut veils: HashMap<DefinitionHash, Veil> = HashMap::new();
    let machine = wanted.machine.clone();
    let mut query = InstanceQuery { machine, limit: PAGE, ..InstanceQuery::of(wanted.tenant.clone()) };
    loop {
        let page = engine.store().instances(&query)?;
        for snapshot in &page.data {
            let veil = veils
                .entry(snapshot.definition.clone())
                .or_insert_with(|| wanted.sight.left_out(engine.machines(), snapshot));
            if each(veil, snapshot)?.is_break() {
                return Ok(());
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}

fn transitions(
    engine: &Engine,
    wanted: &Wanted,
    of: &Snapshot,
    veil: &Veil,
    take: Take<'_>,
) -> Result<ControlFlow<()>, EngineError> {
    let mut query =
        HistoryQuery { limit: PAGE, ..HistoryQuery::of(wanted.tenant.clone(), of.instance.clone()) };
    loop {
        let page = engine.store().history(&query)?;
        for entry in page.data.iter().filter(|entry| wanted.has(entry.at)) {
            if take(line(&TransitionRow::of(entry, of, !veil.hides_copies()))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

fn clarifications(engine: &Engine, wanted: &Wanted, take: Take<'_>) -> Result<(), EngineError> {
    let tenant = wanted.tenant.clone();
    let mut query = ClarificationQuery { tenant, status: None, id: None, cursor: None, limit: PAGE };
    loop {
        let Page { data, next } = engine.store().clarifications(&query)?;
        for clarification in &data {
            let is_of = wanted.machine.as_ref().is_none_or(|machine| *machine == clarification.machine);
            if is_of
                && wanted.has(clarification.created_at)
                && take(line(&ClarificationRow::of(clarification))).is_break()
            {
                return Ok(());
            }
        }
        query.cursor = next;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}

fn phases(engine: &Engine, wanted: &Wanted, take: Take<'_>) -> Result<(), EngineError> {
    let machine = wanted.machine.clone();
    let mut query = PhaseQuery { machine, limit: PAGE, ..PhaseQuery::of(wanted.tenant.clone()) };
    loop {
        let Page { data, next } = engine.store().phases(&query)?;
        for phase in data.iter().filter(|phase| wanted.has(phase.row.since)) {
            if take(line(&PhaseRow::of(phase))).is_break() {
                return Ok(());
            }
        }
        query.cursor = next;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}
