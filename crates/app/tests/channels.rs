//! Providers' webhooks and what goes back to people, as the providers and the people notice it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::outside::{ACME, Connected, meta, meta_channel, slack, telegram, twilio};
use harness::provider::{Does, Provider, Seen, until};
use serde_json::{Value, json};

fn with_meta() -> (Provider, Connected) {
    let provider = Provider::meta();
    let server = Connected::with(&meta_channel(&provider.url(), ""));
    (provider, server)
}

/// Whom Meta was asked to tell what, and by which number.
fn told(seen: &Seen) -> (String, String, String) {
    let body = seen.json();
    let text = body.pointer("/text/body").or_else(|| body.pointer("/interactive/body/text"));
    let text = text.unwrap_or_else(|| panic!("{body}")).as_str().unwrap();
    (seen.path.clone(), body["to"].as_str().unwrap().to_owned(), text.to_owned())
}

/// The texts that one person was told, in order.
fn texts(provider: &Provider, person: &str) -> Vec<String> {
    let all = provider.seen().iter().map(told).filter(|(_, to, _)| to == person).collect::<Vec<_>>();
    all.into_iter().map(|(.., text)| text).collect()
}

// --- Meta ------------------------------------------------------------------------------------------------------------

#[test]
fn meta_is_told_its_challenge_for_the_right_token_alone() {
    let (_provider, server) = with_meta();
    let ask = |machine: &str, mode: &str, token: &str| {
        let query = format!("hub.mode={mode}&hub.verify_token={token}&hub.challenge=115%38");
        let answer = server.get(&format!("/v1/channels/meta/{machine}?{query}"));
        (answer.status, answer.body)
    };
    assert_eq!(ask("progress_update", "subscribe", "let-me-in"), (200, "1158".to_owned()));
    for (machine, mode, token) in [
        ("progress_update", "subscribe", "wrong"),
        ("progress_update", "subscribe", ""),
        ("progress_update", "unsubscribe", "let-me-in"),
        ("banking_menu", "subscribe", "let-me-in"),
    ] {
        let (status, body) = ask(machine, mode, token);
        assert_eq!(status, 403, "{machine} {mode} {token}: {body}");
        assert!(!body.contains("1158") && !body.contains("let-me-in"), "{body}");
    }
    let twice = server.get("/v1/channels/meta/progress_update?hub.mode=subscribe&hub.mode=subscribe");
    assert_eq!((twice.status, &twice.json()["code"]), (400, &json!("bad_query")));
    for other in ["twilio", "telegram", "slack", "signal"] {
        assert_eq!(server.get(&format!("/v1/channels/{other}/progress_update")).status, 404, "{other}");
    }
}

#[test]
fn a_batch_of_two_people_is_two_sessions_and_each_is_answered_in_order_by_the_number_they_wrote_to() {
    let (provider, server) = with_meta();
    let batch = meta::webhook(vec![
        meta::messages("PN1", vec![meta::text("331", "m1", "update"), meta::text("331", "m2", "T1")]),
        meta::statuses("PN1", &[("wamid.of.others", "delivered")]),
        meta::messages("PN2", vec![meta::text("442", "m3", "update")]),
    ]);
    meta::take(&server, &batch);
    let seen = provider.wait(3);
    let told: Vec<_> = seen.iter().map(told).collect();
    let (path, which) = ("/v23.0/PN1/messages".to_owned(), "Which task is it about?".to_owned());
    let of_ann: Vec<_> = told.iter().filter(|(_, to, _)| to == "331").cloned().collect();
    let add = "T1: what would you like to add?".to_owned();
    assert_eq!(of_ann, [(path.clone(), "331".into(), which.clone()), (path, "331".into(), add)]);
    assert!(told.contains(&("/v23.0/PN2/messages".into(), "442".into(), which)), "{told:?}");
    assert!(seen.iter().all(|seen| seen.header("authorization") == "Bearer access"));
    assert_eq!(server.state("meta:PN1:331"), json!("awaiting_action"));
    assert_eq!(server.state("meta:PN2:442"), json!("task_selection"));

    // Meta delivers for seven days, the whole batch and parts of it, and also at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| meta::take(&server, &batch));
        }
    });
    meta::say(&server, "331", "m2", "T1");
    server.rest();
    assert_eq!(provider.count(), 3, "{:?}", provider.seen());
    assert_eq!(server.session("progress_update", "meta:PN1:331")["revision"], json!(2));
    server.rest();
    assert_eq!(server.each("status", "meta:PN1:331"), ["delivered", "delivered"]);
}

