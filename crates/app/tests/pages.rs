//! The dashboard as people meet it: in a real browser, over a real server.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::Server;
use harness::browser::Browser;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What nobody wants to find on a page as more than text.
const INJECTED: &str = "<img src=x onerror=\"window.taken=1\">'\"><script>window.taken=1</script>{{7*7}}";

/// Says what may be anything: people's texts, and what hosts send.
const GUEST: &str = r#"
machine: guest
version: 1
context:
  note: { type: string, nullable: true }
  pin: { type: string, nullable: true, secret: true }
initial: waiting
safe_state: waiting
after: { 2h: { target: over, reason: timeout } }
on:
  drop: { target: over, reason: "<b onclick='window.taken=1'>bold</b>" }
states:
  waiting:
    on: { take: { assign: { note: "has(event.note) ? event.note : null", pin: "has(event.code) ? event.code : null" }, target: taken, guard: "!has(event.note) || event.note != '<i>never</i>'" } }
  taken:
    on: { back: { target: waiting }, stay: { actions: [] } }
  over: { type: final }
"#;

struct Place {
    server: Server,
    _dir: TempDir,
}

/// A server where something of everything is there to be looked at.
fn furnished() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let machines = dir.path().join("machines");
    std::fs::create_dir(&machines).unwrap();
    std::fs::write(machines.join("guest.yaml"), GUEST).unwrap();
    let config = dir.path().join("hook.toml");
    let hook = "[[webhooks]]\nurl = \"http://127.0.0.1:9/\"\nmachine = \"guest\"\ntransitions = true\nsecret = \"whsec_bm90aGluZyB0byBndWVzcyBoZXJlLCByZWFsbHk=\"\n";
    std::fs::write(&config, hook).unwrap();
    let more = [
        "--machines",
        machines.to_str().unwrap(),
        "--clock",
        "virtual",
        "--config",
        config.to_str().unwrap(),
    ];
    let server = Server::dev(&dir.path().join("s.db"), &more);
    server.post("/v1/instances", r#"{"machine":"guest","id":"lost","key":"l"}"#);
    server.post("/v1/instances/lost/events", r#"{"key":"l2","event":"drop"}"#);
    // One attempt after the other, until it is given up.
    while server.get("/v1/dead-letters").json()["data"] == json!([]) {
        assert_eq!(server.post("/v1/clock/advance", r#"{"by":"1d"}"#).status, 200);
    }
    for (user, texts) in [
        ("ann", &["update", "Task 12", "the wall is painted"][..]),
        ("ben", &["update", "Task 12", "fnord fnord", INJECTED]),
        ("cleo", &["update", "Task 7", "talk to a person", "hello?"]),
        ("dan", &["update", "Task 7", "cancel"]),
        ("fay", &["fnord"]),
    ] {
        for (number, text) in texts.iter().enumerate() {
            server.say(user, &format!("{user}{number}"), text);
        }
    }
    let torn = server.say("gus", "gus1", &format!("problem {INJECTED}")).json();
    assert_eq!(torn["outcome"], json!("clarifying"), "{torn}");
    server.post("/v1/instances", r#"{"machine":"guest","id":"guest-1","key":"g"}"#);
    let taken =
        json!({"key": "g2", "event": "take", "payload": {"note": INJECTED, "code": "4711"}, "by": INJECTED});
    assert_eq!(server.post("/v1/instances/guest-1/events", &taken.to_string()).status, 200);
    server
        .post("/v1/flows", r#"{"flow":"release_train","id":"train-1","key":"f","context":{"commit":"abc"}}"#);
    for (phase, deed, more) in [
        ("build", "start", json!({"by": "bob"})),
        ("build", "complete", json!({"by": "bob", "output": {"artifact": INJECTED}})),
        ("security_review", "start", json!({"by": "sue"})),
        ("security_review", "submit", json!({"by": "sue"})),
        ("unit_tests", "start", json!({"by": "tom"})),
        ("unit_tests", "fail", json!({"by": "tom", "error": {"code": "TESTS_FAILED", "message": INJECTED}})),
    ] {
        let mut body = more;
        body["key"] = json!(format!("{phase}{deed}"));
        let answer = server.post(&format!("/v1/flows/train-1/phases/{phase}/{deed}"), &body.to_string());
        assert_eq!(answer.status, 200, "{phase} {deed}: {}", answer.body);
    }
    Place { server, _dir: dir }
}

fn session(server: &Server, subject: &str) -> String {
    let session = server.get(&format!("/v1/machines/progress_update/sessions/{subject}")).json();
    session["id"].as_str().unwrap().to_owned()
}

/// Every page, with something on it.
fn pages(server: &Server) -> Vec<String> {
    let (ann, ben) = (session(server, "ann"), session(server, "ben"));
    let plain = [
        "/",
        "/inbox",
        "/instances",
        "/instances?machine=guest&life=open",
        "/instances/guest-1",
        "/instances/guest-1?revision=1",
        "/instances/lost",
        "/flows",
        "/flows/train-1",
        "/machines",
        "/machines/guest",
        "/machines/progress_update",
        "/machines/release_train",
        "/machines/progress_update/simulator",
        "/instances/nobody-knows",
    ];
    let sessions = [format!("/instances/{ann}"), format!("/instances/{ben}")];
    plain.into_iter().map(str::to_owned).chain(sessions).collect()
}

#[test]
fn every_page_can_be_used_by_everybody_at_every_size_by_day_and_by_night() {
    let place = furnished();
    let mut browser = Browser::at(&place.server.url, 1440, 900);
    for path in pages(&place.server) {
        for (width, height, dark) in [(1440, 900, false), (390, 844, true)] {
            browser.resize(width, height);
            browser.dark(dark);
            browser.open(&path);
            assert_eq!(browser.barriers(), Vec::<String>::new(), "{path}, {width} wide, dark: {dark}");
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(u64::from(width)), "{path} is {wide} wide in {width}");
            let named = browser
                .run("return document.title.length > 15 && document.querySelectorAll('h1').length == 1");
            assert_eq!(named, json!(true), "{path} has no title, or not one heading");
            let complaints = browser.complaints();
            let missing = path.ends_with("nobody-knows");
            assert!(complaints.is_empty() || missing, "{path}: {complaints:?}");
        }
    }
}

#[test]
fn whatever_people_and_hosts_send_is_text_on_every_page() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 900);
    let mut seen = Vec::new();
    for path in pages(&place.server) {
        browser.open(&path);
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true");
        let made = browser.run("return [window.taken ?? 0, document.querySelectorAll('img[src=x], b[onclick], main script, i').length]");
        assert_eq!(made, json!([0, 0]), "{path}");
        if browser.text("main").contains("onerror") {
            seen.push(path);
        }
    }
    for path in ["/inbox", "/instances/guest-1", "/flows/train-1"] {
        assert!(seen.iter().any(|seen| seen == path), "what was sent is not on {path}, but on {seen:?}");
    }
    let shown = place.server.get("/instances/guest-1").body;
    assert!(!shown.contains("4711"), "a secret is to be seen");
    assert!(!shown.contains("49</"), "something was worked out of what was sent");
}

#[test]
fn a_command_line_that_is_copied_says_only_what_it_says() {
    let place = furnished();
    let server = &place.server;
    let id = "$(touch /tmp/x); 'quoted' {event} --help";
    let made = json!({"machine": "guest", "id": id, "key": "h"}).to_string();
    assert_eq!(server.post("/v1/instances", &made).status, 201);
    let browser = Browser::at(&server.url, 1440, 900);
    browser.open("/instances?machine=guest");
    browser.run(
        "[...document.querySelectorAll('#rows a')].find((a) => a.textContent.includes('touch')).click()",
    );
    browser.see("h1", "touch");
    browser.fill("#event-name", "take");
    let told =
        browser.run("return document.querySelector(\"form[data-url$='/events'] [data-curl]\").textContent");
    let line = told.as_str().unwrap().lines().last().unwrap().to_owned();
    // A shell of its own parts it into words.
    let parted = line.replacen("statewright", "printf '%s\\n'", 1);
    let told = std::process::Command::new("sh").args(["-c", &parted]).output().unwrap();
    let said = String::from_utf8(told.stdout).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["event", "--server", &server.url, id, "take"], "{line}");
}

#[test]
fn what_may_be_secret_is_not_told_by_the_history() {
    let place = furnished();
    let page = place.server.get("/instances/guest-1").body;
    assert!(!page.contains("4711") && page.contains("secret"), "{page}");
}

#[test]
fn whatever_goes_wrong_is_a_page_in_a_browser() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 900);
    for path in [
        "/nonsense",
        "/instances/",
        "/machines/guest?version=abc",
        "/instances/guest-1?revision=x",
        "/flows?min_retries=many",
    ] {
        browser.open(path);
        assert_eq!(browser.count("h1"), 1, "{path}");
        assert_eq!(browser.count("main a.button[href='/']"), 1, "{path}");
    }
    let told = place.server.get("/nonsense");
    assert_eq!((told.status, told.content_type.as_str()), (404, "application/problem+json"));
}

