//! Definitions of which nothing is to be said: what a warning must not be about.

use kernel::definition::load;

/// Each with what it could be mistaken for.
const SENSIBLE: [(&str, &str); 16] = [
    (
        "the end of a region that watches the time is no way out",
        "
initial: work
states:
  work:
    type: parallel
    on: { done.state.work.clock: late, done.state.work.form.*: { assign: { n: context.n + 1 } } }
    on_done: { guard: context.n > 0, target: finished }
    states:
      clock: { initial: ticking, states: { ticking: { after: { 2d: expired } }, expired: { type: final } } }
      form: { initial: empty, states: { empty: { on: { send: sent } }, sent: { type: final } } }
  late: { type: final }
  finished: { type: final }
",
    ),
    (
        "what is raised on entering by time is no way out",
        "
initial: work
states:
  work:
    type: parallel
    on: { expire: { guard: context.n == 0, target: late } }
    states:
      clock: { initial: ticking, states: { ticking: { after: { 2d: expired } }, expired: { entry: { raise: expire } } } }
      form: { initial: empty, states: { empty: { on: { fill: filled } }, filled: {} } }
  late: { type: final }
",
    ),
    (
        "what follows from an end by time is no way out",
        "
initial: live
states:
  live:
    type: parallel
    on: { ended: { guard: context.n == 0, target: sold } }
    states:
      clock: { initial: open, on_done: { raise: ended }, states: { open: { after: { 10m: shut } }, shut: { type: final } } }
      bids: { initial: none, states: { none: { on: { bid: some } }, some: {} } }
  sold: { type: final }
",
    ),
    (
        "a call whose every end leads on is no way out of the region beside it",
        "
initial: wait
states:
  wait:
    type: parallel
    on: { done.state.wait.job: { guard: context.n == 0, target: over } }
    states:
      job: { initial: run, states: { run: { invoke: { src: s, on_done: ran, on_error: ran } }, ran: { type: final } } }
      talk: { initial: quiet, states: { quiet: { on: { say: loud } }, loud: {} } }
  over: { type: final }
",
    ),
    (
        "an eventless transition of the top that ends the machine goes round",
        "
initial: a
after: { 1h: done }
always: { guard: context.n > 1, target: done }
states: { a: { on: { add: { assign: { n: context.n + 1 } } } }, done: { type: final } }
",
    ),
    (
        "what `initial` assigns changes no guard",
        "
initial: c
after: { 1h: done }
states:
  c: { initial: { target: x, assign: { n: context.n + 1 } }, states: { x: { always: { guard: context.n < 3, target: c, reenter: true } } }, on: { stop: done } }
  done: { type: final }
",
    ),
    (
        "another region changes no guard",
        "
type: parallel
after: { 1h: { raise: tick } }
states:
  a: { always: { guard: context.n < 3, raise: tick }, on: { tick: {} } }
  b: { always: { guard: context.n < 3, assign: { n: context.n + 1 } } }
",
    ),
    (
        "a loop that its own assignment ends is endless",
        "
initial: a
after: { 1h: done }
states: { a: { always: [{ guard: context.n < 3, assign: { n: context.n + 1 } }, done] }, done: { type: final } }
",
    ),
    (
        "a delayed event is no way out by time",
        "
initial: a
states:
  a: { after: { 1h: done }, on: { submit: { target: waiting, raise: { event: expire, delay: 2h }, assign: { n: context.n + 1 } } } }
  waiting: { on: { expire: { guard: context.n > 0, target: done } } }
  done: { type: final }
",
    ),
    (
        "a region that watches the time is no way out of the others",
        "
initial: p
states:
  p:
    type: parallel
    on: { expired: done }
    states:
      clock: { initial: c1, states: { c1: { after: { 1h: { raise: expired } } } } }
      work: { initial: w1, states: { w1: { on: { go: w2 } }, w2: {} } }
  done: { type: final, output: { n: context.n } }
",
    ),
    (
        "a call that runs out is no way out",
        "
initial: a
states:
  a: { invoke: { src: s, input: { n: context.n }, on_done: done, on_error: done } }
  done: { type: final }
",
    ),
    (
        "a state that only a recovery reaches is unreachable",
        "
initial: a
safe_state: support
after: { 1h: done }
states: { a: { on: { stop: done } }, support: { on: { solved: { guard: context.n == 0, target: a } } }, done: { type: final } }
",
    ),
    (
        "a field that whoever creates an instance may give is never written",
        "
initial: a
after: { 1h: done }
states: { a: { on: { stop: { guard: context.owner == null || event.by == context.owner, target: done } } }, done: { type: final, output: { n: context.n } } }
",
    ),
    (
        "a transition behind a guarded one is never chosen",
        "
initial: a
after: { 1h: done }
on: { go: done }
states: { a: { on: { go: { guard: context.n > 0, target: b } } }, b: { on: { '*': a } }, done: { type: final } }
",
    ),
    (
        "a delay that is computed begins with a digit",
        "
initial: a
states: { a: { entry: { raise: { event: t, delay: 1000 * (context.n + 1) } }, on: { t: done } }, done: { type: final } }
",
    ),
    (
        "a state that is called `matches` has patterns",
        "
initial: matches
after: { 1h: done }
states: { matches: { on: { go: { guard: \"event.a.matches('^x')\", target: done } }, entry: { assign: { n: context.n + 1 } } }, done: { type: final, output: { n: context.n } } }
",
    ),
];

/// Flows, each with what it could be mistaken for.
const SENSIBLE_FLOWS: [(&str, &str); 7] = [
    (
        "anybody's yes is nobody's",
        "phases: { a: { validation: true }, b: { needs: a, approval: { reason: true, four_eyes: true } } }",
    ),
    ("an end to the wait is none", "phases: { a: { approval: { by: lead, expires_after: 48h } } }"),
    (
        "work outside needs a timeout",
        "phases: { a: { run: { http: s } }, b: { run: { flow: other } }, c: { run: worker } }",
    ),
    (
        "a field that workers are shown is read by nobody",
        "context: { note: { default: '' } }\nphases: { a: { run: worker, output: {} } }",
    ),
    (
        "a result that has fields of the same name is kept nowhere",
        "context: { found: { type: integer }, note: {} }\nphases: { a: { run: { http: s } }, b: { needs: a, when: context.found > 0, run: { http: t } } }",
    ),
    ("a phase that is switched off is a slip", "phases: { a: { when: false }, b: { needs: a, when: true } }"),
    (
        "what is needed by way of another is needed twice",
        "phases: { a: {}, b: { needs: a }, c: { needs: [a, b], on_error: { '*': { rollback: a }, PERMISSION_DENIED: retry } } }",
    ),
];

#[test]
fn nothing_is_said_of_flows_that_are_sensible() {
    for (mistake, body) in SENSIBLE_FLOWS {
        let source = format!("flow: f\n{body}");
        let (_, diagnostics) = load(&source);
        let told: Vec<String> = diagnostics.iter().map(|d| d.render("f.yaml", &source)).collect();
        assert!(told.is_empty(), "as if {mistake}:\n{}", told.join("\n"));
    }
}

#[test]
fn nothing_is_said_of_what_is_sensible() {
    for (mistake, body) in SENSIBLE {
        let owner = if body.contains("owner") { "\n  owner: { type: string, nullable: true }" } else { "" };
        let source = format!("machine: m\ncontext:\n  n: {{ type: integer, default: 0 }}{owner}{body}");
        let (_, diagnostics) = load(&source);
        let told: Vec<String> = diagnostics.iter().map(|d| d.render("m.yaml", &source)).collect();
        assert!(told.is_empty(), "as if {mistake}:\n{}", told.join("\n"));
    }
}
