//! Table: every address with its method, its meaning and its shapes, and every code of a problem, written out as
//! OpenAPI 3.1.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::access::Scope;
use crate::http::request;

/// What a key has to open. Whoever has no key may ask for `ANYBODY`'s, and those routes say in their handlers by what
/// else they know who asks, if they need to.
const METRICS: Option<Scope> = Some(Scope::Metrics);
const READ: Option<Scope> = Some(Scope::Read);
const WRITE: Option<Scope> = Some(Scope::Write);
const OPERATE: Option<Scope> = Some(Scope::Operate);
const ADMIN: Option<Scope> = Some(Scope::Admin);
const ANYBODY: Option<Scope> = None;

/// Pages for people: method, path, and what a key has to open. They are not in the document.
const PAGES: [(&str, &str, Option<Scope>); 15] = [
    ("get", "/", READ),
    ("get", "/instances", READ),
    ("get", "/instances/{id}", READ),
    ("get", "/instances/{id}/deliveries", READ),
    ("get", "/flows", READ),
    ("get", "/flows/{id}", READ),
    ("get", "/machines", READ),
    ("get", "/machines/{name}", READ),
    ("get", "/machines/{name}/simulator", READ),
    // It is played beside the store: nothing comes of it.
    ("post", "/machines/{name}/simulator", READ),
    ("get", "/inbox", READ),
    ("get", "/sign-in", ANYBODY),
    ("post", "/sign-in", ANYBODY),
    ("post", "/sign-out", ANYBODY),
    ("get", "/assets/{name}", ANYBODY),
];

