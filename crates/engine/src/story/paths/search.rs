//! The search: from where an instance begins, every input that is worth trying, breadth first, so that what is found
//! first is shortest.
//!
//! Pure: `decide` over snapshots, on a clock of its own. What is found has the same shape as what the stage will play.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use kernel::chart::{Chart, StateIndex, TransitionIndex};
use kernel::commit::{Answer, Commit};
use kernel::conversation::{Media, Message, MessageOutcome, Offer};
use kernel::decide::decide;
use kernel::definition::AcceptKind;
use kernel::id::{Digest, InputKey, InstanceId, Subject};
use kernel::input::{CallOutcome, Cause, Fields, Start};
use kernel::machine::Machine;
use kernel::refusal::Refusal;
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::json;

use super::inputs::Inputs;
use super::{Act, Beginning, Bounds, Progress};
use crate::batch::timer_input;
use crate::story::coverage::Walk;
use crate::story::stage::{INSTANCE, START_MS, SUBJECT, keyed};

/// Timers that fire one after another without the clock moving; what sets itself again at once does not end.
const TIMERS_MAX: usize = 64;
/// Nobody looks at it.
const PHOTO: &str = "https://example.org/1.jpg";

/// Somewhere to be, and how one came there.
#[derive(Debug)]
pub(super) struct Node {
    pub parent: Option<usize>,
    pub came: Came,
    pub depth: usize,
    /// The instance; `None` before a conversation's first message.
    snapshot: Option<Snapshot>,
    now: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) enum Came {
    Begun(Beginning),
    By(Act),
}

pub(super) struct Search<'m> {
    machine: &'m Machine,
    inputs: Inputs<'m>,
    bounds: Bounds,
    /// Whether people speak, or all is done by events.
    speaks: bool,
    subject: Subject,
    instance: InstanceId,
    whole: Walk,
    pub nodes: Vec<Node>,
    seen: HashSet<Digest>,
    queue: VecDeque<usize>,
    /// What makes an expression fail is tried when nothing better is left, so that stories do not go by mishaps.
    mishaps: Vec<(Came, Cause)>,
    are_mishaps_told: bool,
    pub walked: Walk,
    /// Where a state was first reached, and a transition first taken.
    pub reached: BTreeMap<StateIndex, usize>,
    pub taken: BTreeMap<TransitionIndex, usize>,
    pub decisions: usize,
    /// Which bound ended the search.
    pub bound: Option<String>,
    /// Why a transition that was chosen came to nothing.
    pub failures: BTreeMap<TransitionIndex, String>,
    /// By configuration and event, the payloads that have ever led to something of their own.
    useful: HashMap<(Vec<Arc<str>>, String), HashSet<String>>,
}

impl<'m> Search<'m> {
    /// # Errors
    /// A fragment; the names of the stage are always good.
    pub fn new(machine: &'m Machine, bounds: Bounds, speaks: bool) -> Result<Self, String> {
        Ok(Self {
            machine,
            inputs: Inputs::of(machine),
            bounds,
            speaks,
            subject: Subject::parse(SUBJECT)?,
            instance: InstanceId::parse(INSTANCE)?,
            whole: Walk::whole(&machine.chart),
            nodes: Vec::new(),
            seen: HashSet::new(),
            queue: VecDeque::new(),
            mishaps: Vec::new(),
            are_mishaps_told: false,
            walked: Walk::default(),
            reached: BTreeMap::new(),
            taken: BTreeMap::new(),
            decisions: 0,
            bound: None,
            failures: BTreeMap::new(),
            useful: HashMap::new(),
        })
    }

    /// Looks from where a machine begins by itself; then, if that is not enough, from other contexts.
    pub fn run(&mut self, progress: &mut dyn FnMut(Progress)) {
        if self.speaks && self.machine.conversation.is_some() {
            self.nodes.push(Node {
                parent: None,
                came: Came::Begun(Beginning::Nothing),
                depth: 0,
                snapshot: None,
                now: Timestamp::from_millis(START_MS),
            });
            self.queue.push_back(0);
        }
        self.begin(self.inputs.required());
        self.explore(self.bounds.decisions, progress);
        if !self.is_done() {
            for context in self.inputs.contexts() {
                self.begin(context);
            }
            self.explore(self.bounds.decisions.saturating_mul(2), progress);
        }
        self.bound = self.bound.take().filter(|_| !self.is_done());
    }

    fn is_done(&self) -> bool {
        self.walked.contains(&self.whole)
    }

