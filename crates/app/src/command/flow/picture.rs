//! A flow as a picture of lines: how it stands as a whole, and then a line a phase.
//!
//! A pure function of what the server says of the flow, the time and the room that there is. Of more phases than there
//! is room for, those come first that somebody may have to do something about.

use kernel::flow::PhaseState;
use kernel::time::Timestamp;
use serde_json::{Value, json};

use crate::command::client::text;
use crate::command::flow::act::error_of;
use crate::command::flow::line::{Line, Paint, cut, width_of};
use crate::command::flow::{counted, lasting, percent, rows};

/// The room that a picture has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub width: usize,
    /// `None` for as many as it takes.
    pub rows: Option<usize>,
    pub colour: bool,
}

/// A bar that is longer says no more.
const WHOLE_BAR_MAX: usize = 30;
/// A phase's bar where there is room, and where there is little.
const BAR: usize = 10;
const BAR_NARROW: usize = 5;
/// With fewer columns, words are left out; with fewer, bars are narrow; with fewer still, there are none.
const WORDY: usize = 120;
const WIDE: usize = 100;
const NARROW: usize = 60;
/// With fewer rows, only what is most needed is said of the whole.
const ROOMY: usize = 8;
/// Names are no wider, whatever they are: one long name must not push all else off the screen.
const NAME_MAX: usize = 32;
/// What is offered of a flow that has failed; `flow options` has all of it.
const OFFERS_MAX: usize = 4;

pub(super) fn picture(view: &Value, now: Timestamp, frame: &Frame) -> Vec<String> {
    let now = time_of(view).unwrap_or(now);
    let phases: Vec<Phase> = rows(view, "phases").map(|phase| Phase::of(phase, view, now)).collect();
    let rows = frame.rows.unwrap_or(usize::MAX);
    let mut head = vec![headline(view, frame)];
    if rows >= ROOMY {
        head.push(summary(view, &phases));
    }
    head.extend(paused(view, now));
    let mut foot = offers(view);
    if rows < ROOMY {
        foot.truncate(1);
    }
    // Whatever else there is to say, phases have a line.
    let room = rows.saturating_sub(head.len() + foot.len()).max(1);
    let columns = Columns::of(&phases, frame.width);
    let mut lines = head;
    if phases.len() <= room {
        lines.extend(phases.iter().map(|phase| columns.line(phase)));
    } else {
        let mut by_rank: Vec<&Phase> = phases.iter().collect();
        // Stable: phases of one rank stay in the order of the definition.
        by_rank.sort_by_key(|phase| phase.rank());
        let (shown, left_out) = by_rank.split_at(room.saturating_sub(1));
        lines.extend(shown.iter().map(|phase| columns.line(phase)));
        lines.push(more(left_out));
    }
    lines.extend(foot);
    lines.truncate(rows);
    lines.iter().map(|line| line.written(frame.width, frame.colour)).collect()
}

/// What the time is for the server, if it says so: a phase that is not at its end was begun at a time that is told, and
/// how long ago too.
fn time_of(view: &Value) -> Option<Timestamp> {
    rows(view, "phases").find_map(|phase| {
        let ended = matches!(phase["state"].as_str(), Some("completed" | "failed"));
        let started = Timestamp::parse(phase["started_at"].as_str().filter(|_| !ended)?)?;
        Some(Timestamp::from_millis(started.as_millis().saturating_add(phase["took_ms"].as_i64()?)))
    })
}

/// A phase, as far as its line is concerned.
struct Phase {
    name: String,
    state: PhaseState,
    skipped: bool,
    /// Nothing that it needs is missing.
    ready: bool,
    share: f64,
    attempts: String,
    /// How long it has been where it is; of what was never begun, nobody asks, nor of what is over.
    age: String,
    /// What it waits for, if it does, and what else is to be known.
    waits: bool,
    note: String,
}

impl Phase {
    fn of(phase: &Value, view: &Value, now: Timestamp) -> Self {
        let state = PhaseState::parse(&text(&phase["state"])).unwrap_or_default();
        let skipped = phase["skipped"] == json!(true);
        let attempts = match (phase["attempts"].as_u64().unwrap_or_default(), phase["attempts_max"].as_u64())
        {
            (0, _) | (1, None) => String::new(),
            (attempts, None) => attempts.to_string(),
            (attempts, Some(max)) => format!("{attempts}/{max}"),
        };
        let over = matches!(view["status"].as_str(), Some("completed" | "cancelled"));
        let ready = rows(phase, "missing").next().is_none() && !skipped && !over;
        let ageless = over || state == PhaseState::Completed || (state == PhaseState::NotStarted && !ready);
        let since = Timestamp::parse(&text(&phase["since"])).filter(|_| !ageless);
        let (waits, note) = note(phase, state, skipped, now);
        Self {
            name: text(&phase["phase"]),
            state,
            skipped,
            ready,
            share: phase["progress"].as_f64().unwrap_or_default(),
            attempts,
            age: since.map(|since| lasting(now.since(since).as_millis())).unwrap_or_default(),
            waits,
            note,
        }
    }