/// Method, path, what a key has to open for it, summary, and the schema of the body by name (empty for none).
const ROUTES: [(&str, &str, Option<Scope>, &str, &str); 71] = [
    (
        "post",
        "/v1/machines/{machine}/sessions/{subject}/messages",
        WRITE,
        "Send a person's message; answers what became of it and why",
        "Message",
    ),
    (
        "get",
        "/v1/machines/{machine}/sessions/{subject}",
        READ,
        "The active session of a subject, else the last",
        "",
    ),
    ("post", "/v1/instances", WRITE, "Create an instance", "Create"),
    (
        "get",
        "/v1/instances",
        READ,
        "List instances: machine, state, subject, subject_contains, closed, stuck, looping, expiring_within, cursor, limit",
        "",
    ),
    (
        "post",
        "/v1/imports",
        OPERATE,
        "Bring in up to 1000 sessions of another system as they stood there. With dry_run, say what would become of each",
        "Import",
    ),
    (
        "post",
        "/v1/imports/undo",
        OPERATE,
        "Withdraw what nothing but time has touched since it was brought in. With dry_run, say how much that is",
        "UndoImport",
    ),
    (
        "get",
        "/v1/instances/{id}",
        READ,
        "One instance, with its revision as ETag; with revision, as it was then",
        "",
    ),
    (
        "get",
        "/v1/instances/{id}/diagram.svg",
        READ,
        "The machine of an instance as SVG, with where it is and the way it came; of a flow, with its phases",
        "",
    ),
    (
        "get",
        "/v1/instances/{id}/replay",
        READ,
        "Whether its log, decided on again, comes out as it was stored",
        "",
    ),
    (
        "get",
        "/v1/replay",
        READ,
        "Whether the logs of all instances do: machine, cursor, limit. Changes nothing",
        "",
    ),
    (
        "post",
        "/v1/instances/{id}/events",
        WRITE,
        "Send an event; If-Match names the expected revision",
        "Event",
    ),
    (
        "post",
        "/v1/instances/{id}/calls/{call}",
        WRITE,
        "Bring the result of a call, or its error, by the key of the call's effect",
        "CallAnswer",
    ),
    ("get", "/v1/instances/{id}/history", READ, "Every transition, refused ones too, oldest first", ""),
    (
        "get",
        "/v1/instances/{id}/story",
        READ,
        "What happened, as a story file (YAML); machine names its definition",
        "",
    ),
    (
        "post",
        "/v1/instances/{id}/explain",
        READ,
        "What an event or a message would do and why; changes nothing",
        "Explain",
    ),
    (
        "get",
        "/v1/export/{table}",
        READ,
        "Rows for analysis, one line of JSON each: sessions, flows, transitions, clarifications or phases; machine, since, until",
        "",
    ),
    (
        "get",
        "/v1/backup",
        ANYBODY,
        "All of the store, of every tenant, as one archive, for whoever has the backup key",
        "",
    ),
    (
        "get",
        "/v1/stream",
        READ,
        "Transitions of the tenant as server-sent events, as they land here: after, recent, machine, instance, follow, changes",
        "",
    ),
    ("post", "/v1/instances/{id}/recover", OPERATE, "Put the instance into its safe state", "Recover"),
    ("post", "/v1/flows", WRITE, "Begin a flow", "CreateFlow"),
    (
        "get",
        "/v1/flows",
        READ,
        "List flows: flow, status, phase, phase_state, min_retries, cursor, limit",
        "",
    ),
    ("get", "/v1/flows/{id}", READ, "A flow in one piece: status, progress, phases, what can be done", ""),
    ("get", "/v1/flows/{id}/recovery-options", READ, "What can be done now", ""),
    (
        "get",
        "/v1/flows/{id}/history",
        READ,
        "Who did what to a flow, when, why, and what came of it, oldest first",
        "",
    ),
    (
        "post",
        "/v1/flows/{id}/phases/{phase}/{action}",
        WRITE,
        "Do something to a phase: start, progress, heartbeat, submit, validate, approve, reject, complete, fail, retry or rollback. With dry_run=true nothing is saved",
        "PhaseAction",
    ),
    (
        "post",
        "/v1/flows/{id}/{control}",
        WRITE,
        "pause, resume or cancel a flow. With dry_run=true nothing is saved",
        "FlowAction",
    ),
    (
        "get",
        "/v1/phases",
        READ,
        "Phases of all flows: flow, phase, state, error, min_attempts, min_retries, older_than, cursor, limit",
        "",
    ),
    (
        "post",
        "/v1/work/claim",
        WRITE,
        "Give a worker a phase under a lease; 204 when there is nothing to do",
        "Claim",
    ),
    ("get", "/v1/clarifications", READ, "List clarifications by status", ""),
    ("post", "/v1/clarifications/{id}/answer", OPERATE, "Answer a clarification by an option's id", "Answer"),
    ("get", "/v1/machines", READ, "The current machines", ""),
    (
        "post",
        "/v1/machines/check",
        READ,
        "Check a definition (YAML or JSON); answers every diagnostic",
        "Definition",
    ),
    ("get", "/v1/machines/{name}", READ, "One machine with its source", ""),
    ("put", "/v1/machines/{name}", ADMIN, "Activate a definition (YAML or JSON)", "Definition"),
    ("get", "/v1/machines/{name}/versions", READ, "Every known version of a machine", ""),
    ("get", "/v1/machines/{name}/diagram.svg", READ, "A machine as SVG; version", ""),
    (
        "get",
        "/v1/machines/{name}/diff",
        READ,
        "What changed between two versions (from, to), and how many open instances run by the earlier one",
        "",
    ),
    (
        "post",
        "/v1/machines/{name}/diff",
        READ,
        "What a definition (YAML or JSON) changes in the current one, or in from; as the earlier one with to. Changes nothing",
        "Definition",
    ),
    (
        "post",
        "/v1/machines/{name}/migrate",
        OPERATE,
        "Take open instances to another version, the current one if to_version is absent. With dry_run, say what would become of them",
        "Migrate",
    ),
    ("get", "/v1/machines/{name}/overlay", READ, "What the caller's tenant has made of a machine", ""),
    (
        "put",
        "/v1/machines/{name}/overlay",
        ADMIN,
        "Customise a machine for the caller's tenant (YAML or JSON, beginning with overlay: NAME)",
        "Definition",
    ),
    ("delete", "/v1/machines/{name}/overlay", ADMIN, "Go back to the machine that all have", ""),
    (
        "post",
        "/v1/machines/{name}/reroute",
        READ,
        "What changed settings or a changed definition would have made of stored messages; changes nothing",
        "Reroute",
    ),
    (
        "get",
        "/v1/machines/{machine}/rollout",
        READ,
        "Whom the machine answers; with subject, how that person is treated and why",
        "",
    ),
    (
        "put",
        "/v1/machines/{machine}/rollout",
        OPERATE,
        "Set whom the machine answers, from the next message on; what is not named stays",
        "Rollout",
    ),
    (
        "get",
        "/v1/machines/{machine}/shadow",
        READ,
        "What would have happened, session by session: subject, cursor, limit",
        "",
    ),
    (
        "post",
        "/v1/machines/{machine}/shadow",
        READ,
        "What a version or a definition would have made of the stored history, the current one if none is named. Changes nothing",
        "Shadow",
    ),
    (
        "get",
        "/v1/machines/{machine}/shadow/summary",
        READ,
        "How many messages would have come to what: subject",
        "",
    ),
    (
        "post",
        "/v1/receipts/{key}/begin",
        WRITE,
        "Begin a piece of work once: a claim, or the response of whoever did it",
        "BeginReceipt",
    ),
    ("post", "/v1/receipts/{key}/complete", WRITE, "Keep the response of a piece of work", "CompleteReceipt"),
    ("post", "/v1/receipts/{key}/abandon", WRITE, "Give a claim up", "AbandonReceipt"),
    (
        "post",
        "/v1/channels/{kind}/{machine}",
        ANYBODY,
        "A provider's webhook: twilio (answers TwiML), meta, telegram or slack",
        "Twilio",
    ),
    ("get", "/v1/channels/{kind}/{machine}", ANYBODY, "Meta's question whether the address is ours", ""),
    (
        "get",
        "/v1/instances/{id}/effects",
        READ,
        "What had to be delivered, and what became of it; status",
        "",
    ),
    (
        "get",
        "/v1/dead-letters",
        READ,
        "What could not be delivered, or may have been; status, cursor, limit. Of what waits behind another, due_at may lie in the past",
        "",
    ),
    ("post", "/v1/dead-letters/{id}/retry", OPERATE, "Try to deliver one again", ""),
    ("post", "/v1/recovery", OPERATE, "Fire all that is due and say what that was", ""),
    ("post", "/v1/clean-up", OPERATE, "Delete what is older than the retention, now", ""),
    ("post", "/v1/clock/advance", OPERATE, "Move the virtual clock (`dev --clock virtual`)", "Advance"),
    ("get", "/v1/info", READ, "What this server is, and what its acknowledgement is worth", ""),
    (
        "get",
        "/v1/health",
        READ,
        "Try out the store: a question, a round trip, a decision that comes too late",
        "",
    ),
    ("get", "/livez", ANYBODY, "The process runs", ""),
    (
        "get",
        "/readyz",
        ANYBODY,
        "New work may be sent here; with verbose, for whoever may ask for /metrics, how everything stands",
        "",
    ),
    (
        "get",
        "/v1/api-keys",
        ADMIN,
        "The API keys of the caller's tenant, without what opens: cursor, limit",
        "",
    ),
    ("post", "/v1/api-keys", ADMIN, "Make an API key; it is told this once", "CreateApiKey"),
    (
        "post",
        "/v1/api-keys/{id}/rotate",
        ADMIN,
        "Make an API key in the place of another, which goes on for the overlap (24h)",
        "RotateApiKey",
    ),
    ("delete", "/v1/api-keys/{id}", ADMIN, "Revoke an API key", ""),
    ("get", "/v1/keys", ADMIN, "The keys that the caller's secrets are encrypted with", ""),
    (
        "post",
        "/v1/keys/rotate",
        ADMIN,
        "Wrap all data keys by the first key of the settings; with data, make the caller a new one",
        "RotateKeys",
    ),
    ("get", "/metrics", METRICS, "Figures as OpenMetrics text", ""),
    ("get", "/openapi.json", ANYBODY, "This document", ""),
];

