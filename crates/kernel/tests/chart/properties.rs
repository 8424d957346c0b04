//! What holds for any chart: the short path is no other path, and saving an instance changes nothing.

use std::collections::BTreeSet;
use std::fmt::Write;

use kernel::chart::{ROOT, StateIndex};
use kernel::commit::Commit;
use kernel::definition::load;
use kernel::diagnostic::Severity;
use kernel::expression::Scope;
use kernel::input::Fields;
use kernel::machine::Machine;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::Snapshot;
use proptest::prelude::*;
use serde_json::json;

use crate::player::{Player, completed, machine};

/// One thing that happens: an event by number with a payload, or seconds that pass and what then is due.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Event(u8, i64),
    Pass(i64),
    /// The first call that is under way brings a result, or an error.
    Answer(bool),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..5_u8, -2..4_i64).prop_map(|(event, x)| Happening::Event(event, x)),
        1 => (1..40_i64).prop_map(Happening::Pass),
        1 => any::<bool>().prop_map(Happening::Answer),
    ];
    prop::collection::vec(one, 1..25)
}

/// Every commit and refusal of a play.
fn play(machine: &Machine, happenings: &[Happening], saves: bool) -> Vec<Result<Commit, Refusal>> {
    let mut player = Player::new(machine, saves);
    let mut results = vec![player.create(Fields::new())];
    let mut seconds = 0;
    for happening in happenings {
        match happening {
            Happening::Event(event, x) => {
                let payload = Fields::from_iter([("x".to_owned(), json!(x))]);
                results.push(player.event(&format!("e{event}"), payload));
            }
            Happening::Answer(done) => results.extend(player.answer_first(*done)),
            Happening::Pass(by) => {
                seconds += by;
                player.at(seconds);
                // A timer may set one that is due at once, and that the first again.
                results.extend(std::iter::from_fn(|| player.fire()).take(20).map(|(_, result)| result));
            }
        }
    }
    results
}

/// One of many values by number, so that a failing definition shrinks to its plainest.
fn pick<'a>(from: &[&'a str], number: u8) -> &'a str {
    from[usize::from(number) % from.len()]
}

const GUARDS: [&str; 5] = [
    "",
    "guard: 'event.x > 0', ",
    "guard: 'context.n % 2 == 0', ",
    "guard: '''b'' in active', ",
    "guard: 'event.missing', ",
];
const ACTIONS: [&str; 14] = [
    "",
    "",
    "actions: L(t), ",
    "assign: { n: context.n + event.x }, ",
    "assign: { n: 'event.x > 2 ? \"wrong\" : 1' }, ",
    "actions: [{ raise: e1 }, L(r)], ",
    "reason: because, ",
    "assign: { seen: double(event.x) / 3.0 + 0.1 * double(context.n) }, ",
    "raise: { event: e3, delay: 9s, data: { x: context.n } }, ",
    "raise: { event: e4, delay: 'event.x * 3000', id: later }, ",
    // An id has to be delayed somewhere before it can be cancelled.
    "actions: [{ raise: [{ event: e3, delay: 9s }, { event: e4, delay: 9s, id: later }] }, { cancel: [e3, later] }], ",
    "if: event.x > 1, then: L(yes), else: { raise: { event: e0, data: { x: 3 } } }, ",
    "for_each: '[1, 2, event.x]', do: { assign: { n: context.n + item * index } }, ",
    "assign: { text: event_name }, ",
];
const ON_ENTRY: [&str; 5] = ["", "", "entry: L(in), ", "exit: L(out), ", "entry: { raise: e2 }, "];
const AFTER: [&str; 5] = [
    "",
    "",
    "invoke: { src: s, timeout: 11s, input: { n: context.n }, on_done: { actions: L(done) }, on_error: a }, ",
    "after: { 5s: a }, ",
    "after: { 7s: { actions: L(tick) }, 30s: b }, ",
];

/// A transition by five numbers, to one of `targets`.
fn transition(numbers: [u8; 5], targets: &[&str]) -> String {
    let [guard, action, target, reenter, _] = numbers;
    let target = match usize::from(target) % (targets.len() + 1) {
        0 => String::new(),
        number => format!("target: {}, ", targets[number - 1]),
    };
    let reenter = pick(&["", "", "reenter: true, "], reenter);
    let (guard, action) = (pick(&GUARDS, guard), pick(&ACTIONS, action));
    format!("{{ {guard}{action}{target}{reenter}loop: normal }}")
}

