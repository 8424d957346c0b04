//! What is delivered when nobody waits for it: to people by their channel, to webhooks, and to whom machines call.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::outside::{ACME, Connected, SIGNING_SECRET, calls, hmac_sha256, meta, meta_channel, webhook};
use harness::provider::{Does, Provider, Seen, deserted_port, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ANN: &str = "meta:PN1:331";

fn with_meta() -> (Provider, Connected) {
    let provider = Provider::meta();
    let server = Connected::with(&meta_channel(&provider.url(), ""));
    (provider, server)
}

/// As the specification has it, by nothing of ours.
fn assert_signed(seen: &Seen) {
    let key = BASE64.decode(SIGNING_SECRET.trim_start_matches("whsec_")).unwrap();
    let signed = format!("{}.{}.{}", seen.header("webhook-id"), seen.header("webhook-timestamp"), seen.body);
    let expected = format!("v1,{}", BASE64.encode(hmac_sha256(&key, &signed)));
    assert_eq!(seen.header("webhook-signature"), expected);
}

fn retry(server: &Connected, effect: &Value) -> (u16, Value) {
    let path = format!("/v1/dead-letters/{}/retry", effect["id"].as_str().unwrap());
    let answer = server.post_with(&path, "", &ACME);
    (answer.status, answer.json())
}

// --- To people -------------------------------------------------------------------------------------------------------

#[test]
fn what_a_provider_refuses_is_a_dead_letter_that_can_be_tried_again_by_hand() {
    let (provider, server) = with_meta();
    let refusal = json!({ "error": { "code": 131_030, "message": "(#131030) not in allowed list" } });
    provider.next([Does::Answers(400, refusal)]);
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    server.rest();
    server.advance("24h");
    assert_eq!(provider.count(), 2, "the reply to the silence alone, which is not held up");
    let letters = server.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&letter["status"], &letter["attempts"]), (&json!("dead"), &json!(1)), "{letter}");
    assert_eq!(letter["error"], json!("HTTP 400: (#131030) not in allowed list"));
    assert_eq!(letter["to"], json!({ "channel": "meta", "account": "PN1", "user": "331" }));
    // Of another tenant there is no such thing.
    let path = format!("/v1/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    assert_eq!(server.post_with(&path, "", &[("x-tenant", "beta")]).status, 404);
    assert_eq!(server.get("/v1/dead-letters").json()["data"], json!([]));
    assert_eq!(provider.count(), 2);

    assert_eq!(retry(&server, letter).0, 200);
    let again = provider.nth(3);
    assert_eq!(again.json()["text"]["body"], json!("Which task is it about?"));
    server.rest();
    assert_eq!(server.dead_letters(), [] as [Value; 0]);
    let (status, problem) = retry(&server, letter);
    assert_eq!((status, &problem["code"]), (409, &json!("not_retryable")), "{problem}");
    let answer = server.post_with("/v1/dead-letters/nobody:1:0/retry", "", &ACME);
    assert_eq!(answer.status, 404, "{}", answer.body);
}

#[test]
fn what_may_have_been_sent_is_never_sent_again_by_itself() {
    let (provider, server) = with_meta();
    for (number, does) in
        [Does::Closes, Does::Answers(500, json!("?")), Does::Answers(302, json!(""))].into_iter().enumerate()
    {
        provider.next([does]);
        let person = format!("33{number}");
        meta::say(&server, &person, &format!("m{number}"), "update");
        provider.wait(number + 1);
        server.rest();
        assert_eq!(server.each("status", &format!("meta:PN1:{person}")), ["unknown"], "{number}");
    }
    server.advance("1h");
    assert_eq!(provider.count(), 3);
    let letters = server.dead_letters();
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(letters.iter().all(|letter| letter["error"].is_string()), "{letters:?}");
    // The next reply to the same person is not held up by it.
    meta::say(&server, "330", "m9", "T1");
    provider.wait(4);
    // Whoever wants it sent again can have it.
    assert_eq!(retry(&server, letters.last().unwrap()).0, 200);
    assert_eq!(provider.nth(5).json()["to"], json!("330"));
}