/// Every code that a problem may have, with its status.
const CODES: [(&str, u16); 70] = [
    ("malformed_body", 400),
    ("unreadable_body", 400),
    ("bad_header", 400),
    ("missing_key", 400),
    ("bad_key", 400),
    ("bad_identifier", 400),
    ("bad_if_match", 400),
    ("bad_query", 400),
    ("unknown_state", 400),
    ("wrong_machine", 400),
    ("no_subject", 400),
    ("bad_webhook", 400),
    ("unauthorized", 401),
    ("bad_signature", 403),
    ("bad_verify_token", 403),
    ("clock_not_virtual", 403),
    ("permission_denied", 403),
    ("no_backup_key", 403),
    ("insufficient_scope", 403),
    ("own_machine", 403),
    ("cross_origin", 403),
    ("unknown_host", 403),
    ("not_found", 404),
    ("unknown_machine", 404),
    ("no_such_route", 404),
    ("wrong_method", 405),
    ("body_timeout", 408),
    ("invalid_transition", 409),
    ("guard_rejected", 409),
    ("invariant_violated", 409),
    ("call_over", 409),
    ("clarification_closed", 409),
    ("instance_exists", 409),
    ("history_incomplete", 409),
    ("definition_missing", 409),
    ("still_running", 409),
    ("receipt_running", 409),
    ("not_retryable", 409),
    ("claim_lost", 409),
    ("needs_missing", 409),
    ("not_applicable", 409),
    ("flow_paused", 409),
    ("retry_limit", 409),
    ("expired", 409),
    ("lease_lost", 409),
    ("not_migratable", 409),
    ("unmapped_states", 409),
    ("key_over", 409),
    ("instance_closed", 410),
    ("stale_revision", 412),
    ("body_too_large", 413),
    ("record_too_large", 413),
    ("unknown_event", 422),
    ("invalid_context", 422),
    ("key_reused", 422),
    ("expression_failed", 422),
    ("step_limit", 422),
    ("not_a_conversation", 422),
    ("malformed_request", 422),
    ("bad_definition", 422),
    ("bad_setting", 422),
    ("rate_limited", 429),
    ("corrupt_record", 500),
    ("internal", 500),
    ("overloaded", 503),
    ("stopping", 503),
    ("unavailable", 503),
    ("too_many_streams", 503),
    ("no_encryption_key", 409),
    ("disk_full", 507),
];

