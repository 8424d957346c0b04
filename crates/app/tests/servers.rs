//! Two and three servers over one database, as their users meet them: it does not matter whom one asks.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::outside::{MACHINES, SIGNING_SECRET};
use harness::provider::{Does, Provider, until};
use harness::{Answer, Server, messages};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{Kind, Lodging};

/// What others have activated or set is to be had after this, wherever one asks.
const KNOWN_EVERYWHERE: Duration = Duration::from_secs(3);

/// Of all servers: what one of them has sealed another opens. 32 bytes in base64, as good as any for data that is thrown away.
const ENCRYPTION_KEY: &str = "c2VydmVycyBvdmVyIG9uZSBkYXRhYmFzZSwgaW4gdHM=";

/// Each claim over each database that servers may share.
macro_rules! over_each_database {
    ($($claim:ident)*) => {
        mod postgres {
            $(#[test] fn $claim() { super::$claim(super::Kind::Postgres) })*
        }
        mod redis {
            $(#[test] fn $claim() { super::$claim(super::Kind::Redis) })*
        }
    };
}

over_each_database! {
    the_same_message_to_all_at_once_is_one_transition_and_one_answer
    racing_messages_of_one_subject_begin_one_session_with_each_message_once
    a_creation_that_all_are_asked_for_makes_one_instance
    timers_that_a_killed_server_has_claimed_are_fired_once_by_another
    a_delivery_that_a_killed_server_had_begun_is_made_by_another_under_the_same_key
    work_that_was_given_by_a_killed_server_is_offered_again_when_its_lease_ends
    a_definition_activated_on_one_is_used_by_the_others
    a_rollout_and_an_overlay_set_on_one_hold_on_the_others
    no_tenant_sees_anything_of_another_wherever_and_whatever_is_asked
    a_key_made_on_one_opens_the_others_and_is_closed_on_all_when_it_is_revoked
    a_later_server_has_nothing_to_warn_of
}

/// Servers over a database of their own, with the same settings.
struct Fleet {
    servers: Vec<Server>,
    settings: TempDir,
    lodging: Lodging,
}

impl Fleet {
    fn of(count: usize, kind: Kind, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("statewright.toml"), settings).unwrap();
        let mut fleet = Self { servers: Vec::new(), settings: dir, lodging: Lodging::new(kind) };
        (0..count).for_each(|_| fleet.grow());
        fleet
    }

    /// One more.
    fn grow(&mut self) {
        let config = self.settings.path().join("statewright.toml");
        let config = config.to_str().unwrap();
        let fixed = ["dev", "--listen", "127.0.0.1:0", "--machines", MACHINES, "--config", config, "--store"];
        let arguments = [&fixed[..], &[self.lodging.url()]].concat();
        self.servers.push(Server::start(&arguments, &[("STATEWRIGHT_ENCRYPTION_KEY", ENCRYPTION_KEY)]));
    }

    /// Every one of them is asked the same at the same moment, so many times.
    fn all_at_once(&self, times: usize, ask: impl Fn(&Server, usize) -> Answer + Sync) -> Vec<Answer> {
        let count = self.servers.len() * times;
        std::thread::scope(|scope| {
            let ask = &ask;
            let asked: Vec<_> = (0..count)
                .map(|n| scope.spawn(move || ask(&self.servers[n % self.servers.len()], n)))
                .collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        })
    }
}

fn lines(server: &Server, path: &str) -> Vec<Value> {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()["data"].as_array().unwrap().clone()
}

fn history(server: &Server, id: &str) -> Vec<Value> {
    lines(server, &format!("/v1/instances/{id}/history?limit=1000"))
}

fn the_same_message_to_all_at_once_is_one_transition_and_one_answer(kind: Kind) {
    let fleet = Fleet::of(3, kind, "");
    for (n, text) in ["update", "Task 12", "the wall is painted", "done", "yes"].iter().enumerate() {
        let answers = fleet.all_at_once(4, |server, _| server.say("ann", &format!("m{n}"), text));
        let bodies: BTreeSet<&str> = answers.iter().map(|answer| answer.body.as_str()).collect();
        assert_eq!((bodies.len(), answers[0].status), (1, 200), "{bodies:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1, "m{n}");
        assert_eq!(answers[0].json()["revision"], json!(n + 1));
    }
    let sessions = lines(&fleet.servers[0], "/v1/instances?subject=ann");
    assert_eq!((sessions.len(), &sessions[0]["state"]), (1, &json!("completed")), "{sessions:?}");
    for server in &fleet.servers {
        assert_eq!(history(server, sessions[0]["id"].as_str().unwrap()).len(), 5);
    }
}

fn racing_messages_of_one_subject_begin_one_session_with_each_message_once(kind: Kind) {
    let fleet = Fleet::of(3, kind, "");
    for subject in ["ann", "bob", "eve"] {
        let answers = fleet.all_at_once(5, |server, n| server.say(subject, &format!("m{n}"), "note"));
        let revisions: BTreeSet<u64> =
            answers.iter().map(|answer| answer.json()["revision"].as_u64().unwrap()).collect();
        assert_eq!(revisions, (1..=15).collect(), "{subject}");
        for server in &fleet.servers {
            let sessions = lines(server, &format!("/v1/instances?subject={subject}"));
            assert_eq!(sessions.len(), 1, "{sessions:?}");
            let taken = history(server, sessions[0]["id"].as_str().unwrap());
            let keys: BTreeSet<&str> = taken.iter().map(|line| line["key"].as_str().unwrap()).collect();
            assert_eq!((taken.len(), keys.len()), (15, 15), "{subject}");
        }
    }
}

fn a_creation_that_all_are_asked_for_makes_one_instance(kind: Kind) {
    let fleet = Fleet::of(3, kind, "");
    let body = json!({ "machine": "progress_update", "key": "k", "subject": "ann" }).to_string();
    let answers = fleet.all_at_once(3, |server, _| server.post("/v1/instances", &body));
    let bodies: BTreeSet<&str> = answers.iter().map(|answer| answer.body.as_str()).collect();
    assert_eq!((bodies.len(), answers[0].status), (1, 201), "{bodies:?}");
    // Under keys of their own only one of them is the subject's session.
    let answers = fleet.all_at_once(1, |server, n| {
        let body = json!({ "machine": "progress_update", "key": format!("b{n}"), "subject": "bob" });
        server.post("/v1/instances", &body.to_string())
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
}

const BELL: &str = "
machine: bell
context:
  rang: { type: integer, default: 0 }
initial: waiting
states:
  waiting: { after: { 1500ms: { target: rung, assign: { rang: context.rang + 1 } } } }
  rung: { on: { stop: over } }
  over: { type: final, output: { rang: context.rang } }
";

fn timers_that_a_killed_server_has_claimed_are_fired_once_by_another(kind: Kind) {
    const BELLS: usize = 300;
    let fleet = Fleet::of(3, kind, "[limits]\ntimer_lease = \"1s\"\n");
    let [doomed, other, last] = &fleet.servers[..] else { panic!("three servers") };
    assert_eq!(doomed.put("/v1/machines/bell", BELL).status, 200);
    until(|| [other, last].iter().all(|server| server.get("/v1/machines/bell").status == 200));
    let (creators, began) = (10, Instant::now());
    std::thread::scope(|scope| {
        for creator in 0..creators {
            scope.spawn(move || {
                for n in (creator..BELLS).step_by(creators) {
                    let body = json!({ "machine": "bell", "id": format!("b{n}"), "key": format!("b{n}") });
                    assert_eq!(doomed.post("/v1/instances", &body.to_string()).status, 201);
                }
            });
        }
    });
    // Among so many some are being fired whenever the server dies.
    let rung = || lines(other, "/v1/instances?machine=bell&state=rung&limit=1000").len();
    until(|| rung() > 0 || began.elapsed() > Duration::from_secs(3));
    doomed.kill_now();
    until(|| rung() == BELLS);
    for n in 0..BELLS {
        let id = format!("b{n}");
        let fired = history(other, &id).iter().filter(|line| !line["cause"]["timer"].is_null()).count();
        let rang = other.get(&format!("/v1/instances/{id}")).json()["context"]["rang"].clone();
        assert_eq!((fired, rang), (1, json!(1)), "{id}");
    }
}

fn a_delivery_that_a_killed_server_had_begun_is_made_by_another_under_the_same_key(kind: Kind) {
    let receiver = Provider::content();
    receiver.next([Does::Hangs]);
    let settings = format!(
        "[limits]\ndelivery_lease = \"2s\"\n[[webhooks]]\nurl = \"{}\"\nsecret = \"{SIGNING_SECRET}\"\n\
         timeout = \"1s\"\ntransitions = true\n",
        receiver.url()
    );
    let mut fleet = Fleet::of(1, kind, &settings);
    let said = fleet.servers[0].say("ann", "m1", "update").json();
    receiver.wait(1);
    fleet.servers[0].kill_now();
    fleet.grow();
    let path = format!("/v1/instances/{}/effects", said["session_id"].as_str().unwrap());
    until(|| lines(&fleet.servers[1], &path).iter().all(|effect| effect["status"] == "delivered"));
    let seen = receiver.wait(2);
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[0].json(), seen[1].json());
    assert_eq!(lines(&fleet.servers[1], &path)[0]["attempts"], json!(2));
}

const ERRAND: &str = "
flow: errand
phases:
  run: { run: worker }
";

fn work_that_was_given_by_a_killed_server_is_offered_again_when_its_lease_ends(kind: Kind) {
    let fleet = Fleet::of(2, kind, "");
    let [doomed, other] = &fleet.servers[..] else { panic!("two servers") };
    assert_eq!(doomed.put("/v1/machines/errand", ERRAND).status, 200);
    until(|| other.get("/v1/machines/errand").status == 200);
    assert_eq!(doomed.post("/v1/flows", r#"{"flow": "errand", "id": "e", "key": "e"}"#).status, 201);
    let claim = |server: &Server, key: &str| {
        server.post("/v1/work/claim", &json!({ "key": key, "worker": key, "lasts": "2s" }).to_string())
    };
    let first = claim(doomed, "one").json();
    doomed.kill_now();
    assert_eq!(claim(other, "two").status, 204, "the lease holds without its server");
    let again = std::cell::RefCell::new(Value::Null);
    let keys = std::cell::Cell::new(0);
    until(|| {
        keys.set(keys.get() + 1);
        let answer = claim(other, &format!("three-{}", keys.get()));
        if answer.status == 200 {
            *again.borrow_mut() = answer.json();
        }
        answer.status == 200
    });
    let again = again.into_inner();
    assert_eq!((&again["flow_id"], &first["flow_id"]), (&json!("e"), &json!("e")));
    assert_ne!(again["lease"], first["lease"]);
    let complete = |claimed: &Value, key: &str| {
        let body = json!({ "key": key, "lease": claimed["lease"] }).to_string();
        other.post("/v1/flows/e/phases/run/complete", &body)
    };
    let late = complete(&first, "late");
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("lease_lost")));
    assert_eq!(complete(&again, "done").json()["status"], json!("completed"));
}

fn a_definition_activated_on_one_is_used_by_the_others(kind: Kind) {
    let fleet = Fleet::of(3, kind, "");
    let [first, others @ ..] = &fleet.servers[..] else { panic!("three servers") };
    let began = Instant::now();
    assert_eq!(first.put("/v1/machines/bell", BELL).status, 200);
    // Who follows an instance to another server does not wait.
    let body = json!({ "machine": "bell", "id": "b", "key": "b" }).to_string();
    assert_eq!(first.post("/v1/instances", &body).status, 201);
    for server in others {
        assert_eq!(server.get("/v1/instances/b").json()["waiting_for"]["events"], json!([]));
    }
    until(|| others.iter().all(|server| server.get("/v1/machines/bell").status == 200));
    let took = began.elapsed();
    assert!(took < KNOWN_EVERYWHERE + Duration::from_secs(2), "{took:?}");
    if kind == Kind::Postgres {
        assert!(took < Duration::from_millis(2_500), "told by a notice, and not by asking: {took:?}");
    }
    // The second text too, though its name is known.
    let changed = BELL.replace("1500ms", "1d");
    let hash = first.put("/v1/machines/bell", &changed).json()["hash"].clone();
    assert!(hash.is_string());
    until(|| others.iter().all(|server| server.get("/v1/machines/bell").json()["hash"] == hash));
}

fn a_rollout_and_an_overlay_set_on_one_hold_on_the_others(kind: Kind) {
    let fleet = Fleet::of(2, kind, "");
    let [one, other] = &fleet.servers[..] else { panic!("two servers") };
    assert_eq!(one.put("/v1/machines/progress_update/rollout", r#"{"mode": "off"}"#).status, 200);
    until(|| other.get("/v1/machines/progress_update/rollout").json()["mode"] == "off");
    assert_eq!(other.say("ann", "m1", "update").json()["rollout"], json!("off"));
    assert_eq!(other.put("/v1/machines/progress_update/rollout", r#"{"mode": "on"}"#).status, 200);
    until(|| one.get("/v1/machines/progress_update/rollout").json()["mode"] == "on");
    assert_eq!(one.say("ann", "m2", "update").json()["state"], json!("task_selection"));
    let overlay = "/v1/machines/progress_update/overlay";
    let text =
        r#"{"overlay": "progress_update", "conversation": {"clarification": {"expires_after": "10m"}}}"#;
    assert_eq!(one.put(overlay, text).status, 200);
    until(|| other.get(overlay).status == 200);
    until(|| other.get("/v1/machines/progress_update").json()["customised"] == json!(true));
    assert_eq!(other.delete_with(overlay, &[]).status, 200);
    until(|| one.get(overlay).status == 404);
}

/// What is of acme alone has this in it.
const MARK: &str = "zebra";

/// Puts something of acme's behind every route.
fn settle_in(server: &Server) -> Vec<(&'static str, String)> {
    let acme = [("x-tenant", "acme")];
    let post = |path: &str, body: Value| {
        let answer = server.post_with(path, &body.to_string(), &acme);
        assert!([200, 201].contains(&answer.status), "{path}: {}", answer.body);
        answer.json()
    };
    let subject = format!("{MARK}-ann");
    let guess = json!([{ "intent": "task_status", "confidence": 0.65 }]);
    let said = json!({ "message_id": format!("{MARK}-m1"), "text": MARK, "candidates": guess });
    let session = post(&messages(&subject), said);
    assert_eq!(session["outcome"], json!("clarifying"), "{session}");
    post("/v1/flows", json!({ "flow": "discovery", "id": format!("{MARK}-flow"), "key": "f" }));
    post("/v1/instances", json!({ "machine": "purchase", "id": format!("{MARK}-i"), "key": "i" }));
    post(&format!("/v1/receipts/{MARK}-r/begin"), json!({ "payload_digest": MARK }));
    let overlay = format!("overlay: progress_update\ndescription: {MARK}\n");
    let set = server.put_with("/v1/machines/progress_update/overlay", &overlay, &acme);
    assert_eq!(set.status, 200, "{}", set.body);
    let rollout = json!({ "mode": "shadow", "users": [format!("{MARK}-bob")], "others": "shadow" });
    let set = server.put_with("/v1/machines/progress_update/rollout", &rollout.to_string(), &acme);
    assert_eq!(set.status, 200, "{}", set.body);
    post(&messages(&format!("{MARK}-eve")), json!({ "message_id": "s1", "text": "update" }));
    vec![
        ("subject", subject),
        ("machine", "progress_update".to_owned()),
        ("name", "progress_update".to_owned()),
    ]
}

/// The addresses of a route that something of acme's is behind.
fn paths_of(route: &str, session: &str, known: &[(&str, String)]) -> Vec<String> {
    let ids = if route.starts_with("/v1/flows") {
        vec![format!("{MARK}-flow")]
    } else if route.contains("{table}") {
        ["sessions", "flows", "transitions", "clarifications", "phases"].map(str::to_owned).into()
    } else {
        vec![session.to_owned(), format!("{MARK}-i")]
    };
    let path = |id: &String| {
        let mut path = route.replace("{id}", id).replace("{table}", id);
        known.iter().for_each(|(name, value)| path = path.replace(&format!("{{{name}}}"), value));
        assert!(!path.contains('{'), "what is the parameter of {route}?");
        path
    };
    ids.iter().map(path).collect()
}

fn no_tenant_sees_anything_of_another_wherever_and_whatever_is_asked(kind: Kind) {
    let fleet = Fleet::of(2, kind, "");
    let known = settle_in(&fleet.servers[0]);
    let document = fleet.servers[1].get("/openapi.json").json();
    let session = fleet.servers[0]
        .get_with(&format!("/v1/machines/progress_update/sessions/{MARK}-ann"), &[("x-tenant", "acme")]);
    let session = session.json()["id"].as_str().unwrap().to_owned();
    let (mut asked, mut marked) = (0, BTreeSet::new());
    for (route, methods) in document["paths"].as_object().unwrap() {
        // A backup is of all tenants, compressed, and no tenant's key opens it: that has tests of its own.
        let is_elsewhere = route.starts_with("/v1/channels") || route == "/v1/backup";
        if methods.get("get").is_none() || is_elsewhere {
            continue;
        }
        for path in paths_of(route, &session, &known) {
            for server in &fleet.servers {
                for query in ["", &format!("?subject={MARK}-ann"), "?status=pending"] {
                    // A stream that goes on has no end to wait for.
                    let query = if route == "/v1/stream" { "?recent=1000&follow=false" } else { query };
                    let path = format!("{path}{query}");
                    let theirs = server.get_with(&path, &[("x-tenant", "other")]);
                    // What was asked may be said back.
                    let words = ["ann", "flow", "i"].map(|word| format!("{MARK}-{word}"));
                    let words = words.iter().filter(|word| path.contains(word.as_str()));
                    let news = words.fold(theirs.body.clone(), |body, word| body.replace(word.as_str(), ""));
                    assert!(!news.contains(MARK), "{path}: {}", theirs.body);
                    assert!(theirs.status < 500, "{path}: {}", theirs.body);
                    let ours = server.get_with(&path, &[("x-tenant", "acme")]);
                    assert!(ours.status < 500, "{path}: {}", ours.body);
                    if ours.status == 200 && ours.body.contains(MARK) {
                        marked.insert(route.clone());
                    }
                    asked += 1;
                }
            }
        }
    }
    // The other finds nothing because there is nothing for it, and not because there is nothing at all.
    for route in [
        "/v1/stream",
        "/v1/instances",
        "/v1/instances/{id}",
        "/v1/instances/{id}/history",
        "/v1/flows",
        "/v1/flows/{id}",
        "/v1/machines/{machine}/sessions/{subject}",
        "/v1/machines/{name}/overlay",
        "/v1/machines/{machine}/rollout",
        "/v1/machines/{machine}/shadow",
        "/v1/clarifications",
        "/v1/instances/{id}/story",
        "/v1/export/{table}",
        "/v1/phases",
    ] {
        assert!(marked.contains(route), "acme sees nothing of its own at {route}: {marked:?}");
    }
    assert!(asked > 100, "{asked}");
    for (path, body) in [
        (format!("/v1/instances/{session}/events"), json!({ "key": "x", "event": "cancel" })),
        (format!("/v1/instances/{session}/recover"), json!({ "reason": "x" })),
        (format!("/v1/flows/{MARK}-flow/cancel"), json!({ "key": "x", "reason": "x" })),
    ] {
        for server in &fleet.servers {
            let answer = server.post_with(&path, &body.to_string(), &[("x-tenant", "other")]);
            assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        }
    }
}

fn a_key_made_on_one_opens_the_others_and_is_closed_on_all_when_it_is_revoked(kind: Kind) {
    let mut fleet = Fleet::of(0, kind, "");
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--machines", MACHINES, "--store"];
    let store = fleet.lodging.url().to_owned();
    for _ in 0..2 {
        let environment = [
            ("STATEWRIGHT_ENCRYPTION_KEY", ENCRYPTION_KEY),
            ("STATEWRIGHT_API_KEYS", "acme=0123456789abcdef"),
        ];
        fleet.servers.push(Server::start(&[&fixed[..], &[&store]].concat(), &environment));
    }
    let [one, other] = [&fleet.servers[0], &fleet.servers[1]];
    let admin = ("authorization", "Bearer 0123456789abcdef");
    let made = one.post_with("/v1/api-keys", "{\"name\": \"bot\", \"scope\": \"read\"}", &[admin]).json();
    let key = format!("Bearer {}", made["key"].as_str().unwrap());
    let opens = |server: &Server| server.get_with("/v1/machines", &[("authorization", &key)]).status == 200;
    assert!(opens(other) && opens(one));
    let listed = other.get_with("/v1/api-keys", &[admin]).json();
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["data"][0]["id"]), (1, &made["id"]));

    let revoked = Instant::now();
    one.delete_with(&format!("/v1/api-keys/{}", made["id"].as_str().unwrap()), &[admin]);
    assert!(!opens(one));
    until(|| !opens(other));
    // And a second for a busy machine.
    assert!(revoked.elapsed() < KNOWN_EVERYWHERE + Duration::from_secs(1), "{:?}", revoked.elapsed());
}

fn a_later_server_has_nothing_to_warn_of(kind: Kind) {
    let fleet = Fleet::of(2, kind, "");
    let notes = |server: &Server| server.get("/v1/info").json()["store"]["notes"].clone();
    assert_eq!(notes(&fleet.servers[1]), notes(&fleet.servers[0]));
    assert_eq!(fleet.servers[1].get("/v1/info").json()["store"]["is_shared"], json!(true));
}