    fn begin(&mut self, context: Fields) {
        let cause = Cause::Create {
            machine: self.machine.name.clone(),
            id: Some(self.instance.clone()),
            subject: Some(self.subject.clone()),
            context: context.clone(),
            start: Start::default(),
        };
        let _ = self.attempt(None, Came::Begun(Beginning::Created(context)), cause);
    }

    fn explore(&mut self, decisions_max: usize, progress: &mut dyn FnMut(Progress)) {
        while let Some(at) = self.queue.pop_front() {
            if self.is_done() {
                return;
            }
            if self.nodes[at].depth >= self.bounds.depth {
                self.bound = Some(format!("{} steps", self.bounds.depth));
                continue;
            }
            if self.nodes.len() >= self.bounds.snapshots {
                self.bound = Some(format!("{} snapshots", self.bounds.snapshots));
                return;
            }
            if self.decisions >= decisions_max {
                self.bound = Some(format!("{decisions_max} decisions"));
                // What waits longer is not worth more than another beginning.
                self.queue.clear();
                return;
            }
            progress(Progress {
                snapshots: self.nodes.len(),
                decisions: self.decisions,
                found: self.walked.states.len() + self.walked.transitions.len(),
                of: self.whole.states.len() + self.whole.transitions.len(),
            });
            self.expand(at);
        }
    }

    fn expand(&mut self, at: usize) {
        self.try_all(at);
        self.are_mishaps_told = true;
        for (came, cause) in std::mem::take(&mut self.mishaps) {
            let _ = self.attempt(Some(at), came, cause);
        }
        self.are_mishaps_told = false;
    }

    fn try_all(&mut self, at: usize) {
        let snapshot = self.nodes[at].snapshot.clone();
        if self.speaks {
            self.speak(at, snapshot.as_ref());
        }
        let Some(snapshot) = snapshot else { return };
        let chart = &self.machine.chart;
        for event in offered(chart, &active(chart, &snapshot)) {
            self.send_event(at, &snapshot, event);
        }
        for call in &snapshot.invocations {
            self.bring_results(at, &snapshot, &call.id, &call.key);
        }
        if let Some(due) = snapshot.wake_at() {
            self.wait(at, snapshot, due);
        }
    }

    /// What people say: phrases of intents, and what the state takes as it comes.
    fn speak(&mut self, at: usize, snapshot: Option<&Snapshot>) {
        let machine = self.machine;
        let Some(conversation) = &machine.conversation else { return };
        let chart = &machine.chart;
        let active = match snapshot {
            Some(snapshot) => active(chart, snapshot),
            None => chart.entered_at(None),
        };
        let offered = offered(chart, &active);
        let locale = conversation.locales.first();
        let mut dispatched = HashSet::new();
        for intent in &conversation.intents {
            let Some(event) = &intent.event else { continue };
            let possible = offered.contains(&&**event);
            let mut own = intent.phrases.iter().filter(|(l, _)| l.is_none() || l.as_ref() == locale);
            let Some((_, phrase)) = own.next() else { continue };
            if possible && !dispatched.contains(event) && self.say(at, Message::of_text(phrase)) {
                dispatched.insert(Arc::clone(event));
            }
        }
        let shown = snapshot.and_then(|snapshot| snapshot.conversation.as_ref());
        for item in shown.iter().flat_map(|session| &session.prompt).filter_map(Offer::item) {
            let _ = self.say(at, Message::of_text(&item.label));
        }
        let context = snapshot.map(|snapshot| (*snapshot.context).clone()).unwrap_or_default();
        for (state, kind, event) in conversation.accepts.iter() {
            if !active.contains(&state) {
                continue;
            }
            let field = match kind {
                AcceptKind::Text => "text",
                AcceptKind::Number => "number",
                AcceptKind::Media => {
                    let media = Media { url: PHOTO.into(), kind: "image/jpeg".into() };
                    let _ = self.say(at, Message { media: vec![media], ..Message::default() });
                    continue;
                }
                AcceptKind::Choice => continue,
            };
            for text in self.inputs.texts(&candidates(chart, &active, event), field, &context) {
                let _ = self.say(at, Message::of_text(&text));
            }
        }
    }

    /// Whether the message became an event that was taken.
    fn say(&mut self, at: usize, message: Message) -> bool {
        let cause = Cause::Message {
            machine: self.machine.name.clone(),
            subject: self.subject.clone(),
            message: message.clone(),
        };
        let attempt = self.attempt(Some(at), Came::By(Act::Send(Box::new(message))), cause);
        matches!(attempt, Ok(Some(_)))
    }

