//! Commands that ask a running server: `send`, `ls`, `explain`; and how all that do ask it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::command::{CommandResult, Failure};
use crate::outgoing::escaped;
use crate::telemetry::fresh_trace_id;

/// Which server, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_URL", default_value = "http://127.0.0.1:7474")]
    server: String,
    /// API key, for a server that wants one
    #[arg(long, value_name = "KEY", env = "STATEWRIGHT_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Certificate in PEM that the server's is signed by, if no public authority has signed it
    #[arg(long, value_name = "FILE", env = "STATEWRIGHT_CA_CERTIFICATE")]
    ca_certificate: Option<PathBuf>,
    /// Tenant, for a server started with `dev`
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The server's JSON as it is
    #[arg(long)]
    pub json: bool,
    /// Whoever asks often keeps a connection open.
    #[arg(skip)]
    agent: OnceLock<ureq::Agent>,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    machine: String,
    subject: String,
    text: String,
    /// The message's id; a repeat of it gets the first answer [default: a fresh one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[arg(long)]
    locale: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[arg(long)]
    machine: Option<String>,
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    subject: Option<String>,
    /// Only those with this somewhere in their subject
    #[arg(long, value_name = "PART")]
    subject_contains: Option<String>,
    /// Only closed ones (true) or only open ones (false)
    #[arg(long)]
    closed: Option<bool>,
    /// Only those with a timer due within, such as 10m
    #[arg(long, value_name = "DELAY")]
    expiring_within: Option<String>,
    /// Only those that nothing will lead on from where they are
    #[arg(long)]
    stuck: bool,
    /// Only those in which a transition repeats itself
    #[arg(long)]
    looping: bool,
    #[arg(long, default_value = "100")]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("input").required(true).args(["event", "text"])))]
pub(crate) struct ExplainArgs {
    id: String,
    /// The event to explain
    #[arg(long)]
    event: Option<String>,
    /// The event's payload, as JSON
    #[arg(long, value_name = "JSON", requires = "event", conflicts_with = "text")]
    payload: Option<String>,
    /// The message to explain
    #[arg(long)]
    text: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

impl ServerArgs {
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let text = self.get_text(path, query)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// All pages of a list.
    pub fn get_all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let (mut all, mut query) = (Vec::new(), Vec::new());
        loop {
            let mut page = self.get(path, &query)?;
            all.append(page["data"].as_array_mut().unwrap_or(&mut Vec::new()));
            let Some(next) = page["next_cursor"].as_str() else { return Ok(all) };
            query = vec![("cursor", next.to_owned())];
        }
    }

    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent()?.delete(format!("{}{path}", self.server.trim_end_matches('/')));
        let text = self.answer(self.identify(request).call())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `get`, with the problem that the server has as a value, for whoever may go on all the same.
    pub fn try_get(&self, path: &str, query: &[(&str, String)]) -> Result<Told, Failure> {
        let text = self.read(self.getting(path, query)?)?;
        Ok(match text {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(problem) => Err(problem),
        })
    }

    /// What is no JSON if all goes well.
    pub fn get_text(&self, path: &str, query: &[(&str, String)]) -> Result<String, Failure> {
        self.answer(self.getting(path, query)?)
    }

    fn getting(&self, path: &str, query: &[(&str, String)]) -> Result<Sent, Failure> {
        let mut request = self.agent()?.get(format!("{}{path}", self.server.trim_end_matches('/')));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        Ok(self.identify(request).call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.try_post(path, body)?.map_err(|problem| self.failed(&problem))
    }

    /// `post`, with the problem that the server has as a value.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<Told, Failure> {
        let request = self.agent()?.post(format!("{}{path}", self.server.trim_end_matches('/')));
        let text = self.read(self.identify(request).send_json(body))?;
        Ok(match text {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(problem) => Err(problem),
        })
    }

    /// `post`, with a body that is no JSON.
    pub fn post_text(&self, path: &str, query: &[(&str, String)], body: &str) -> Result<Value, Failure> {
        let mut request = self.agent()?.post(format!("{}{path}", self.server.trim_end_matches('/')));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        let request = self.identify(request).header("content-type", "application/yaml");
        let text = self.answer(request.send(body))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent()?.put(format!("{}{path}", self.server.trim_end_matches('/')));
        let response = self.identify(request).send_json(body);
        let text = self.answer(response)?;
        Ok(serde_json::from_str(&text)?)
    }