#[test]
fn the_same_person_at_two_numbers_of_the_business_is_two_sessions() {
    let (provider, server) = with_meta();
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    meta::take(&server, &meta::webhook(vec![meta::messages("PN2", vec![meta::text("331", "m2", "hello")])]));
    assert_eq!(told(&provider.nth(2)).0, "/v23.0/PN2/messages");
    assert_eq!(server.state("meta:PN1:331"), json!("task_selection"));
    assert_eq!(server.state("meta:PN2:331"), json!("idle"));
}

#[test]
fn one_message_that_cannot_be_taken_does_not_lose_the_others_of_its_batch() {
    let (provider, server) = with_meta();
    let long = "3".repeat(195);
    let bad = [
        json!(null),
        json!("text"),
        json!({ "id": "x1", "from": "331", "type": "text" }),
        json!({ "id": "", "from": "331", "type": "text", "text": { "body": "a" } }),
        json!({ "id": "x2", "from": "331", "type": "reaction", "reaction": { "emoji": "x" } }),
        json!({ "id": "x3", "from": { "id": 1 }, "type": "text", "text": { "body": "a" } }),
        json!({ "id": "x4", "from": "3\u{0}1", "type": "text", "text": { "body": "a" } }),
        // Short enough for an address, and too long for a subject once channel and number stand before it.
        meta::text(&long, "x5", "update"),
        json!({ "id": "x6".repeat(200), "from": "331", "type": "text", "text": { "body": "a" } }),
    ];
    let mut messages = vec![meta::text("331", "m1", "update")];
    messages.extend(bad);
    messages.push(meta::text("331", "m2", "T1"));
    meta::take(&server, &meta::webhook(vec![json!(7), meta::messages("PN1", messages)]));
    provider.wait(2);
    assert_eq!(texts(&provider, "331"), ["Which task is it about?", "T1: what would you like to add?"]);

    // Alone it is taken as well: to have it sent again for seven days would not mend it.
    let alone = meta::webhook(vec![meta::messages("PN1", vec![meta::text(&long, "x5", "update")])]);
    meta::take(&server, &alone);
    for body in ["", "[]", "{}", "{\"entry\": 5}", "not json"] {
        let answer = server.post_with(
            meta::HOOK,
            body,
            &[("x-hub-signature-256", &meta::signature("app-secret", body))],
        );
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_webhook")), "{body}");
    }
}

#[test]
fn a_batch_as_large_as_meta_sends_them_is_taken() {
    let (provider, server) = with_meta();
    let mut batch = meta::webhook(vec![meta::messages("PN1", vec![meta::text("331", "m1", "update")])]);
    batch["padding"] = "x".repeat(2_900_000).into();
    meta::take(&server, &batch);
    provider.wait(1);
}

#[test]
fn what_is_not_signed_with_the_secret_changes_nothing_and_is_told_no_secret() {
    let (provider, server) = with_meta();
    let body = meta::webhook(vec![meta::messages("PN1", vec![meta::text("331", "m1", "update")])]);
    let written = body.to_string();
    let right = meta::signature("app-secret", &written);
    let forged = [
        meta::signature("guess", &written),
        right.replace("sha256=", "sha1="),
        String::new(),
        right[7..].to_owned(),
    ];
    for signature in &forged {
        let answer = server.post_with(meta::HOOK, &written, &[("x-hub-signature-256", signature)]);
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("bad_signature")), "{signature}");
        assert!(!answer.body.contains("app-secret"), "{}", answer.body);
    }
    assert_eq!(server.post(meta::HOOK, &written).status, 403, "not signed at all");
    let spaced = format!("{written} ");
    let answer = server.post_with(meta::HOOK, &spaced, &[("x-hub-signature-256", &right)]);
    assert_eq!(answer.status, 403, "other bytes");
    // Signed, by somebody who has the secret of another machine's channel.
    let elsewhere = "/v1/channels/meta/banking_menu";
    assert_eq!(server.post_with(elsewhere, &written, &[("x-hub-signature-256", &right)]).status, 403);
    server.rest();
    assert_eq!(provider.count(), 0);
    let found = server.get_with("/v1/machines/progress_update/sessions/meta:PN1:331", &ACME);
    assert_eq!(found.status, 404);
}

