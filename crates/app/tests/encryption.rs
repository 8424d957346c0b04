//! Secrets of a server that runs: what its files hold, what it does without a key, and changing keys while it serves.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::Server;
use serde_json::{Value, json};

const SECRET: &str = "hunter2-is-a-secret";
const API: (&str, &str) = ("STATEWRIGHT_API_KEYS", "acme=0123456789abcdef");
const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

/// Signs in by an event, uses the token in a call, keeps it over a recovery, and ends with it in the output.
const SIGN_IN: &str = "
machine: sign_in
context:
  token: { type: string, nullable: true, secret: true, keep: true }
  stage: { type: string, default: new }
initial: out
safe_state: waiting
states:
  out:
    on:
      sign_in: { target: asking, assign: { token: event.token, stage: '\"asking\"' } }
  asking:
    entry: { raise: { event: late, delay: 1h, data: { token: context.token } } }
    invoke: { src: accounts.find, input: { token: context.token } }
    on: { late: waiting }
  waiting:
    on: { check: { guard: context.token == event.token, target: done }, leave: done }
  done: { type: final, output: { token: context.token } }
";

fn contains(directory: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.into_iter().filter(|path| path.is_file()).any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn sent(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.post(path, &body.to_string());
    assert!(answer.status < 500, "{path}: {}", answer.body);
    answer.json()
}

#[test]
fn nothing_of_a_secret_is_in_the_files_of_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let machines = tempfile::tempdir().unwrap();
    std::fs::write(machines.path().join("sign_in.yaml"), SIGN_IN).unwrap();
    let store = format!("sqlite:{}", directory.path().join("s.db").display());
    let folder = machines.path().to_str().unwrap();
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", folder];
    let (server, told) = Server::start_and_tell(&arguments, "encryption key");
    assert!(told.contains("statewright.key is new"), "{told}");

    sent(&server, "/v1/instances", &json!({ "machine": "sign_in", "id": "i-1", "key": "c" }));
    let event = |key: &str, event: &str, token: &str| {
        let body = json!({ "key": key, "event": event, "payload": { "token": token } });
        sent(&server, "/v1/instances/i-1/events", &body)
    };
    event("e-1", "sign_in", SECRET);
    let asking = server.get("/v1/instances/i-1").json();
    assert_eq!(asking["context"]["token"], json!(SECRET));
    assert!(!contains(directory.path(), SECRET), "after an event");
    sent(&server, "/v1/instances/i-1/recover", &json!({ "key": "r", "reason": "stuck" }));
    let refused = event("e-2", "check", "wrong");
    assert_eq!(refused["explain"][0]["guard"]["values"]["context.token"], json!("(secret)"), "{refused}");
    event("e-3", "check", SECRET);
    let closed = server.get("/v1/instances/i-1").json();
    assert_eq!(closed["output"]["token"], json!(SECRET), "{closed}");
    for table in ["sessions", "transitions"] {
        let rows = server.get(&format!("/v1/export/{table}")).body;
        assert!(rows.contains("i-1") && !rows.contains(SECRET), "{table}: {rows}");
    }
    let again = event("e-1", "sign_in", SECRET);
    assert_eq!(again["state"], json!("asking"), "the first answer");
    assert!(!contains(directory.path(), SECRET), "while it runs");
    assert!(server.terminate());
    assert!(!contains(directory.path(), SECRET), "at rest");

    let (server, told) = Server::start_and_tell(&arguments, "store:");
    assert!(!told.contains("encryption key"), "{told}");
    assert_eq!(server.get("/v1/instances/i-1").json()["output"]["token"], json!(SECRET));
}