#[test]
fn what_was_unknown_is_delivered_or_dead_once_meta_reports_of_it() {
    let (provider, server) = with_meta();
    for (person, reported, status) in [("331", "delivered", "delivered"), ("332", "failed", "dead")] {
        let count = provider.count();
        provider.next([Does::Closes]);
        meta::say(&server, person, &format!("m{person}"), "update");
        let key = provider.nth(count + 1).json()["biz_opaque_callback_data"].clone();
        server.rest();
        let subject = format!("meta:PN1:{person}");
        assert_eq!(server.each("status", &subject), ["unknown"]);
        let mut report =
            meta::webhook(vec![meta::statuses("PN1", &[(&*format!("wamid.{person}"), reported)])]);
        report["entry"][0]["changes"][0]["value"]["statuses"][0]["biz_opaque_callback_data"] = key;
        meta::take(&server, &report);
        assert_eq!(server.each("status", &subject), [status]);
        server.advance("10m");
        assert_eq!(provider.count(), count + 1);
    }
}

#[test]
fn a_reply_that_broke_off_is_not_delivered_because_its_first_part_was() {
    let (provider, server) = with_meta();
    let summary = [("m1", "update"), ("m2", "T1"), ("m3", &*"word ".repeat(250)), ("m4", "done")];
    for (id, text) in &summary[..3] {
        meta::say(&server, "331", id, text);
    }
    provider.wait(3);
    server.rest();
    provider.next([Does::Answers(200, json!({ "messages": [{ "id": "wamid.first" }] })), Does::Closes]);
    meta::say(&server, "331", summary[3].0, summary[3].1);
    let seen = provider.wait(5);
    server.rest();
    let status = || server.each("status", "meta:PN1:331").pop().unwrap();
    assert_eq!(status(), json!("unknown"));
    let report = |part: &Seen, id: &str| {
        let mut report = meta::webhook(vec![meta::statuses("PN1", &[(id, "delivered")])]);
        let key = part.json()["biz_opaque_callback_data"].clone();
        report["entry"][0]["changes"][0]["value"]["statuses"][0]["biz_opaque_callback_data"] = key;
        meta::take(&server, &report);
    };
    report(&seen[3], "wamid.first");
    assert_eq!(status(), json!("unknown"), "nobody has seen the rest of it");
    report(&seen[4], "wamid.last");
    assert_eq!(status(), json!("delivered"));
}

#[test]
fn a_call_whose_answer_broke_off_is_made_again() {
    let callee = Provider::doing(|_, _| Does::Answers(200, json!({ "jwt": "t1" })));
    callee.next([Does::BreaksOff(json!({ "jwt": "t1" }))]);
    let server = Connected::with(&calls("members.*", &callee.url(), "tenant = \"acme\""));
    sign_in(&server, "m1");
    callee.wait(1);
    server.rest();
    assert_eq!(banking(&server).0, json!("auth"), "the call may have been taken and is still waited for");
    server.advance("2s");
    let seen = callee.wait(2);
    server.rest();
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(banking(&server), (json!("menu"), json!("t1")));
}