#[test]
fn a_stage_never_goes_backwards_and_a_status_may_overtake_the_send_it_is_of() {
    let (provider, server) = with_meta();
    let status =
        |list: &[(&str, &str)]| meta::take(&server, &meta::webhook(vec![meta::statuses("PN1", list)]));
    provider.next([Does::Waits(json!({ "messages": [{ "id": "wamid.slow" }] }))]);
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    status(&[("wamid.slow", "sent")]);
    provider.let_go();
    let stage = || server.each("stage", "meta:PN1:331")[0].clone();
    until(|| stage() == json!("sent"));
    assert_eq!(server.each("provider_id", "meta:PN1:331"), ["wamid.slow"]);
    for (reported, expected) in
        [("read", "read"), ("delivered", "read"), ("sent", "read"), ("failed", "read"), ("read", "read")]
    {
        status(&[("wamid.slow", reported)]);
        assert_eq!(stage(), json!(expected), "after {reported}");
    }
    assert_eq!(server.each("status", "meta:PN1:331"), ["delivered"]);
}

#[test]
fn taps_bring_back_the_id_that_was_sent_and_old_ones_are_answered_with_the_menu_of_now() {
    let (provider, server) = with_meta();
    meta::say(&server, "331", "m1", "update");
    meta::say(&server, "331", "m2", "T1");
    let asked = provider.nth(2).json();
    assert_eq!(asked["interactive"]["type"], json!("list"), "{asked}");
    let rows = &asked["interactive"]["action"]["sections"][0]["rows"];
    let titles: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["title"]).collect();
    assert_eq!(titles, ["Add photos or comments", "Finish the update", "Switch to another task"]);
    let tap = |id: &str, kind: &str, option: &Value| {
        let tapped = meta::tap("331", id, kind, option);
        meta::take(&server, &meta::webhook(vec![meta::messages("PN1", vec![tapped])]));
    };
    tap("m3", "list_reply", &rows[1]);
    let summary = provider.nth(3).json();
    assert_eq!(summary["interactive"]["type"], json!("button"), "{summary}");
    let buttons = &summary["interactive"]["action"]["buttons"];
    assert_eq!(server.state("meta:PN1:331"), json!("confirmation_pending"));

    // The list from before is still on the screen.
    tap("m4", "list_reply", &rows[0]);
    let expired = provider.wait(5);
    assert_eq!(server.state("meta:PN1:331"), json!("confirmation_pending"));
    assert!(told(&expired[3]).2.to_lowercase().contains("expired"), "{:?}", expired[3]);
    assert_eq!(expired[4].json()["interactive"]["type"], json!("button"), "{:?}", expired[4]);
    // A payload that nobody ever sent, of somebody who forges his app.
    tap("m5", "button_reply", &json!({ "id": "confirm", "title": "Yes, send it" }));
    assert_eq!(server.state("meta:PN1:331"), json!("confirmation_pending"));
    provider.wait(7);

    // The buttons of the latest prompt count.
    let latest = provider.nth(7).json()["interactive"]["action"]["buttons"][0]["reply"].clone();
    assert_eq!(latest["title"], buttons[0]["reply"]["title"]);
    tap("m6", "button_reply", &latest);
    assert_eq!(told(&provider.nth(8)).2, "Sent. Thank you!");
    assert_eq!(server.state("meta:PN1:331"), json!("completed"));
}

