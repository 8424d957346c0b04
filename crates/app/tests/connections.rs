//! What a server may be connected to: settings that are refused, and who may reach what.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::Server;
use harness::outside::{ACME, MACHINES, SIGNING_SECRET, calls, meta, meta_channel, webhook};
use harness::provider::{Provider, until};
use serde_json::json;

/// `serve` with such settings and flags, and a key for acme.
fn serve(dir: &std::path::Path, settings: &str, more: &[&str]) -> Server {
    let config = dir.join("statewright.toml");
    std::fs::write(&config, settings).unwrap();
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES];
    let arguments = [&fixed[..], &["--config", config.to_str().unwrap()], more].concat();
    Server::start(&arguments, &[("STATEWRIGHT_API_KEYS", "acme=0123456789abcdef")])
}

#[test]
fn a_server_for_all_sends_nothing_to_this_machine_unless_it_is_allowed() {
    let key = [("authorization", "Bearer 0123456789abcdef")];
    let receiver = Provider::content();
    for (more, status) in [(&[][..], "dead"), (&["--allow-addresses", "127.0.0.0/8"], "delivered")] {
        let dir = tempfile::tempdir().unwrap();
        let server = serve(dir.path(), &webhook(&receiver.url(), ""), more);
        let body = json!({ "message_id": "m1", "text": "update" }).to_string();
        let path = "/v1/machines/progress_update/sessions/ann/messages";
        let said = server.post_with(path, &body, &key).json();
        let path = format!("/v1/instances/{}/effects", said["session_id"].as_str().unwrap());
        let effect = || server.get_with(&path, &key).json()["data"][0].clone();
        until(|| !["pending", "sending"].contains(&effect()["status"].as_str().unwrap()));
        let effect = effect();
        assert_eq!(effect["status"], json!(status), "{effect}");
        if status == "dead" {
            let error = effect["error"].as_str().unwrap();
            assert!(error.contains("127.0.0.1") && error.contains("not allowed"), "{error}");
            assert_eq!(receiver.count(), 0);
        }
    }
    assert_eq!(receiver.count(), 1);
}

#[test]
fn a_server_for_all_shows_dead_letters_to_whoever_has_the_key_and_takes_no_webhook_that_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), &meta_channel("http://127.0.0.1:1", ""), &[]);
    assert_eq!(server.get("/v1/dead-letters").status, 401);
    assert_eq!(server.post("/v1/dead-letters/a:1:0/retry", "").status, 401);
    assert_eq!(server.get("/v1/instances/a/effects").status, 401);
    let said = meta::webhook(vec![meta::messages("PN1", vec![meta::text("331", "m1", "update")])]);
    for kind in ["meta", "telegram", "slack", "twilio"] {
        let path = format!("/v1/channels/{kind}/progress_update");
        let answer = server.post_with(&path, &said.to_string(), &ACME);
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("bad_signature")), "{kind}");
    }
    assert_eq!(meta::send(&server, &said).status, 200);
}

