//! What is promised of flows that are made of flows, or wait for others: each is told once what it has to know, in
//! order, and whoever waits for what cannot be hears of it.

mod crashes;
mod figures;

use std::sync::Arc;

use engine::Settings;
use kernel::commit::Answer;
use kernel::flow::{FlowView, PhaseState, PhaseView};
use kernel::id::{InputKey, InstanceId, MachineName};
use kernel::input::{Cause, Input, Start};
use kernel::snapshot::Snapshot;
use kernel::trace::{SpanId, Trace};
use serde_json::{Value, json};
use store::EffectStatus::{Cancelled, Dead, Delivered};
use store::{InstanceQuery, MemoryStore, Store};

use crate::post::Office;
use crate::world::{event, fields, stores, tenant};

use PhaseState::{Completed, Failed, InProgress, RetryNeeded};

const HOUSE: &str = "
flow: house
version: 1
context:
  plan:  { type: string, nullable: true }
  rooms: { type: integer, default: 0 }
phases:
  walls:
    retry: { attempts: 2, backoff: 1m }
  roof:
    needs: [walls]
";

/// A street is a house that is planned, built and, when the other flow is done, sold.
const STREET: &str = "
flow: street
version: 1
context:
  plan:  { type: string, default: 'two floors' }
  rooms: { type: integer, default: 0 }
  other: { type: string, default: mortgage }
phases:
  plan: {}
  build:
    needs: [plan]
    run: { flow: house, context: { plan: context.plan } }
    output: { rooms: event.rooms }
  sell:
    needs: [build]
    run: { wait_for: context.other }
    output: { other: context.other }
    on_error: { FLOW_NOT_FOUND: retry }
    retry: { attempts: 5, backoff: 10s, factor: 1 }
";

/// Something that waits for another flow, and for what may not be there.
const GUEST: &str = "
flow: guest
version: 1
context:
  host: { type: string, default: h1 }
  rooms: { type: integer, default: 0 }
phases:
  arrive:
    run: { wait_for: context.host }
  strange:
    when: context.host == 'strange'
    run: { flow: nowhere, context: {} }
  machine:
    when: context.host == 'machine'
    run: { flow: progress_update, context: {} }
";

/// An office that knows these flows.
pub struct Site {
    pub office: Office,
}

impl Site {
    fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    fn over(store: Arc<dyn Store>) -> Self {
        Self::with(Office::over(store))
    }

    fn with(office: Office) -> Self {
        for source in [HOUSE, STREET, GUEST] {
            let store = &*office.world.store;
            office.world.machines.activate(store, source, office.world.clock.now()).unwrap();
        }
        Self { office }
    }

    fn begin(&self, flow: &str, id: &str, context: Value) {
        let cause = Cause::Create {
            machine: MachineName::parse(flow).unwrap(),
            id: Some(id_of(id)),
            subject: None,
            context: fields(context),
            start: Start::default(),
        };
        let key = InputKey::parse(&format!("begin {id}")).unwrap();
        let input = Input { tenant: tenant(), key, cause, expected: None, by: None, trace: None };
        self.office.call(input);
        self.office.rest();
    }

    /// Something is done to a flow, which takes it; then what follows from that is done.
    fn act(&self, id: &str, action: &str, payload: Value) {
        let answered = self.office.call(self.action(id, action, payload));
        assert!(matches!(&*answered.answer, Answer::Event(_)), "{action} to {id}: {:?}", answered.answer);
        self.office.rest();
    }

    fn action(&self, id: &str, action: &str, payload: Value) -> Input {
        let revision = self.snapshot(id).revision;
        let mut input = event(&id_of(id), &format!("{action} at {revision}"), action, payload);
        input.trace = Trace::recorded(&"1".repeat(32), false, SpanId(1));
        input
    }

    fn done(&self, id: &str, phase: &str, output: Value) {
        self.act(id, &format!("{phase}.start"), json!({}));
        self.act(id, &format!("{phase}.complete"), json!({ "output": output }));
    }

    fn snapshot(&self, id: &str) -> Snapshot {
        self.office.world.load(&id_of(id))
    }

    fn view(&self, id: &str) -> FlowView {
        let snapshot = self.snapshot(id);
        let machine = self.office.world.machines.of(&snapshot).unwrap();
        FlowView::of(&machine, &snapshot, self.office.world.clock.now()).unwrap()
    }

    fn phase(&self, id: &str, phase: &str) -> PhaseView {
        self.view(id).phases.into_iter().find(|view| &*view.phase == phase).unwrap()
    }