#[test]
fn an_album_of_four_photos_in_four_webhooks_at_once_is_four_attachments_of_one_session() {
    let (provider, server) = with_meta();
    meta::say(&server, "331", "m1", "update");
    meta::say(&server, "331", "m2", "T1");
    std::thread::scope(|scope| {
        for n in 1..=4 {
            let server = &server;
            scope.spawn(move || {
                let photo = meta::image("331", &format!("p{n}"), &format!("media-{n}"));
                meta::take(server, &meta::webhook(vec![meta::messages("PN1", vec![photo])]));
            });
        }
    });
    provider.wait(6);
    let session = server.session("progress_update", "meta:PN1:331");
    let mut photos = session["context"]["photos"].as_array().unwrap().clone();
    photos.sort_by_key(Value::to_string);
    let expected = [1, 2, 3, 4].map(|n| json!(format!("whatsapp-media:media-{n}")));
    assert_eq!(photos, expected);
    assert_eq!(session["state"], json!("collecting_data"));
    assert_eq!(session.get("looping"), None);
    let last = &texts(&provider, "331")[5];
    assert!(last.contains("4 photo(s)"), "replies in the order of what they answer: {last}");
}

#[test]
fn what_time_says_goes_out_by_the_channel_on_which_somebody_was_last_heard() {
    let (provider, server) = with_meta();
    meta::say(&server, "331", "m1", "update");
    provider.wait(1);
    server.rest();
    server.advance("1h59m59s");
    assert_eq!(provider.count(), 1);
    server.advance("1s");
    let (path, to, text) = told(&provider.nth(2));
    assert_eq!((&*path, &*to), ("/v23.0/PN1/messages", "331"));
    assert!(text.starts_with("Your update was closed"), "{text}");
    assert_eq!(server.state("meta:PN1:331"), json!("abandoned"));
    // So does what a host does to the session.
    meta::say(&server, "331", "m2", "update");
    provider.wait(3);
    let session = server.session("progress_update", "meta:PN1:331");
    let path = format!("/v1/instances/{}/events", session["id"].as_str().unwrap());
    server.post_with(&path, &json!({ "event": "explicit_cancel", "key": "e1" }).to_string(), &ACME);
    let answer = server.post_with(&path, &json!({ "event": "cancel", "key": "e2" }).to_string(), &ACME);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(told(&provider.nth(4)), (path_of("PN1"), "331".into(), "Cancelled. Nothing was sent.".into()));
}

fn path_of(account: &str) -> String {
    format!("/v23.0/{account}/messages")
}

// --- Whose it is -----------------------------------------------------------------------------------------------------

#[test]
fn two_tenants_with_the_same_person_number_and_machine_stay_apart_by_their_secrets() {
    let (ours, theirs) = (Provider::meta(), Provider::meta());
    let beta = meta_channel(&theirs.url(), "").replace("acme", "beta").replace("app-secret", "beta-secret");
    let beta = beta.replace("\"access\"", "\"beta-access\"").replace("let-me-in", "beta-lets-in");
    let server = Connected::with(&(meta_channel(&ours.url(), "") + &beta));
    let said =
        |id: &str, text: &str| meta::webhook(vec![meta::messages("PN1", vec![meta::text("331", id, text)])]);
    assert_eq!(meta::send_as("app-secret", &server, &said("m1", "update")).status, 200);
    // The same id even: each provider account counts its own.
    assert_eq!(meta::send_as("beta-secret", &server, &said("m1", "hello")).status, 200);
    assert_eq!(ours.nth(1).header("authorization"), "Bearer access");
    assert_eq!(theirs.nth(1).header("authorization"), "Bearer beta-access");
    let path = "/v1/machines/progress_update/sessions/meta:PN1:331";
    assert_eq!(server.get_with(path, &ACME).json()["state"], json!("task_selection"));
    let beta = [("x-tenant", "beta")];
    assert_eq!(server.get_with(path, &beta).json()["state"], json!("idle"));
    // A status of the one says nothing of the other's message, though they are called the same.
    let read = meta::webhook(vec![meta::statuses("PN1", &[("wamid.sent.1", "read")])]);
    server.rest();
    assert_eq!(meta::send_as("beta-secret", &server, &read).status, 200);
    let stage = |tenant: &[(&str, &str)]| {
        let session = server.get_with(path, tenant).json();
        let path = format!("/v1/instances/{}/effects", session["id"].as_str().unwrap());
        server.get_with(&path, tenant).json()["data"][0]["stage"].clone()
    };
    assert_eq!((stage(&ACME), stage(&beta)), (Value::Null, json!("read")));
    // Whoever asks for the other's effects finds nothing.
    let session = server.get_with(path, &beta).json();
    let path = format!("/v1/instances/{}/effects", session["id"].as_str().unwrap());
    assert_eq!(server.get_with(&path, &ACME).status, 404);
}