/// Whether `dev` starts with such settings, and what it says on standard error.
fn try_to_start(settings: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("statewright.toml");
    std::fs::write(&config, settings).unwrap();
    let fixed = ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES, "--config"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(fixed)
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It ends by itself, unless it says where it listens.
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    if !first.is_empty() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let started = !first.is_empty() || output.status.success();
    (started, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_server_says_at_its_start_what_it_is_connected_to_and_what_is_perhaps_misspelt() {
    let channel = meta_channel("http://127.0.0.1:1", "").replace("progress_update", "progres_update");
    let recogniser = "[[recognisers]]\nkind = \"rasa\"\nurl = \"https://nlu.example/hidden\"\n";
    let named = format!("{recogniser}machine = \"weather\"\n");
    let settings =
        [channel.as_str(), &webhook("https://crm.example/hidden", ""), recogniser, &named].concat();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("statewright.toml");
    std::fs::write(&config, &settings).unwrap();
    let fixed = ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES, "--config"];
    let arguments = [&fixed[..], &[config.to_str().unwrap()]].concat();
    let (server, told) = Server::start_and_tell(&arguments, "recogniser: rasa at nlu.example, for `weather`");
    for line in [
        "/v1/channels/meta/progres_update",
        "webhook: crm.example, for all machines and the tenant `acme`",
        "recogniser: rasa at nlu.example, for all machines and all tenants",
    ] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
    assert!(!told.contains("hidden"), "{told}");
    let counts = json!({"channels": 1, "webhooks": 1, "calls": 0, "recognisers": 2});
    assert_eq!(server.get("/v1/info").json()["connections"], counts);

    let (started, told) = try_to_start(&settings);
    assert!(started, "{told}");
    for part in [
        "[[channels]] number 1 is for `progres_update`, and there is no such machine yet; did you mean `progress_update`?",
        "[[recognisers]] number 2 is for `weather`, and there is no such machine yet; known here: banking_menu, ",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert!(!told.contains("[[webhooks]]") && !told.contains("statewright.receipt"), "{told}");
}

#[test]
fn settings_that_are_wrong_keep_the_server_from_starting_and_say_why_without_a_secret() {
    let meta = meta_channel("http://127.0.0.1:1", "");
    let hidden = meta.replace("app-secret", "hidden-one");
    let without =
        |name: &str| hidden.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n");
    let hook = webhook("https://example.org/", "");
    for (settings, problem) in [
        (without("app_secret"), "[[channels]] number 1: `app_secret` is missing"),
        (without("verify_token"), "[[channels]] number 1: `verify_token` is missing"),
        (hidden.replace("hidden-one", ""), "empty"),
        (hidden.replace("hidden-one", "env:NO_SUCH_VARIABLE"), "no variable `NO_SUCH_VARIABLE`"),
        (hidden.replace("\"meta\"", "\"signal\""), "line 2: unknown variant `signal`"),
        (format!("{hidden}bot_token = \"hidden-two\"\n"), "`bot_token` is no setting of the channel meta"),
        (format!("{hidden}app_secert = \"hidden-two\"\n"), "unknown field `app_secert`"),
        (format!("{hidden}reply_by = \"api\"\n"), "`reply_by` is a setting of the channel twilio"),
        (format!("{hidden}rate = 0\n"), "`rate` is 0"),
        (hidden.replace("http://127.0.0.1:1", "127.0.0.1:1"), "the URL does not begin with"),
        (hidden.replace("http://127.0.0.1:1", "https://"), "[[channels]] number 1: the URL"),
        (
            "[[channels]]\nkind = \"twilio\"\nauth_token = \"hidden-one\"\nreply_by = \"api\"\n".to_owned(),
            "needs `account_sid`",
        ),
        (
            "[[channels]]\nkind = \"telegram\"\nbot_token = \"hidden-one\"\n".to_owned(),
            "`secret_token` is missing",
        ),
        (
            "[[channels]]\nkind = \"slack\"\nbot_token = \"hidden-one\"\n".to_owned(),
            "`signing_secret` is missing",
        ),
        (hook.replace(SIGNING_SECRET, "hidden-one"), "a signing secret is `whsec_`"),
        (hook.replace(SIGNING_SECRET, "whsec_aGlkZGVuLW9uZQ=="), "a signing secret is `whsec_`"),
        (
            hook.replace("https://example.org/", "https://user:hidden-one@example.org/"),
            "[[webhooks]] number 1: the URL holds credentials",
        ),
        (hook.replace("https://example.org/", "ftp://example.org/"), "[[webhooks]] number 1: the URL"),
        (format!("{hook}timeout = \"5m\"\n"), "[[webhooks]] number 1: `timeout`"),
        (calls("a", "https://example.org/", "timeout = \"0s\""), "[[calls]] number 1: `timeout`"),
        (calls("a", "https://example.org/", "rate = -1"), "[[calls]] number 1: `rate`"),
        ("[[webhooks]]\nurl = \"https://example.org/\"\n".to_owned(), "missing field `secret`"),
    ] {
        let (started, told) = try_to_start(&settings);
        assert!(!started && told.contains(problem), "{settings}\nshould tell: {problem}\ntells: {told}");
        for secret in ["hidden", "aGlkZGVu"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

#[test]
fn a_delivery_that_another_server_would_make_again_meanwhile_is_refused_at_the_start() {
    let receiver = |more: &str| webhook("https://crm.example", more);
    for (settings, starts) in [
        (receiver("timeout = \"2s\"\n[limits]\ndelivery_lease = \"3s\"\ntimer_lease = \"1s\""), true),
        (receiver("timeout = \"2s\"\n[limits]\ndelivery_lease = \"2s\""), false),
        (receiver("[limits]\ndelivery_lease = \"15s\""), false),
        (meta_channel("http://127.0.0.1:1", "[limits]\ndelivery_lease = \"60s\""), false),
        (meta_channel("http://127.0.0.1:1", "[limits]\ndelivery_lease = \"61s\""), true),
    ] {
        let (started, told) = try_to_start(&settings);
        assert_eq!(started, starts, "{settings}: {told}");
        assert!(starts || told.contains("`delivery_lease` is"), "{told}");
    }
    let (started, told) = try_to_start("[limits]\ntimer_lease = \"10ms\"");
    assert!(!started && told.contains("`timer_lease` is 10ms; it may be a second and more"), "{told}");
}