pub async fn document() -> Response {
    request::json(200, &build(), None)
}

/// What the key of a caller has to open for a route. What the tables do not know, nobody but an admin may do.
pub fn needed(method: &Method, path: &str) -> Scope {
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    let is_asked = |known: &str, at: &str| at == path && known.eq_ignore_ascii_case(asked.as_str());
    let route = ROUTES.iter().find(|(known, at, ..)| is_asked(known, at)).map(|(.., needed, _, _)| *needed);
    let page = || PAGES.iter().find(|(known, at, _)| is_asked(known, at)).map(|(.., needed)| *needed);
    match route.or_else(page) {
        // Of what anybody may ask for, something may be for callers alone: how a server is.
        Some(needed) => needed.unwrap_or(Scope::Metrics),
        None => Scope::Admin,
    }
}

/// The route of the API that a request takes, by the router's choice: what is written out goes before a parameter.
pub fn route_of(method: &Method, path: &str) -> Option<&'static str> {
    let asked = if method == Method::HEAD { "GET" } else { method.as_str() };
    let is_parameter = |part: &&str| part.starts_with('{');
    let fits = |route: &str| {
        let mut parts = route.split('/').zip(path.split('/'));
        route.split('/').count() == path.split('/').count()
            && parts.all(|(part, said)| is_parameter(&part) || part == said)
    };
    let routes = ROUTES.iter().filter(|(known, route, ..)| known.eq_ignore_ascii_case(asked) && fits(route));
    let of_api = routes.map(|(_, route, ..)| *route).filter(|route| route.starts_with("/v1/"));
    of_api.min_by_key(|route| route.split('/').filter(is_parameter).count())
}

