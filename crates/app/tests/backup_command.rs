//! `backup`, `restore` and `verify`: all of a server under load, into every backend, and back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Server, days::busy, messages};
use serde_json::{Value, json};
use testbed::{Kind, Lodging};

const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
const API_KEY: &str = "0123456789abcdef";
const BACKUP_KEY: &str = "all-of-it-and-nothing-else";

/// With its exit code, what it said on standard output, and on standard error.
fn run(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
    let output = command.current_dir(dir).args(arguments).envs(environment.iter().copied()).output().unwrap();
    let [told, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), told, said)
}

/// What a command that goes well says.
fn well(dir: &Path, arguments: &[&str]) -> String {
    let (code, told, said) = run(dir, arguments, &[]);
    assert_eq!(code, Some(0), "{arguments:?}: {told}{said}");
    told
}

fn serve(store: &str, more: &[(&str, &str)]) -> Server {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", store, "--machines", MACHINES];
    let keys = format!("default={API_KEY}");
    let master = "07".repeat(32);
    let mut environment =
        vec![("STATEWRIGHT_API_KEYS", keys.as_str()), ("STATEWRIGHT_ENCRYPTION_KEY", &master)];
    environment.extend(more);
    Server::start(&arguments, &environment)
}

fn file(dir: &Path, name: &str) -> String {
    format!("sqlite:{}", dir.join(name).display())
}

fn rows(server: &Server, table: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v1/export/{table}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_backup_that_is_taken_under_load_is_restored_into_every_backend() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    server.say("early", "e1", "update");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let (who, text) =
                        (format!("c{client}-{}", number / 4), ["update", "T1", "dry", "done"][number % 4]);
                    let answer = server.say(&who, &format!("{who}-{number}"), text);
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    number += 1;
                }
            });
        }
        let had_some =
            testbed::wait_until(std::time::Duration::from_secs(60), || rows(&server, "sessions").len() > 20);
        let told = well(dir.path(), &["backup", "-o", "a.backup", "--server", &server.url]);
        is_over.store(true, Ordering::Relaxed);
        assert!(had_some && told.contains("a.backup has") && told.contains("and is whole"), "{told}");
    });
    let late = server.say("late", "l1", "update").json();
    assert!(server.terminate());
    let contents: Value = serde_json::from_str(&well(dir.path(), &["verify", "a.backup", "--json"])).unwrap();
    let instances = contents["counts"]["instances"].as_u64().unwrap();
    assert!(instances > 20 && contents["at_one_moment"] == json!(true), "{contents}");
    let lodgings = Kind::ALL.map(Lodging::new);
    let mut stores: Vec<String> = lodgings.iter().map(|lodging| lodging.url().to_owned()).collect();
    stores.push(file(dir.path(), "restored.db"));
    for store in &stores {
        let told = well(dir.path(), &["restore", "a.backup", "--store", store]);
        assert!(
            told.contains(&format!("{instances} instances")) && told.contains("is taken as new"),
            "{told}"
        );
        let server = serve(store, &[]);
        let (code, told, said) = run(
            dir.path(),
            &["replay", "--all", "--json", "--server", &server.url, "--api-key", API_KEY],
            &[],
        );
        assert_eq!(code, Some(0), "{store}: {told}{said}");
        let report: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&report["different"], &report["not_replayable"]), (&json!(0), &json!(0)), "{report}");
        assert_eq!(report["instances"], json!(instances), "{store}");
        // What was taken before is known, and what was taken since is not.
        let authorization = format!("Bearer {API_KEY}");
        let say = |who: &str, id: &str| {
            let body = json!({ "message_id": id, "text": "update" }).to_string();
            server.post_with(&messages(who), &body, &[("authorization", &authorization)])
        };
        assert!(say("early", "e1").replayed, "{store}");
        let again = say("late", "l1");
        assert!(!again.replayed && again.json()["session_id"] != late["session_id"], "{store}");
    }
}

