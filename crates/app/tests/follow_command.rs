//! `import --follow` and `--undo`: the other system still owns its sessions, and what it says of them comes too.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use harness::Server;
use serde_json::{Value, json};
use testbed::{Kind, Lodging};

const MAPPING: &str = "
machine: progress_update
id: record.id
subject: record.who
state: record.state
skip: record.who == 'nobody'
context: { task_id: 'has(record.task) ? record.task : null' }
";

struct Home {
    directory: tempfile::TempDir,
    server: Server,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::dev(&directory.path().join("s.db"), &["--clock", "virtual"]);
        std::fs::write(directory.path().join("mapping.yaml"), MAPPING).unwrap();
        Self { directory, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn import(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statewright"));
        command.current_dir(self.directory.path()).arg("import").args(arguments);
        command.args(["--server", &self.server.url]);
        command
    }

    /// With its exit code, and what it said on standard output and on standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.import(arguments).output().unwrap();
        let [told, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), told, said)
    }

    fn task(&self, id: &str) -> Value {
        self.server.get(&format!("/v1/instances/{id}")).json()["context"]["task_id"].clone()
    }

    fn check_past(&self, instances: u64) {
        let replay = self.server.get("/v1/replay").json();
        assert_eq!(
            (&replay["instances"], &replay["same"]),
            (&json!(instances), &json!(instances)),
            "{replay:#}"
        );
    }
}

/// A running `import --follow`, which looks twenty times a second.
struct Follower {
    child: Child,
    told: BufReader<ChildStdout>,
    said: BufReader<ChildStderr>,
}

