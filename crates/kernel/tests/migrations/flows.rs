//! Flows that go on by another version: phases by their names, and what can begin because of it.

use kernel::commit::Commit;
use serde_json::json;

use crate::life::Life;

const ONE: &str = "
flow: launch
version: 1
context:
  name: { type: string, default: x }
phases:
  draft: {}
  review: { needs: [draft], run: { worker: pens }, timeout: 1h }
  print: { needs: [review] }
";

fn two(text: &str) -> String {
    text.replace("version: 1", "version: 2")
}

/// The phases that have begun, the lines that are written, and what is called.
fn told(commit: &Commit) -> String {
    let after = commit.after.as_ref().unwrap();
    let rows = commit.phases.iter().map(|row| format!("{}:{}", row.phase, row.state));
    let timers = after.timers.iter().map(|timer| timer.id.to_string());
    let calls = after.invocations.iter().map(|call| format!("{} as {}", call.id, call.key));
    let rest: Vec<String> = timers.chain(calls).collect();
    format!("{}: {}; {}", after.state(), rows.collect::<Vec<_>>().join(" "), rest.join(" "))
}

#[track_caller]
fn check(events: &str, source: &str, expected: &str) {
    let mut flow = Life::after(ONE, events);
    let found = flow.migrate(&two(source)).map_or_else(|refusal| refusal.message, |commit| told(&commit));
    assert_eq!(found, expected, "{events}");
}

const MORE: &str = "
flow: launch
version: 1
context:
  name: { type: string, default: x }
phases:
  idea: {}
  draft: {}
  proof: { needs: [draft], run: { worker: pens }, timeout: 1h }
  print: { needs: [proof] }
  tell: { needs: [draft], run: { http: mail } }
migrations:
  phases: { review: proof }
";

#[test]
fn phases_keep_where_they_are_by_their_names_and_what_can_begin_begins() {
    check(
        "",
        MORE,
        "initialized: idea:not_started draft:not_started proof:not_started print:not_started tell:not_started; ",
    );
    check(
        "draft.start draft.complete",
        MORE,
        "active: idea:not_started draft:completed proof:not_started print:not_started tell:in_progress; tell as o-1:4:0",
    );
    check(
        "draft.start draft.complete review.start",
        MORE,
        "active: idea:not_started draft:completed proof:in_progress print:not_started tell:in_progress; proof.timed_out tell as o-1:5:0",
    );
}

#[test]
fn a_phase_that_is_under_way_has_to_have_a_place() {
    let unnamed = MORE.replace("  phases: { review: proof }", "  context: { name: '\"y\"' }");
    let why = "its phase `review` is in_progress, and version 2 has no such phase";
    check("draft.start draft.complete review.start", &unnamed, why);
    let stays = MORE.replace("review: proof", "review: null");
    let why = "the migration leaves what is at `review` where it is";
    check("draft.start draft.complete review.start", &stays, why);
    let done = "active: idea:not_started draft:completed proof:not_started print:not_started tell:in_progress; tell as o-1:6:0";
    check("draft.start draft.complete review.start review.complete", &unnamed, done);
}

#[test]
fn two_phases_cannot_be_one_and_a_flow_cannot_lose_any() {
    let both = MORE.replace("review: proof", "review: proof, print: proof");
    let why = "two of its phases would be `proof`";
    check("draft.start", &both, why);
    let fewer = ONE.replace("  print: { needs: [review] }\n", "");
    let why = "version 2 has 2 phases, and it has 3: lists would go on showing the others; keep them, with `when: \"false\"`";
    check("", &fewer, why);
}

#[test]
fn a_paused_flow_stays_paused_with_its_timers() {
    let mut flow = Life::after(ONE, "draft.start draft.complete review.start pause");
    flow.migrate(&two(MORE)).unwrap();
    assert_eq!(flow.snapshot.state(), "paused");
    let commit = flow.event("resume", json!({})).unwrap();
    let timers: Vec<String> = commit.after.unwrap().timers.iter().map(|timer| timer.id.to_string()).collect();
    assert_eq!(timers, ["proof.timed_out"]);
}

#[test]
fn a_flow_that_is_complete_by_its_new_definition_ends() {
    let mut flow = Life::after(ONE, "draft.start draft.complete review.start review.complete");
    let skipped = ONE.replace("print: { needs: [review] }", "print: { needs: [review], when: 'false' }");
    let commit = flow.migrate(&two(&skipped)).unwrap();
    assert_eq!((&*commit.entry.from, &*commit.entry.to), ("active", "completed"));
    assert_eq!(flow.snapshot.closure.unwrap().reason, "completed");
}

#[test]
fn a_machine_is_no_flow() {
    let mut flow = Life::begin(ONE, json!({}));
    let machine = "machine: launch\nversion: 2\ninitial: a\nstates: { a: {} }\n";
    let wrong = flow.migrate(machine).unwrap_err().message;
    assert_eq!(wrong, "it is a flow, and this definition has no phases");
    let mut machine = Life::begin(machine, json!({}));
    let wrong = machine.migrate(MORE).unwrap_err().message;
    assert_eq!(wrong, "it has other phases than are told of it");
}