    fn state(&self, id: &str, phase: &str) -> PhaseState {
        self.phase(id, phase).state
    }

    fn status(&self, id: &str) -> String {
        self.snapshot(id).state()
    }

    /// The code of the error that a phase is about.
    fn code(&self, id: &str, phase: &str) -> String {
        self.phase(id, phase).error.map(|error| error.code).unwrap_or_default()
    }

    /// The flows of a definition, in the order in which they were begun.
    fn all(&self, flow: &str) -> Vec<String> {
        let mut query = InstanceQuery::of(tenant());
        query.limit = 1_000;
        let all = self.office.world.store.instances(&query).unwrap().data;
        let mut all: Vec<_> = all.into_iter().filter(|one| one.machine.as_str() == flow).collect();
        all.sort_by_key(|one| one.created_at);
        all.into_iter().map(|one| one.instance.to_string()).collect()
    }

    /// A street that is planned, with its only house.
    fn street(&self) -> String {
        self.begin("street", "s1", json!({}));
        self.done("s1", "plan", json!({}));
        let houses = self.all("house");
        assert_eq!(houses.len(), 1, "{houses:?}");
        houses[0].clone()
    }

    fn build(&self, house: &str) {
        self.done(house, "walls", json!({ "rooms": 7 }));
        self.done(house, "roof", json!({}));
    }
}

fn id_of(id: &str) -> InstanceId {
    InstanceId::parse(id).unwrap()
}

#[test]
fn a_phase_that_is_a_flow_is_done_when_that_is_done() {
    for (name, store, _directory) in stores() {
        let site = Site::over(store);
        let house = site.street();
        assert_eq!(site.state("s1", "build"), InProgress, "{name}");
        let begun = site.snapshot(&house);
        assert_eq!(begun.context["plan"], "two floors", "{name}");
        let parent = site.view(&house).parent.unwrap();
        assert_eq!(parent.instance, id_of("s1"), "{name}");
        let first = site.office.world.history(&id_of(&house)).remove(0);
        let expected = (Some("flow:s1".to_owned()), Some("1".repeat(32)));
        assert_eq!((first.by, first.trace_id), expected, "{name}: who has begun it, and in which trace");
        site.build(&house);
        assert_eq!(site.status(&house), "completed", "{name}");
        assert_eq!(site.state("s1", "build"), Completed, "{name}");
        assert_eq!(site.snapshot("s1").context["rooms"], 7, "{name}");
        let last = site.office.world.history(&id_of("s1")).into_iter().find(|e| e.event == "build.result");
        assert_eq!(last.unwrap().by, Some(format!("flow:{house}")), "{name}");
        let open = site.office.effects().into_iter().filter(|effect| effect.status != Delivered);
        let open: Vec<_> = open.filter(|effect| effect.instance != id_of("s1")).collect();
        assert!(open.is_empty(), "{name}: {open:?}");
        assert_eq!(site.office.script.keys(), [""; 0], "{name}: nothing goes outside");
    }
}

#[test]
fn a_phase_that_is_a_flow_fails_when_that_stands_still() {
    let site = Site::new();
    let house = site.street();
    site.act(&house, "walls.start", json!({}));
    site.act(
        &house,
        "walls.fail",
        json!({ "error": { "code": "DATA_VALIDATION_FAILED", "message": "no bricks" } }),
    );
    let error = site.phase("s1", "build").error.unwrap();
    assert_eq!((site.state("s1", "build"), &*error.code), (Failed, "CHILD_FLOW_FAILED"));
    assert!(error.message.contains("no bricks"), "{}", error.message);
    assert_eq!(site.status("s1"), "failed");
    // It stays to be looked at. Mended, it has nobody to tell any more, which is no trouble to anybody.
    site.act(&house, "walls.retry", json!({}));
    site.done(&house, "walls", json!({}));
    site.done(&house, "roof", json!({}));
    assert_eq!((site.status(&house), site.state("s1", "build")), ("completed".to_owned(), Failed));
    // Tried again, the phase has a house of its own.
    site.act("s1", "build.retry", json!({}));
    let houses = site.all("house");
    assert_eq!((houses.len(), site.state("s1", "build")), (2, InProgress));
    let second = houses.into_iter().find(|id| *id != house).unwrap();
    site.build(&second);
    assert_eq!(site.state("s1", "build"), Completed);
}

#[test]
fn a_phase_whose_flow_is_cancelled_fails() {
    let site = Site::new();
    let house = site.street();
    site.act(&house, "cancel", json!({}));
    assert_eq!((site.state("s1", "build"), &*site.code("s1", "build")), (Failed, "CHILD_FLOW_CANCELLED"));
}