#[test]
fn what_goes_into_a_database_and_back_exports_the_same() {
    const TABLES: [&str; 5] = ["sessions", "flows", "transitions", "clarifications", "phases"];
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &["--clock", "virtual"]);
    busy(&server);
    let flow = json!({ "flow": "discovery", "id": "f1", "key": "k" });
    assert_eq!(server.post("/v1/flows", &flow.to_string()).status, 201);
    let before = TABLES.map(|table| rows(&server, table));
    assert!(before.iter().all(|rows| !rows.is_empty()));
    let dead_letters = server.get("/v1/dead-letters?status=delivered,unaddressed,pending,dead").json();
    assert!(server.terminate());
    let lodgings = [Kind::Postgres, Kind::Redis].map(Lodging::new);
    let path = dir.path();
    let stores =
        [file(path, "s.db"), lodgings[0].url().into(), lodgings[1].url().into(), file(path, "back.db")];
    for (number, pair) in stores.windows(2).enumerate() {
        let name = format!("{number}.backup");
        well(path, &["backup", "-o", &name, "--store", &pair[0]]);
        well(path, &["restore", &name, "--store", &pair[1]]);
    }
    let server = Server::dev(&path.join("back.db"), &["--clock", "virtual"]);
    for (table, before) in TABLES.iter().zip(&before) {
        assert_eq!(&rows(&server, table), before, "{table}");
    }
    let after = server.get("/v1/dead-letters?status=delivered,unaddressed,pending,dead").json();
    let keys = |list: &Value| -> Vec<Value> {
        list["data"].as_array().unwrap().iter().map(|effect| effect["id"].clone()).collect()
    };
    assert_eq!(keys(&after), keys(&dead_letters));
}

/// A small store that nobody has, and a backup of it.
fn small(dir: &Path) -> Vec<u8> {
    let server = Server::dev(&dir.join("s.db"), &[]);
    server.say("ada", "m1", "update");
    server.say("ada", "m2", "T1");
    assert!(server.terminate());
    well(dir, &["backup", "-o", "a.backup", "--store", &file(dir, "s.db")]);
    std::fs::read(dir.join("a.backup")).unwrap()
}

#[test]
fn what_is_wrong_with_a_backup_is_said_and_nothing_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let whole = small(path);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (name, bytes, expected) in [
        ("flipped", &flipped[..], "is damaged"),
        ("cut", &whole[..whole.len() - 7], "is cut off"),
        ("begun", &whole[..5], "no record of it can be read"),
        ("other", b"{\"instances\": []}", "does not begin as a backup does"),
        ("newer", &[b"statewright backup 9\n", &whole[21..]].concat(), "use a newer program"),
    ] {
        std::fs::write(path.join(name), bytes).unwrap();
        for arguments in [&["verify", name][..], &["restore", name, "--store", &file(path, "new.db")]] {
            let (code, _, said) = run(path, arguments, &[]);
            assert!(
                code == Some(1) && said.contains(name) && said.contains(expected),
                "{arguments:?}: {said}"
            );
        }
        assert!(!path.join("new.db").exists(), "{name}");
    }
    // What has anything is left alone.
    let before = std::fs::read(path.join("s.db")).unwrap();
    let (code, _, said) = run(path, &["restore", "a.backup", "--store", &file(path, "s.db")], &[]);
    assert!(
        code == Some(1) && said.contains("is not empty") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(std::fs::read(path.join("s.db")).unwrap(), before);
    let (code, _, said) = run(path, &["backup", "-o", "a.backup", "--store", &file(path, "s.db")], &[]);
    assert!(code == Some(1) && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read(path.join("a.backup")).unwrap(), whole);
    let (code, _, said) = run(path, &["backup", "-o", "b.backup", "--server", "http://127.0.0.1:1"], &[]);
    assert!(code == Some(1) && said.contains("failed to reach"), "{said}");
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with(".tmp") || name == "b.backup"),
        "{left:?}"
    );
}

/// A server that answers one request with so much of a backup, and closes the connection as if that were all.
fn breaks_off(part: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        stream.write_all(&part).unwrap();
    });
    url
}

#[test]
fn of_a_server_that_breaks_off_there_is_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let whole = small(path);
    for part in [whole.len() - 1, whole.len() / 2, 30] {
        let url = breaks_off(whole[..part].to_vec());
        let (code, _, said) = run(path, &["backup", "-o", "b.backup", "--server", &url], &[]);
        assert!(code == Some(1) && said.contains("cannot be read again: it is cut off"), "{part}: {said}");
        assert!(!path.join("b.backup").exists());
    }
    let url = breaks_off(whole.clone());
    well(path, &["backup", "-o", "b.backup", "--server", &url]);
    assert_eq!(std::fs::read(path.join("b.backup")).unwrap(), whole);
}

#[test]
fn a_backup_that_is_encrypted_needs_its_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    small(path);
    std::fs::write(path.join("pass"), "correct horse\n").unwrap();
    let store = file(path, "s.db");
    well(path, &["backup", "-o", "e.backup", "--store", &store, "--passphrase-file", "pass"]);
    assert!(std::fs::read(path.join("e.backup")).unwrap().starts_with(b"age-encryption.org/v1\n"));
    let (code, _, said) = run(path, &["verify", "e.backup"], &[]);
    assert!(code == Some(1) && said.contains("STATEWRIGHT_BACKUP_PASSPHRASE"), "{said}");
    let wrong = [("STATEWRIGHT_BACKUP_PASSPHRASE", "wrong")];
    let (code, _, said) = run(path, &["restore", "e.backup", "--store", &file(path, "new.db")], &wrong);
    assert!(code == Some(1) && said.contains("passphrase is not the one"), "{said}");
    let right = [("STATEWRIGHT_BACKUP_PASSPHRASE", "correct horse")];
    let (code, told, said) = run(path, &["restore", "e.backup", "--store", &file(path, "new.db")], &right);
    assert!(code == Some(0) && told.contains("1 instances"), "{told}{said}");
}

