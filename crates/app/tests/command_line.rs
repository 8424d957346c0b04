//! Commands as their users type them: what is printed, and how they end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::Server;
use harness::outside::{Connected, MACHINES, meta, meta_channel, webhook};
use harness::provider::{Does, Provider};
use serde_json::{Value, json};

fn machine(name: &str, version: u32, state: &str) -> String {
    format!("machine: {name}\nversion: {version}\ninitial: {state}\nstates: {{ {state}: {{}} }}\n")
}

/// Whether the command ended well, and what it printed.
fn run(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_statewright")).args(arguments).current_dir(dir).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

/// What `chat` prints when these lines are typed.
fn chat(machine: &str, lines: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(["chat", machine, "--machines", MACHINES])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// A server whose clock stands still and that remembers nothing.
fn server() -> Server {
    let fixed = ["dev", "--clock", "virtual", "--listen", "127.0.0.1:0", "--store", "memory:"];
    Server::start(&[&fixed[..], &["--machines", MACHINES]].concat(), &[])
}

/// A command that asks a server.
fn ask(server: &Server, arguments: &[&str]) -> (bool, String) {
    run(Path::new("."), &[arguments, &["--server", &server.url]].concat())
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn two_files_of_one_version_are_an_error_that_names_both() {
    let dir =
        folder(&[("machines/a.yaml", &machine("m", 1, "a")), ("machines/b.yaml", &machine("m", 1, "b"))]);
    for arguments in [
        &["check", "machines"][..],
        &["check", "machines/a.yaml", "machines/b.yaml", "--json"],
        &["dev", "--store", "memory:", "--listen", "127.0.0.1:0"],
    ] {
        let (succeeded, told) = run(dir.path(), arguments);
        assert!(!succeeded, "{arguments:?}: {told}");
        assert!(told.contains("machines/a.yaml and machines/b.yaml both have version 1"), "{told}");
    }
    let (_, told) = run(dir.path(), &["check", "machines", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["files"][1]["diagnostics"][0]["code"], "duplicate_version", "{told}");
    let (succeeded, told) = run(dir.path(), &["check", "machines/a.yaml", "machines/../machines/a.yaml"]);
    assert!(succeeded, "one file is no two: {told}");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_others() {
    let dir = folder(&[("good.yaml", &machine("m", 1, "a")), ("binary.yaml", "")]);
    std::fs::write(dir.path().join("binary.yaml"), [0xff, 0xfe]).unwrap();
    let files = ["missing.yaml", "binary.yaml", "good.yaml"];

    let (succeeded, told) = run(dir.path(), &[&["check"], &files[..]].concat());
    assert!(!succeeded);
    for expected in [" --> missing.yaml", " --> binary.yaml", "good.yaml: m version 1", "2 error(s)"] {
        assert!(told.contains(expected), "{told}");
    }
    let (succeeded, told) = run(dir.path(), &[&["check", "--json"], &files[..]].concat());
    assert!(!succeeded);
    let told: Value = serde_json::from_str(&told).unwrap();
    for (at, code) in [(0, Some("unreadable")), (1, Some("unreadable")), (2, None)] {
        let file = &told["files"][at];
        assert_eq!(file["valid"], code.is_none(), "{file}");
        assert!(code.is_none_or(|code| file["diagnostics"][0]["code"] == code), "{file}");
    }
}

#[test]
fn a_folder_with_nothing_in_it_is_told() {
    let dir = folder(&[("notes/readme.md", "")]);
    let (succeeded, told) = run(dir.path(), &["check", "notes"]);
    assert!(succeeded && told.contains("nothing to check"), "{told}");
    let (succeeded, told) = run(dir.path(), &["test", "notes"]);
    assert!(!succeeded && told.contains("no *.stories.yaml in notes"), "{told}");
}

#[test]
fn stories_are_found_by_their_folder_and_beside_their_definition() {
    let stories = "machine: m.yaml\nstories:\n  - story: begins\n    steps: [{ expect: { state: a } }]\n";
    let dir = folder(&[
        ("m.yaml", &machine("m", 1, "a")),
        ("m.stories.yaml", stories),
        ("alone.yaml", &machine("alone", 1, "a")),
    ]);
    for (file, succeeds, expected) in [
        (".", true, "1 stories passed"),
        ("m.yaml", false, "m.yaml is a definition; its stories are in m.stories.yaml"),
        ("alone.yaml", false, "`statewright paths alone.yaml -o alone.stories.yaml` writes some"),
    ] {
        let (succeeded, told) = run(dir.path(), &["test", file]);
        assert_eq!(succeeded, succeeds, "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn chat_shows_what_timers_say_and_why_they_came() {
    let told = chat("progress_update", "update\nTask 7\n/advance 2h\n/why\n/quit that is all\nupdate\n");
    for expected in [
        "1 timer(s) fired, 1 session(s) closed: timeout\n  Your update was closed after a long silence.",
        "> /why\n  the timer after.2h was due at ",
        "; from `awaiting_action` to `abandoned`, closed: timeout\n  * (top) --after.2h",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(told.matches("> update").count(), 1, "nothing is read after the end: {told}");
}

#[test]
fn chat_shows_what_results_of_calls_say_and_their_buttons_count() {
    let told = chat(
        "banking_menu",
        "hello\n/call auth error {\"code\": \"down\"}\n/why\n/button regis\n/call auth {}\n/why\n",
    );
    for expected in [
        "Signing in did not work.\n    [1] Sign in again\n    [2] Register\n    [3] Talk to a person\n  (auth)",
        "> /why\n  the call ",
        " came to error.invoke.auth; `auth` stays\n",
        "(registration.name, dispatched, ",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn chat_says_how_a_command_is_written() {
    let lines = "/buttn\n/button\nupdate\nTask 7\n/button\n/button 9\n/locale de\n/locale fr\n/advance\n/event\n/call\n";
    let told = chat("progress_update", lines);
    for expected in [
        "! there is no command `/buttn`; did you mean `/button`?",
        "! there are no buttons yet",
        "! which one? Its number or its label: `Add photos or comments`",
        "! `9` is no button; there are 1 to 3",
        "! `progress_update` does not speak `de`; there are en, fr",
        "  messages are in fr; there are en, fr",
        "! how far? As in `/advance 30s`",
        "! which event? /state lists",
        "! which call? /state lists",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn show_finds_a_session_by_its_subject_and_tells_what_came_of_each_input() {
    let server = server();
    server.say("ada", "m1", "update");
    server.say("ada", "m2", "Task 7");
    server.post(
        &harness::messages("ada"),
        &json!({"message_id": "m3", "payload": "p2.collect_done"}).to_string(),
    );
    let (succeeded, told) = ask(&server, &["show", "ada"]);
    assert!(succeeded, "{told}");
    for expected in
        ["subject         ada\n", "\"update\"; R11 progress_update\n", "button p2.collect_done; R2"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    // Once it is over, the last session is shown, and of two machines neither.
    server.post("/v1/clock/advance", &json!({"by": "2h"}).to_string());
    let (succeeded, told) = ask(&server, &["show", "ada"]);
    assert!(succeeded && told.contains("closure_reason  timeout"), "{told}");
    let body = json!({"message_id": "m1", "text": "good morning"}).to_string();
    server.post("/v1/machines/banking_menu/sessions/ada/messages", &body);
    let (succeeded, told) = ask(&server, &["show", "ada"]);
    assert!(!succeeded && told.contains("`ada` has sessions of 2 machines; show one by its id:\n"), "{told}");
    assert!(told.contains("  banking_menu, in auth"), "{told}");
    for arguments in [&["show", "nobody"][..], &["explain", "nobody", "--text", "hi"], &["story", "nobody"]] {
        let (succeeded, told) = ask(&server, arguments);
        assert!(!succeeded && told.contains("there is no instance `nobody`"), "{told}");
        assert!(told.contains("`statewright ls --subject NAME` lists"), "{told}");
    }
}

#[test]
fn show_tells_what_a_call_brought() {
    let server = server();
    let call = |subject: &str, body: &Value| {
        let said = json!({"message_id": "m1", "text": "good morning"}).to_string();
        let path = format!("/v1/machines/banking_menu/sessions/{subject}");
        server.post(&format!("{path}/messages"), &said);
        let session = server.get(&path).json();
        let (id, call) = (&session["id"], &session["waiting_for"]["calls"][0]["key"]);
        let instance = format!("/v1/instances/{}", id.as_str().unwrap());
        server.post(&format!("{instance}/calls/{}", call.as_str().unwrap()), &body.to_string());
        let history = server.get(&format!("{instance}/history")).json();
        (history["data"].as_array().unwrap().last().unwrap().clone(), ask(&server, &["show", subject]).1)
    };
    let error = json!({"code": "unknown_member", "message": "who?"});
    let (entry, told) = call("ada", &json!({"error": error}));
    assert_eq!((&entry["error"], &entry["result"]), (&error, &Value::Null), "{entry}");
    assert!(told.contains("brought the error unknown_member: who?"), "{told}");
    let (entry, told) = call("bob", &json!({"result": {"jwt": "t1"}}));
    assert_eq!((&entry["error"], &entry["result"]), (&Value::Null, &json!({"jwt": "t1"})), "{entry}");
    assert!(told.contains("brought {\"jwt\":\"t1\"}"), "{told}");
}

/// What `dead-letters` says of acme's.
fn dead_letters(server: &Server, arguments: &[&str]) -> (bool, String) {
    ask(server, &[&["dead-letters", "--tenant", "acme"], arguments].concat())
}

#[test]
fn a_dead_letter_that_is_tried_again_is_told_with_its_end() {
    let provider = Provider::meta();
    let server = Connected::with(&meta_channel(&provider.url(), ""));
    let refusal = json!({ "error": { "code": 131_030, "message": "not allowed" } });
    provider.next([Does::Answers(400, refusal.clone()), Does::Answers(400, refusal)]);
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    server.rest();
    let id = server.dead_letters()[0]["id"].as_str().unwrap().to_owned();
    let (succeeded, told) = dead_letters(&server, &[]);
    assert!(succeeded && told.contains(&format!("{id}  dead after 1 attempt(s): HTTP 400")), "{told}");
    assert!(told.contains("`dead-letters --retry ID` tries one again"), "{told}");
    for (succeeds, end) in [
        (false, format!("{id} is dead: HTTP 400")),
        (true, format!("{id} is delivered\n")),
        (false, "is delivered; there is nothing to try again (not_retryable)".to_owned()),
    ] {
        let (succeeded, told) = dead_letters(&server, &["--retry", &id]);
        assert_eq!(succeeded, succeeds, "{told}");
        assert!(told.contains(&end), "{end}: {told}");
    }
    let (_, told) = dead_letters(&server, &[]);
    assert_eq!(told, "none\n", "nothing to try again, and nothing without an address");
}

#[test]
fn dead_letters_say_what_waits_and_what_has_nowhere_to_go() {
    let receiver = Provider::content();
    let server = Connected::with(&webhook(&receiver.url(), ""));
    receiver.next([
        Does::Answers(200, json!({})),
        Does::Answers(500, json!("")),
        Does::Answers(410, json!("")),
    ]);
    for subject in ["delivered", "pending", "dead", "unaddressed-1", "unaddressed-2"] {
        server.say_to("progress_update", subject, "m1", "update");
        server.rest();
    }
    let (_, told) = dead_letters(&server, &[]);
    assert!(told.contains(" dead after 1 attempt(s): "), "{told}");
    assert!(told.contains("2 have nowhere to go: --status unaddressed"), "{told}");
    let (_, told) = dead_letters(&server, &["--status", "pending"]);
    assert!(told.contains("pending after 1 attempt(s), next at 20"), "{told}");
    assert!(!told.contains("--retry ID"), "it is tried again by itself: {told}");
    let (_, told) = dead_letters(&server, &["--machine", "banking_menu"]);
    assert_eq!(told, "none\n");

    let (succeeded, told) = dead_letters(&server, &["--machine", "banking_menu", "--retry-all"]);
    assert!(succeeded && told.contains("0 tried again"), "{told}");
    let (succeeded, told) =
        dead_letters(&server, &["--machine", "progress_update", "--status", "delivered,dead", "--retry-all"]);
    assert!(succeeded, "{told}");
    assert!(told.contains("left as it is: the effect `"), "{told}");
    assert!(
        told.contains("is delivered; there is nothing to try again (not_retryable)\n1 tried again"),
        "{told}"
    );
}

/// What a container asks, which has no key, and what an operator asks who wonders what comes next.
#[test]
fn doctor_says_whether_a_server_is_ready_and_ls_what_is_due() {
    let server = server();
    let (well, told) = ask(&server, &["doctor", "--ready"]);
    assert!(well && told.contains("ready"), "{told}");
    let (well, told) = ask(&server, &["doctor"]);
    assert!(well, "{told}");
    for what in ["timers: none is late", "definitions: all", "migrations: every", "disk: elsewhere"] {
        assert!(told.contains(what), "{what} is missing in\n{told}");
    }
    server.say("ann", "m1", "update");
    let due = ask(&server, &["ls", "--expiring-within", "3h"]).1;
    let session = server.get("/v1/machines/progress_update/sessions/ann").json();
    let deadline = session["timers"][0]["deadline"].as_str().unwrap().to_owned();
    assert!(due.contains("DUE") && due.contains(&deadline), "{due}");
    assert!(!ask(&server, &["ls", "--expiring-within", "1m"]).1.contains("ann"));
    server.kill_now();
    let (well, told) = ask(&server, &["doctor", "--ready"]);
    assert!(!well && told.contains("failed to reach"), "{told}");
}