    fn agent(&self) -> Result<&ureq::Agent, Failure> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let mut config = ureq::Agent::config_builder().http_status_as_error(false);
        if let Some(path) = &self.ca_certificate {
            let wrong = |problem: &str| Failure(format!("failed to read {}: {problem}", path.display()));
            let pem = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
            let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(&error.to_string()))?;
            let roots = RootCerts::new_with_certs(&[certificate]);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(self.agent.get_or_init(|| config.build().into()))
    }

    fn identify<B>(&self, mut request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        if let Some(key) = &self.api_key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant", tenant);
        }
        request
    }

    fn answer(&self, sent: Sent) -> Result<String, Failure> {
        self.read(sent)?.map_err(|problem| self.failed(&problem))
    }

    /// What is too long to be held: to be read line by line, as it comes.
    pub fn get_lines(&self, path: &str, query: &[(&str, String)]) -> Result<impl BufRead + use<>, Failure> {
        self.stream(self.getting(path, query)?)
    }

    /// `get_lines`, of bytes, by whoever has this key rather than an API key.
    pub fn get_stream(&self, path: &str, key: Option<&str>) -> Result<impl BufRead + use<>, Failure> {
        let request = self.agent()?.get(format!("{}{path}", self.server.trim_end_matches('/')));
        let request = match key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => self.identify(request),
        };
        self.stream(request.call())
    }

    fn stream(&self, sent: Sent) -> Result<impl BufRead + use<>, Failure> {
        let response = self.reached(sent)?;
        if response.status().is_success() {
            let body = response.into_body().into_with_config().limit(u64::MAX);
            return Ok(BufReader::new(body.reader()));
        }
        Err(match self.read(Ok(response))? {
            Ok(text) => Failure(text),
            Err(problem) => self.failed(&problem),
        })
    }

    fn reached(&self, sent: Sent) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        sent.map_err(|error| {
            Failure(format!(
                "failed to reach {}: {error}; start it with `statewright dev`, or name another with --server",
                self.server
            ))
        })
    }

    /// The answer's text, or the problem document that came in its place.
    fn read(&self, sent: Sent) -> Result<Result<String, Value>, Failure> {
        let mut response = self.reached(sent)?;
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        if response.status().is_success() {
            return Ok(Ok(text));
        }
        Ok(Err(serde_json::from_str(&text)?))
    }

    /// What ends a command that the server has refused.
    pub fn failed(&self, problem: &Value) -> Failure {
        if self.json {
            say!("{problem}");
        }
        Failure(problem_text(problem))
    }
}

/// A problem document, on one line.
pub(super) fn problem_text(problem: &Value) -> String {
    let told = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let allowed = problem["allowed"].as_array().map(|events| words(events)).unwrap_or_default();
    let allowed = if allowed.is_empty() { allowed } else { format!("; allowed: {allowed}") };
    let (detail, code) = (told("detail"), told("code"));
    let hint = match code == "not_found" && detail.starts_with("there is no instance") {
        true => "; `statewright ls --subject NAME` lists those of a person, with their ids",
        false => "",
    };
    format!("{detail} ({code}){allowed}{hint}")
}

/// What came of a request: its answer, or the problem document.
pub(super) type Told = Result<Value, Value>;

type Sent = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// What an answer may have; a page of a thousand instances with large contexts comes near.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) fn words(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// A number of a report; none counts as zero.
pub(super) fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_default()
}