#[test]
fn a_conversation_that_is_tried_out_ends_whatever_it_asks_for() {
    let place = furnished();
    let tried =
        |body: Value| place.server.post("/machines/progress_update/simulator", &body.to_string()).status;
    assert_eq!(
        tried(json!({"began": "9999-12-30T22:00:00Z", "steps": [{"say": "hi"}, {"advance": "1d"}]})),
        400
    );
    assert_eq!(tried(json!({"steps": vec![json!({"say": "hi"}); 101]})), 400);
    assert_eq!(tried(json!({"steps": [{"say": "update"}, {"advance": "300d"}]})), 200);
}

#[test]
fn what_happens_elsewhere_is_seen_where_somebody_looks() {
    let place = furnished();
    let server = &place.server;
    let browser = Browser::at(&server.url, 1440, 900);
    let ben = session(server, "ben");
    browser.open(&format!("/instances/{ben}"));
    browser.wait("document.getElementById('pulse').dataset.state == 'live'");
    browser.fill("#event-payload", "{\"half\": ");
    server.say("ben", "ben-more", "done");
    browser.see("#head", "confirmation_pending");
    browser.see("#history", "request_confirmation");
    browser.wait("document.querySelector('#picture .sw-active[data-state=confirmation_pending]')");
    let typed = browser.run("return document.getElementById('event-payload').value");
    assert_eq!(typed, json!("{\"half\": "), "what somebody was typing is gone");
    browser.open("/");
    browser.wait("document.getElementById('pulse').dataset.state == 'live'");
    server.say("eve", "eve1", "update");
    browser.see("#newest", "eve");
}

