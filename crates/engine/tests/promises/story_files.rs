//! Story files themselves: what is wrong in one is told with its place, and a story that fails says where and why.

use std::path::Path;

use engine::story::{StoryReport, run};
use tempfile::TempDir;

use crate::world::definition;

fn tell(stories: &str) -> Result<StoryReport, String> {
    tell_of(&definition(), stories)
}

fn tell_of(definition: &str, stories: &str) -> Result<StoryReport, String> {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    write("progress_update.yaml", definition).unwrap();
    write("some.stories.yaml", stories).unwrap();
    let path = directory.path().join("some.stories.yaml");
    run(&path).map_err(|error| error.to_string())
}

fn failure(steps: &str) -> String {
    let text = format!("machine: progress_update.yaml\nstories:\n  - story: one\n    steps:\n{steps}");
    let report = tell(&text).unwrap();
    report.stories[0].failure.clone().unwrap_or_default()
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place_and_a_remedy() {
    // A step, what in it is pointed at, and the remedy.
    let cases = [
        ("- sned: hi", "sned", "did you mean `send`?"),
        ("- { send: hi, expect: { sate: idle } }", "sate", "did you mean `state`?"),
        ("- { send: hi, expect: { outcome: dispatch } }", "dispatch", "did you mean `dispatched`?"),
        ("- { send: { txt: hi } }", "txt", "did you mean `text`?"),
        ("- { send: { candidates: [{ confidnce: 1 }] } }", "confidnce", "did you mean `confidence`?"),
        ("- { at: soon }", "soon", "a number and a unit"),
        ("- { send: hi, event: confirm }", "{ send", "make two steps of it"),
        ("- { at: 1m, after: 1m, send: hi }", "{ at", "`after` from the step before"),
        ("- { send: hi, expect: { history: [{ form: idle }] } }", "form", "did you mean `from`?"),
        ("- { button: 0 }", "0", "from 1 to 100"),
        ("- { send: { candidates: [{ intent: help, confidence: 2 }] } }", "{ cand", "between 0 and 1"),
        ("- { send: hi, payload: { a: 1 } }", "{ send", "write `send: { payload: … }`"),
        ("- { answer: none }", "none", "write a whole number here"),
        ("- { answer: { question: 1 } }", "{ question", "add `option:`, its number from 1"),
    ];
    for (step, token, remedy) in cases {
        let text =
            format!("machine: progress_update.yaml\nstories:\n  - story: one\n    steps:\n      {step}\n");
        let place = format!("5:{}", 7 + step.find(token).unwrap());
        let told = tell(&text).unwrap_err();
        assert!(told.contains(&format!("some.stories.yaml:{place}\n")), "{place}\n{told}");
        assert!(told.contains(remedy), "{remedy}\n{told}");
    }
}

#[test]
fn a_missing_or_broken_definition_stops_the_file() {
    let missing = tell("machine: nowhere.yaml\nstories: []\n").unwrap_err();
    assert!(missing.contains("failed to read") && missing.contains("nowhere.yaml"), "{missing}");
    let directory = TempDir::new().unwrap();
    let broken = definition().replace("target: awaiting_action", "target: awaiting_acton");
    std::fs::write(directory.path().join("m.yaml"), broken).unwrap();
    let path = directory.path().join("m.stories.yaml");
    std::fs::write(&path, "machine: m.yaml\nstories: []\n").unwrap();
    let told = run(&path).unwrap_err().to_string();
    assert!(told.contains("m.yaml") && told.contains("did you mean `awaiting_action`?"), "{told}");
    assert!(run(Path::new("no such file")).is_err());
}

#[test]
fn a_story_that_fails_tells_its_first_failing_step_with_all_that_differs_and_the_trace() {
    let told = failure(
        "      - send: hello\n      - { send: update, expect: { state: idle, rule: R4, reply: [Which, What] } }\n      - { send: x, expect: { state: completed } }\n",
    );
    let wanted = [
        "some.stories.yaml:6: step 2: ",
        "state: expected \"idle\", got \"task_selection\"",
        "rule: expected \"R4\", got \"R11\"",
        "reply: expected [\"Which\",\"What\"]",
        "* R11 `progress_update` at 10000 is the best",
    ];
    for part in wanted {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("completed"), "{told}");
}

#[test]
fn no_expectation_is_met_by_chance() {
    // Each of these steps would pass if its expectation were not looked at.
    let wrong = [
        "outcome: inline",
        "intent: help",
        "rule: R0",
        "applied: [R11, R4]",
        "raw: 1",
        "adjusted: 1",
        "reply: no such words",
        "reply: none",
        "options: [a]",
        "refused: key_reused",
        "allowed: [a]",
        "replayed: true",
        "same_answer: true",
        "effects: a",
        "state: idle",
        "closure_reason: timeout",
        "context: { task_id: T1 }",
        "revision: 9",
        "clarification: [a]",
        "clarifications: { pending: 1 }",
        "history: [{ to: idle }]",
        "history: [{}, {}]",
        "timers: 0",
    ];
    for expectation in wrong {
        let step = format!("      - {{ send: update, expect: {{ {expectation} }} }}\n");
        let told = failure(&step);
        let key = expectation.split(':').next().unwrap();
        assert!(told.contains(&format!("{key}: expected")), "{expectation}\n{told}");
    }
}

#[test]
fn an_unexpected_refusal_fails_the_story() {
    let told = failure("      - send: update\n      - { event: confirm }\n");
    assert!(told.contains("step 2: refused: `invalid_transition`"), "{told}");
}

#[test]
fn time_does_not_go_back_and_a_button_must_be_there() {
    let told = failure("      - { at: 2m, send: hi }\n      - { at: 1m }\n");
    assert!(told.contains("it is 2m already"), "{told}");
    let told = failure("      - { button: 1 }\n");
    assert!(told.contains("there is no button 1"), "{told}");
}

#[test]
fn a_story_begins_when_it_says_and_after_what_the_session_before_left() {
    let begun = |given: &str, steps: &str| {
        let text = format!(
            "machine: progress_update.yaml\nstories:\n  - story: one\n    given: {given}\n    steps:\n{steps}"
        );
        tell(&text).map(|report| report.stories[0].failure.clone().unwrap_or_default())
    };
    let french = "      - { send: hello, expect: { reply: Bonjour, revision: 1 } }\n";
    for (given, steps) in [
        ("{ left: { locale: fr } }", french),
        ("{ left: { locale: fr }, time: \"2026-03-01T12:00:00Z\" }", french),
        ("{ left: { handed_over: true } }", "      - { send: hello, expect: { outcome: handed_over } }\n"),
        (
            "{ time: \"2026-03-01T12:00:00Z\" }",
            "      - { send: hello, expect: { reply: Hello, revision: 1 } }\n",
        ),
    ] {
        assert_eq!(begun(given, steps), Ok(String::new()), "{given}");
    }
    for (given, told) in [
        ("{ left: { locale: de } }", "it speaks en, fr"),
        ("{ left: { locale: fr }, state: idle }", "leave out `state`"),
        ("{ time: noon }", "2026-01-05T09:00:00Z"),
    ] {
        let failure = begun(given, french).unwrap_or_else(|error| error);
        assert!(failure.contains(told), "{given}: {failure}");
    }
}

#[test]
fn a_question_is_answered_by_the_number_of_its_option() {
    let asks = "      - send: { text: hm, candidates: [{ intent: task_status, confidence: 0.65 }] }\n";
    let told = failure(&format!(
        "{asks}      - {{ answer: 1, expect: {{ intent: task_status, outcome: inline }} }}\n{asks}      - {{ answer: {{ question: 1, option: 2 }}, expect: {{ refused: clarification_closed }} }}\n      - {{ answer: {{ question: 2, option: 2 }}, expect: {{ outcome: fallback, clarifications: {{ answered: 2 }} }} }}\n"
    ));
    assert_eq!(told, "");
    for (step, wanted) in [
        ("{ answer: 9 }", "there is no option 9; the question has 2"),
        ("{ answer: { question: 2, option: 1 } }", "there is no question 2; 1 have been asked"),
    ] {
        let told = failure(&format!("{asks}      - {step}\n"));
        assert!(told.contains(wanted), "{told}");
    }
    assert!(failure("      - { answer: 1 }\n").contains("no question has been asked yet"));
}

#[test]
fn the_example_in_the_documentation_comes_true() {
    let source = include_str!("../../src/story.rs");
    let lines = source.lines().map(|line| line.trim_start_matches("//!"));
    let fenced = lines.skip_while(|line| line.trim() != "```yaml").skip(1);
    let example: Vec<&str> = fenced.take_while(|line| line.trim() != "```").collect();
    let report = tell(&example.join("\n")).unwrap();
    assert_eq!(report.stories.len(), 1);
    assert_eq!(report.stories[0].failure, None);
    assert_eq!(report.stories[0].steps, 5);
}

#[test]
fn a_machine_without_a_conversation_has_stories_too() {
    let door = "machine: door\nversion: 1\ncontext: { opened: { type: integer, default: 0 } }\ninitial: closed\n\
        states:\n  closed:\n    on: { open: { target: ajar, assign: { opened: context.opened + 1 } } }\n  ajar:\n    after: { 5m: closed }\n";
    let stories = "machine: progress_update.yaml\nstories:\n  - story: opened\n    steps:\n      \
        - { event: open, expect: { state: ajar, revision: 2, context: { opened: 1 } } }\n      \
        - { at: 5m, expect: { state: closed } }\n      \
        - { event: shut, expect: { refused: unknown_event } }\n  \
        - story: opened often\n    given: { context: { opened: 7 } }\n    steps:\n      \
        - { event: open, expect: { context: { opened: 8 } } }\n  \
        - story: left ajar\n    given: { state: ajar }\n    steps: [{ after: 5m, expect: { state: closed } }]\n  \
        - story: nonsense\n    given: { context: { opened: wide } }\n    steps: []\n";
    let report = tell_of(door, stories).unwrap();
    let failures: Vec<Option<&str>> = report.stories.iter().map(|story| story.failure.as_deref()).collect();
    let [None, None, None, Some(last)] = failures[..] else {
        panic!("{failures:?}");
    };
    assert!(last.contains(":16: given: context.opened"), "{last}");
}