/// A list of a report; none is an empty one.
pub(super) fn list<'v>(report: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    report[name].as_array().into_iter().flatten()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(crate) fn send(args: &SendArgs) -> CommandResult {
    let id = args.id.clone().unwrap_or_else(fresh_trace_id);
    let mut body = json!({"message_id": id, "text": args.text});
    if let Some(locale) = &args.locale {
        body["locale"] = json!(locale);
    }
    let path =
        format!("/v1/machines/{}/sessions/{}/messages", escaped(&args.machine), escaped(&args.subject));
    let answer = args.server.post(&path, &body)?;
    if args.server.json {
        say!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    for reply in answer["reply"].as_array().into_iter().flatten() {
        say!("{}", text(&reply["text"]));
        for (number, option) in reply["options"].as_array().into_iter().flatten().enumerate() {
            say!("  [{}] {}", number + 1, text(&option["label"]));
        }
    }
    say!(
        "({}, {}, {}, revision {})",
        text(&answer["state"]),
        text(&answer["outcome"]),
        text(&answer["why"]["rule"]),
        answer["revision"]
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn ls(args: &LsArgs) -> CommandResult {
    let mut query = vec![("limit", args.limit.to_string())];
    let optional = [
        ("machine", &args.machine),
        ("state", &args.state),
        ("subject", &args.subject),
        ("subject_contains", &args.subject_contains),
        ("expiring_within", &args.expiring_within),
    ];
    query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    let flags = [("stuck", args.stuck), ("looping", args.looping)];
    query.extend(flags.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (name, "true".to_owned())));
    query.extend(args.closed.map(|closed| ("closed", closed.to_string())));
    let list = args.server.get("/v1/instances", &query)?;
    if args.server.json {
        say!("{list}");
        return Ok(ExitCode::SUCCESS);
    }
    let when = if args.expiring_within.is_some() { "DUE" } else { "UPDATED" };
    say!("{:36}  {:20}  {:22}  {:>8}  {when:24}  SUBJECT", "ID", "MACHINE", "STATE", "REVISION");
    for row in list["data"].as_array().into_iter().flatten() {
        let closure = text(&row["closure_reason"]);
        let state = match (closure.as_str(), trouble(row)) {
            ("", None) => text(&row["state"]),
            ("", Some(trouble)) => format!("{} ({trouble})", text(&row["state"])),
            (closure, _) => format!("{} ({closure})", text(&row["state"])),
        };
        say!(
            "{:36}  {:20}  {state:22}  {:>8}  {:24}  {}",
            text(&row["id"]),
            text(&row["machine"]),
            text(&row["revision"]),
            if args.expiring_within.is_some() { next_deadline(row) } else { text(&row["updated_at"]) },
            text(&row["subject"])
        );
    }
    if list["has_more"] == json!(true) {
        say!("… there are more; raise --limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// When the first of its timers is due. As they are written, times are in order.
fn next_deadline(instance: &Value) -> String {
    list(instance, "timers").map(|timer| text(&timer["deadline"])).min().unwrap_or_default()
}

/// What an operator should know of an instance that is open.
pub(super) fn trouble(instance: &Value) -> Option<String> {
    if let Some(count) = instance["looping"]["count"].as_u64() {
        return Some(format!("looping, {count} times"));
    }
    instance["stuck"].as_str().map(|why| format!("stuck: {}", why.replace('_', " ")))
}

pub(crate) fn explain(args: &ExplainArgs) -> CommandResult {
    let body = match (&args.event, &args.text) {
        (Some(event), _) => {
            let payload: Value = match &args.payload {
                Some(payload) => serde_json::from_str(payload)
                    .map_err(|error| Failure(format!("--payload is no JSON: {error}")))?,
                None => json!({}),
            };
            json!({"event": event, "payload": payload})
        }
        (None, text) => json!({"message": {"text": text}}),
    };
    let explanation = args.server.post(&format!("/v1/instances/{}/explain", escaped(&args.id)), &body)?;
    if args.server.json {
        say!("{explanation}");
    } else {
        let instance = args.server.get(&format!("/v1/instances/{}", escaped(&args.id)), &[])?;
        tell_explanation(&explanation, !instance["closure_reason"].is_null());
    }
    let accepted = explanation["accepted"] == json!(true);
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell_explanation(explanation: &Value, closed: bool) {
    let accepted = explanation["accepted"] == json!(true);
    say!("in `{}` it would be {}", text(&explanation["state"]), if accepted { "taken" } else { "refused" });
    let message = &explanation["answer"]["message"];
    if message.is_object() {
        say!("outcome {}, then in `{}`", text(&message["outcome"]), text(&message["state"]));
        for reply in message["reply"].as_array().into_iter().flatten() {
            say!("  {}", text(&reply["text"]));
        }
    }
    if let Some(message) = explanation["refusal"]["message"].as_str() {
        say!("{message}");
    }
    for transition in explanation["considered"].as_array().into_iter().flatten() {
        let mark = if transition["chosen"] == json!(true) { "*" } else { " " };
        say!("{mark} {}", arrow(transition));
        let guard = &transition["guard"];
        if guard.is_object() {
            say!("    guard {} is {} with {}", text(&guard["expression"]), guard["passed"], guard["values"]);
        }
    }
    for step in explanation["answer"]["message"]["why"]["trace"].as_array().into_iter().flatten() {
        let mark = if step["applied"] == json!(true) { "*" } else { " " };
        say!("{mark} {:>3}  {}", text(&step["rule"]), text(&step["because"]));
    }
    let waiting_for = &explanation["waiting_for"];
    say!("takes: {}", takes(waiting_for, closed));
    for timer in waiting_for["timers"].as_array().into_iter().flatten() {
        say!("by itself: {} at {}, in {}", text(&timer["id"]), text(&timer["deadline"]), text(&timer["in"]));
    }
    for call in waiting_for["calls"].as_array().into_iter().flatten() {
        say!("waits for the call {}", call_under_way(call));
    }
}

/// The events that would be taken.
pub(super) fn takes(waiting_for: &Value, closed: bool) -> String {
    match waiting_for["events"].as_array().map(|events| words(events)) {
        Some(events) if !events.is_empty() => events,
        _ if closed => "nothing (closed)".to_owned(),
        _ => "nothing".to_owned(),
    }
}

/// A transition, on one line.
fn arrow(transition: &Value) -> String {
    let state = match text(&transition["state"]) {
        top if top.is_empty() => "(top)".to_owned(),
        state => format!("`{state}`"),
    };
    let targets = transition["target"].as_array().map(|targets| words(targets)).unwrap_or_default();
    let targets = if targets.is_empty() { "(stays)" } else { &targets };
    format!("{state} --{}--> {targets}", text(&transition["event"]))
}

/// A call that has been made and has not come back: the key is what its result is brought under.
pub(super) fn call_under_way(call: &Value) -> String {
    let input = if call["input"].is_null() { json!({}) } else { call["input"].clone() };
    format!("{} of {}, key {}, input {input}", text(&call["id"]), text(&call["src"]), text(&call["key"]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[test]
    fn what_has_no_name_is_told_all_the_same() {
        for (transition, expected) in [
            (json!({"state": "", "event": "go", "target": ["a.b", "c"]}), "(top) --go--> a.b, c"),
            (json!({"state": "a", "event": "go", "target": []}), "`a` --go--> (stays)"),
        ] {
            assert_eq!(arrow(&transition), expected);
        }
        let open = json!({"events": ["go", "stop"]});
        for (waiting_for, closed, expected) in [
            (&open, false, "go, stop"),
            (&json!({"events": []}), false, "nothing"),
            (&json!({"events": []}), true, "nothing (closed)"),
            (&Value::Null, true, "nothing (closed)"),
        ] {
            assert_eq!(takes(waiting_for, closed), expected);
        }
        let call = json!({"id": "pay", "src": "bank", "key": "i:1:0", "input": {"sum": 5}});
        assert_eq!(call_under_way(&call), r#"pay of bank, key i:1:0, input {"sum":5}"#);
    }

    #[test]
    fn whoever_names_nothing_to_explain_is_told_both_ways() {
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            explain: ExplainArgs,
        }
        let told = Line::try_parse_from(["explain", "tiles"]).unwrap_err().to_string();
        assert!(told.contains("--event") && told.contains("--text"), "{told}");
        assert!(Line::try_parse_from(["explain", "tiles", "--event", "a", "--text", "b"]).is_err());
        assert!(Line::try_parse_from(["explain", "tiles", "--text", "b", "--payload", "{}"]).is_err());
        let line = Line::try_parse_from(["explain", "tiles", "--event", "a", "--payload", "{}"]).unwrap();
        assert_eq!(line.explain.event.as_deref(), Some("a"));
    }
}