#[test]
fn an_instance_is_tried_out_moved_and_recovered_on_its_page() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    let revision = || place.server.get("/v1/instances/guest-1").json()["revision"].clone();
    browser.open("/instances/guest-1");
    let event = "form[data-url='/v1/instances/guest-1/events']";
    browser.fill("#event-name", "back");
    browser.click(&format!("{event} button[value=trial]"));
    browser.see(&format!("{event} output"), "taken → waiting");
    browser.wait("document.querySelector('.sw-would[data-from=taken][data-to=waiting]')");
    assert_eq!(revision(), json!(2), "a trial has moved it");
    let told = browser.run(&format!("return document.querySelector(\"{event} [data-curl]\").textContent"));
    let told = told.as_str().unwrap();
    assert!(
        told.contains("/v1/instances/guest-1/events")
            && told.contains(&format!("statewright event --server {} guest-1 back", place.server.url)),
        "{told}"
    );
    browser.click(&format!("{event} button.first"));
    browser.see(&format!("{event} output"), "Done.");
    browser.see("#head", "waiting");
    assert_eq!((revision(), browser.count(".sw-would")), (json!(3), 0));
    browser.fill("#event-name", "back");
    browser.click(&format!("{event} button.first"));
    browser.see(&format!("{event} output"), "take");
    browser.fill("#event-payload", "{nothing");
    browser.click(&format!("{event} button.first"));
    browser.see(&format!("{event} output"), "no JSON");
    // A slider by its keys: one revision back.
    browser.run("const it = document.getElementById('travel'); it.value = 2; it.dispatchEvent(new Event('change', {bubbles: true}))");
    browser.see("#past", "how it was");
    browser.see("#head", "taken");
    browser.open("/instances/guest-1");
    let recover = "form[data-url='/v1/instances/guest-1/recover']";
    browser.fill("#recover-reason", "it hangs");
    browser.click(&format!("{recover} button[value=trial]"));
    browser.see(&format!("{recover} output"), "Nothing has happened yet");
    browser.click(&format!("{recover} button.danger"));
    browser.accept_question();
    browser.see(&format!("{recover} output"), "Done.");
    browser.see("#history", "because it hangs");
    assert_eq!(
        browser.complaints(),
        [format!(
            "{}/v1/instances/guest-1/events - Failed to load resource: the server responded with a status of 409 (Conflict)",
            place.server.url
        )]
    );
}