fn build() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, needed, summary, body) in ROUTES {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        let problem = json!({"description": "A problem", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}});
        let mut operation = json!({
            "summary": summary,
            "parameters": parameters,
            "responses": {"200": {"description": "Done"}, "default": problem},
            // Of a scheme that is no OAuth 2, the list has the roles that are needed.
            "security": needed.map_or_else(Vec::new, |scope| vec![json!({"key": [scope]}), json!({"session": [scope]})]),
        });
        let kind = match body {
            "" => None,
            "Definition" => Some("application/yaml"),
            "Twilio" => Some("application/x-www-form-urlencoded"),
            _ => Some("application/json"),
        };
        if let Some(kind) = kind {
            let schema = json!({"$ref": format!("#/components/schemas/{body}")});
            operation["requestBody"] = json!({"required": true, "content": {kind: {"schema": schema}}});
        }
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Statewright", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "MIT OR Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas(), "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT of an issuer that the server knows"},
            "session": {"type": "apiKey", "in": "cookie", "name": "statewright_session", "description": "Of somebody who has signed in at /sign-in"},
        }},
    })
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let fields = json!({"type": "object", "additionalProperties": true});
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    let media = object(&["url"], json!({"url": text, "type": text}));
    let candidate = object(
        &["intent", "confidence"],
        json!({"intent": text, "confidence": {"type": "number", "minimum": 0, "maximum": 1}, "parameters": fields}),
    );
    let mut schemas = json!({
        "Message": object(&[], json!({
            "message_id": text, "text": text, "payload": text, "locale": text, "quoted": text,
            "received_at": {"type": "string", "format": "date-time"},
            "media": {"type": "array", "items": media},
            "candidates": {"type": "array", "items": candidate},
            "parameters": fields,
        })),
        "Create": object(&["machine"], json!({"machine": text, "id": text, "subject": text, "context": fields, "key": text, "by": text})),
        "Event": object(&["event"], json!({"event": text, "payload": fields, "key": text, "by": text})),
        "CallAnswer": object(&[], json!({"result": fields, "error": fields, "key": text, "by": text})),
        "Explain": object(&[], json!({"event": text, "payload": fields, "message": fields, "recover": object(&["reason"], json!({"reason": text}))})),
        "Recover": object(&["reason"], json!({"reason": text, "key": text, "by": text})),
        "Answer": object(&["option"], json!({"option": text, "key": text, "by": text})),
        "Reroute": object(&[], json!({"since": text, "set": fields, "definition": text, "limit": {"type": "integer", "minimum": 1, "maximum": 100_000}, "cursor": text})),
        "Advance": object(&["by"], json!({"by": text})),
        "Rollout": object(&[], json!({
            "mode": {"enum": ["off", "shadow", "allow_list", "percentage", "on"]},
            "users": {"type": "array", "items": text},
            "add_users": {"type": "array", "items": text},
            "remove_users": {"type": "array", "items": text},
            "percent": {"type": "number", "minimum": 0, "maximum": 100},
            "others": {"enum": ["off", "shadow"]},
            "open_sessions": {"enum": ["follow", "finish"]},
        })),
        "BeginReceipt": object(&["payload_digest"], json!({"payload_digest": text, "lease": text})),
        "CompleteReceipt": object(&["claim", "response"], json!({"claim": text, "response": {}})),
        "AbandonReceipt": object(&["claim"], json!({"claim": text})),
        "Definition": fields,
        "Twilio": fields,
        "Problem": {"type": "object", "required": ["type", "title", "status", "detail", "code", "retryable"], "properties": {
            "type": text, "title": text, "status": {"type": "integer"}, "detail": text, "instance": text, "code": {"type": "string", "enum": &CODES.map(|(code, _)| code)[..]},
            "retryable": {"type": "boolean"}, "allowed": {"type": "array", "items": text},
            "explain": {"type": "array", "items": fields}, "timers": {"type": "array", "items": fields}, "diagnostics": {"type": "array", "items": fields},
            "error_code": text, "message": text, "details": fields, "retry_allowed": {"type": "boolean"}, "timestamp": {"type": "string", "format": "date-time"},
        }},
    });
    for more in [schemas_of_flows(object), schemas_of_many(object)] {
        if let (Some(all), Value::Object(more)) = (schemas.as_object_mut(), more) {
            all.extend(more);
        }
    }
    schemas
}

/// What is done to many instances at once, or asked of them.
fn schemas_of_many(object: impl Fn(&[&str], Value) -> Value) -> Value {
    let text = json!({"type": "string"});
    let fields = json!({"type": "object", "additionalProperties": true});
    json!({
        "Import": object(&["machine", "records"], json!({
            "machine": text, "dry_run": {"type": "boolean"}, "by": text,
            "records": {"type": "array", "maxItems": 1000, "items": object(&["state"], json!({
                "state": text, "key": text, "id": text, "subject": text, "context": fields,
                "began_at": text, "changed_at": text, "expires_at": text, "reason": text, "locale": text, "topic": text,
            }))},
        })),
        "Migrate": object(&[], json!({
            "to_version": {"type": ["integer", "string"]}, "dry_run": {"type": "boolean"}, "by": text,
            "limit": {"type": "integer", "minimum": 1}, "cursor": text,
        })),
        "Shadow": object(&[], json!({
            "definition": text, "version": text, "since": text, "limit": {"type": "integer", "minimum": 1}, "cursor": text,
        })),
        "UndoImport": object(&["machine"], json!({
            "machine": text, "dry_run": {"type": "boolean"}, "limit": {"type": "integer", "minimum": 1}, "cursor": text,
            "by": text, "reason": text,
        })),
    })
}