#[test]
fn what_is_done_to_a_flow_as_a_whole_is_done_to_those_that_it_is_made_of() {
    let site = Site::new();
    let house = site.street();
    for (control, status) in [("pause", "paused"), ("resume", "initialized"), ("cancel", "cancelled")] {
        site.act("s1", control, json!({ "reason": "winter" }));
        assert_eq!(site.status(&house), status, "{control}");
        let last = site.office.world.history(&id_of(&house)).pop().unwrap();
        assert_eq!((last.event.as_str(), last.by.as_deref()), (control, Some("flow:s1")));
    }
}

#[test]
fn a_flow_that_its_phase_goes_on_without_is_cancelled() {
    for (action, code) in [("build.fail", "PHASE_EXECUTION_FAILED"), ("build.complete", "")] {
        let site = Site::new();
        let house = site.street();
        site.act("s1", action, json!({}));
        assert_eq!(site.status(&house), "cancelled", "{action}");
        assert_eq!(site.code("s1", "build"), code, "{action}: not what comes of the cancelling");
    }
}

/// Told one after the other, and as if nothing had happened in between.
#[test]
fn a_flow_that_was_paused_and_resumed_before_it_was_begun_goes_on() {
    let site = Site::new();
    site.begin("street", "s1", json!({}));
    site.act("s1", "plan.start", json!({}));
    for action in ["plan.complete", "pause", "resume"] {
        site.office.call(site.action("s1", action, json!({})));
    }
    site.office.rest();
    let house = site.all("house").remove(0);
    assert_eq!(site.status(&house), "initialized");
    let events: Vec<String> =
        site.office.world.history(&id_of(&house)).into_iter().map(|entry| entry.event).collect();
    assert_eq!(events, ["create", "pause", "resume"]);
}

#[test]
fn a_flow_that_nobody_waits_for_any_more_is_not_begun() {
    let site = Site::new();
    site.begin("street", "s1", json!({}));
    site.act("s1", "plan.start", json!({}));
    // Together in one batch or not: begun and cancelled, or never begun.
    site.office.call(site.action("s1", "plan.complete", json!({})));
    site.office.call(site.action("s1", "cancel", json!({})));
    site.office.rest();
    for house in site.all("house") {
        assert_eq!(site.status(&house), "cancelled");
    }
    assert!(site.office.effects().iter().all(|effect| matches!(effect.status, Delivered | Cancelled)));
}

#[test]
fn a_flow_waits_for_another_that_is_done_later() {
    for (end, state, code) in [("complete", Completed, ""), ("cancel", Failed, "CHILD_FLOW_CANCELLED")] {
        let site = Site::new();
        site.begin("house", "h1", json!({}));
        site.begin("guest", "g1", json!({}));
        assert_eq!(site.state("g1", "arrive"), InProgress);
        match end {
            "complete" => site.build("h1"),
            _ => site.act("h1", "cancel", json!({})),
        }
        assert_eq!((site.state("g1", "arrive"), &*site.code("g1", "arrive")), (state, code), "{end}");
        // Whatever of the other's context this one has a field for.
        let rooms = if code.is_empty() { 7 } else { 0 };
        assert_eq!(site.snapshot("g1").context["rooms"], rooms);
    }
}

#[test]
fn a_flow_waits_no_time_for_another_that_is_done() {
    let site = Site::new();
    site.begin("house", "h1", json!({}));
    site.build("h1");
    site.begin("guest", "g1", json!({}));
    assert_eq!(site.status("g1"), "completed");
    assert_eq!(site.status("h1"), "completed", "which is as it was");
}

#[test]
fn a_phase_that_waits_for_a_flow_that_is_not_there_fails() {
    let site = Site::new();
    site.begin("guest", "g1", json!({}));
    let error = site.phase("g1", "arrive").error.unwrap();
    assert_eq!((site.state("g1", "arrive"), &*error.code), (Failed, "FLOW_NOT_FOUND"));
    assert!(error.message.contains("h1"), "{}", error.message);
    let told = site.office.effects().remove(0);
    assert_eq!((told.status, told.error.as_ref()), (Dead, Some(&error.message)));
}

#[test]
fn with_a_retry_it_is_waited_for_until_it_is_there() {
    let site = Site::new();
    let house = site.street();
    site.build(&house);
    assert_eq!((site.state("s1", "sell"), &*site.code("s1", "sell")), (RetryNeeded, "FLOW_NOT_FOUND"));
    site.begin("house", "mortgage", json!({}));
    site.office.pass("10s");
    assert_eq!(site.state("s1", "sell"), InProgress);
    site.build("mortgage");
    assert_eq!(site.status("s1"), "completed");
}