#[test]
fn what_waits_for_a_person_is_answered_in_the_inbox() {
    let place = furnished();
    let server = &place.server;
    let browser = Browser::at(&server.url, 1440, 1000);
    browser.open("/inbox");
    browser.see("#handed", "cleo");
    browser.see("#unhandled", "fnord");
    browser.see("#questions", "gus");
    browser.click("#questions form.act button");
    browser.wait("!document.querySelector('#questions article')");
    assert_eq!(server.get("/v1/clarifications?status=answered").json()["data"][0]["subject"], json!("gus"));
    browser.see("#dead", "lost");
    browser.click("#dead form.act button");
    browser.wait("!document.querySelector('#dead form.act') || document.querySelector('#dead output')?.innerText.includes('Done')");
    let gate = "form[data-url$='/security_review/approve']";
    browser.fill(&format!("{gate} [name=by]"), "security:ann");
    browser.fill(&format!("{gate} [name=reason]"), "looked at it");
    browser.click(&format!("{gate} button[value=trial]"));
    browser.wait(&format!("document.querySelector(\"{gate} output\").innerText != ''"));
    assert_eq!(phase(server, "security_review"), json!("waiting_approval"));
    browser.click(&format!("{gate} button.danger"));
    browser.see("#said", "security_review: waiting_approval →");
    assert_ne!(phase(server, "security_review"), json!("waiting_approval"));
}

fn phase(server: &Server, name: &str) -> Value {
    let flow = server.get("/v1/flows/train-1").json();
    let phases = flow["phases"].as_array().unwrap().clone();
    phases.into_iter().find(|phase| phase["phase"] == json!(name)).unwrap()["state"].clone()
}