impl Follower {
    fn new(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.import(arguments);
        command.args(["--follow", "--every", "50ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, told, said }
    }

    /// The next line of what came, without its time.
    fn hears(&mut self, expected: &str) {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        let news = line.trim_end().split_once("  ").map(|(_, news)| news);
        assert_eq!(news, Some(expected), "{line}");
    }

    /// Ctrl-C; with its exit code and what it said in the end.
    fn ends(mut self) -> (Option<i32>, String) {
        let signalled = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        let rest = std::io::read_to_string(&mut self.told).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(id: &str, state: &str, task: &str) -> String {
    json!({ "id": id, "who": format!("who-{id}"), "state": state, "task": task }).to_string() + "\n"
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_a_file_grows_by_comes_too() {
    let home = Home::new();
    let old = home.path("old.jsonl");
    append(&old, &(line("a", "idle", "T1") + &line("b", "awaiting_action", "T1") + "{\"who\":\"nobody\"}\n"));
    let mut follower = Follower::new(&home, &["old.jsonl", "--mapping", "mapping.yaml"]);
    follower.hears("imported 2, skipped 1");
    // Of one session, the last line counts; one that is not at its end is none yet.
    append(&old, &(line("a", "idle", "T2") + &line("a", "idle", "T3") + "{\"id\":\"c\","));
    follower.hears("replaced 2");
    assert_eq!(home.task("a"), json!("T3"));
    append(&old, "\"who\":\"cleo\",\"state\":\"idle\"}\n");
    follower.hears("imported 1");
    // It was something else in between.
    append(&old, &line("a", "idle", "T1"));
    follower.hears("replaced 1");
    assert_eq!(home.task("a"), json!("T1"));
    append(&old, &(line("b", "awaiting_action", "T1") + "no\n"));
    follower.hears("rejected 1");
    home.server.say("who-b", "m1", "it is done");
    append(&old, &line("b", "idle", "T9"));
    follower.hears("gone on here 1");
    assert_eq!(home.task("b"), json!("T1"));
    let (code, told) = follower.ends();
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "9 records in ",
        "imported 3, replaced 3, existed already 0, skipped 1, rejected 1\n",
        "1  say something else than before, and have gone on here",
        "line 9: the line is no JSON",
        "To cut over:\n  1. stop",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    home.check_past(3);
}

#[test]
fn one_that_nobody_feeds_ends_by_itself() {
    let home = Home::new();
    append(&home.path("old.jsonl"), &line("a", "idle", "T1"));
    let arguments = ["old.jsonl", "--mapping", "mapping.yaml", "--follow", "--every", "10ms", "--json"];
    for (patience, expected) in [("100ms", "imported"), ("0", "existed")] {
        let (code, told, said) = home.run(&[&arguments[..], &["--until-idle", patience]].concat());
        assert_eq!(code, Some(0), "{said}");
        let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [round, all] = &lines[..] else { panic!("{told}") };
        assert_eq!(
            (&round[expected], &all[expected], &all["complete"]),
            (&json!(1), &json!(1), &json!(true))
        );
        assert!(round["at"].is_string());
    }
}

#[test]
fn a_table_is_looked_at_again_and_again() {
    let home = Home::new();
    let lodging = Lodging::new(Kind::Postgres);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(lodging.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    let run = |sql: &str| runtime.block_on(client.batch_execute(sql)).unwrap();
    run("CREATE TABLE old (id text, who text, state text, task text, changed timestamptz NOT NULL);
        INSERT INTO old VALUES ('a', 'ana', 'idle', 'T1', '2026-01-05 10:00+01'),
            ('b', 'ben', 'idle', 'T1', '2026-01-05 11:00+01'), ('c', 'nobody', 'idle', 'T1', '2026-01-05 11:00+01')");
    let arguments = [lodging.url(), "--table", "old", "--mapping"];
    let mut follower = Follower::new(&home, &[&arguments[..], &["mapping.yaml"]].concat());
    follower.hears("imported 2, skipped 1");
    run("UPDATE old SET task = 'T2' WHERE id = 'a'");
    follower.hears("replaced 1");
    run("DELETE FROM old WHERE id = 'a'");
    follower.hears("no longer there 1");
    assert_eq!(home.task("a"), json!("T2"), "nothing is done here");
    // Somebody is in the way, who then goes.
    run("INSERT INTO old VALUES ('d', 'ben', 'idle', 'T1', now())");
    follower.hears("rejected 1");
    run("UPDATE old SET state = 'completed' WHERE id = 'b'");
    follower.hears("replaced 1");
    follower.hears("imported 1");
    let (code, told) = follower.ends();
    assert!(code == Some(1) && told.contains("1  are there no longer; here they are as they were"), "{told}");

    // By a column, only what has at least its highest value is read.
    std::fs::write(home.path("column.yaml"), format!("{MAPPING}follow: changed\n")).unwrap();
    run(
        "DELETE FROM old WHERE id = 'd'; UPDATE old SET state = 'idle', changed = '2026-01-05 12:00+01' WHERE id = 'b'",
    );
    let mut follower = Follower::new(&home, &[&arguments[..], &["column.yaml"]].concat());
    follower.hears("skipped 1, rejected 1");
    run(
        "UPDATE old SET who = 'cleo', task = 'T1' WHERE id = 'c'; INSERT INTO old VALUES ('e', 'eve', 'idle', 'T1', '2026-01-05 12:00+01')",
    );
    follower.hears("imported 1");
    run("UPDATE old SET changed = '2026-01-05 13:00+01' WHERE id = 'c'");
    follower.hears("imported 1");
    follower.ends();
    home.check_past(5);
    let (code, _, said) = home.run(&["old.jsonl", "--mapping", "column.yaml", "--follow"]);
    assert!(code == Some(1) && said.contains("`follow`, which is for a table"), "{said}");
}

const KEYS: &str = "
machine: progress_update
id: record.parts[1]
subject: record.parts[1]
state: record.value.state
expires_at: record.expires_at
";

#[test]
fn keys_are_looked_at_again_and_again() {
    let home = Home::new();
    let lodging = Lodging::new(Kind::Redis);
    let url = lodging.url().split(['?', '#']).next().unwrap();
    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    let prefix = format!("follow{}", std::process::id());
    let mut run = |command: &str| {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(format!("{prefix}:{}", words.next().unwrap()));
        command.arg(words.collect::<Vec<_>>());
        let _: redis::Value = command.query(&mut redis).unwrap();
    };
    run(r#"SET ana {"state":"idle"} EX 3600"#);
    run("HSET ben state idle");
    std::fs::write(home.path("keys.yaml"), KEYS).unwrap();
    let pattern = format!("{prefix}:*");
    let mut follower = Follower::new(&home, &[url, "--keys", &pattern, "--mapping", "keys.yaml"]);
    follower.hears("imported 2");
    run("HSET ben state task_selection");
    follower.hears("replaced 1");
    run("EXPIRE ana 7200");
    follower.hears("replaced 1");
    run("DEL ana");
    follower.hears("no longer there 1");
    let (code, told) = follower.ends();
    assert_eq!(code, Some(0), "{told}");
    run("DEL ben");
    home.check_past(2);
}

#[test]
fn a_server_that_is_away_for_a_while_is_followed_up() {
    let home = Home::new();
    let old = home.path("old.jsonl");
    append(&old, &line("a", "idle", "T1"));
    let mut follower = Follower::new(&home, &["old.jsonl", "--mapping", "mapping.yaml"]);
    follower.hears("imported 1");
    home.server.kill_now();
    append(&old, &(line("b", "idle", "T1") + &line("a", "idle", "T2")));
    let mut said = String::new();
    follower.said.read_line(&mut said).unwrap();
    assert!(said.contains("failed to reach") && said.contains("trying again in 50ms"), "{said}");
    let address = home.server.url.strip_prefix("http://").unwrap();
    let store = format!("sqlite:{}", home.path("s.db").display());
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let again = Server::start(&["dev", "--listen", address, "--store", &store, "--machines", machines], &[]);
    follower.hears("imported 1, replaced 1");
    assert_eq!(follower.ends().0, Some(0));
    assert_eq!(again.get("/v1/instances/a").json()["revision"], json!(2));
}

#[test]
fn what_has_not_gone_on_is_withdrawn_and_may_come_again() {
    let home = Home::new();
    append(&home.path("old.jsonl"), &["a", "b", "c"].map(|id| line(id, "awaiting_action", "T1")).concat());
    let import = ["old.jsonl", "--mapping", "mapping.yaml"];
    assert_eq!(home.run(&import).0, Some(0));
    home.server.say("who-b", "m1", "it is done");
    let undo = |more: &[&str], part: &str| {
        let (code, told, said) = home.run(&[&["--undo"], more].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(told.contains(part), "{part} is missing in\n{told}");
    };
    undo(&["--machine", "progress_update", "--dry-run"], "2  would be withdrawn\n");
    assert_eq!(home.server.get("/v1/instances/a").json()["brought_in"], json!("untouched"));
    undo(&["--machine", "progress_update"], "2  withdrawn\n");
    undo(&["--mapping", "mapping.yaml"], "2  were withdrawn before\n");
    undo(
        &["--mapping", "mapping.yaml"],
        "b  in `collecting_data`: it has gone on here since it was brought in\n",
    );
    let a = home.server.get("/v1/instances/a").json();
    assert_eq!((&a["closure_reason"], &a["brought_in"]), (&json!("withdrawn"), &json!("withdrawn")), "{a:#}");
    let (code, told, _) = home.run(&import);
    assert!(code == Some(0) && told.contains("imported 0, replaced 2, existed already 1"), "{told}");
    home.check_past(3);
    for (arguments, part) in [
        (&["--undo"][..], "--machine or --mapping"),
        (&["--undo", "--machine", "nothing"], "unknown_machine"),
        (&["--undo", "old.jsonl"], "cannot be used with"),
        (&["old.jsonl"], "--mapping <FILE>"),
        (&["old.jsonl", "--mapping", "mapping.yaml", "--follow", "--dry-run"], "cannot be used with"),
        (&["old.jsonl", "--mapping", "mapping.yaml", "--until-idle", "3"], "--follow"),
    ] {
        let (code, _, said) = home.run(arguments);
        assert!(code != Some(0) && said.contains(part), "{arguments:?}: {said}");
    }
}