fn schemas_of_flows(object: impl Fn(&[&str], Value) -> Value) -> Value {
    let text = json!({"type": "string"});
    let fields = json!({"type": "object", "additionalProperties": true});
    json!({
        "CreateFlow": object(&["flow"], json!({"flow": text, "id": text, "context": fields, "booleans": {"type": "object", "additionalProperties": {"type": "boolean"}}, "key": text, "by": text})),
        "PhaseAction": object(&[], json!({
            "key": text, "by": text, "reason": text, "lease": text, "lasts": text,
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "output": fields,
            "error": {"type": "object", "properties": {"code": text, "message": text}, "additionalProperties": true},
        })),
        "FlowAction": object(&[], json!({"key": text, "by": text, "reason": text})),
        "CreateApiKey": object(&["name", "scope"], json!({"name": text, "scope": {"enum": Scope::ALL}, "expires_in": text})),
        "RotateApiKey": object(&[], json!({"overlap": text})),
        "RotateKeys": object(&[], json!({"data": {"type": "boolean"}})),
        "Claim": object(&["worker"], json!({"worker": text, "lasts": text, "kind": text, "flow": text, "key": text})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The routers' own source is the other half of the truth.
    #[test]
    fn every_route_is_documented() {
        let routers = concat!(include_str!("mod.rs"), include_str!("../dashboard/mod.rs"));
        let source: String = routers.split_whitespace().collect();
        let documented = |method: &str, path: &str| {
            let page = PAGES.iter().any(|(m, p, _)| (*m, *p) == (method, path));
            page || ROUTES.iter().any(|(m, p, ..)| (*m, *p) == (method, path))
        };
        let mut seen = 0;
        for route in source.split(".route(\"").skip(1) {
            let (path, handlers) = route.split_once('"').unwrap();
            for method in ["get", "post", "put", "delete"] {
                let first = handlers.starts_with(&format!(",{method}("));
                let second = handlers.contains(&format!(").{method}("));
                if first || second {
                    assert!(documented(method, path), "{method} {path} is not documented");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, ROUTES.len() + PAGES.len(), "a table names a route that does not exist");
    }

    /// The codes that a file of this crate gives, with their statuses.
    fn codes_of(source: &str) -> Vec<(String, u16)> {
        let source: String = source.split_whitespace().collect();
        let literal = |at: &str| {
            let code = at.strip_prefix('"')?.split_once('"')?.0;
            code.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_').then(|| code.to_owned())
        };
        let mut found = Vec::new();
        for (call, status) in [("::new(", None), ("::bad_request(", Some(400)), ("::forbidden(", Some(403))] {
            for at in source.split(call).skip(1) {
                let (status, at) = match status {
                    Some(status) => (Some(status), at),
                    None => at.split_once(',').map_or((None, at), |(first, rest)| (first.parse().ok(), rest)),
                };
                found.extend(literal(at).zip(status));
            }
        }
        for arm in source.split("RefusalCode::").skip(1) {
            let Some((name, rest)) = arm.split_once("=>(") else { continue };
            let Some(status) = rest.get(..3).and_then(|digits| digits.parse().ok()) else { continue };
            let snake: String = name.chars().fold(String::new(), |mut snake, letter| {
                if letter.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
                snake
            });
            found.push((snake, status));
        }
        found
    }

    fn sources(folder: &std::path::Path, told: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().is_some_and(|extension| extension == "rs") {
                true => told.push(std::fs::read_to_string(&path).unwrap()),
                false if path.is_dir() => sources(&path, told),
                false => {}
            }
        }
    }

    #[test]
    fn every_code_is_documented_with_its_status() {
        let mut files = Vec::new();
        sources(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
        let mut given: Vec<(String, u16)> = files.iter().flat_map(|source| codes_of(source)).collect();
        // Given where connections are accepted, before there is anything of HTTP.
        given.push(("body_timeout".to_owned(), 408));
        given.sort_unstable();
        given.dedup();
        let listed = |mut codes: Vec<(String, u16)>| {
            codes.sort_unstable();
            codes
        };
        let table = listed(CODES.map(|(code, status)| (code.to_owned(), status)).to_vec());
        assert_eq!(given, table, "the codes that are given, and the table");
        let document = include_str!("../../../../docs/http.md");
        let rows = document.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let (codes, status) = (cells.next()?, cells.next()?.parse::<u16>().ok()?);
            Some(codes.split(", ").map(move |code| (code.trim_matches('`').to_owned(), status)))
        });
        assert_eq!(listed(rows.flatten().collect()), table, "docs/http.md, and the table");
    }
}