#[test]
fn a_flow_is_moved_on_where_its_phases_are_seen() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/flows/train-1");
    assert_eq!(browser.count("#time rect"), 3, "one bar for each phase that was begun");
    browser.wait("document.querySelector('#picture .sw-phase-completed')");
    let retry = "form[data-url$='/phases/unit_tests/retry']";
    browser.run(&format!("document.querySelector(\"{retry}\").closest('details').open = true"));
    browser.fill(&format!("{retry} [name=by]"), "tom");
    browser.click(&format!("{retry} button[value=trial]"));
    browser.see(&format!("{retry} output"), "unit_tests: failed →");
    assert_eq!(phase(&place.server, "unit_tests"), json!("failed"));
    browser.click(&format!("{retry} button.first"));
    browser.wait(&format!("!document.querySelector(\"{retry}\")"));
    assert_ne!(phase(&place.server, "unit_tests"), json!("failed"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn instances_are_filtered_and_many_are_moved_at_once() {
    let place = furnished();
    let server = &place.server;
    for number in 2..5 {
        server.post(
            "/v1/instances",
            &json!({"machine": "guest", "id": format!("guest-{number}"), "key": format!("n{number}")})
                .to_string(),
        );
    }
    let browser = Browser::at(&server.url, 1440, 1000);
    browser.open("/instances");
    browser.run("document.getElementById('f-machine').value = 'guest'; document.getElementById('f-life').value = 'open'");
    browser.click("form.filter button.first");
    browser.wait("location.search.includes('machine=guest') && document.querySelectorAll('#rows tbody tr').length == 4");
    browser.click("[data-choose-filter]");
    browser.see("[data-chosen]", "4");
    browser.click("[data-choose-all]");
    browser.see("[data-chosen]", "0");
    browser.click("[data-choose-all]");
    browser.fill("#b-word", "take");
    browser.click("[data-bulk] button[value=trial]");
    browser.see("#bulk-results", "Would be taken: 3; refused: 1; of 4");
    browser.click("[data-bulk] button.first");
    browser.see("#bulk-results", "Taken: 3; refused: 1; of 4");
    let taken = server.get("/v1/instances?machine=guest&state=taken").json();
    assert_eq!(taken["data"].as_array().unwrap().len(), 4);
}

#[test]
fn a_conversation_is_tried_out_on_a_clock_that_is_moved() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/machines/progress_update/simulator");
    let say = |text: &str| {
        browser.fill("#say-text", text);
        browser.click("#say button.first");
    };
    say("update");
    browser.see("#chat", "Which task is it about?");
    say("Task 12");
    browser.see("#chat", "what would you like to add?");
    browser.wait("document.querySelector('.sw-active[data-state=awaiting_action]')");
    browser.see("#why", "R7");
    browser.click("#back");
    browser.wait("document.querySelector('.sw-active[data-state=task_selection]')");
    browser.fill("#advance input", "3h");
    browser.click("#advance button");
    browser.see("#standing", "closed: timeout");
    browser.fill("#advance input", "soon");
    browser.click("#advance button");
    browser.see("#trouble", "soon");
    browser.click("#anew");
    browser.see("#chat", "Say something as a user would");
    let sessions = place.server.get("/v1/instances?subject=you").json();
    assert_eq!(sessions["data"], json!([]), "something was saved");
}

#[test]
fn a_machine_shows_how_its_instances_go_through_it_and_what_a_version_changed() {
    let place = furnished();
    let second = GUEST.replace("version: 1", "version: 2").replace("back: {", "return: {");
    assert_eq!(place.server.put("/v1/machines/guest", &second).status, 200);
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/machines/guest?version=1");
    assert_eq!(browser.count("#picture .sw-count"), 1);
    browser.see("#ways", "drop");
    browser.run("document.getElementById('v-from').value = 1; document.getElementById('v-to').value = 2");
    browser.click("form.filter button");
    browser.wait("location.search.includes('from=1')");
    browser.see("main", "+ transition taken, on.return");
    browser.see("main", "− transition taken, on.back");
    browser.open("/machines/progress_update");
    browser.click("a[href*='stories=true']");
    browser.see("main", "all went as told");
    browser.open("/machines/nothing");
    browser.see("h1", "There is no such");
}

/// A server that asks for keys, with one of the settings that may do everything.
fn guarded() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("s.db").display());
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines];
    let master = "0f".repeat(32);
    let environment =
        [("STATEWRIGHT_API_KEYS", "acme=0123456789abcdef"), ("STATEWRIGHT_ENCRYPTION_KEY", master.as_str())];
    Place { server: Server::start(&arguments, &environment), _dir: dir }
}

/// From whatever page somebody wanted to see.
fn sign_in(browser: &Browser, key: &str) {
    browser.open("/machines/purchase?version=1");
    browser.wait("location.pathname == '/sign-in'");
    browser.fill("#key", key);
    browser.click("form button.first");
}

#[test]
fn whoever_has_no_key_sees_nothing_and_whoever_signs_out_no_more() {
    let place = guarded();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    sign_in(&browser, "sw_nothing_at_all");
    browser.see("#wrong", "opens nothing here");
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.fill("#key", "0123456789abcdef");
    browser.click("form button.first");
    browser.see(".who", "acme");
    assert_eq!(browser.place(), "/machines/purchase?version=1");
    browser.wait("document.getElementById('pulse').dataset.state == 'live'");
    assert_eq!(browser.run("return document.cookie"), json!(""), "a script can read what opens the door");
    browser.open("/machines/progress_update");
    browser.see("h1", "progress_update");
    browser.click("form[action='/sign-out'] button");
    browser.wait("location.pathname == '/sign-in'");
    browser.open("/instances");
    browser.wait("location.pathname == '/sign-in'");
}

