//! What is begun and taken elsewhere by forms, and how they say what is wrong.

use std::process::Command;

use serde_json::{Value, json};

use super::furnished::{GUEST, furnished};
use crate::harness::browser::Browser;

#[test]
fn an_instance_is_begun_on_the_page_of_its_machine_after_it_was_tried_out() {
    let place = furnished();
    let (server, mut browser) = (&place.server, Browser::at(&place.server.url, 1440, 1000));
    browser.open("/instances");
    browser.click(".begin summary");
    browser.click(".begin a[href='/machines/guest#begin-title']");
    let form = "form[data-url='/v1/instances']";
    browser.see(form, "note string or null, else null");
    browser.fill("#begin-id", "by hand");
    browser.fill("#begin-subject", "zoe");
    browser.fill("#begin-context", "{\n  \"note\": 'x'\n}");
    browser.click(&format!("{form} button[value=trial]"));
    browser.see(&format!("{form} output"), "at the beginning, as JSON” cannot be read, line 2, column 11: a text stands between two \" and not between '.");
    assert_eq!(
        browser.run("return document.activeElement.id + ' ' + document.activeElement.selectionStart"),
        json!("begin-context 12")
    );
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.fill("#begin-context", "{\"nota\": \"x\"}");
    browser.click(&format!("{form} button[value=trial]"));
    browser.see(&format!("{form} output"), "context.nota is unknown");
    browser.fill("#begin-context", "[1]");
    browser.click(&format!("{form} button.first"));
    browser.see(&format!("{form} output"), "has to be an object");
    browser.fill("#begin-context", "{\"note\": \"x\"}");
    browser.click(&format!("{form} button[value=trial]"));
    browser.see(&format!("{form} output"), "Nothing has happened yet");
    assert_eq!(server.get("/v1/instances/by%20hand").status, 404, "a trial has begun it");
    let told = browser.run(&format!("return document.querySelector(\"{form} [data-curl]\").textContent"));
    let line = format!(
        "statewright create --id 'by hand' --context '{{\"note\": \"x\"}}' --subject zoe --server {} guest",
        server.url
    );
    assert!(told.as_str().unwrap().ends_with(&line), "{told}");
    browser.click(&format!("{form} button.first"));
    browser.see(&format!("{form} output"), "Begun in waiting");
    browser.see(&format!("{form} output"), "See by hand");
    browser.click(&format!("{form} output a"));
    browser.see("h1", "by hand");
    browser.see("#context", "\"x\"");
    browser.resize(390, 844);
    browser.open("/machines/guest");
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= 390"), json!(true));
}

#[test]
fn a_flow_is_begun_on_the_page_of_its_definition() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/machines/release_train");
    let form = "form[data-url='/v1/flows']";
    browser.fill("#begin-id", "train-2");
    browser.fill("#begin-context", "{\"commit\": \"def\"}");
    browser.click(&format!("{form} button[value=trial]"));
    browser.see(&format!("{form} output"), "Nothing has happened yet");
    assert_eq!(place.server.get("/v1/flows/train-2").status, 404, "a trial has begun it");
    browser.click(&format!("{form} button.first"));
    browser.see(&format!("{form} output"), "See train-2");
    assert_eq!(place.server.get("/v1/flows/train-2").json()["status"], json!("initialized"));
}

#[test]
fn open_instances_are_taken_to_a_version_after_it_was_said_what_becomes_of_each() {
    let place = furnished();
    let server = &place.server;
    let second = GUEST.replace("version: 1", "version: 2").replace("back:", "return:");
    assert_eq!(server.put("/v1/machines/guest", &second).status, 200);
    let version = || server.get("/v1/instances/guest-1").json()["version"].clone();
    let browser = Browser::at(&server.url, 1440, 1000);
    browser.open("/machines/guest");
    let form = "form[data-url='/v1/machines/guest/migrate']";
    browser.click(&format!("{form} button[value=trial]"));
    browser.see(&format!("{form} output"), "To version 2: 1 have their place there");
    browser.see(&format!("{form} output"), "From version 1, taken → taken: 1");
    assert_eq!(version(), json!(1), "a trial has moved it");
    browser.click(&format!("{form} button.first"));
    browser.accept_question();
    browser.see(&format!("{form} output"), "Done.");
    assert_eq!(version(), json!(2));
}

#[test]
fn a_creation_that_is_tried_out_changes_nothing_and_uses_up_no_key() {
    let place = furnished();
    let server = &place.server;
    let made = |path: &str, body: Value| {
        let answer = server.post(path, &body.to_string());
        (answer.status, answer.json())
    };
    let body = json!({"machine": "guest", "id": "tried", "key": "t1"});
    for _ in 0..2 {
        let (status, told) = made("/v1/instances?dry_run=true", body.clone());
        assert_eq!(
            (status, &told["state"], &told["dry_run"]),
            (200, &json!("waiting"), &json!(true)),
            "{told}"
        );
    }
    assert_eq!(made("/v1/instances", body).0, 201);
    let taken = json!({"machine": "guest", "id": "tried"});
    let (status, told) = made("/v1/instances?dry_run=true", taken);
    assert_eq!((status, &told["code"]), (409, &json!("instance_exists")));
    let command = |arguments: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_statewright"))
            .args(arguments)
            .args(["--server", &server.url])
            .output()
            .unwrap();
        (program.status.success(), String::from_utf8(program.stdout).unwrap())
    };
    let create = ["create", "guest", "--id", "typed", "--context", r#"{"note": "n"}"#];
    let tried = command(&[&create[..], &["--dry-run"]].concat());
    assert_eq!(tried, (true, "typed\nwould be begun in waiting, revision 1\n".to_owned()));
    assert_eq!(server.get("/v1/instances/typed").status, 404);
    assert!(command(&create).0);
    assert_eq!(server.get("/v1/instances/typed").json()["context"]["note"], json!("n"));
    assert!(!command(&create).0, "it was begun twice");
    let body = json!({"flow": "release_train", "id": "tried-too", "context": {"commit": "a"}});
    let (status, told) = made("/v1/flows?dry_run=true", body);
    assert_eq!((status, &told["dry_run"]), (200, &json!(true)), "{told}");
    assert_eq!(server.get("/v1/flows/tried-too").status, 404);
}

#[test]
fn a_conversation_that_is_tried_out_begins_where_a_session_would_and_outlives_its_page() {
    let place = furnished();
    let browser = Browser::at(&place.server.url, 1440, 1000);
    browser.open("/machines/progress_update/simulator");
    browser.wait("document.querySelector('.sw-active[data-state=idle]')");
    browser.fill("#say-text", "update");
    browser.click("#say button.first");
    browser.see("#chat", "Which task is it about?");
    let began = browser.run("return document.querySelector('[data-simulator]').dataset.began");
    browser.open("/machines/progress_update/simulator");
    browser.see("#chat", "Which task is it about?");
    browser.wait("document.querySelector('.sw-active[data-state=task_selection]')");
    assert_eq!(browser.run("return document.querySelector('[data-simulator]').dataset.began"), began);
    browser.fill("#say-text", "Task 12");
    browser.click("#say button.first");
    browser.see("#chat", "what would you like to add?");
    browser.click("#anew");
    browser.see("#chat", "Say something as a user would");
    browser.open("/machines/progress_update/simulator");
    browser.wait("document.querySelector('.sw-active[data-state=idle]')");
    browser.see("#chat", "Say something as a user would");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
