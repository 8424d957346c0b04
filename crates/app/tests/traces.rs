//! Traces, as a collector of OpenTelemetry gets them from a running server.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::Path;

use harness::Server;
use harness::outside::{ACME, Connected, calls, webhook};
use harness::provider::{Does, Provider, deserted_port, until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const ANN: &str = "/v1/machines/progress_update/sessions/ann/messages";

/// What the collector was told so far.
fn exports(collector: &Provider) -> Vec<ExportTraceServiceRequest> {
    let all = collector.wait(1);
    all.iter()
        .map(|seen| {
            assert_eq!(seen.path, "/v1/traces");
            assert_eq!(seen.header("content-type"), "application/x-protobuf");
            ExportTraceServiceRequest::decode(&seen.bytes[..]).unwrap()
        })
        .collect()
}

fn spans(collector: &Provider) -> Vec<Span> {
    let of = |export: ExportTraceServiceRequest| {
        let resources = export.resource_spans.into_iter();
        resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect::<Vec<_>>()
    };
    exports(collector).into_iter().flat_map(of).collect()
}

/// All spans, once one of this name has come.
fn spans_with(collector: &Provider, name: &str) -> Vec<Span> {
    let mut told = 1;
    loop {
        let spans = spans(collector);
        if spans.iter().any(|span| span.name == name) {
            return spans;
        }
        told = collector.wait(told + 1).len();
    }
}

fn said(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        Any::DoubleValue(number) => number.to_string(),
        Any::BoolValue(is) => is.to_string(),
        other => panic!("{other:?}"),
    })
}

fn of<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each span under its parent, the outermost first: `a > b > c`.
fn tree(spans: &[Span]) -> BTreeSet<String> {
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (&span.span_id[..], span)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids are unique");
    let path = |span: &Span| {
        let mut path = vec![span.name.clone()];
        let mut above = by_id.get(&span.parent_span_id[..]);
        while let Some(span) = above {
            path.insert(0, span.name.clone());
            above = by_id.get(&span.parent_span_id[..]);
        }
        path.join(" > ")
    };
    spans.iter().map(path).collect()
}

/// Where spans go, and how many.
fn traces(collector: &Provider, more: &str) -> String {
    format!("[traces]\nendpoint = \"{}\"\n{more}\n", collector.url())
}

fn post(server: &Server, id: &str, flags: &str) -> harness::Answer {
    let body = json!({ "message_id": id, "text": "my secret diary: update" }).to_string();
    let traceparent = format!("00-{TRACE}-{CALLER}-{flags}");
    server.post_with(ANN, &body, &[ACME[0], ("traceparent", &traceparent)])
}

#[test]
fn a_message_is_followed_from_its_request_to_its_delivery() {
    let (collector, receiver) = (Provider::content(), Provider::content());
    let settings = webhook(&format!("{}/hook", receiver.url()), "") + &traces(&collector, "");
    let server = Connected::with(&settings);
    let body = json!({ "message_id": "m1", "text": "update" }).to_string();
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    server.post_with(ANN, &body, &[ACME[0], ("traceparent", &traceparent)]);
    let spans = spans_with(&collector, "deliver");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");

    let request = "POST /v1/machines/{machine}/sessions/{subject}/messages";
    let under = |path: &str| format!("{request}{path}");
    let expected = [
        "",
        " > message",
        " > message > queue",
        " > message > load",
        " > message > route",
        " > message > decide",
        " > message > batch",
        " > message > commit",
        " > message > commit > deliver",
    ];
    assert_eq!(tree(&spans), expected.map(under).into_iter().collect());
    let span = of(&spans, request);
    assert_eq!(hex(&span.parent_span_id), CALLER);
    assert_eq!(said(&span.attributes, "http.response.status_code").as_deref(), Some("200"));

    let session = server.session("progress_update", "ann");
    let instance = session["id"].as_str().unwrap();
    for (name, key, value) in [
        ("message", "statewright.tenant", "acme"),
        ("message", "statewright.machine", "progress_update"),
        ("message", "statewright.instance", instance),
        ("message", "statewright.key", "m1"),
        ("message", "statewright.revision", "1"),
        ("message", "statewright.outcome", "dispatched"),
        ("message", "statewright.state", "task_selection"),
        ("route", "statewright.route.intent", "progress_update"),
        ("decide", "statewright.event", "start_update"),
        ("decide", "statewright.state.from", "idle"),
        ("decide", "statewright.state.to", "task_selection"),
        ("commit", "statewright.batch.commits", "1"),
        ("deliver", "statewright.result", "delivered"),
        ("deliver", "statewright.attempt", "1"),
    ] {
        assert_eq!(said(&of(&spans, name).attributes, key).as_deref(), Some(value), "{name}: {key}");
    }
    // Stage by stage, without a gap.
    let stages = ["queue", "load", "route", "decide", "batch", "commit"].map(|name| of(&spans, name));
    for pair in stages.windows(2) {
        assert_eq!(pair[0].end_time_unix_nano, pair[1].start_time_unix_nano, "{pair:?}");
    }
    let whole = of(&spans, "message");
    assert_eq!(whole.start_time_unix_nano, stages[0].start_time_unix_nano);
    assert!(whole.end_time_unix_nano >= stages[5].end_time_unix_nano);
    // The receiver's own spans belong to the attempt.
    let told = receiver.nth(1).header("traceparent").to_owned();
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&of(&spans, "deliver").span_id)));
}