    fn send_event(&mut self, at: usize, snapshot: &Snapshot, event: &str) {
        let chart = &self.machine.chart;
        let named = match event.strip_suffix('*') {
            Some("") => "anything".to_owned(),
            Some(prefix) => format!("{prefix}any"),
            None => event.to_owned(),
        };
        let taking = candidates(chart, &active(chart, snapshot), &named);
        let group = (snapshot.configuration.clone(), named.clone());
        // Once every transition has been taken, only what has made a difference before is tried again.
        let settled = taking.iter().all(|transition| self.walked.transitions.contains(transition));
        let useful = self.useful.get(&group).filter(|_| settled).cloned();
        for payload in self.inputs.payloads(&taking, &snapshot.context) {
            let written = serde_json::to_string(&payload).unwrap_or_default();
            if useful.as_ref().is_some_and(|useful| !useful.contains(&written)) {
                continue;
            }
            let cause = Cause::Event {
                instance: snapshot.instance.clone(),
                event: named.clone(),
                payload: payload.clone(),
            };
            let act = Act::Event { event: named.clone(), payload };
            match self.attempt(Some(at), Came::By(act), cause) {
                Ok(Some(true)) => {
                    self.useful.entry(group.clone()).or_default().insert(written);
                }
                Ok(_) => {}
                Err(refusal) => self.note_failure(&refusal),
            }
        }
        self.useful.entry(group).or_default();
    }

    fn bring_results(&mut self, at: usize, snapshot: &Snapshot, id: &Arc<str>, key: &str) {
        let chart = &self.machine.chart;
        let active = active(chart, snapshot);
        let of = |event: String| candidates(chart, &active, &event);
        let done = self.inputs.payloads(&of(format!("done.invoke.{id}")), &snapshot.context);
        let failed = self.inputs.payloads(&of(format!("error.invoke.{id}")), &snapshot.context);
        let usual = json!({"code": "failed", "message": "it did not work"});
        let failed = failed.into_iter().map(|fields| {
            let mut error = usual.as_object().cloned().unwrap_or_default();
            error.extend(fields);
            CallOutcome::Failed(error)
        });
        for outcome in done.into_iter().map(CallOutcome::Done).chain(failed) {
            let (instance, call) = (snapshot.instance.clone(), key.to_owned());
            let cause = Cause::Result { instance, call, outcome: outcome.clone() };
            let act = Act::Call { id: id.to_string(), outcome };
            let _ = self.attempt(Some(at), Came::By(act), cause);
        }
    }

    /// The clock moves to the next timer.
    fn wait(&mut self, at: usize, snapshot: Snapshot, due: Timestamp) {
        let delay = due.since(self.nodes[at].now);
        let mut walk = Walk::default();
        let after = self.fire(snapshot, due, &mut walk);
        self.add(Some(at), Came::By(Act::Wait(delay)), after, due, walk);
    }

    /// Tries an input. `None` if it led to nothing that a story would tell; else whether that was new.
    fn attempt(&mut self, at: Option<usize>, came: Came, cause: Cause) -> Result<Option<bool>, Box<Refusal>> {
        let (before, now) = match at {
            Some(at) => (self.nodes[at].snapshot.clone(), self.nodes[at].now),
            None => (None, Timestamp::from_millis(START_MS)),
        };
        // What two inputs are called makes no difference here.
        let Ok(key) = InputKey::parse("tried") else { return Ok(None) };
        let input = keyed(key, cause);
        let chart = &self.machine.chart;
        self.decisions += 1;
        let commit = decide(self.machine, before.as_ref(), &input, now).map_err(Box::new)?;
        if !is_worth_telling(&commit) {
            return Ok(None);
        }
        let mut taken = commit.entry.transitions.iter().map(|taken| chart.transition(*taken));
        if !self.are_mishaps_told && at.is_some() && taken.any(|t| t.event.starts_with("error.execution")) {
            self.mishaps.push((came, input.cause));
            return Ok(None);
        }
        let mut walk = Walk::default();
        walk.note(chart, &commit.entry);
        let Some(after) = commit.after else { return Ok(None) };
        let after = self.fire(after, now, &mut walk);
        Ok(Some(self.add(at, came, after, now, walk)))
    }

    /// Fires what is due, as the stage does before and after every step.
    fn fire(&mut self, mut snapshot: Snapshot, now: Timestamp, walk: &mut Walk) -> Snapshot {
        for _ in 0..TIMERS_MAX {
            let Some(timer) = snapshot.due_timer(now, |_| true) else { break };
            let input = timer_input(&snapshot, timer);
            self.decisions += 1;
            let Ok(commit) = decide(self.machine, Some(&snapshot), &input, now) else { break };
            walk.note(&self.machine.chart, &commit.entry);
            let Some(after) = commit.after else { break };
            snapshot = after;
        }
        snapshot
    }

