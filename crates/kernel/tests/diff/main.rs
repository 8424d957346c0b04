//! What changed between two definitions: a definition, edits to its text, and the whole difference that they come to.
//!
//! A difference is written a line a change: `+`, `-` or `~`, the part, the name, what a transition waits for, how it was
//! and how it is, and hints in brackets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;

use kernel::definition::diff::{Change, ChangeKind, diff};
use kernel::definition::document::read;
use kernel::definition::load;
use kernel::definition::overlay::combine;
use kernel::machine::Machine;
use serde_json::{Map, Value, json};

const PARCEL: &str = include_str!("parcel.yaml");
const TALK: &str = include_str!("talk.yaml");
const HOUSE: &str = include_str!("house.yaml");

/// The claim, the edits (what stands once in the text, and what stands there afterwards), the lines.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const PARCELS: &[Case] = &[
    ("the_same_text_differs_in_nothing", &[], &[]),
    (
        "layout_comments_descriptions_and_spelling_do_not_matter",
        &[
            ("version: 1", "version: 2 # the next"),
            (
                "  count: { type: integer, default: 0 }",
                "  count:\n    default: 0\n    type: integer\n    nullable: false",
            ),
            (
                "on: { send: moving }",
                "on: { send: { target: [moving], reenter: false } }\n    description: at rest",
            ),
            ("after: { 90m: lost }", "after: { 1h30m: lost }"),
        ],
        &[],
    ),
    (
        "a_state_is_added_with_its_transitions_before_what_follows",
        &[("  moving:", "  held: { on: { send: moving } }\n  moving:")],
        &[r#"+ state held {"type":"atomic"}"#, r#"+ transition held on.send {"target":"moving"}"#],
    ),
    (
        "a_state_is_removed_with_all_in_it_where_it_stood",
        &[
            ("    states:\n      near: { on: { arrive: far } }\n      far: {}\n", ""),
            ("    initial: near\n", ""),
        ],
        &[
            r#"~ state moving {"initial":"near","type":"compound"} -> {"type":"atomic"}"#,
            r#"- state moving.near {"type":"atomic"}"#,
            r#"- state moving.far {"type":"atomic"}"#,
            r#"- transition moving.near on.arrive {"target":"far"}"#,
        ],
    ),
    (
        "what_a_state_does_and_holds_is_told_aspect_by_aspect",
        &[
            (
                "entry: [{ assign: { count: context.count + 1 } }]",
                "entry: [{ assign: { count: context.count + 2 } }]",
            ),
            ("exit: [{ raise: gone }]", "exit: []"),
            ("few: context.count < 9", "few: { check: context.count < 9, message: too many }"),
            ("src: post.track, timeout: 5m", "src: post.trace, timeout: 5m"),
        ],
        &[
            r#"~ definition  {"invariants.few":"context.count < 9"} -> {"invariants.few":{"check":"context.count < 9","message":"too many"}}"#,
            r#"~ state moving {"entry":[{"assign":{"count":"context.count + 1"}}],"exit":[{"raise":"gone"}],"invoke.track":{"src":"post.track","timeout":"5m"}} -> {"entry":[{"assign":{"count":"context.count + 2"}}],"invoke.track":{"src":"post.trace","timeout":"5m"}}"#,
        ],
    ),
    (
        "kind_and_final_reason_are_a_states_own",
        &[("lost: { type: final, reason: lost }", "lost: { type: final, reason: stolen }")],
        &[r#"~ state lost {"reason":"lost"} -> {"reason":"stolen"}"#],
    ),
    (
        "where_it_begins_and_where_a_recovery_leads_are_of_the_top",
        &[("initial: idle", "initial: moving"), ("safe_state: idle", "safe_state: moving")],
        &[
            r#"~ definition  {"initial":"idle","safe_state":"idle"} -> {"initial":"moving","safe_state":"moving"}"#,
        ],
    ),
    (
        "a_transition_says_its_guard_target_and_actions",
        &[(
            "on: { send: moving }",
            "on: { send: { target: lost, guard: context.count > 3, assign: { count: 0 } } }",
        )],
        &[
            r#"~ transition idle on.send {"target":"moving"} -> {"actions":[{"assign":{"count":0}}],"guard":"context.count > 3","target":"lost"}"#,
        ],
    ),
    (
        "another_delay_is_a_change_and_no_other_transition",
        &[("after: { 90m: lost }", "after: { 2d: lost }")],
        &[r#"~ transition moving after {"delay":"1h30m"} -> {"delay":"2d"}"#],
    ),
    (
        "of_several_transitions_the_new_one_is_told_and_the_others_stay",
        &[(
            "        - { guard: context.count > 5, target: lost }",
            "        - { guard: context.count > 7, target: idle }\n        - { guard: context.count > 5, target: lost }",
        )],
        &[r#"+ transition moving on.stop {"guard":"context.count > 7","target":"idle"}"#],
    ),
    (
        "of_several_transitions_the_most_alike_belong_together",
        &[
            (
                "        - { guard: context.count > 5, target: lost }",
                "        - { guard: context.count > 6, target: lost }",
            ),
            ("        - { guard: context.count > 2, target: idle }\n", ""),
        ],
        &[
            r#"~ transition moving on.stop {"guard":"context.count > 5"} -> {"guard":"context.count > 6"}"#,
            r#"- transition moving on.stop {"guard":"context.count > 2","target":"idle"}"#,
        ],
    ),
    (
        "of_several_transitions_the_first_that_is_left_is_not_taken_for_another_that_is_more_alike",
        &[
            ("        - { guard: context.count > 5, target: lost }\n", ""),
            (
                "        - { guard: context.count > 2, target: idle }",
                "        - { guard: context.count > 3, target: idle }",
            ),
        ],
        &[
            r#"- transition moving on.stop {"guard":"context.count > 5","target":"lost"}"#,
            r#"~ transition moving on.stop {"guard":"context.count > 2"} -> {"guard":"context.count > 3"}"#,
        ],
    ),
    (
        "which_of_several_is_asked_first_matters",
        &[
            ("        - { guard: context.count > 5, target: lost }\n", ""),
            (
                "        - { guard: context.count > 2, target: idle }\n",
                "        - { guard: context.count > 2, target: idle }\n        - { guard: context.count > 5, target: lost }\n",
            ),
        ],
        &[
            r#"~ transition moving on.stop {"order":["lost if context.count > 5","idle if context.count > 2"]} -> {"order":["idle if context.count > 2","lost if context.count > 5"]}"#,
        ],
    ),
    (
        "the_ways_out_of_a_call_are_transitions",
        &[("on_error: lost", "on_error: idle")],
        &[r#"~ transition moving invoke.track.on_error {"target":"lost"} -> {"target":"idle"}"#],
    ),
    (
        "a_state_that_is_like_one_that_went_may_have_been_renamed",
        &[
            ("  idle:", "  resting:"),
            ("initial: idle", "initial: resting"),
            ("safe_state: idle", "safe_state: resting"),
            ("target: idle }", "target: resting }"),
        ],
        &[
            r#"~ definition  {"initial":"idle","safe_state":"idle"} -> {"initial":"resting","safe_state":"resting"}"#,
            r#"- state idle {"type":"atomic"} [renamed? resting]"#,
            r#"+ state resting {"type":"atomic"} [renamed? idle]"#,
            r#"- transition idle on.send {"target":"moving"}"#,
            r#"+ transition resting on.send {"target":"moving"}"#,
            r#"~ transition moving on.stop {"target":"idle"} -> {"target":"resting"}"#,
        ],
    ),
    (
        "one_of_two_that_are_alike_is_not_guessed_at",
        &[
            ("  idle:", "  resting: { on: { send: moving } }\n  waiting:"),
            ("initial: idle", "initial: resting"),
            ("safe_state: idle", "safe_state: resting"),
            ("target: idle }", "target: waiting }"),
        ],
        &[
            r#"~ definition  {"initial":"idle","safe_state":"idle"} -> {"initial":"resting","safe_state":"resting"}"#,
            r#"- state idle {"type":"atomic"}"#,
            r#"+ state resting {"type":"atomic"}"#,
            r#"+ state waiting {"type":"atomic"}"#,
            r#"- transition idle on.send {"target":"moving"}"#,
            r#"+ transition resting on.send {"target":"moving"}"#,
            r#"+ transition waiting on.send {"target":"moving"}"#,
            r#"~ transition moving on.stop {"target":"idle"} -> {"target":"waiting"}"#,
        ],
    ),
    (
        "a_state_with_nothing_in_it_is_like_any_and_not_guessed_at",
        &[("far: {}", "away: {}"), ("arrive: far", "arrive: away")],
        &[
            r#"- state moving.far {"type":"atomic"}"#,
            r#"+ state moving.away {"type":"atomic"}"#,
            r#"~ transition moving.near on.arrive {"target":"far"} -> {"target":"away"}"#,
        ],
    ),
    (
        "fields_say_what_instances_that_run_should_be_looked_at_for",
        &[
            ("  owner: { type: string, keep: true }", "  owner: { type: any, secret: true }"),
            ("  count:", "  to: { type: string, required: true }\n  from: { type: string }\n  count:"),
        ],
        &[
            r#"~ field owner {"keep":true,"type":"string"} -> {"secret":true,"type":"any"} [what instances that run have in it may not fit]"#,
            r#"+ field to {"required":true,"type":"string"} [it is required and has no default, and instances that run do not have it]"#,
            r#"+ field from {"type":"string"}"#,
        ],
    ),
    (
        "a_default_that_is_empty_is_one",
        &[("owner: { type: string, keep: true }", "owner: { type: string, keep: true, default: \"\" }")],
        &[r#"~ field owner {} -> {"default":""}"#],
    ),
    (
        "events_that_callers_send_are_listed",
        &[("events: [send, stop, gone, arrive]", "events: [send, gone, arrive, weigh]")],
        &[r#"- event stop {}"#, r#"+ event weigh {}"#],
    ),
];

const TALKS: &[Case] = &[
    (
        "thresholds_and_settings_are_told_by_their_paths_and_defaults_that_are_written_are_none",
        &[(
            "  locales: [en, fr]",
            "  thresholds: { confidence: 0.65, suggestion: 0.4 }\n  clarification: { attempts: 3 }\n  ladder: [menu]\n  locales: [en, fr]",
        )],
        &[
            r#"~ conversation  {"clarification.attempts":2,"ladder":["rephrase","menu"],"thresholds.confidence":0.7} -> {"clarification.attempts":3,"ladder":["menu"],"thresholds.confidence":0.65}"#,
        ],
    ),
    (
        "of_phrases_only_those_that_went_or_came_are_told",
        &[
            ("en: [begin, start]", "en: [start, go, off we go]"),
            ("fr: [commencer]", "fr: [commencer, allons]"),
        ],
        &[
            r#"~ intent go {"phrases.en":["begin"]} -> {"phrases.en":["go","off we go"],"phrases.fr":["allons"]}"#,
        ],
    ),
    ("phrases_in_another_order_are_the_same", &[("en: [begin, start]", "en: [start, begin]")], &[]),
    (
        "intents_say_what_they_do_and_in_which_order_they_are_offered",
        &[
            ("    help: { priority: P2, reply: help_text, keywords: [help] }\n", ""),
            ("    go:", "    help: { priority: P1, reply: help_text, patterns: ['^help$'] }\n    go:"),
        ],
        &[
            r#"~ conversation  {"intents":["go","help"]} -> {"intents":["help","go"]}"#,
            r#"~ intent help {"keywords":["help"],"priority":"P2"} -> {"patterns":["^help$"],"priority":"P1"}"#,
        ],
    ),
    (
        "an_intent_that_is_new_changes_no_order",
        &[("    help:", "    stop: { priority: P1, hand_over: true }\n    help:")],
        &[r#"+ intent stop {"hand_over":true,"priority":"P1"}"#],
    ),
    (
        "replies_are_told_language_by_language",
        &[
            ("hello: { en: Hello, fr: Bonjour }", "hello: { text: { en: Hi }, options: [go] }"),
            ("help_text: Say go.", "help_text: Say go.\n    bye: Bye"),
        ],
        &[
            r#"~ reply hello {"text.en":"Hello","text.fr":"Bonjour"} -> {"options":["go"],"text.en":"Hi"}"#,
            r#"+ reply bye {"text":"Bye"}"#,
        ],
    ),
    (
        "what_a_state_accepts_is_the_states",
        &[("accepts: [text]", "accepts: { text: go, media: go }")],
        &[r#"~ state b {"accepts.text":true} -> {"accepts.media":"go","accepts.text":"go"}"#],
    ),
    (
        "regions_and_patterns_are_in_order",
        &[
            ("      left: {}\n      right: {}\n", "      right: {}\n      left: {}\n"),
            ("on: { hush: a, '*': b }", "on: { '*': b, hush: a }"),
        ],
        &[
            r#"~ state both {"on":["hush","*"],"regions":["left","right"]} -> {"on":["*","hush"],"regions":["right","left"]}"#,
        ],
    ),
];

const HOUSES: &[Case] = &[
    ("in_which_order_needs_are_written_does_not_matter", &[("[walls, base]", "[base, walls]")], &[]),
    (
        "phases_are_added_and_removed",
        &[
            ("  walls: { needs: base }\n", ""),
            ("  roof: { needs: [walls, base]", "  beams: { needs: base }\n  roof: { needs: [base, beams]"),
        ],
        &[
            r#"- phase walls {"needs":["base"]}"#,
            r#"+ phase beams {"needs":["base"]}"#,
            r#"~ phase roof {"needs":["base","walls"]} -> {"needs":["base","beams"]}"#,
        ],
    ),
    (
        "phases_say_who_works_who_approves_and_what_becomes_of_errors",
        &[
            ("approval: true", "approval: { by: [architect], four_eyes: true }"),
            ("retry: 3", "retry: 5"),
            ("on_error: { storm: retry }", "on_error: { storm: fail, flood: { rollback: base } }"),
            ("  base: { run: worker }", "  base: { run: { worker: digger }, weight: 2, milestone: founded }"),
        ],
        &[
            r#"~ phase base {"run":"worker"} -> {"milestone":{"status":"founded","when":"begun"},"run":{"worker":"digger"},"weight":2.0}"#,
            r#"~ phase roof {"approval":true,"on_error.storm":"retry","retry":{"attempts":3,"backoff":"10s","factor":2.0,"max":"1h"}} -> {"approval":{"by":["architect"],"four_eyes":true},"on_error.flood":{"rollback":"base"},"on_error.storm":"fail","retry":{"attempts":5,"backoff":"10s","factor":2.0,"max":"1h"}}"#,
        ],
    ),
    (
        "errors_anywhere_are_of_the_top_and_the_order_of_phases_is_too",
        &[
            ("phases:", "on_error: { strike: retry }\nphases:"),
            ("  base: { run: worker }\n", ""),
            ("  walls: { needs: base }\n", "  walls: { needs: base }\n  base: { run: worker }\n"),
        ],
        &[
            r#"~ definition  {"phases":["base","walls","roof"]} -> {"on_error.strike":"retry","phases":["walls","base","roof"]}"#,
        ],
    ),
];

fn machine(source: &str) -> Machine {
    let (machine, diagnostics) = load(source);
    machine.unwrap_or_else(|| panic!("{diagnostics:#?}\n{source}"))
}

fn edited(source: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(source.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "`{old}` has to stand in the text once");
        text.replace(old, new)
    })
}

fn line(change: &Change) -> String {
    let change = serde_json::to_value(change).unwrap();
    let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
    let sign = match text("kind").as_str() {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let mut words = vec![sign.to_owned(), text("part"), text("name"), text("trigger")];
    if change["trigger"].is_null() {
        words.pop();
    }
    let sides: Vec<String> =
        ["before", "after"].iter().filter_map(|side| change.get(side)).map(Value::to_string).collect();
    words.push(sides.join(" -> "));
    words.extend(change["maybe_renamed"].as_str().map(|other| format!("[renamed? {other}]")));
    words.extend(change["remark"].as_str().map(|remark| format!("[{remark}]")));
    words.join(" ")
}

fn check(source: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (claim, edits, expected) in cases {
        let (before, after) = (machine(source), machine(&edited(source, edits)));
        let there = diff(&before, &after);
        let lines: Vec<String> = there.changes.iter().map(line).collect();
        if lines != *expected {
            wrong.push(format!("{claim}:\n{}", lines.join("\n")));
        }
        assert_eq!(there.is_empty(), lines.is_empty(), "{claim}");
        let back = diff(&after, &before);
        assert_eq!(mirrored(&there.changes), told(&back.changes), "the way back of {claim}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is said of each change, in whatever order.
fn told(changes: &[Change]) -> Vec<String> {
    let mut told: Vec<String> = changes
        .iter()
        .map(|c| json!([c.part, c.name, c.trigger, c.kind, c.before, c.after, c.maybe_renamed]).to_string())
        .collect();
    told.sort();
    told
}

fn mirrored(changes: &[Change]) -> Vec<String> {
    let mirror = |change: &Change| {
        let kind = match change.kind {
            ChangeKind::Added => ChangeKind::Removed,
            ChangeKind::Removed => ChangeKind::Added,
            ChangeKind::Changed => ChangeKind::Changed,
        };
        Change { kind, before: change.after.clone(), after: change.before.clone(), ..change.clone() }
    };
    told(&changes.iter().map(mirror).collect::<Vec<_>>())
}

#[test]
fn machines_differ_in_what_is_told_and_in_nothing_else() {
    check(PARCEL, PARCELS);
}

#[test]
fn conversations_differ_in_what_is_told_and_in_nothing_else() {
    check(TALK, TALKS);
}

#[test]
fn flows_differ_in_what_is_told_and_in_nothing_else() {
    check(HOUSE, HOUSES);
}

#[test]
fn a_customised_machine_differs_from_its_base_by_what_the_overlay_wants() {
    let overlay = "overlay: parcel\nstates: { lost: { reason: stolen } }\n";
    let (base, own) = (machine(PARCEL), machine(&combine(PARCEL, overlay)));
    let lines: Vec<String> = diff(&base, &own).changes.iter().map(line).collect();
    assert_eq!(lines, [r#"~ state lost {"reason":"lost"} -> {"reason":"stolen"}"#]);
}

#[test]
fn a_state_that_leads_to_itself_and_has_others_in_it_may_have_been_renamed() {
    let text = "machine: m\ninitial: out\nevents: [go, stop]\nstates:\n  out: { on: { go: moving.near } }\n  moving:\n    \
                initial: near\n    on: { stop: { target: moving, reenter: true }, go: moving.far }\n    \
                states: { near: { on: { go: far } }, far: {} }\n";
    let difference = diff(&machine(text), &machine(&text.replace("moving", "going")));
    let hints = difference
        .changes
        .iter()
        .filter_map(|change| Some((&*change.name, change.maybe_renamed.as_deref()?)));
    assert_eq!(hints.collect::<Vec<_>>(), [("moving", "going"), ("going", "moving")]);
}

#[test]
fn shipped_machines_differ_from_nothing_but_each_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
    let mut machines = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains(".stories.") {
            machines.push(machine(&fs::read_to_string(path).unwrap()));
        }
    }
    assert!(machines.len() > 3);
    for (number, one) in machines.iter().enumerate() {
        for (other_number, other) in machines.iter().enumerate() {
            let difference = diff(one, other);
            assert_eq!(difference.is_empty(), number == other_number, "{} and {}", one.name, other.name);
            assert_eq!(mirrored(&difference.changes), told(&diff(other, one).changes));
        }
    }
}

/// What is only for people, or tells definitions apart.
const UNTOLD: [&str; 4] = ["version", "description", "meta", "tags"];

/// Everything in a document, by its path.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    let within = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| !UNTOLD.contains(&key.as_str())) {
                found.push(within(key));
                places(value, &within(key), found);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                found.push(within(&at.to_string()));
                places(item, &within(&at.to_string()), found);
            }
        }
        _ => {}
    }
}

/// Some other values that might be allowed there.
fn others(value: &Value) -> Vec<Value> {
    let words =
        ["P3", "menu", "deep", "final", "number", "choice", "multiply", "completed", "fail", "person"];
    match value {
        Value::Bool(flag) => vec![json!(!flag)],
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            vec![json!(number as i64 + 1), json!(number / 2.0), json!((number + 1.0) / 2.0)]
        }
        Value::String(text) => {
            let made =
                [format!("{text} || true"), format!("{text}x"), format!("1{text}"), format!("{text} + 1")];
            made.into_iter()
                .chain(words.map(str::to_owned))
                .filter(|other| other != text)
                .map(Value::from)
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn whatever_is_written_otherwise_is_told() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = ["diff/rich_talk.yaml", "diff/rich_house.yaml", "xstate/everything.yaml"];
    let texts = files.map(|file| fs::read_to_string(tests.join(file)).unwrap());
    let (mut tried, mut silent) = (0, Vec::new());
    for text in &texts {
        let document = read(text).unwrap().to_json();
        let before = machine(&document.to_string());
        let mut paths = Vec::new();
        places(&document, "", &mut paths);
        for path in paths {
            let was = document.pointer(&path).unwrap();
            // One other value that is allowed there is enough.
            let mut otherwise = others(was).into_iter().filter_map(|other| {
                let mut changed = document.clone();
                *changed.pointer_mut(&path)? = other.clone();
                Some((load(&changed.to_string()).0?, other.to_string()))
            });
            let mut without = document.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            match without.pointer_mut(parent).unwrap() {
                Value::Object(fields) => _ = fields.remove(&key.replace("~1", "/").replace("~0", "~")),
                Value::Array(items) => _ = items.remove(key.parse().unwrap()),
                _ => {}
            }
            let without = load(&without.to_string()).0.map(|machine| (machine, "nothing".to_owned()));
            for (after, other) in otherwise.next().into_iter().chain(without) {
                tried += 1;
                if diff(&before, &after).is_empty() {
                    silent.push(format!("{} {path}: {was} -> {other}", before.name));
                }
            }
        }
    }
    assert!(tried > 250, "{tried}");
    assert!(silent.is_empty(), "{tried} tried, of which nothing was told:\n{}", silent.join("\n"));
}

#[test]
fn of_very_many_transitions_those_in_the_same_place_belong_together() {
    let many = |guard: &str| {
        let each = (0..3000).map(|n| format!("{{ guard: 'context.n {guard} {n}', target: b }}"));
        let all = each.collect::<Vec<_>>().join(", ");
        machine(&format!(
            "machine: m\ninitial: a\nevents: [go]\ncontext: {{ n: {{ type: integer }} }}\nstates: {{ a: {{ on: {{ go: [{all}] }} }}, b: {{}} }}\n"
        ))
    };
    let difference = diff(&many(">"), &many("<"));
    assert_eq!(difference.changes.len(), 3000);
    for change in &difference.changes {
        let guard =
            |side: &Option<Map<String, Value>>| side.as_ref().unwrap()["guard"].as_str().unwrap().to_owned();
        assert_eq!(guard(&change.before).replace('>', "<"), guard(&change.after));
    }
}