#[test]
fn what_is_said_and_by_whom_is_in_no_span() {
    let collector = Provider::content();
    let server = Connected::with(&traces(&collector, ""));
    post(&server, "m1", "01");
    let spans = spans_with(&collector, "commit");
    for secret in ["ann", "diary"] {
        let words = format!("{spans:?}");
        let is_in = words.split(|c: char| !c.is_alphanumeric()).any(|word| word == secret);
        assert!(!is_in, "{secret} is in {words}");
    }
}

#[test]
fn nothing_is_recorded_of_a_trace_that_its_caller_does_not_record() {
    let (collector, receiver) = (Provider::content(), Provider::content());
    let settings = webhook(&format!("{}/hook", receiver.url()), "") + &traces(&collector, "");
    let server = Connected::with(&settings);
    let answer = post(&server, "m1", "00");
    assert_eq!(answer.status, 200);
    // Its receivers hear that too, and the id leads from one to the other all the same.
    let told = receiver.nth(1).header("traceparent").to_owned();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    server.get_with("/v1/instances", &ACME);
    let spans = spans_with(&collector, "GET /v1/instances");
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:?}");
    let id = server.session("progress_update", "ann")["id"].as_str().unwrap().to_owned();
    let history = server.told(&format!("/v1/instances/{id}/history"));
    assert_eq!(history["data"][0]["trace_id"], json!(TRACE));
}

#[test]
fn of_what_begins_here_a_share_is_recorded_and_of_the_rest_nothing() {
    let collector = Provider::content();
    let server = Connected::with(&traces(&collector, "ratio = 0"));
    server.say_to("progress_update", "ben", "m1", "update");
    post(&server, "m2", "01");
    let spans = spans_with(&collector, "commit");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "whoever began it has decided: {spans:?}");
}

#[test]
fn the_result_of_a_call_is_part_of_the_trace_that_led_to_it() {
    let collector = Provider::content();
    let callee = Provider::doing(|_, _| Does::Answers(200, json!({ "name": "Ann" })));
    let server = Connected::with(&(calls("members.*", &callee.url(), "") + &traces(&collector, "")));
    server.say_to("banking_menu", "ann", "m1", "1");
    let spans = spans_with(&collector, "result");
    let under = " > message > commit > deliver > result > commit";
    let tree = tree(&spans);
    assert!(tree.iter().any(|path| path.ends_with(under)), "{tree:?}");
    assert_eq!(
        said(&of(&spans, "result").attributes, "statewright.machine").as_deref(),
        Some("banking_menu")
    );
}

#[test]
fn a_recogniser_that_is_asked_is_part_of_the_trace() {
    let collector = Provider::content();
    let rasa = Provider::doing(|_, _| {
        let intent = json!({ "name": "progress_update", "confidence": 0.9 });
        Does::Answers(200, json!({ "intent": intent, "intent_ranking": [intent], "entities": [] }))
    });
    let recogniser = format!("[[recognisers]]\nkind = \"rasa\"\nurl = \"{}\"\n", rasa.url());
    let server = Connected::with(&(recogniser + &traces(&collector, "")));
    server.say_to("progress_update", "ann", "m1", "I would like to tell how far I have come");
    let spans = spans_with(&collector, "commit");
    let asked = of(&spans, "recognise");
    assert_eq!(asked.parent_span_id, of(&spans, "message").parent_span_id, "both are the request's");
    for (key, value) in [("statewright.recogniser", "rasa"), ("statewright.recogniser.outcome", "ok")] {
        assert_eq!(said(&asked.attributes, key).as_deref(), Some(value));
    }
}

