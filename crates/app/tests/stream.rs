//! The stream of transitions, as browsers and `tail` read it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::Server;
use serde_json::{Value, json};

struct Stream(Box<dyn BufRead>);

#[derive(Debug)]
struct Event {
    id: String,
    event: String,
    data: Value,
}

impl Stream {
    fn open(server: &Server, query: &str, headers: &[(&str, &str)]) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.get(format!("{}/v1/stream{query}", server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.call().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(Box::new(BufReader::new(response.into_body().into_reader())))
    }

    /// The next block that is more than a sign of life; `None` at the end.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event { id: String::new(), event: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => event.id = value.to_owned(),
                Some(("event", value)) => event.event = value.to_owned(),
                Some(("data", value)) => event.data = serde_json::from_str(value).unwrap(),
                _ if line == "\n" && !event.event.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// The id of the sign of life that every stream begins with.
    fn begin(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0);
            if let Some(id) = line.strip_prefix("id: ") {
                return id.trim_end().to_owned();
            }
        }
    }
}

fn server(dir: &tempfile::TempDir) -> Server {
    Server::dev(&dir.path().join("s.db"), &[])
}

#[test]
fn what_lands_is_told_at_once_without_what_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let mut stream = Stream::open(&server, "", &[]);
    let mut elsewhere = Stream::open(&server, "?machine=discovery", &[]);
    let mut other = Stream::open(&server, "", &[("x-tenant", "other")]);
    for stream in [&mut stream, &mut elsewhere, &mut other] {
        stream.begin();
    }
    let began = Instant::now();
    server.say("ann", "m1", "update");
    let told = stream.next().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(told.event, "transition");
    let (from, to) = (json!("idle"), json!("task_selection"));
    assert_eq!((&told.data["from"], &told.data["to"], &told.data["subject"]), (&from, &to, &json!("ann")));
    let names: Vec<&String> = told.data.as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| !["context", "text", "reply", "payload"].contains(&name.as_str())));
    server.say("ann", "m2", "my task is 4711");
    assert!(!stream.next().unwrap().data.to_string().contains("4711"));
    let refused = server.post(
        &format!("/v1/instances/{}/events", told.data["instance"].as_str().unwrap()),
        "{\"event\": \"confirm\", \"key\": \"k\"}",
    );
    assert_eq!(refused.status, 409);
    let told = stream.next().unwrap().data;
    assert_eq!((&told["success"], &told["machine"]), (&json!(false), &json!("progress_update")));
    assert!(told["code"].is_string(), "{told}");
    server.post("/v1/flows", "{\"flow\": \"discovery\", \"key\": \"f\"}");
    assert_eq!(elsewhere.next().unwrap().data["machine"], json!("discovery"));
    let theirs = "{\"message_id\": \"m1\", \"text\": \"update\"}";
    server.post_with(&harness::messages("bob"), theirs, &[("x-tenant", "other")]);
    assert_eq!(other.next().unwrap().data["subject"], json!("bob"));
}

#[test]
fn who_comes_back_misses_nothing_or_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let start = Stream::open(&server, "", &[]).begin();
    for (number, text) in ["update", "Task 12", "the wall is painted"].iter().enumerate() {
        server.say("ann", &format!("m{number}"), text);
    }
    let mut stream = Stream::open(&server, &format!("?after={start}"), &[]);
    let told: Vec<Event> = (0..3).map(|_| stream.next().unwrap()).collect();
    let revisions: Vec<&Value> = told.iter().map(|told| &told.data["revision"]).collect();
    assert_eq!(revisions, [&json!(1), &json!(2), &json!(3)]);
    // What a browser sends by itself is newer than the address that it was given at first.
    let query = format!("?follow=false&after={start}");
    let mut last = Stream::open(&server, &query, &[("last-event-id", &told[1].id)]);
    assert_eq!(last.next().unwrap().data["revision"], json!(3));
    assert!(last.next().is_none());
    let mut recent = Stream::open(&server, "?recent=2&follow=false", &[]);
    assert_eq!(recent.next().unwrap().data["revision"], json!(2));
    drop(server);
    let server = self::server(&dir);
    let mut stream = Stream::open(&server, &format!("?after={}", told[2].id), &[]);
    let gap = stream.next().unwrap();
    assert_eq!((gap.event.as_str(), &gap.data), ("gap", &json!({"missed": null})));
    for (query, part) in [("?after=7", "cursor"), ("?recent=1001", "1000"), ("?machine=no", "no")] {
        let refused = server.get(&format!("/v1/stream{query}"));
        assert!([400, 404].contains(&refused.status) && refused.body.contains(part), "{}", refused.body);
    }
}

#[test]
fn more_than_there_are_places_for_are_sent_away_and_all_end_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let refused = |tenant: &str, why: &str| {
        let refused = server.get_with("/v1/stream", &[("x-tenant", tenant)]);
        assert_eq!((refused.status, refused.retry_after), (503, Some(5)), "{}", refused.body);
        assert_eq!(refused.json()["code"], json!("too_many_streams"));
        assert!(refused.json()["detail"].as_str().unwrap().contains(why), "{}", refused.body);
    };
    let mut streams = Vec::new();
    for tenant in ["a", "b", "c", "d"] {
        streams.extend((0..16).map(|_| Stream::open(&server, "", &[("x-tenant", tenant)])));
        refused(tenant, "16 streams are open already, as many as one tenant may have");
    }
    refused("e", "64 streams are open already, as many as one server");
    let began = Instant::now();
    assert!(server.terminate());
    // Requests under way may take twenty seconds; streams would take for ever.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(streams.iter_mut().all(|stream| stream.next().is_none()));
}

#[test]
fn tail_shows_the_last_and_follows() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    server.say("ann", "m1", "update");
    server.say("bob", "m1", "update");
    let tail = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
        command.arg("tail").args(more).args(["--server", &server.url]);
        command
    };
    let shown = tail(&["-n", "1"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().count() == 1 && shown.contains("bob"), "{shown}");
    assert!(shown.contains("idle -> task_selection"), "{shown}");
    let mut follows = tail(&["-f", "-n", "0", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    // It has begun to listen at some time after it was started.
    let mut said = 0;
    let told = std::thread::scope(|scope| {
        let first = scope.spawn(move || lines.next().unwrap().unwrap());
        while !first.is_finished() {
            said += 1;
            server.say("cleo", &format!("m{said}"), "update");
        }
        first.join().unwrap()
    });
    follows.kill().unwrap();
    follows.wait().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["subject"], json!("cleo"));
}
