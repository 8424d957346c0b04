//! The pages of definitions: all of them, and one with its diagram, how its instances go through it, and its versions.
//!
//! How instances go through it is read from the log of the newest of them, a bounded number: nothing is counted
//! beforehand, so that no commit pays for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use engine::EngineError;
use kernel::definition;
use kernel::diagnostic::Severity;
use kernel::diagram::{Overlay, Step};
use kernel::id::{MachineName, TenantId};
use kernel::machine::Machine;
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde::Deserialize;
use store::{HistoryQuery, InstanceQuery};

use crate::command::machine_files::stories_named;
use crate::dashboard::page::{Frame, page};
use crate::dashboard::words::{Count, counted, rough, thousands};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, Segments, segment};
use crate::http::{App, Shared};
use crate::pictures::steps;

/// Open instances that are counted by state.
const COUNTED_MAX: usize = 1_000;
/// Instances whose log is read for what is taken and how long it lasts, and entries of each.
const READ_MAX: usize = 200;
const ENTRIES_MAX: usize = 200;
/// Transitions that are named as taken most.
const TAKEN_MAX: usize = 12;

#[derive(Template)]
#[template(path = "machines.html")]
struct MachinesPage {
    frame: Frame,
    machines: Vec<MachineLine>,
    /// How long ago what is open was counted, if that was not just now.
    counted: Option<String>,
}

struct MachineLine {
    name: String,
    version: u32,
    kind: &'static str,
    states: usize,
    open: String,
}

pub async fn list(State(app): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "machines", "Machines").live("");
    let shown = app.read_in_turn(move |app| {
        let (standings, age) = app.engine.standings()?;
        let line = |machine: std::sync::Arc<Machine>| MachineLine {
            name: machine.name.to_string(),
            version: machine.version,
            kind: kind(&machine),
            states: machine.flow.as_ref().map_or(machine.chart.states.len() - 1, |flow| flow.phases.len()),
            open: thousands(standings.of_machine(&caller.tenant, machine.name.as_str()).open),
        };
        let machines = app.machines().into_iter().map(line).collect();
        Ok(MachinesPage { frame, machines, counted: counted(age) })
    });
    Ok(page(200, &shown.await?))
}

fn kind(machine: &Machine) -> &'static str {
    match (&machine.flow, &machine.conversation) {
        (Some(_), _) => "flow",
        (None, Some(_)) => "conversation",
        (None, None) => "machine",
    }
}

fn open_instances(
    app: &App,
    tenant: &TenantId,
    machine: &MachineName,
) -> Result<(Vec<Snapshot>, bool), Problem> {
    let query = InstanceQuery {
        machine: Some(machine.clone()),
        closed: Some(false),
        limit: COUNTED_MAX,
        ..InstanceQuery::of(tenant.clone())
    };
    let found = app.engine.store().instances(&query).map_err(EngineError::from)?;
    Ok((found.data, found.next.is_some()))
}

#[derive(Template)]
#[template(path = "machine.html")]
struct MachinePage {
    frame: Frame,
    name: String,
    version: u32,
    current: u32,
    kind: &'static str,
    customised: bool,
    picture: String,
    open: Count,
    states: Vec<StateRow>,
    /// Open instances in states that this version does not have.
    elsewhere: usize,
    read: usize,
    closures: Vec<ClosureRow>,
    taken: Vec<TakenRow>,
    versions: Vec<u32>,
    compared: Option<Compared>,
    diagnostics: Vec<DiagnosticRow>,
    story_files: usize,
    stories: Option<Vec<StoryRow>>,
    /// How many of them failed.
    failed: usize,
    source: String,
    talks: bool,
    is_flow: bool,
}

struct StateRow {
    path: String,
    open: usize,
    entered: u64,
    dwelt: String,
    closed_there: u64,
}

struct ClosureRow {
    reason: String,
    count: u64,
    /// Of a hundred.
    share: u64,
}

struct TakenRow {
    from: String,
    to: String,
    event: String,
    count: u64,
}