#[test]
fn who_may_only_read_can_try_out_and_do_nothing() {
    let place = guarded();
    let server = &place.server;
    let boss = [("authorization", "Bearer 0123456789abcdef")];
    let reader = server.post_with("/v1/api-keys", r#"{"name": "wall", "scope": "read"}"#, &boss).json();
    let reader = reader["key"].as_str().unwrap_or_else(|| panic!("{reader}"));
    let said = r#"{"message_id": "1", "text": "update"}"#;
    let said = server.post_with("/v1/machines/progress_update/sessions/ann/messages", said, &boss).json();
    let id = said["session_id"].as_str().unwrap();
    let browser = Browser::at(&server.url, 1440, 1000);
    sign_in(&browser, reader);
    browser.see(".who", "read only");
    browser.open(&format!("/instances/{id}"));
    assert_eq!(
        browser.count("form.act button.first:not(:disabled), form.act button.danger:not(:disabled)"),
        0
    );
    browser.fill("#event-name", "cancel");
    browser.click("form[data-url$='/events'] button[value=trial]");
    browser.see("form[data-url$='/events'] output", "Nothing has happened yet");
    // Whoever takes the lock off the button is refused by the server.
    browser.run("document.querySelector(\"form[data-url$='/events'] button.first\").disabled = false");
    browser.click("form[data-url$='/events'] button.first");
    browser.see("form[data-url$='/events'] output", "write");
    let now = server.get_with(&format!("/v1/instances/{id}"), &boss).json();
    assert_eq!(now["revision"], json!(1));
    browser.open("/instances");
    assert_eq!(browser.count("[data-bulk]"), 0);
}

#[test]
fn light_and_dark_are_kept_and_the_server_that_is_away_is_shown() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/");
    browser.wait("document.getElementById('pulse').dataset.state == 'live'");
    browser.click("#theme");
    let theme = browser.run("return document.documentElement.dataset.theme");
    browser.open("/inbox");
    browser.wait(&format!("document.documentElement.dataset.theme === {theme}"));
    browser.wait("document.getElementById('pulse').dataset.state == 'live'");
    drop(place);
    browser.wait("document.getElementById('pulse').dataset.state == 'lost'");
}

#[test]
fn pages_let_no_foreign_script_in_and_are_kept_by_nobody() {
    let place = furnished();
    let answer = ureq::get(format!("{}/", place.server.url)).call().unwrap();
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (header("cache-control"), header("x-content-type-options")),
        ("no-store".into(), "nosniff".into())
    );
    assert!(answer.headers().get("access-control-allow-origin").is_none());
}

#[test]
fn what_is_open_and_stuck_is_counted_for_each_tenant_alone() {
    let dir = tempfile::tempdir().unwrap();
    let machines = dir.path().join("machines");
    std::fs::create_dir(&machines).unwrap();
    let maze = "machine: maze\ninitial: way\nstates: { way: { on: { go: wall } }, wall: {} }\n";
    std::fs::write(machines.join("maze.yaml"), maze).unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &["--machines", machines.to_str().unwrap()]);
    let of = |tenant| [("x-tenant", tenant)];
    for (tenant, id) in [("north", "a"), ("north", "b"), ("north", "c"), ("south", "a")] {
        let body = json!({"machine": "maze", "id": id, "key": id}).to_string();
        assert_eq!(server.post_with("/v1/instances", &body, &of(tenant)).status, 201);
    }
    let go = r#"{"key": "go", "event": "go"}"#;
    assert_eq!(server.post_with("/v1/instances/b/events", go, &of("north")).status, 200);
    for (tenant, open, stuck) in [("north", 3, 1), ("south", 1, 0), ("west", 0, 0)] {
        let page = server.get_with("/", &of(tenant)).body;
        for (count, what) in [(open, "open instances"), (stuck, "stuck")] {
            let tile = format!("<b>{count}</b><span>{what}</span>");
            assert!(page.contains(&tile), "{tenant}: {tile} is not on\n{page}");
        }
        assert_eq!(page.contains("Nothing is stuck"), stuck == 0, "{page}");
        let page = server.get_with("/machines", &of(tenant)).body;
        assert!(page.contains(&format!("machine=maze\">{open}</a>")), "{tenant}: {page}");
    }
    let checks = server.get("/readyz?verbose").json()["checks"].clone();
    let told = checks.as_array().unwrap().iter().find(|check| check["name"] == "instances").unwrap();
    assert_eq!(told["problem"], json!("stuck: 1 of maze (dead end)"), "{checks}");
}