type Numbers = [u8; 5];

fn transitions(count: usize) -> impl Strategy<Value = Vec<(u8, Numbers)>> {
    prop::collection::vec((0..7_u8, any::<Numbers>()), 0..count)
}

/// `e0` to `e4`, `*` and `e.*`, each with the transitions that fell to it.
fn on(transitions: &[(u8, Numbers)], targets: &[&str]) -> String {
    let mut text = String::from("on: { ");
    for event in 0..7 {
        let own: Vec<String> = transitions
            .iter()
            .filter(|(number, _)| *number == event)
            .map(|(_, numbers)| transition(*numbers, targets))
            .collect();
        let name = ["e0", "e1", "e2", "e3", "e4", "'*'", "e.*"][usize::from(event)];
        if !own.is_empty() {
            let _ = write!(text, "{name}: [{}], ", own.join(", "));
        }
    }
    text + "unheard: []}"
}

/// What a state has beside its transitions.
fn extras([entry, after, ..]: Numbers) -> String {
    format!("{}{}", pick(&ON_ENTRY, entry), pick(&AFTER, after))
}

/// Five states side by side, one of them final.
fn flat() -> impl Strategy<Value = String> {
    let state = (any::<Numbers>(), transitions(6));
    (prop::collection::vec(state, 4), transitions(3)).prop_map(|(states, top)| {
        let targets = ["a", "b", "c", "d", "f"];
        let mut text = format!("initial: a\n{}\nafter: {{ 60s: f }}\nstates:\n", on(&top, &targets));
        for (name, (numbers, own)) in targets.iter().zip(&states) {
            let _ = writeln!(text, "  {name}: {{ {}{} }}", extras(*numbers), on(own, &targets));
        }
        text + "  f: { type: final, entry: L(end), exit: L(closed) }\n"
    })
}

/// A compound state, a parallel state with two regions, histories of both kinds, and a final state.
fn hierarchical() -> impl Strategy<Value = String> {
    let state = (any::<Numbers>(), transitions(4));
    let always = prop::option::weighted(0.3, any::<Numbers>());
    (prop::collection::vec(state, 9), always, transitions(3)).prop_map(|(states, always, top)| {
        let targets =
            ["a", "b", "c", "c.c1", "c.c2", "c.h", "c.hd", "p", "p.r.r2", "p.s.s2", "p.r.rf", "p.s.sf", "f"];
        let body = |number: usize| {
            let (numbers, own) = &states[number];
            format!("{}{}", extras(*numbers), on(own, &targets))
        };
        let always = match always {
            Some(numbers) => format!("always: [{}], ", transition(numbers, &targets)),
            None => String::new(),
        };
        let done = "done.state.p: [{ target: c, actions: L(done) }], unheard: []}";
        format!(
            "initial: a
{}
after: {{ 60s: f }}
states:
  a: {{ {} }}
  b: {{ {always}{} }}
  c:
    initial: c1
    states:
      c1: {{ {} }}
      c2: {{ {} }}
      h: {{ type: history, target: c2 }}
      hd: {{ type: history, history: deep, target: c1 }}
  p:
    type: parallel
    {{}}
    states:
      r: {{ initial: r1, {}, states: {{ r1: {{ {} }}, r2: {{ {} }}, rf: {{ type: final }} }} }}
      s: {{ initial: s1, states: {{ s1: {{ {} }}, s2: {{ {} }}, sf: {{ type: final }} }} }}
  f: {{ type: final }}
",
            on(&top, &targets),
            body(0),
            body(1),
            body(2),
            body(3),
            body(4),
            body(5),
            body(6),
            body(7),
            body(8)
        )
        .replace("    {}\n", &format!("    on: {{ {done}\n"))
    })
}

/// Conditions that the plays above break now and then, and that an instance begins with.
const CONDITIONS: [&str; 6] = [
    "context.n < 3",
    "context.n % 5 != 4",
    "size(context.log) < 6",
    "context.seen == null || context.seen < 1.0",
    "!('b' in active) || context.n > 0",
    "context.text != 'e1'",
];

/// The definition with conditions at the top, and in every `{state}` at the beginning of a line.
fn with_invariants(definition: &str, top: usize, state: &str, inside: usize) -> String {
    let held =
        |number: usize| format!("invariants: {{ held: \"{}\" }}", CONDITIONS[number % CONDITIONS.len()]);
    let inside = held(inside);
    let marked = definition.replacen(&format!("  {state}: {{ "), &format!("  {state}: {{ {inside}, "), 1);
    assert_ne!(marked, definition, "no state {state} in\n{definition}");
    format!("{}\n{marked}", held(top))
}