struct Compared {
    from: u32,
    to: u32,
    lines: Vec<(&'static str, String)>,
}

struct StoryRow {
    name: String,
    /// What was not as expected; nothing if all was.
    failure: Option<String>,
}

struct DiagnosticRow {
    code: String,
    kind: &'static str,
    line: u32,
    message: String,
    help: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    version: Option<u32>,
    /// The version that it is compared with.
    from: Option<u32>,
    /// Whether to play the stories that stand beside the definition.
    #[serde(default)]
    stories: bool,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(name): Segments<MachineName>,
    caller: Caller,
    Asked(asked): Asked<ShowQuery>,
) -> Result<Response, Problem> {
    let frame = Frame::of(&app, &caller, "machines", name.as_str())
        .live(&format!("&machine={}", segment(name.as_str())));
    let shown = app.read_in_turn(move |app| machine_page(app, frame, &caller.tenant, &name, &asked));
    Ok(page(200, &shown.await?))
}

fn machine_page(
    app: &App,
    frame: Frame,
    tenant: &TenantId,
    name: &MachineName,
    asked: &ShowQuery,
) -> Result<MachinePage, Problem> {
    let machines = app.engine.machines();
    let current = machines.current_for(tenant, name)?;
    let all = machines.versions(name);
    let version_of = |version: u32| {
        let found = all.iter().rev().find(|machine| machine.version == version).cloned();
        found.ok_or_else(|| Problem::not_found(format!("the machine `{name}` has no version {version}")))
    };
    let machine = match asked.version.filter(|version| *version != current.version) {
        Some(version) => version_of(version)?,
        None => std::sync::Arc::clone(&current),
    };
    let (open, more) = open_instances(app, tenant, name)?;
    let walked = Walked::read(app, tenant, &machine)?;
    let of_version: Vec<Snapshot> =
        open.iter().filter(|one| one.version == machine.version).cloned().collect();
    let folders = app.machine_folders.iter();
    let story_files: Vec<PathBuf> = folders.flat_map(|folder| stories_named(folder, name.as_str())).collect();
    let stories = asked.stories.then(|| told(&story_files));
    let compared = asked.from.map(version_of).transpose()?.map(|from| Compared::of(&from, &machine));
    let mut versions: Vec<u32> = all.iter().map(|machine| machine.version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.reverse();
    Ok(MachinePage {
        frame,
        name: name.to_string(),
        version: machine.version,
        current: current.version,
        kind: kind(&machine),
        customised: machine.is_customised(),
        picture: app.pictures.picture(&machine, &heat(&of_version, &walked)),
        states: state_rows(&machine, &open, &walked),
        elsewhere: open.iter().filter(|one| machine.flow.is_none() && has_no_place(&machine, one)).count(),
        open: Count { known: open.len(), more },
        read: walked.instances,
        closures: walked.closures(),
        taken: walked.taken(),
        versions,
        compared,
        diagnostics: diagnostics(&machine),
        failed: stories.iter().flatten().filter(|story| story.failure.is_some()).count(),
        stories,
        story_files: story_files.len(),
        source: machine.source.to_string(),
        talks: machine.conversation.is_some(),
        is_flow: machine.flow.is_some(),
    })
}

fn has_no_place(machine: &Machine, snapshot: &Snapshot) -> bool {
    snapshot.configuration.iter().any(|path| machine.chart.by_path(path).is_none())
}

/// How many are where, and how often each way was gone.
fn heat(open: &[Snapshot], walked: &Walked) -> Overlay {
    let mut counts = BTreeMap::new();
    for path in open.iter().flat_map(|snapshot| &snapshot.configuration) {
        *counts.entry(path.to_string()).or_default() += 1;
    }
    Overlay { counts, flows: walked.steps.clone(), ..Overlay::default() }
}

fn state_rows(machine: &Machine, open: &[Snapshot], walked: &Walked) -> Vec<StateRow> {
    let row = |path: &str| {
        let is_here = |snapshot: &&Snapshot| snapshot.configuration.iter().any(|active| **active == *path);
        let seen = walked.states.get(path);
        StateRow {
            path: path.to_owned(),
            open: open.iter().filter(is_here).count(),
            entered: seen.map_or(0, |seen| seen.entered),
            dwelt: seen.and_then(Seen::median).map(rough).unwrap_or_default(),
            closed_there: seen.map_or(0, |seen| seen.closed),
        }
    };
    machine
        .chart
        .states
        .iter()
        .skip(1)
        .filter(|state| state.children.is_empty())
        .map(|state| row(&state.path))
        .collect()
}

/// Plays all stories, of the definitions that their files name.
fn told(files: &[PathBuf]) -> Vec<StoryRow> {
    let played = |path: &PathBuf| match engine::story::run(path) {
        Ok(report) => {
            let row =
                |story: engine::story::StoryResult| StoryRow { name: story.name, failure: story.failure };
            report.stories.into_iter().map(row).collect()
        }
        Err(error) => vec![StoryRow { name: path.display().to_string(), failure: Some(error.to_string()) }],
    };
    files.iter().flat_map(played).collect()
}

fn diagnostics(machine: &Machine) -> Vec<DiagnosticRow> {
    let (_, found) = definition::load(&machine.source);
    let row = |one: kernel::diagnostic::Diagnostic| DiagnosticRow {
        kind: if one.severity == Severity::Error { "bad" } else { "warn" },
        code: one.code.to_string(),
        line: one.line,
        message: one.message,
        help: one.help,
    };
    found.into_iter().map(row).collect()
}

/// What the log of the newest instances says of the way through a machine.
#[derive(Debug, Default)]
pub struct Walked {
    pub instances: usize,
    pub states: BTreeMap<String, Seen>,
    /// From, to, event, as the log says it.
    transitions: BTreeMap<(String, String, String), u64>,
    /// The same as the definition says it, of instances of the version that was asked for.
    pub steps: BTreeMap<Step, u64>,
    reasons: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub entered: u64,
    pub closed: u64,
    dwelt_ms: Vec<i64>,
}

impl Seen {
    fn median(&self) -> Option<Delay> {
        let mut sorted = self.dwelt_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map(|ms| Delay::from_millis(*ms))
    }
}

impl Walked {
    fn read(app: &App, tenant: &TenantId, machine: &Machine) -> Result<Self, Problem> {
        let store = app.engine.store();
        let name = &machine.name;
        let of_machine = InstanceQuery {
            machine: Some(name.clone()),
            limit: READ_MAX,
            ..InstanceQuery::of(tenant.clone())
        };
        let found = store.instances(&of_machine).map_err(EngineError::from)?;
        let mut walked = Self { instances: found.data.len(), ..Self::default() };
        for snapshot in found.data {
            let query = HistoryQuery {
                tenant: tenant.clone(),
                instance: snapshot.instance.clone(),
                cursor: None,
                limit: ENTRIES_MAX,
            };
            let history = store.history(&query).map_err(EngineError::from)?;
            let mut since: Option<Timestamp> = None;
            for entry in history.data.iter().filter(|entry| entry.success) {
                walked.step(&entry.from, &entry.to, &entry.event, since, entry.at);
                if snapshot.definition == machine.hash {
                    steps(machine, entry).for_each(|step| *walked.steps.entry(step).or_default() += 1);
                }
                if entry.from != entry.to || since.is_none() {
                    since = Some(entry.at);
                }
            }
            if let Some(closure) = &snapshot.closure {
                *walked.reasons.entry(closure.reason.clone()).or_default() += 1;
                let last = history.data.iter().rev().find(|entry| entry.success);
                last.iter().for_each(|last| walked.seen(&last.from).closed += 1);
            }
        }
        Ok(walked)
    }

    fn seen(&mut self, state: &str) -> &mut Seen {
        self.states.entry(state.to_owned()).or_default()
    }

    fn step(&mut self, from: &str, to: &str, event: &str, since: Option<Timestamp>, at: Timestamp) {
        *self.transitions.entry((from.to_owned(), to.to_owned(), event.to_owned())).or_default() += 1;
        if from == to {
            return;
        }
        for state in to.split(',') {
            self.seen(state).entered += 1;
        }
        let dwelt = since.map(|since| at.since(since).as_millis());
        for state in from.split(',').filter(|state| !state.is_empty()) {
            self.seen(state).dwelt_ms.extend(dwelt);
        }
    }

    /// How they ended, the most frequent first.
    fn closures(&self) -> Vec<ClosureRow> {
        let all: u64 = self.reasons.values().sum();
        let row = |(reason, count): (&String, &u64)| ClosureRow {
            reason: reason.clone(),
            count: *count,
            share: count * 100 / all.max(1),
        };
        let mut rows: Vec<ClosureRow> = self.reasons.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }

    /// The transitions that were taken most.
    fn taken(&self) -> Vec<TakenRow> {
        let row = |((from, to, event), count): (&(String, String, String), &u64)| TakenRow {
            from: from.clone(),
            to: to.clone(),
            event: event.clone(),
            count: *count,
        };
        let mut rows: Vec<TakenRow> = self.transitions.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows.truncate(TAKEN_MAX);
        rows
    }
}

impl Compared {
    fn of(from: &Machine, to: &Machine) -> Self {
        let difference = definition::diff::diff(from, to);
        let line = |change: &definition::diff::Change| {
            let words = serde_json::to_value(change).unwrap_or_default();
            let mark = match words["kind"].as_str() {
                Some("added") => "plus",
                Some("removed") => "minus",
                _ => "tilde",
            };
            let text = |name: &str| words[name].as_str().unwrap_or_default().to_owned();
            let trigger = words["trigger"].as_str().map(|trigger| format!(", {trigger}")).unwrap_or_default();
            let remark = words["remark"].as_str().map(|remark| format!(" ({remark})")).unwrap_or_default();
            (mark, format!("{} {}{trigger}{remark}", text("part"), text("name")))
        };
        Self { from: from.version, to: to.version, lines: difference.changes.iter().map(line).collect() }
    }
}