    /// What comes first where there is no room for all.
    fn rank(&self) -> u8 {
        match self.state {
            _ if self.skipped => 5,
            PhaseState::Failed => 0,
            PhaseState::WaitingValidation | PhaseState::WaitingApproval | PhaseState::RetryNeeded => 0,
            PhaseState::InProgress => 1,
            PhaseState::NotStarted | PhaseState::RolledBack if self.ready => 2,
            PhaseState::RolledBack => 3,
            PhaseState::NotStarted => 4,
            PhaseState::Completed => 5,
        }
    }

    fn word(&self) -> &'static str {
        if self.skipped { "skipped" } else { self.state.as_str() }
    }

    fn mark(&self) -> (&'static str, Paint) {
        match self.state {
            _ if self.skipped => ("–", Paint::Dim),
            PhaseState::NotStarted if self.ready => ("○", Paint::Plain),
            PhaseState::NotStarted => ("·", Paint::Dim),
            PhaseState::InProgress => ("●", Paint::Cyan),
            PhaseState::WaitingValidation | PhaseState::WaitingApproval => ("◆", Paint::Yellow),
            PhaseState::Completed => ("✓", Paint::Green),
            PhaseState::Failed => ("✗", Paint::Red),
            PhaseState::RetryNeeded => ("↻", Paint::Yellow),
            PhaseState::RolledBack => ("↶", Paint::Magenta),
        }
    }
}

/// What is to be known of a phase beside its state, and whether that is what it waits for.
fn note(phase: &Value, state: PhaseState, skipped: bool, now: Timestamp) -> (bool, String) {
    let waits = phase["waits_for"].as_str().map(|waits| with_time_left(waits, now)).unwrap_or_default();
    let error = error_of(phase).trim_start_matches(": ").to_owned();
    match state {
        _ if skipped => (false, "does not apply".to_owned()),
        PhaseState::Completed => {
            let took = phase["took_ms"].as_i64().map(|ms| format!("took {}", lasting(ms)));
            let by = phase["by"].as_str().map(|by| format!("by {by}"));
            (false, took.into_iter().chain(by).collect::<Vec<_>>().join(", "))
        }
        PhaseState::Failed if !error.is_empty() => (false, error),
        PhaseState::RetryNeeded | PhaseState::RolledBack if !error.is_empty() => {
            (!waits.is_empty(), format!("{waits}; {error}"))
        }
        _ => (!waits.is_empty(), waits),
    }
}

/// A time at the end of a sentence, as what is left until then.
fn with_time_left(waits: &str, now: Timestamp) -> String {
    let told = waits.rsplit_once(' ').and_then(|(sentence, time)| {
        let left = lasting(Timestamp::parse(time)?.since(now).as_millis());
        match (sentence.strip_suffix(", until"), sentence.strip_suffix(" at")) {
            (Some(what), _) => Some(format!("{what}, {left} left")),
            (None, Some(what)) => Some(format!("{what} in {left}")),
            (None, None) => None,
        }
    });
    told.unwrap_or_else(|| waits.to_owned())
}

/// Which flow, how it stands, how far it is.
fn headline(view: &Value, frame: &Frame) -> Line {
    let [flow, id, status] = ["flow", "id", "status"].map(|name| text(&view[name]));
    let figure = percent(&view["progress"]);
    // Status and figure are never cut off, whatever the names are like.
    let room = frame.width.saturating_sub(width_of(&status) + figure.len() + 6);
    let flow = cut(&flow, room.min((frame.width / 3).max(BAR)));
    let id = cut(&id, room - width_of(&flow).min(room));
    let bar = room.saturating_sub(width_of(&flow) + width_of(&id) + 1).min(WHOLE_BAR_MAX);
    let paint = status_paint(&status);
    let line = Line::default().with(Paint::Bold, &flow).with(Paint::Plain, "  ");
    let line =
        line.with(Paint::Dim, &id).with(Paint::Plain, "  ").with(paint, &status).with(Paint::Plain, "  ");
    let line = match bar >= BAR_NARROW {
        true => {
            with_bar(line, view["progress"].as_f64().unwrap_or_default(), bar, paint).with(Paint::Plain, " ")
        }
        false => line,
    };
    line.with(Paint::Bold, figure)
}

fn status_paint(status: &str) -> Paint {
    match status {
        "completed" => Paint::Green,
        "failed" | "cancelled" => Paint::Red,
        "paused" | "waiting_approval" | "retry_pending" | "error_recovery" => Paint::Yellow,
        _ => Paint::Cyan,
    }
}

/// A bar that is full only of what is done.
fn with_bar(line: Line, share: f64, width: usize, paint: Paint) -> Line {
    let full = (share.clamp(0.0, 1.0) * width as f64 + 1e-9).floor() as usize;
    line.with(paint, "█".repeat(full)).with(Paint::Dim, "░".repeat(width - full))
}