/// Whether an instance is as its definition says: worked out anew from what is saved, by the expressions alone.
fn holds(machine: &Machine, snapshot: &Snapshot) -> bool {
    let chart = &machine.chart;
    let mut active: BTreeSet<StateIndex> = BTreeSet::from([ROOT]);
    for path in &snapshot.configuration {
        let leaf = chart.by_path(path).unwrap();
        active.insert(leaf);
        active.extend(chart.ancestors(leaf));
    }
    let paths: Vec<_> = active.iter().skip(1).map(|state| chart.state(*state).path.clone()).collect();
    let none = Fields::new();
    let scope = Scope { context: &snapshot.context, active: &paths, ..Scope::empty(&none) };
    let mut held = active.iter().flat_map(|state| &chart.state(*state).invariants);
    held.all(|invariant| invariant.check.test(scope) == Ok(true))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_path_commits_what_the_general_path_commits(definition in flat(), happenings in happenings()) {
        let short = machine(&definition);
        prop_assert!(short.chart.is_flat);
        let mut general = machine(&definition);
        general.chart.is_flat = false;
        prop_assert_eq!(play(&short, &happenings, false), play(&general, &happenings, false));
    }

    #[test]
    fn saving_and_restoring_between_inputs_changes_no_commit(definition in hierarchical(), happenings in happenings()) {
        let machine = machine(&definition);
        prop_assert_eq!(play(&machine, &happenings, false), play(&machine, &happenings, true));
    }

    #[test]
    fn configuration_is_always_a_legal_one(definition in hierarchical(), happenings in happenings()) {
        let machine = machine(&definition);
        for commit in play(&machine, &happenings, false).into_iter().flatten() {
            let after = commit.after.unwrap();
            let active: Vec<&str> = after.configuration.iter().map(|path| &**path).collect();
            let regions = |at: &str| active.iter().filter(|path| path.starts_with(at)).count();
            let legal = match active[0].starts_with("p.") {
                true => active.len() == 2 && regions("p.r.") == 1 && regions("p.s.") == 1,
                false => active.len() == 1,
            };
            prop_assert!(legal, "{active:?} in\n{definition}");
            prop_assert_eq!(after.closure.is_some(), active == ["f"]);
        }
    }
    #[test]
    fn nothing_that_is_saved_violates_an_invariant(
        definition in prop_oneof![flat(), hierarchical()],
        (top, inside) in (0..6_usize, 0..6_usize),
        state in prop::sample::select(vec!["a", "b"]),
        happenings in happenings(),
    ) {
        // One that begins in a broken state is no definition.
        let loaded = load(&completed(&with_invariants(&definition, top, state, inside)));
        prop_assert!(loaded.1.iter().all(|diagnostic| diagnostic.code == "never_holds" || diagnostic.severity == Severity::Warning));
        let Some(machine) = loaded.0 else { return Ok(()) };
        let played = play(&machine, &happenings, false);
        for commit in played.iter().flatten() {
            let after = commit.after.as_ref().unwrap();
            prop_assert!(holds(&machine, after), "{after:?} in\n{definition}");
        }
        // What is refused for it would have violated one: without invariants, or with others, it may be taken.
        for refusal in played.iter().filter_map(|result| result.as_ref().err()) {
            prop_assert_eq!(refusal.code == RefusalCode::InvariantViolated, !refusal.violated.is_empty());
        }
    }

    #[test]
    fn invariants_that_hold_change_no_commit(definition in prop_oneof![flat(), hierarchical()], happenings in happenings()) {
        let plain = play(&machine(&definition), &happenings, false);
        let held = format!("invariants: {{ held: context.n < 1000000 || true }}\n{definition}");
        let held: Vec<_> = play(&machine(&held), &happenings, false).into_iter().map(without_hash).collect();
        prop_assert_eq!(plain.into_iter().map(without_hash).collect::<Vec<_>>(), held);
    }
}

fn without_hash(result: Result<Commit, Refusal>) -> Result<Commit, Refusal> {
    result.map(|mut commit| {
        if let Some(after) = &mut commit.after {
            after.definition = kernel::id::DefinitionHash::of("");
        }
        commit
    })
}