#[test]
fn a_server_that_stops_waits_for_no_receiver_that_says_nothing() {
    let receiver = Provider::content();
    let server = Connected::durable(&webhook(&receiver.url(), "timeout = \"60s\""));
    receiver.next([Does::Hangs]);
    server.say_to("progress_update", "ann", "m1", "update");
    receiver.wait(1);
    let began = Instant::now();
    assert!(server.terminate());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_provider_that_is_away_gets_the_reply_when_it_is_back_and_is_left_alone_meanwhile() {
    let port = deserted_port();
    let server = Connected::with(&meta_channel(&format!("http://127.0.0.1:{port}"), ""));
    let attempts = |person: &str| server.each("attempts", &format!("meta:PN1:{person}"))[0].as_u64().unwrap();
    meta::say(&server, "331", "m1", "update");
    server.rest();
    assert_eq!((attempts("331"), server.each("status", ANN)), (1, vec![json!("pending")]));
    for by in ["1s", "2s", "4s", "8s"] {
        server.advance(by);
    }
    assert_eq!(attempts("331"), 5);
    // Five in a row: it is not even asked for half a minute, and what waits loses no attempt by that.
    meta::say(&server, "332", "m2", "update");
    server.advance("16s");
    assert_eq!((attempts("331"), attempts("332")), (5, 0));
    let provider = Provider::back_at(port, |_, n| {
        Does::Answers(200, json!({ "messages": [{ "id": format!("w{n}") }] }))
    });
    server.rest();
    assert_eq!(provider.count(), 0);
    // One goes ahead, and the others follow when that has gone well.
    server.advance("30s");
    server.advance("30s");
    let seen = provider.wait(2);
    let mut people: Vec<String> =
        seen.iter().map(|seen| seen.json()["to"].as_str().unwrap().to_owned()).collect();
    people.sort_unstable();
    assert_eq!(people, ["331", "332"]);
    server.rest();
    let effect = &server.effects("progress_update", ANN)[0];
    assert_eq!(effect["status"], json!("delivered"), "{effect}");
    assert_eq!(server.dead_letters(), [] as [Value; 0]);
}

#[test]
fn a_provider_that_asks_for_time_gets_it_and_what_comes_later_is_read_later() {
    let (provider, server) = with_meta();
    let slow = json!({ "error": { "code": 130_429, "message": "slow down" } });
    provider.next([Does::Says(429, "retry-after", "40", slow)]);
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    server.rest();
    meta::say(&server, "331", "m2", "T1");
    meta::say(&server, "332", "m3", "update");
    server.advance("39s");
    assert_eq!(provider.count(), 1, "nobody's replies go out by that number before");
    server.advance("1s");
    server.rest();
    let seen = provider.wait(4);
    let texts: Vec<Value> = seen
        .iter()
        .skip(1)
        .map(Seen::json)
        .filter(|body| body["to"] == json!("331"))
        .map(|body| body["type"].clone())
        .collect();
    assert_eq!(texts, ["text", "interactive"], "the first reply first");
    server.rest();
    assert_eq!(server.each("status", ANN), ["delivered", "delivered"]);
    assert_eq!(server.each("attempts", ANN), [2, 1]);
}

#[test]
fn of_a_reply_in_several_messages_those_that_arrived_are_not_sent_again() {
    let (provider, server) = with_meta();
    let long = "word ".repeat(900);
    for (id, text) in [("m1", "update"), ("m2", "T1"), ("m3", &*long)] {
        meta::say(&server, "331", id, text);
    }
    provider.wait(3);
    let down = json!({ "error": { "code": 131_016, "message": "down" } });
    let taken = json!({ "messages": [{ "id": "wamid.part.1" }] });
    provider.next([Does::Answers(200, taken), Does::Answers(500, down)]);
    meta::say(&server, "331", "m4", "done");
    provider.wait(5);
    server.rest();
    server.advance("1s");
    let all = provider.wait(6);
    let bodies: Vec<Value> = all.iter().skip(3).map(Seen::json).collect();
    assert_eq!(bodies[1], bodies[2], "the part that was not taken");
    assert_ne!(bodies[0], bodies[1], "the part that was");
    assert_eq!(bodies[2]["type"], json!("interactive"));
    server.rest();
    assert_eq!(server.each("status", ANN)[3], json!("delivered"));
    assert_eq!(server.each("provider_id", ANN)[3], json!("wamid.sent.6"));
}

#[test]
fn a_reply_that_was_being_sent_at_a_kill_is_unknown_and_not_sent_twice() {
    let provider = Provider::meta();
    let server = Connected::durable(&meta_channel(&provider.url(), ""));
    provider.next([Does::Hangs]);
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    let server = server.killed_and_started_again();
    server.rest();
    assert_eq!(server.each("status", ANN), ["sending"], "the claim is not over");
    server.advance("2m");
    server.rest();
    let effect = &server.effects("progress_update", ANN)[0];
    assert_eq!(effect["status"], json!("unknown"), "{effect}");
    assert!(effect["error"].as_str().unwrap().contains("may have arrived"), "{effect}");
    // Meta had no answer either, and delivers again: that is no reason to say it twice.
    meta::say(&server, "331", "m1", "update");
    server.advance("10m");
    assert_eq!(provider.count(), 1);
    assert_eq!(server.session("progress_update", ANN)["revision"], json!(1));
    meta::say(&server, "331", "m2", "T1");
    assert_eq!(provider.nth(2).json()["type"], json!("interactive"));
}

// --- To webhooks -----------------------------------------------------------------------------------------------------

#[test]
fn a_webhook_is_told_transitions_and_what_has_no_address_as_signed_cloud_events() {
    let receiver = Provider::content();
    let server = Connected::with(&webhook(&format!("{}/hook?x=1", receiver.url()), ""));
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({ "message_id": "m1", "text": "update" }).to_string();
    let path = "/v1/machines/progress_update/sessions/ann/messages";
    let said = server.post_with(path, &body, &[ACME[0], ("traceparent", traceparent)]).json();
    let seen = receiver.nth(1);
    assert_signed(&seen);
    assert_eq!(seen.path, "/hook?x=1");
    assert!(seen.header("content-type").starts_with("application/cloudevents+json"));
    assert!(seen.header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    let event = seen.json();
    let instance = said["session_id"].as_str().unwrap();
    assert_eq!(event["specversion"], json!("1.0"));
    assert_eq!(event["id"], json!(seen.header("webhook-id")));
    assert_eq!(event["source"], json!(format!("/v1/instances/{instance}")));
    assert_eq!((&event["type"], &event["subject"]), (&json!("statewright.transition"), &json!("ann")));
    assert_eq!(event["datacontenttype"], json!("application/json"));
    let now = server.told("/v1/info")["now"].clone();
    assert_eq!(event["time"], now, "on a clock that stands still");
    let data = &event["data"];
    assert_eq!((&data["tenant"], &data["machine"]), (&json!("acme"), &json!("progress_update")));
    assert_eq!((&data["from"], &data["to"]), (&json!("idle"), &json!("task_selection")));
    assert_eq!((&data["event"], &data["revision"]), (&json!("start_update"), &json!(1)));

    // Said on the spot, nothing moved.
    server.say_to("progress_update", "ann", "m2", "status");
    server.rest();
    assert_eq!(receiver.count(), 1);
    server.advance("2h");
    let last = receiver.wait(3);
    last.iter().for_each(assert_signed);
    let kinds: Vec<Value> = last.iter().map(|seen| seen.json()["type"].clone()).collect();
    assert!(kinds.contains(&json!("statewright.reply")), "{kinds:?}");
    let reply =
        last.iter().map(Seen::json).find(|event| event["type"] == json!("statewright.reply")).unwrap();
    let text = reply["data"]["reply"]["text"].as_str().unwrap();
    assert!(text.starts_with("Your update was closed"), "{reply}");
    let ids: std::collections::BTreeSet<&str> = last.iter().map(|seen| seen.header("webhook-id")).collect();
    assert_eq!(ids.len(), 3);
    // Whom it does not belong to is told nothing.
    server.post_with(path, &body, &[("x-tenant", "beta")]);
    server.rest();
    assert_eq!(receiver.count(), 3);
}

#[test]
fn a_webhook_is_tried_at_the_times_of_the_specification_then_dead_and_by_hand_again() {
    let receiver = Provider::doing(|_, _| Does::Answers(500, json!("no")));
    let server = Connected::with(&webhook(&receiver.url(), ""));
    server.say_to("progress_update", "ann", "m1", "update");
    receiver.wait(1);
    server.rest();
    // Up to a fifth sooner, so that not all come at once, and never sooner than that.
    for (attempt, (too_soon, rest)) in [
        ("3900ms", "1100ms"),
        ("239s", "61s"),
        ("23m", "7m"),
        ("95m", "25m"),
        ("239m", "61m"),
        ("479m", "121m"),
        ("671m", "169m"),
        ("959m", "241m"),
        ("1151m", "289m"),
    ]
    .into_iter()
    .enumerate()
    {
        server.advance(too_soon);
        assert_eq!(receiver.count(), attempt + 1, "{too_soon} after attempt {}", attempt + 1);
        server.advance(rest);
        assert_eq!(receiver.count(), attempt + 2, "{rest} later");
    }
    let seen = receiver.wait(10);
    seen.iter().for_each(assert_signed);
    assert!(seen.iter().all(|again| again.header("webhook-id") == seen[0].header("webhook-id")));
    assert!(seen.iter().all(|again| again.json()["data"] == seen[0].json()["data"]), "{seen:#?}");
    server.advance("48h");
    let letters = server.dead_letters();
    let letter = letters.iter().find(|letter| letter["id"] == json!(seen[0].header("webhook-id"))).unwrap();
    assert_eq!((&letter["status"], &letter["attempts"]), (&json!("dead"), &json!(10)), "{letter}");
    assert_eq!(letter["error"], json!("HTTP 500: \"no\""));
    let before = receiver.count();
    receiver.next(vec![Does::Answers(200, json!({})); 9]);
    assert_eq!(retry(&server, letter).0, 200);
    // It may have been left alone for a while, after all that.
    server.advance("5m");
    let again = &receiver.seen()[before];
    assert_eq!(again.header("webhook-id"), seen[0].header("webhook-id"));
    assert!(!server.dead_letters().iter().any(|other| other["id"] == letter["id"]));
}

#[test]
fn a_receiver_that_is_gone_is_told_nothing_more_and_its_neighbours_are() {
    let host = Provider::doing(|seen, _| match &*seen.path {
        "/gone" => Does::Answers(410, json!("moved out")),
        _ => Does::Answers(200, json!({})),
    });
    let beta = webhook(&format!("{}/beta", host.url()), "").replace("acme", "beta");
    let server = Connected::with(&(webhook(&format!("{}/gone", host.url()), "") + &beta));
    server.say_to("progress_update", "ann", "m1", "update");
    host.wait(1);
    server.rest();
    server.say_to("progress_update", "ann", "m2", "T1");
    server.advance("1h");
    assert_eq!(host.count(), 1);
    assert_eq!(server.each("status", "ann"), ["dead", "unaddressed"]);
    // Another tenant's webhook lives on the same host.
    let body = json!({ "message_id": "m1", "text": "update" }).to_string();
    let path = "/v1/machines/progress_update/sessions/ann/messages";
    server.post_with(path, &body, &[("x-tenant", "beta")]);
    assert_eq!(host.nth(2).path, "/beta");
}

#[test]
fn a_webhook_that_was_being_sent_at_a_kill_is_sent_again_by_the_same_name() {
    let receiver = Provider::content();
    let server = Connected::durable(&webhook(&receiver.url(), ""));
    receiver.next([Does::Hangs]);
    server.say_to("progress_update", "ann", "m1", "update");
    receiver.wait(1);
    let server = server.killed_and_started_again();
    server.advance("2m");
    server.rest();
    let seen = receiver.wait(2);
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[0].json()["data"], seen[1].json()["data"]);
    assert_signed(&seen[1]);
    assert_eq!(server.each("status", "ann"), ["delivered"]);
}

#[test]
fn a_receiver_that_does_not_answer_in_time_is_told_again() {
    let receiver = Provider::content();
    let server = Connected::with(&webhook(&receiver.url(), "timeout = \"300ms\""));
    receiver.next([Does::Hangs]);
    server.say_to("progress_update", "ann", "m1", "update");
    receiver.wait(1);
    server.rest();
    let effect = &server.effects("progress_update", "ann")[0];
    assert_eq!(effect["status"], json!("pending"), "{effect}");
    assert!(effect["error"].as_str().unwrap().contains("did not answer in time"), "{effect}");
    server.advance("5s");
    receiver.wait(2);
    server.rest();
    assert_eq!(server.each("status", "ann"), ["delivered"]);
}

#[test]
fn dead_letters_are_listed_in_pages_newest_first_and_by_status() {
    let receiver = Provider::doing(|_, _| Does::Answers(410, json!("")));
    let server = Connected::with(&webhook(&receiver.url(), ""));
    for n in 1..=4 {
        server.say_to("progress_update", &format!("person-{n}"), "m1", "update");
        server.rest();
        server.advance("1s");
    }
    assert_eq!(receiver.count(), 1, "it said that it is gone");
    let subjects = |page: &Value| {
        let rows = page["data"].as_array().unwrap().iter();
        rows.map(|row| row["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let page = server.told("/v1/dead-letters?status=dead,unaddressed&limit=3");
    assert_eq!(subjects(&page), ["person-4", "person-3", "person-2"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.told(&format!("/v1/dead-letters?status=dead,unaddressed&limit=3&cursor={cursor}"));
    assert_eq!((subjects(&rest), &rest["has_more"]), (vec!["person-1".to_owned()], &json!(false)));
    assert_eq!(
        subjects(&server.told("/v1/dead-letters")),
        ["person-1"],
        "what waits for a setting is none yet"
    );
    for query in ["status=unknwon", "status=", "limit=0", "stat=dead"] {
        let answer = server.get_with(&format!("/v1/dead-letters?{query}"), &ACME);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_query")), "{query}");
    }
}

// --- Calls -----------------------------------------------------------------------------------------------------------

const MEMBER: &str = "member";

fn sign_in(server: &Connected, id: &str) {
    server.say_to("banking_menu", MEMBER, id, "good morning");
}

fn banking(server: &Connected) -> (Value, Value) {
    let session = server.session("banking_menu", MEMBER);
    (session["state"].clone(), session["context"]["jwt"].clone())
}

fn calls_made(server: &Connected) -> Vec<Value> {
    let effects = server.effects("banking_menu", MEMBER).into_iter();
    effects
        .filter(|effect| effect["kind"].get("call").is_some() || effect["kind"]["type"] == json!("call"))
        .collect()
}

#[test]
fn a_call_that_is_answered_at_once_moves_the_machine_once() {
    let callee = Provider::doing(|_, _| Does::Answers(200, json!({ "jwt": "t1" })));
    let server = Connected::with(&calls("members.*", &callee.url(), "tenant = \"acme\""));
    sign_in(&server, "m1");
    let seen = callee.nth(1);
    assert_signed(&seen);
    let event = seen.json();
    assert_eq!(event["type"], json!("statewright.call"));
    assert_eq!((&event["data"]["src"], &event["data"]["id"]), (&json!("members.sign_in"), &json!("auth")));
    assert_eq!(event["data"]["call"], json!(seen.header("webhook-id")));
    server.rest();
    assert_eq!(banking(&server), (json!("menu"), json!("t1")));
    // The result may come by the other way as well; it is over.
    let answer_to =
        event["data"]["answer_to"].as_str().unwrap().strip_prefix(&*server.url).unwrap().to_owned();
    let late = server.post_with(&answer_to, &json!({ "result": { "jwt": "t2" } }).to_string(), &ACME);
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("call_over")), "{}", late.body);
    assert_eq!(banking(&server), (json!("menu"), json!("t1")));
    server.advance("20s");
    assert_eq!(callee.count(), 1);
    // Nobody is set for other calls: they wait for somebody, and the definition's time limit for nobody.
    server.say_to("banking_menu", MEMBER, "m2", "account");
    server.rest();
    let call = calls_made(&server).pop().unwrap();
    assert_eq!(call["status"], json!("unaddressed"), "{call}");
    assert!(call["error"].as_str().unwrap().contains("`accounts.balance`"), "{call}");
}

#[test]
fn a_call_may_be_acknowledged_and_its_result_brought_later() {
    let callee = Provider::doing(|_, _| Does::Answers(202, json!("")));
    let server = Connected::with(&calls("members.sign_in", &callee.url(), ""));
    sign_in(&server, "m1");
    let event = callee.nth(1).json();
    server.advance("10s");
    assert_eq!((callee.count(), banking(&server).0), (1, json!("auth")));
    let answer_to =
        event["data"]["answer_to"].as_str().unwrap().strip_prefix(&*server.url).unwrap().to_owned();
    let result = json!({ "result": { "jwt": "t1" } }).to_string();
    let answer = server.post_with(&answer_to, &result, &ACME);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(banking(&server), (json!("menu"), json!("t1")));
    let again = server.post_with(&answer_to, &result, &ACME);
    assert!(again.replayed, "{}", again.body);
}

#[test]
fn what_a_call_comes_to_is_what_the_machine_goes_by() {
    let callee = Provider::content();
    let server = Connected::with(&calls("members.*", &callee.url(), ""));
    for (number, (does, state)) in [
        (Does::Answers(404, json!({ "code": "unknown_member", "detail": "who?" })), "registration.name"),
        (Does::Answers(403, json!("<html>")), "auth"),
        (Does::Answers(200, json!([1])), "auth"),
        (Does::Answers(200, json!({ "jwt": 5 })), "auth"),
        (Does::Answers(200, json!({ "jwt": "t1" })), "menu"),
    ]
    .into_iter()
    .enumerate()
    {
        callee.next([does.clone()]);
        let subject = format!("member-{number}");
        server.say_to("banking_menu", &subject, "m1", "good morning");
        callee.wait(number + 1);
        server.rest();
        assert_eq!(server.session("banking_menu", &subject)["state"], json!(state), "{does:?}");
    }
    assert_eq!(callee.count(), 5);
}

#[test]
fn a_call_that_fails_is_made_again_until_the_definition_has_waited_long_enough() {
    let callee = Provider::doing(|_, _| Does::Answers(500, json!("down")));
    let server = Connected::with(&calls("members.*", &callee.url(), ""));
    sign_in(&server, "m1");
    callee.wait(1);
    server.rest();
    callee.next([Does::Answers(503, json!("")), Does::Closes]);
    server.advance("1s");
    server.advance("2s");
    let seen = callee.wait(3);
    assert!(seen.iter().all(|again| again.header("webhook-id") == seen[0].header("webhook-id")));
    assert_eq!(banking(&server).0, json!("auth"));
    server.advance("17s");
    let told = server.session("banking_menu", MEMBER);
    assert_eq!(told["state"], json!("auth"));
    let call = &calls_made(&server)[0];
    let made = callee.count();
    server.advance("1h");
    assert_eq!(callee.count(), made, "nobody waits for it any more");
    let call_now = &calls_made(&server)[0];
    assert_eq!(call_now["status"], json!("cancelled"), "{call} {call_now}");
    // It is back, and the next call goes well.
    callee.next([Does::Answers(200, json!({ "jwt": "t1" }))]);
    sign_in(&server, "m2");
    until(|| banking(&server) == (json!("menu"), json!("t1")));
}