    /// Whether this is somewhere new, or a new way.
    fn add(
        &mut self,
        parent: Option<usize>,
        came: Came,
        snapshot: Snapshot,
        now: Timestamp,
        walk: Walk,
    ) -> bool {
        let at = self.nodes.len();
        let is_new = self.seen.insert(self.key(&snapshot, now));
        if !is_new && self.walked.contains(&walk) {
            return false;
        }
        self.walked.add(&walk);
        for state in &walk.states {
            self.reached.entry(*state).or_insert(at);
        }
        for transition in &walk.transitions {
            self.taken.entry(*transition).or_insert(at);
        }
        if is_new && !snapshot.is_closed() {
            self.queue.push_back(at);
        }
        let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        self.nodes.push(Node { parent, came, depth, snapshot: Some(snapshot), now });
        true
    }

    /// What makes two snapshots the same for what can follow.
    fn key(&self, snapshot: &Snapshot, now: Timestamp) -> Digest {
        let timers: Vec<_> = snapshot
            .timers
            .iter()
            .map(|t| json!([t.id, t.deadline.since(now).as_millis(), t.event, t.payload]))
            .collect();
        let calls: Vec<&str> = snapshot.invocations.iter().map(|call| &*call.id).collect();
        let session = snapshot.conversation.as_ref().map(|session| {
            let options = session.pending.iter().flat_map(|question| &question.options);
            let options: Vec<&str> = options.map(|option| option.label.as_str()).collect();
            json!([session.topic, session.handed_over, options])
        });
        let essence = self.inputs.essence(&snapshot.context);
        let key = json!([
            snapshot.configuration,
            snapshot.history,
            essence,
            timers,
            calls,
            session,
            snapshot.is_closed()
        ]);
        Digest::of_parts(&[&key.to_string()])
    }

    fn note_failure(&mut self, refusal: &Refusal) {
        let chart = &self.machine.chart;
        for considered in refusal.explain.iter().filter(|considered| considered.chosen) {
            let is_it = |t: &kernel::chart::Transition| {
                *chart.state(t.source).path == *considered.state
                    && *t.event == *considered.event
                    && t.guard.as_ref().map(|g| &*g.source)
                        == considered.guard.as_ref().map(|g| g.expression.as_str())
            };
            if let Some(index) = chart.transition_indices().find(|t| is_it(chart.transition(*t))) {
                // What the fullest payload came to says most.
                self.failures.insert(index, refusal.message.clone());
            }
        }
    }

    /// The nodes on the way to one, from the beginning.
    pub fn way(&self, to: usize) -> Vec<&Node> {
        let mut way: Vec<&Node> =
            std::iter::successors(Some(&self.nodes[to]), |node| node.parent.map(|at| &self.nodes[at]))
                .collect();
        way.reverse();
        way
    }
}

impl Node {
    /// Where the instance then is, if there is one.
    pub fn state(&self) -> Option<String> {
        self.snapshot.as_ref().map(Snapshot::state)
    }
}

/// A message that was only talked about tells nothing of the chart; an event that was let pass neither.
fn is_worth_telling(commit: &Commit) -> bool {
    match &commit.entry.answer {
        Answer::Message(answer) => {
            answer.outcome == MessageOutcome::Dispatched && !commit.entry.transitions.is_empty()
        }
        _ => commit.entry.success,
    }
}

/// All active states.
fn active(chart: &Chart, snapshot: &Snapshot) -> Vec<StateIndex> {
    let leaves = snapshot.configuration.iter().filter_map(|path| chart.by_path(path));
    leaves.flat_map(|leaf| std::iter::once(leaf).chain(chart.ancestors(leaf))).collect()
}

/// The events, and patterns of events, that somebody may send there.
fn offered<'c>(chart: &'c Chart, states: &[StateIndex]) -> Vec<&'c str> {
    let events = chart.public_events().map(|event| &**event);
    events.filter(|event| !candidates(chart, states, event).is_empty()).collect()
}

/// The transitions that some of these states offer for an event.
fn candidates(chart: &Chart, states: &[StateIndex], event: &str) -> Vec<TransitionIndex> {
    let Some(event) = chart.event(event) else { return Vec::new() };
    let atomic = states.iter().filter(|state| chart.is_atomic(**state));
    let mut offered: Vec<TransitionIndex> =
        atomic.flat_map(|leaf| chart.candidates(*leaf, event)).copied().collect();
    offered.sort_unstable();
    offered.dedup();
    offered
}