#[test]
fn a_refusal_is_no_error_and_says_its_code() {
    let collector = Provider::content();
    let server = Connected::with(&traces(&collector, ""));
    let created =
        json!({ "machine": "progress_update", "id": "d1", "subject": "zoe", "key": "k1" }).to_string();
    assert_eq!(server.post_with("/v1/instances", &created, &ACME).status, 201);
    let event = json!({ "event": "confirm", "key": "k2" }).to_string();
    assert_eq!(server.post_with("/v1/instances/d1/events", &event, &ACME).status, 409);
    let spans = spans_with(&collector, "event");
    let refused = of(&spans, "event");
    assert_eq!(said(&refused.attributes, "statewright.code").as_deref(), Some("invalid_transition"));
    assert!(refused.status.as_ref().is_none_or(|status| status.code == 0), "{refused:?}");
}

#[test]
fn the_environment_of_opentelemetry_says_where_spans_go_and_who_sends_them() {
    let collector = Provider::content();
    let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
    let server = Server::start(
        &["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", machines],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc"),
            ("OTEL_SERVICE_NAME", "bot"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ],
    );
    post(&server, "m1", "01");
    spans_with(&collector, "commit");
    let resource = exports(&collector)[0].resource_spans[0].resource.clone().unwrap();
    for (key, value) in [("service.name", "bot"), ("deployment.environment.name", "test")] {
        assert_eq!(said(&resource.attributes, key).as_deref(), Some(value));
    }
    assert!(said(&resource.attributes, "service.version").is_some());
    assert_eq!(collector.nth(1).header("x-token"), "abc");
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let settings = format!("[traces]\nendpoint = \"http://127.0.0.1:{}\"\n", deserted_port());
    let server = Connected::with(&settings);
    assert_eq!(post(&server, "m1", "01").status, 200);
    let failed = "statewright_trace_spans_total{outcome=\"failed\"}";
    until(|| server.get("/metrics").body.contains(failed));
    assert_eq!(post(&server, "m2", "01").status, 200);
    assert!(server.terminate(), "nor does it keep the server from ending");
}

#[test]
fn what_is_noted_at_the_end_is_exported_before_the_server_has_ended() {
    let collector = Provider::content();
    let server = Connected::with(&traces(&collector, ""));
    // The first batch is on its way for as long as the test wants it to be, and the second waits behind it.
    collector.next([Does::Waits(json!({}))]);
    post(&server, "m1", "01");
    collector.wait(1);
    post(&server, "m2", "01");
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let ended = std::thread::spawn(move || server.terminate());
    until(|| TcpStream::connect(&address).is_err());
    collector.let_go();
    assert!(ended.join().unwrap());
    assert_eq!(collector.count(), 2);
}

#[test]
fn a_collector_that_says_nothing_keeps_no_server_from_ending() {
    let collector = Provider::doing(|_, _| Does::Hangs);
    let server = Connected::with(&traces(&collector, ""));
    post(&server, "m1", "01");
    collector.wait(1);
    post(&server, "m2", "01");
    assert!(server.terminate());
    assert_eq!(collector.count(), 1, "what it was not asked to take is lost");
}

#[test]
fn settings_of_traces_that_make_no_sense_are_told() {
    for (settings, told) in [
        ("[traces]\nendpoint = \"collector:4317\"", "[traces]: `endpoint` is `collector:4317`"),
        ("[traces]\nratio = 2", "[traces]: `ratio` is 2; it may be 0 to 1"),
        ("[traces]\nendpiont = \"http://a\"", "line 2: unknown field `endpiont`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("statewright.toml");
        std::fs::write(&config, settings).unwrap();
        let error = refused(&config);
        assert!(error.contains(told), "{error}");
    }
}

fn refused(config: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