#[test]
fn a_number_with_a_channel_of_its_own_is_answered_by_that_and_one_without_by_none() {
    let (first, second) = (Provider::meta(), Provider::meta());
    let settings =
        meta_channel(&first.url(), "account = \"PN1\"") + &meta_channel(&second.url(), "account = \"PN2\"");
    let server = Connected::with(&settings);
    let said = |account: &str, id: &str| {
        meta::webhook(vec![meta::messages(account, vec![meta::text("331", id, "update")])])
    };
    meta::take(&server, &said("PN2", "m1"));
    second.wait(1);
    meta::take(&server, &said("PN1", "m2"));
    first.wait(1);
    meta::take(&server, &said("PN3", "m3"));
    server.rest();
    assert_eq!((first.count(), second.count()), (1, 1));
    assert_eq!(server.get_with("/v1/machines/progress_update/sessions/meta:PN3:331", &ACME).status, 404);
}

#[test]
fn whom_a_machine_does_not_answer_yet_is_sent_nothing() {
    let (provider, server) = with_meta();
    let set = |rollout: Value| {
        let answer = server.put_with("/v1/machines/progress_update/rollout", &rollout.to_string(), &ACME);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    for (mode, id) in [("off", "m1"), ("shadow", "m2")] {
        set(json!({ "mode": mode }));
        meta::say(&server, "331", id, "update");
        server.advance("3h");
        assert_eq!(provider.count(), 0, "{mode}");
        let found = server.get_with("/v1/machines/progress_update/sessions/meta:PN1:331", &ACME);
        assert_eq!(found.status, 404, "{mode}");
    }
    set(json!({ "mode": "allow_list", "users": ["meta:PN1:331"] }));
    meta::take(
        &server,
        &meta::webhook(vec![meta::messages(
            "PN1",
            vec![meta::text("442", "m3", "update"), meta::text("331", "m4", "update")],
        )]),
    );
    assert_eq!(told(&provider.nth(1)).1, "331");
    // The one that was left alone is not taken up when it is delivered again.
    set(json!({ "mode": "off" }));
    meta::say(&server, "331", "m4", "update");
    server.rest();
    assert_eq!(provider.count(), 1);
}

// --- Twilio ----------------------------------------------------------------------------------------------------------

const TWILIO: &str = "[[channels]]\nkind = \"twilio\"\nmachine = \"progress_update\"\ntenant = \"acme\"\nauth_token = \"token\"\n";
const PERSON: &str = "whatsapp:+33 1";
const SUBJECT: &str = "twilio:whatsapp:+9:whatsapp:+33%201";

#[test]
fn twilio_reads_its_reply_in_the_answer_and_a_number_answers_a_list_of_them() {
    let server = Connected::with(TWILIO);
    let twiml = twilio::say(&server, PERSON, "SM1", "update");
    assert_eq!(twiml, "<Response><Message><Body>Which task is it about?</Body></Message></Response>");
    let menu = twilio::say(&server, PERSON, "SM2", "T<1>");
    assert!(menu.contains("T&lt;1&gt;: what would you like to add?"), "{menu}");
    for line in ["1. Add photos or comments", "2. Finish the update", "3. Switch to another task"] {
        assert!(menu.contains(line), "{menu}");
    }
    let summary = twilio::say(&server, PERSON, "SM3", "2");
    assert!(summary.contains("Shall I send it?"), "{summary}");
    assert_eq!(server.state(SUBJECT), json!("confirmation_pending"));
    // Twilio retries once; it is the same answer, and nothing waits to be sent besides.
    assert_eq!(twilio::say(&server, PERSON, "SM3", "2"), summary);
    assert_eq!(server.session("progress_update", SUBJECT)["revision"], json!(3));
    assert_eq!(server.effects("progress_update", SUBJECT), [] as [Value; 0]);

    let fields = [("MessageSid", "SM4"), ("From", PERSON), ("To", "whatsapp:+9"), ("Body", "yes")];
    let forged = twilio::send(&server, "guess", &fields);
    assert_eq!((forged.status, &forged.json()["code"]), (403, &json!("bad_signature")), "{}", forged.body);
    assert_eq!(server.state(SUBJECT), json!("confirmation_pending"));
    // What time says has no webhook to be the answer to, and without credentials no other way.
    server.advance("2h");
    let effect = &server.effects("progress_update", SUBJECT)[0];
    assert_eq!(effect["status"], json!("unaddressed"), "{effect}");
    assert!(effect["error"].as_str().unwrap().contains("`account_sid`"), "{effect}");
}

#[test]
fn whom_a_machine_does_not_answer_yet_reads_nothing_in_the_answer_to_twilio() {
    let server = Connected::with(TWILIO);
    for (mode, id) in [("shadow", "SM1"), ("off", "SM2"), ("on", "SM3")] {
        let path = "/v1/machines/progress_update/rollout";
        server.put_with(path, &json!({ "mode": mode }).to_string(), &ACME);
        let told = twilio::say(&server, PERSON, id, "update");
        assert_eq!(told.contains("Which task"), mode == "on", "{mode}: {told}");
    }
    // What was answered before is answered the same, whatever was set since.
    server.put_with("/v1/machines/progress_update/rollout", "{\"mode\": \"off\"}", &ACME);
    assert!(twilio::say(&server, PERSON, "SM3", "update").contains("Which task"));
}

#[test]
fn twilio_may_be_answered_by_its_api_and_calls_back_with_what_became_of_it() {
    let provider = Provider::doing(|_, n| Does::Answers(201, json!({ "sid": format!("SMsent{n}") })));
    let api = format!("reply_by = \"api\"\naccount_sid = \"AC1\"\napi_url = \"{}\"\n", provider.url());
    let server = Connected::with(&format!("{TWILIO}{api}"));
    assert_eq!(twilio::say(&server, PERSON, "SM1", "update"), "<Response></Response>");
    let seen = provider.nth(1);
    assert_eq!(seen.path, "/2010-04-01/Accounts/AC1/Messages.json");
    assert_eq!(seen.header("authorization"), "Basic QUMxOnRva2Vu", "AC1:token");
    assert_eq!((seen.field("To"), seen.field("From")), (PERSON.to_owned(), "whatsapp:+9".to_owned()));
    assert_eq!(seen.field("Body"), "Which task is it about?");
    assert_eq!(seen.field("StatusCallback"), format!("{}{}", server.url, twilio::HOOK));
    server.rest();
    for (status, stage) in
        [("sent", "sent"), ("read", "read"), ("delivered", "read"), ("undelivered", "read")]
    {
        let fields =
            [("MessageSid", "SMsent1"), ("MessageStatus", status), ("From", "whatsapp:+9"), ("To", PERSON)];
        let answer = twilio::send(&server, "token", &fields);
        assert_eq!((answer.status, &*answer.body), (200, "<Response></Response>"), "{status}");
        assert_eq!(server.each("stage", SUBJECT), [stage], "after {status}");
    }
    assert_eq!(provider.count(), 1, "a status is no message");
    twilio::say(&server, PERSON, "SM1", "update");
    server.rest();
    assert_eq!(provider.count(), 1, "delivered again");
}

// --- Telegram --------------------------------------------------------------------------------------------------------

#[test]
fn a_telegram_bot_shows_buttons_and_acknowledges_a_press_in_its_answer() {
    let provider =
        Provider::doing(|_, n| Does::Answers(200, json!({ "ok": true, "result": { "message_id": n } })));
    let settings = format!(
        "[[channels]]\nkind = \"telegram\"\ntenant = \"acme\"\naccount = \"our_bot\"\nsecret_token = \"hush\"\nbot_token = \"1:bot\"\napi_url = \"{}/\"\n",
        provider.url()
    );
    let server = Connected::with(&settings);
    let send = |update: &Value| {
        let answer = telegram::send(&server, "hush", update);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    send(&telegram::text(7, 331, "/update@our_bot"));
    let seen = provider.nth(1);
    assert_eq!(seen.path, "/bot1:bot/sendMessage");
    assert_eq!(seen.json(), json!({ "chat_id": 331, "text": "Which task is it about?" }));
    // An update's number is only ever the same or another: a lower one is as new as a higher one.
    send(&telegram::text(5, 331, "T1"));
    let menu = provider.nth(2).json();
    let keyboard = &menu["reply_markup"]["inline_keyboard"];
    assert_eq!(keyboard[1][0]["text"], json!("Finish the update"), "{menu}");
    let acknowledged = send(&telegram::press(8, 331, &keyboard[1][0]["callback_data"]));
    assert_eq!(
        serde_json::from_str::<Value>(&acknowledged).unwrap(),
        json!({ "method": "answerCallbackQuery", "callback_query_id": "query-8" })
    );
    provider.wait(3);
    assert_eq!(server.state("telegram:our_bot:331"), json!("confirmation_pending"));
    // A press of what is not there any more is acknowledged too.
    let acknowledged = send(&telegram::press(9, 331, &json!("p1.nothing")));
    assert!(acknowledged.contains("query-9"), "{acknowledged}");
    assert_eq!(server.state("telegram:our_bot:331"), json!("confirmation_pending"));
    provider.wait(5);

    for secret in ["hus", "hushh", "HUSH", "", "1:bot"] {
        let answer = telegram::send(&server, secret, &telegram::text(10, 331, "yes"));
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("bad_signature")), "{secret}");
    }
    assert_eq!(server.post(telegram::HOOK, &telegram::text(11, 331, "yes").to_string()).status, 403);
    server.rest();
    assert_eq!(provider.count(), 5);
}