/// Runs a command to its end: whether it ended well, and all that it said.
fn ran(arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(arguments)
        .envs(environment.iter().copied())
        .env_remove("STATEWRIGHT_LOG_FORMAT")
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn without_a_key_no_machine_with_secrets_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let (with, without) = (directory.path().join("with"), directory.path().join("without"));
    std::fs::create_dir_all(&with).unwrap();
    std::fs::create_dir_all(&without).unwrap();
    std::fs::write(with.join("sign_in.yaml"), SIGN_IN).unwrap();
    let store = format!("sqlite:{}", directory.path().join("s.db").display());
    let arguments = |machines: &Path| {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--machines"].map(str::to_owned);
        fixed.into_iter().chain([machines.display().to_string()]).collect::<Vec<_>>()
    };
    let start = arguments(&with);
    let (started, told) = ran(&start.iter().map(String::as_str).collect::<Vec<_>>(), &[API]);
    assert!(!started && told.contains("`sign_in` has secret fields"), "{told}");
    assert!(told.contains("STATEWRIGHT_ENCRYPTION_KEY") && told.contains("[encryption]"), "{told}");

    let start = arguments(&without);
    let server = Server::start(&start.iter().map(String::as_str).collect::<Vec<_>>(), &[API]);
    let refused = server.put_with("/v1/machines/sign_in", SIGN_IN, &[BEARER]);
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("no_encryption_key")));
    assert!(refused.body.contains("STATEWRIGHT_ENCRYPTION_KEY"), "{}", refused.body);
    assert_eq!(server.get_with("/v1/machines/sign_in", &[BEARER]).status, 404);
    let rotated = server.post_with("/v1/keys/rotate", "{}", &[BEARER]);
    assert_eq!((rotated.status, &rotated.json()["code"]), (409, &json!("no_encryption_key")));
}

#[test]
fn keys_are_changed_while_a_server_serves() {
    let directory = tempfile::tempdir().unwrap();
    let machines = directory.path().join("machines");
    std::fs::create_dir_all(&machines).unwrap();
    std::fs::write(machines.join("sign_in.yaml"), SIGN_IN).unwrap();
    let store = format!("sqlite:{}", directory.path().join("s.db").display());
    let config = directory.path().join("statewright.toml");
    let (old, new) = ("01".repeat(32), "02".repeat(32));
    let start = |keys: &[(&str, &str)]| {
        let keys = keys.iter().map(|(id, key)| format!("{{ id = \"{id}\", key = \"{key}\" }}"));
        let keys = keys.collect::<Vec<_>>().join(", ");
        std::fs::write(&config, format!("[encryption]\nkeys = [{keys}]\n")).unwrap();
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--machines"];
        let paths = [machines.to_str().unwrap(), "--config", config.to_str().unwrap()];
        Server::start(&[&fixed[..], &paths].concat(), &[API])
    };
    let read = |server: &Server| server.get_with("/v1/instances/i-1", &[BEARER]);

    let server = start(&[("old", &old)]);
    let body = json!({ "machine": "sign_in", "id": "i-1", "key": "c", "context": { "token": SECRET } });
    assert_eq!(server.post_with("/v1/instances", &body.to_string(), &[BEARER]).status, 201);
    assert!(server.terminate());

    let server = start(&[("new", &new), ("old", &old)]);
    let api_key = ["--server", &server.url, "--api-key", "0123456789abcdef"];
    let (well, told) = ran(&[&["keys", "ls"], &api_key[..]].concat(), &[]);
    assert!(well && told.contains("acme ") && told.contains(" wrapped by old, made "), "{told}");
    let (well, told) = ran(&[&["keys", "rotate", "--data", "--json"], &api_key[..]].concat(), &[]);
    let rotated: Value = serde_json::from_str(&told).unwrap();
    assert!(well && rotated["rewrapped"] == json!(1), "{told}");
    let keys = rotated["data"].as_array().unwrap();
    let current: Vec<bool> = keys.iter().map(|key| key["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true]);
    assert!(keys.iter().all(|key| key["kek"] == json!("new")), "{told}");
    assert_eq!(read(&server).json()["context"]["token"], json!(SECRET));
    assert!(server.terminate());

    let server = start(&[("new", &new)]);
    assert_eq!(read(&server).json()["context"]["token"], json!(SECRET));
    assert!(server.terminate());
    let (well, told) = ran(&["keys", "ls", "--store", &store, "--config", config.to_str().unwrap()], &[]);
    assert!(well && told.lines().filter(|line| line.starts_with("data key acme ")).count() == 2, "{told}");

    // The key is gone: what it has encrypted cannot be had, and is not called damaged.
    let server = start(&[("old", &old)]);
    let unavailable = read(&server);
    assert_eq!((unavailable.status, &unavailable.json()["code"]), (503, &json!("unavailable")));
    assert!(unavailable.body.contains("needs the encryption key `new`"), "{}", unavailable.body);
}