#[test]
fn a_flow_that_cannot_be_begun_fails_its_phase() {
    for (host, phase, code) in
        [("strange", "strange", "FLOW_NOT_FOUND"), ("machine", "machine", "CHILD_FLOW_REFUSED")]
    {
        let site = Site::new();
        site.begin("guest", "g1", json!({ "host": host }));
        assert_eq!((site.state("g1", phase), &*site.code("g1", phase)), (Failed, code), "{host}");
    }
}

#[test]
fn what_watches_something_that_is_no_flow_fails() {
    let site = Site::new();
    let dog = "{ machine: dog, initial: asleep, states: { asleep: { on: { '*': awake, watch: awake } }, awake: {} } }";
    let world = &site.office.world;
    world.machines.activate(&*world.store, dog, world.clock.now()).unwrap();
    site.begin("dog", "d1", json!({}));
    site.begin("guest", "g1", json!({ "host": "d1" }));
    assert_eq!(site.code("g1", "arrive"), "CHILD_FLOW_REFUSED");
    // What the event would mean to it is not what the flow means.
    assert_eq!(site.snapshot("d1").state(), "asleep");
}

/// Somebody has taken the name that the flow of the phase would have.
#[test]
fn a_flow_is_not_begun_under_a_name_that_is_taken() {
    let site = Site::new();
    site.begin("street", "s1", json!({}));
    site.act("s1", "plan.start", json!({}));
    let name = format!("s1.build.{}", site.snapshot("s1").revision.next());
    site.begin("house", &name, json!({}));
    site.act("s1", "plan.complete", json!({}));
    assert_eq!((site.state("s1", "build"), &*site.code("s1", "build")), (Failed, "CHILD_FLOW_REFUSED"));
    assert_eq!((site.status(&name), site.view(&name).parent), ("initialized".to_owned(), None));
}

#[test]
fn what_is_only_tried_out_begins_no_flow() {
    let site = Site::new();
    let shadow = tenant().shadow();
    let create = Cause::Create {
        machine: MachineName::parse("guest").unwrap(),
        id: Some(id_of("g1")),
        subject: None,
        context: fields(json!({ "host": "strange" })),
        start: Start::default(),
    };
    let key = InputKey::parse("k").unwrap();
    site.office.call(Input {
        tenant: shadow.clone(),
        key,
        cause: create,
        expected: None,
        by: None,
        trace: None,
    });
    site.office.rest();
    let effects = site.office.world.store.effects(&store::EffectQuery::of(shadow)).unwrap().data;
    let statuses: Vec<_> = effects.iter().map(|effect| effect.status).collect();
    assert_eq!(statuses, [Cancelled, Cancelled]);
}

/// As an operator has it told, and as it then is played.
#[test]
fn what_happened_to_a_flow_is_a_story_that_comes_true() {
    let site = Site::new();
    let house = site.street();
    site.act(&house, "walls.start", json!({}));
    site.act(&house, "walls.fail", json!({ "error": { "code": "AGENT_TIMEOUT" } }));
    site.office.pass("1m");
    let mut refused = site.action(&house, "roof.start", json!({ "reason": "early" }));
    refused.by = Some("ana".into());
    site.office.call(refused);
    site.build(&house);
    for (id, part) in [
        (&*house, "event: walls.fail"),
        (&*house, "event: roof.start\n        payload: { reason: early }\n        by: ana"),
        (&*house, "expect: { refused: needs_missing, history:"),
        ("s1", "call: build\n        result: { plan: two floors, rooms: 7 }"),
        ("s1", "moved: [\"build -> completed\", \"sell -> in_progress\"]"),
    ] {
        let file = std::path::Path::new("f.yaml");
        let story = engine::story::of_session(&site.office.engine, &tenant(), &id_of(id), file).unwrap();
        assert!(story.contains(part), "{part}\n{story}");
        assert!(!story.contains("did not come true") && !story.contains("Not told"), "{story}");
    }
}

#[test]
fn flows_are_told_without_a_setting_and_at_all_times() {
    let settings = Settings { deliveries_max: 1, ..Settings::default() };
    let site = Site::with(Office::with(Arc::new(MemoryStore::new()), settings));
    site.office.script.routes(|_| panic!("no setting is asked for"));
    let house = site.street();
    site.build(&house);
    assert_eq!(site.state("s1", "build"), Completed);
}