const SECRET: &str = "hunter2-is-a-secret";

#[test]
fn secrets_come_back_with_the_keys_of_the_server_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let server = Server::dev(&path.join("s.db"), &[]);
    let context = json!({ "machine": "banking_menu", "id": "b1", "key": "k", "context": { "jwt": SECRET } });
    let created = server.post("/v1/instances", &context.to_string());
    assert_eq!(created.status, 201, "{}", created.body);
    well(path, &["backup", "-o", "a.backup", "--server", &server.url]);
    assert!(server.terminate());
    assert!(
        well(path, &["verify", "a.backup"])
            .contains("1 instances have secrets that there is no encryption key to")
    );
    let elsewhere = path.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let restore = ["restore", "a.backup", "--store", &file(&elsewhere, "s.db")];
    let (code, _, said) = run(path, &restore, &[]);
    assert!(
        code == Some(1) && said.contains("the encryption key `dev`") && said.contains("settings"),
        "{said}"
    );
    assert!(!elsewhere.join("s.db").exists());
    std::fs::copy(path.join("statewright.key"), elsewhere.join("statewright.key")).unwrap();
    well(path, &restore);
    let server = Server::dev(&elsewhere.join("s.db"), &[]);
    assert_eq!(server.get("/v1/instances/b1").json()["context"]["jwt"], json!(SECRET));
    assert!(server.terminate());
    let bytes = std::fs::read(elsewhere.join("s.db")).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|found| found == SECRET.as_bytes()));
}

#[test]
fn only_the_backup_key_is_given_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let server = serve(&file(path, "a.db"), &[]);
    let with = |server: &Server, key: &str| {
        let answer = server.get_with("/v1/backup", &[("authorization", &format!("Bearer {key}"))]);
        (answer.status, answer.json()["code"].clone())
    };
    assert_eq!(with(&server, API_KEY), (403, json!("no_backup_key")));
    let server = serve(&file(path, "b.db"), &[("STATEWRIGHT_BACKUP_KEY", BACKUP_KEY)]);
    assert_eq!(with(&server, API_KEY), (401, json!("unauthorized")));
    let asked = server.get_with("/v1/instances", &[("authorization", &format!("Bearer {BACKUP_KEY}"))]);
    assert_eq!(asked.status, 401, "it is no tenant's key");
    let (code, _, said) =
        run(path, &["backup", "-o", "b.backup", "--server", &server.url, "--api-key", API_KEY], &[]);
    assert!(code == Some(1) && said.contains("backup key") && !path.join("b.backup").exists(), "{said}");
    let key = [("STATEWRIGHT_BACKUP_KEY", BACKUP_KEY)];
    let (code, told, said) = run(path, &["backup", "-o", "b.backup", "--server", &server.url], &key);
    assert!(code == Some(0) && told.contains("definitions"), "{told}{said}");
}

#[test]
fn replies_that_were_waiting_are_held_back_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    // Somebody who is to be told what is said without being asked, and who never answers.
    let hook = "[[webhooks]]\nurl = \"http://127.0.0.1:9/\"\nsecret = \"whsec_bm90aGluZyB0byBndWVzcyBoZXJlLCByZWFsbHk=\"\n";
    let config = path.join("hook.toml");
    std::fs::write(&config, hook).unwrap();
    let more = ["--clock", "virtual", "--config", config.to_str().unwrap()];
    let server = Server::dev(&path.join("s.db"), &more);
    busy(&server);
    let statuses = |server: &Server| {
        let list = server.get("/v1/dead-letters?status=pending,unaddressed,unknown,dead&limit=1000").json();
        let all = list["data"].as_array().unwrap().clone();
        all.into_iter().map(|effect| effect["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    well(path, &["backup", "-o", "a.backup", "--server", &server.url]);
    let before = statuses(&server);
    assert!(server.terminate());
    let report =
        well(path, &["restore", "a.backup", "--store", &file(path, "r.db"), "--effects", "hold", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let held = report["held"].as_u64().unwrap() as usize;
    assert!(held > 0, "{before:?}");
    let server = Server::dev(&path.join("r.db"), &more);
    let after = statuses(&server);
    let unknown = |all: &[String]| all.iter().filter(|status| *status == "unknown").count();
    assert_eq!((unknown(&before), unknown(&after)), (0, held));
}