// --- Slack -----------------------------------------------------------------------------------------------------------

#[test]
fn a_slack_app_is_verified_heard_once_and_its_buttons_answered() {
    let provider = Provider::doing(|_, n| Does::Answers(200, json!({ "ok": true, "ts": format!("{n}.0") })));
    let settings = format!(
        "[[channels]]\nkind = \"slack\"\ntenant = \"acme\"\nsigning_secret = \"signing\"\nbot_token = \"xoxb\"\napi_url = \"{}\"\n",
        provider.url()
    );
    let server = Connected::with(&settings);
    let challenge = json!({ "type": "url_verification", "challenge": "3eZb", "token": "old" }).to_string();
    let answer = slack::send(&server, 0, &challenge, &[]);
    assert_eq!((answer.status, answer.json()), (200, json!({ "challenge": "3eZb" })));

    assert_eq!(slack::send(&server, 0, &slack::text("Ev1", "update"), &[]).status, 200);
    let seen = provider.nth(1);
    assert_eq!((&*seen.path, seen.header("authorization")), ("/api/chat.postMessage", "Bearer xoxb"));
    assert_eq!(seen.json(), json!({ "channel": "D1", "text": "Which task is it about?" }));
    let retry = [("x-slack-retry-num", "1"), ("x-slack-retry-reason", "http_timeout")];
    assert_eq!(slack::send(&server, 0, &slack::text("Ev1", "update"), &retry).status, 200);
    assert_eq!(slack::send(&server, 0, &slack::text("Ev2", "T1"), &[]).status, 200);
    let menu = provider.nth(2).json();
    let finish = &menu["blocks"][1]["elements"][1];
    assert_eq!(finish["text"]["text"], json!("Finish the update"), "{menu}");

    let press = slack::press("t1", finish);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(slack::send(&server, 301, &press, &form).status, 403, "of more than five minutes ago");
    assert_eq!(slack::send(&server, -302, &press, &form).status, 403, "of the future");
    assert_eq!(slack::send(&server, 0, &press, &form).status, 200);
    provider.wait(3);
    let subject = "slack:T1:D1%2FU1";
    assert_eq!(server.state(subject), json!("confirmation_pending"));
    // Our own messages come back as events.
    let own = slack::text("Ev3", "yes").replace("\"user\":\"U1\"", "\"user\":\"U1\",\"bot_id\":\"B1\"");
    assert_eq!(slack::send(&server, 0, &own, &[]).status, 200);
    assert_eq!(server.state(subject), json!("confirmation_pending"));
    let unsigned = server.post_with(slack::HOOK, &challenge, &[("x-slack-signature", "v0=00")]);
    assert_eq!(unsigned.status, 403, "without a time");
    server.rest();
    assert_eq!(provider.count(), 3);
}