/// How many phases are in which state.
fn summary(view: &Value, phases: &[Phase]) -> Line {
    let states = tally(phases.iter());
    let retries = match view["retries"].as_u64().unwrap_or_default() {
        0 => String::new(),
        1 => "; 1 retry".to_owned(),
        count => format!("; {count} retries"),
    };
    let phases = counted(phases.len(), "phase");
    Line::default().with(Paint::Dim, format!("{phases}: {states}{retries}; revision {}", view["revision"]))
}

fn tally<'p>(phases: impl Iterator<Item = &'p Phase> + Clone) -> String {
    let words = PhaseState::ALL.iter().rev().map(|state| state.as_str()).chain(["skipped"]);
    let counts = words.map(|word| (word, phases.clone().filter(|phase| phase.word() == word).count()));
    let told = counts.filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}"));
    told.collect::<Vec<_>>().join(", ")
}

fn more(left_out: &[&Phase]) -> Line {
    let states = tally(left_out.iter().copied());
    Line::default().with(Paint::Dim, format!("… and {} more: {states}", left_out.len()))
}

fn paused(view: &Value, now: Timestamp) -> Option<Line> {
    let pause = view.get("paused").filter(|pause| pause.is_object())?;
    let since = Timestamp::parse(&text(&pause["at"]));
    let since = since.map(|at| format!(" for {}", lasting(now.since(at).as_millis()))).unwrap_or_default();
    let by = pause["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = pause["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(Line::default().with(Paint::Yellow, format!("paused{since}{by}{reason}; no timer runs")))
}

/// What can be done about a flow that does not go on by itself.
fn offers(view: &Value) -> Vec<Line> {
    if view["status"] != json!("failed") {
        return Vec::new();
    }
    let id = text(&view["id"]);
    let failed = |option: &&Value| {
        rows(view, "phases")
            .any(|phase| phase["phase"] == option["phase"] && phase["state"] == json!("failed"))
    };
    let mut lines =
        vec![Line::default().with(Paint::Red, "nothing goes on by itself; what can be done about it:")];
    let offered = rows(view, "recovery_options").filter(failed);
    lines.extend(offered.take(OFFERS_MAX).map(|option| {
        let (phase, action) = (text(&option["phase"]), text(&option["action"]));
        let command = format!("  statewright flow do {id} {phase} {action}");
        Line::default().with(Paint::Bold, command).with(Paint::Dim, consequence(option))
    }));
    lines.push(Line::default().with(Paint::Dim, format!("  statewright flow options {id} has all of it")));
    lines
}

/// What comes of an option, as far as it takes something back.
pub(super) fn consequence(option: &Value) -> String {
    match option["reopens"].as_u64() {
        None => String::new(),
        Some(count) => {
            let begin = if count == 1 { "begins" } else { "begin" };
            let phases = counted(usize::try_from(count).unwrap_or(usize::MAX), "phase");
            format!("  ({phases} {begin} again)")
        }
    }
}

/// How wide each column is.
struct Columns {
    name: usize,
    bar: usize,
    state: usize,
    attempts: usize,
    age: usize,
    waits_for: &'static str,
}

impl Columns {
    fn of(phases: &[Phase], width: usize) -> Self {
        let widest = |cell: fn(&Phase) -> &str| phases.iter().map(|p| width_of(cell(p))).max().unwrap_or(0);
        Self {
            name: widest(|phase| &phase.name).min(NAME_MAX).min((width / 3).max(BAR)),
            bar: match width {
                WIDE.. => BAR,
                NARROW.. => BAR_NARROW,
                _ => 0,
            },
            state: widest(Phase::word),
            attempts: widest(|phase| &phase.attempts),
            age: widest(|phase| &phase.age),
            waits_for: if width >= WORDY { "waits for " } else { "← " },
        }
    }

    fn line(&self, phase: &Phase) -> Line {
        let (mark, paint) = phase.mark();
        let gap = |line: Line| line.with(Paint::Plain, "  ");
        let dim = if paint == Paint::Dim { Paint::Dim } else { Paint::Plain };
        let mut line = Line::default().with(paint, mark).with(Paint::Plain, " ");
        line = gap(line.column(dim, &phase.name, self.name));
        if self.bar > 0 {
            line = gap(with_bar(line, phase.share, self.bar, paint));
        }
        line = gap(line.column(paint, phase.word(), self.state));
        for (text, width) in [(&phase.attempts, self.attempts), (&phase.age, self.age)] {
            if width > 0 {
                line = gap(line.column(dim, text, width));
            }
        }
        let waits_for = if phase.waits { self.waits_for } else { "" };
        line.with(Paint::Dim, waits_for).with(Paint::Dim, &phase.note)
    }
}

#[cfg(test)]
mod tests;
