//! Spans: what is noted of requests, inputs and deliveries, in OpenTelemetry's terms.
//!
//! An input is a span with one for each of its stages. Neither a subject nor anything that a person has said is in them:
//! who sees traces may not be who may read conversations.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use engine::traces::{Stages, Traced};
use kernel::commit::{Answer, EventAnswer, MessageAnswer, Transition};
use kernel::conversation::Why;
use kernel::id::{InstanceId, Revision};
use kernel::trace::{SpanId, Trace};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Attempt, Noted, Question, Request};
use crate::telemetry::fresh_span;

/// The machine's clock, whatever clock the engine goes by. One for all that is told together: looked at anew for each
/// moment, it would put them out of order.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    instant: Instant,
    time: SystemTime,
}

impl Anchor {
    pub fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    /// When something was that is over.
    fn time_of(self, past: Instant) -> SystemTime {
        let ago = self.instant.saturating_duration_since(past);
        self.time.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The spans of something, the outermost first.
pub fn spans_of(noted: Noted, anchor: Anchor) -> Vec<SpanData> {
    let spans = match &noted {
        Noted::Request(request) => vec![of_request(request)],
        Noted::Input(traced) => of_input(traced),
        Noted::Question(question) => vec![of_question(question)],
        Noted::Attempt(attempt) => vec![of_attempt(attempt)],
        Noted::End(_) => Vec::new(),
    };
    spans.into_iter().map(|span| span.data(anchor)).collect()
}

/// A span as it is told here, before it has the shape of the library.
struct Span<'t> {
    trace: &'t Trace,
    id: SpanId,
    parent: Option<SpanId>,
    name: Cow<'static, str>,
    kind: SpanKind,
    from: Instant,
    to: Instant,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

impl Span<'_> {
    fn data(self, anchor: Anchor) -> SpanData {
        let trace_id = TraceId::from_hex(&self.trace.id).unwrap_or(TraceId::INVALID);
        let id = |SpanId(id)| opentelemetry::trace::SpanId::from_bytes(id.to_be_bytes());
        let state = TraceState::default();
        SpanData {
            span_context: SpanContext::new(trace_id, id(self.id), TraceFlags::SAMPLED, false, state),
            parent_span_id: id(self.parent.unwrap_or_default()),
            // Only the caller of a request is elsewhere.
            parent_span_is_remote: self.kind == SpanKind::Server && self.parent.is_some(),
            span_kind: self.kind,
            name: self.name,
            start_time: anchor.time_of(self.from),
            end_time: anchor.time_of(self.to),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("statewright")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn text(key: &'static str, value: impl Into<String>) -> KeyValue {
    KeyValue::new(key, value.into())
}

fn of_request(request: &Request) -> Span<'_> {
    let Request { trace, parent, method, route, status, began, ended } = request;
    Span {
        trace,
        id: trace.span,
        parent: *parent,
        name: format!("{method} {route}").into(),
        kind: SpanKind::Server,
        from: *began,
        to: *ended,
        error: (*status >= 500).then(String::new),
        attributes: vec![
            text("http.request.method", method),
            text("http.route", *route),
            KeyValue::new("http.response.status_code", i64::from(*status)),
        ],
    }
}

/// The input as a whole, then what was done for it, stage by stage.
fn of_input(traced: &Traced) -> Vec<Span<'_>> {
    let Traced { input, stages, .. } = traced;
    let Some(trace) = &input.trace else { return Vec::new() };
    let whole = Span {
        trace,
        id: fresh_span(),
        parent: Some(trace.span),
        name: engine::kind_of(input).into(),
        kind: SpanKind::Internal,
        from: stages.submitted,
        to: stages.answered,
        attributes: about(traced),
        error: traced.answered.as_ref().err().map(ToString::to_string),
    };
    let part = |(name, id, from, to, attributes): Part| {
        let (name, parent, kind) = (Cow::Borrowed(name), Some(whole.id), SpanKind::Internal);
        Span { trace, id, parent, name, kind, from, to, attributes, error: None }
    };
    let parts: Vec<Span<'_>> = parts(traced).into_iter().map(part).collect();
    [whole].into_iter().chain(parts).collect()
}

type Part = (&'static str, SpanId, Instant, Instant, Vec<KeyValue>);

fn parts(traced: &Traced) -> Vec<Part> {
    let Stages { submitted, taken, found, routed, decided, saved, .. } = traced.stages;
    let moved = moved(traced).map(of_transition).unwrap_or_default();
    let why = why(traced).map(of_routing).unwrap_or_default();
    let saving = saved.map(|saved| saved.began);
    let mut parts = Vec::new();
    let mut add = |name, from: Option<Instant>, to: Option<Instant>, attributes| {
        if let Some((from, to)) = from.zip(to) {
            parts.push((name, fresh_span(), from, to, attributes));
        }
    };
    add("queue", Some(submitted), taken, Vec::new());
    add("load", taken, found, Vec::new());
    add("route", found, routed, why);
    add("decide", routed.or(found), decided, moved);
    add("batch", decided, saving, Vec::new());
    if let Some(saved) = saved {
        let commits = i64::try_from(saved.commits).unwrap_or(i64::MAX);
        let attributes = vec![KeyValue::new("statewright.batch.commits", commits)];
        let id = commit_span(traced).unwrap_or_else(fresh_span);
        parts.push(("commit", id, saved.began, saved.began + saved.took, attributes));
    }
    parts
}

/// What an answer that left a revision says of it; a repeat has left none.
fn revision(traced: &Traced) -> Option<(&InstanceId, Revision)> {
    let submitted = traced.answered.as_ref().ok().filter(|submitted| !submitted.replayed)?;
    match &*submitted.answer {
        Answer::Message(MessageAnswer { session_id, revision, .. }) => Some((session_id, *revision)),
        Answer::Event(EventAnswer { id, revision, .. }) => Some((id, *revision)),
        Answer::Refused(_) => None,
    }
}

/// The one that whatever is delivered of the commit belongs to.
fn commit_span(traced: &Traced) -> Option<SpanId> {
    let (instance, revision) = revision(traced)?;
    Some(SpanId::of_commit(&traced.input.tenant, &format!("{instance}:{revision}")))
}

fn moved(traced: &Traced) -> Option<&Transition> {
    match &*traced.answered.as_ref().ok()?.answer {
        Answer::Message(answer) => answer.transition.as_ref(),
        Answer::Event(answer) => answer.transition.as_ref(),
        Answer::Refused(_) => None,
    }
}

fn why(traced: &Traced) -> Option<&Why> {
    match &*traced.answered.as_ref().ok()?.answer {
        Answer::Message(answer) => Some(&answer.why),
        Answer::Event(_) | Answer::Refused(_) => None,
    }
}

fn of_transition(transition: &Transition) -> Vec<KeyValue> {
    let Transition { from, to, event } = transition;
    vec![
        text("statewright.event", event),
        text("statewright.state.from", from),
        text("statewright.state.to", to),
    ]
}

fn of_routing(why: &Why) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("statewright.route.rule", format!("{:?}", why.rule)),
        // Confidences are kept as basis points.
        KeyValue::new("statewright.route.raw", f64::from(why.raw) / 10_000.0),
        KeyValue::new("statewright.route.adjusted", f64::from(why.adjusted) / 10_000.0),
    ];
    attributes.extend(why.intent.as_ref().map(|intent| text("statewright.route.intent", intent)));
    attributes
}

fn about(traced: &Traced) -> Vec<KeyValue> {
    let Traced { input, machine, repeats, answered, .. } = traced;
    let mut attributes =
        vec![text("statewright.tenant", input.tenant.as_str()), text("statewright.key", input.key.as_str())];
    if let Some(machine) = machine {
        attributes.push(text("statewright.machine", machine.name.as_str()));
        attributes.push(KeyValue::new("statewright.machine.version", i64::from(machine.version)));
    }
    if *repeats > 0 {
        attributes.push(KeyValue::new("statewright.repeats", i64::from(*repeats)));
    }
    let Ok(submitted) = answered else { return attributes };
    if submitted.replayed {
        attributes.push(KeyValue::new("statewright.replayed", true));
    }
    let (id, revision, state) = match &*submitted.answer {
        Answer::Message(answer) => {
            attributes.push(text("statewright.outcome", answer.outcome.as_str()));
            (&answer.session_id, answer.revision, &answer.state)
        }
        Answer::Event(answer) => (&answer.id, answer.revision, &answer.state),
        Answer::Refused(refusal) => {
            attributes.push(text("statewright.code", refusal.code.as_str()));
            return attributes;
        }
    };
    attributes.push(text("statewright.instance", id.as_str()));
    attributes.push(KeyValue::new("statewright.revision", i64::try_from(revision.0).unwrap_or(i64::MAX)));
    attributes.push(text("statewright.state", state));
    attributes
}

fn of_question(question: &Question) -> Span<'_> {
    let Question { trace, recogniser, outcome, began, ended } = question;
    Span {
        trace,
        id: fresh_span(),
        parent: Some(trace.span),
        name: "recognise".into(),
        kind: SpanKind::Client,
        from: *began,
        to: *ended,
        error: (*outcome != "ok").then(|| (*outcome).to_owned()),
        attributes: vec![
            text("statewright.recogniser", recogniser),
            text("statewright.recogniser.outcome", *outcome),
        ],
    }
}

fn of_attempt(attempt: &Attempt) -> Span<'_> {
    let Attempt { trace, parent, effect, endpoint, carried, began, ended } = attempt;
    Span {
        trace,
        id: trace.span,
        parent: Some(*parent),
        name: "deliver".into(),
        kind: SpanKind::Client,
        from: *began,
        to: *ended,
        // What a receiver has said stays out of it.
        error: (!matches!(*carried, "delivered" | "answered")).then(|| (*carried).to_owned()),
        attributes: vec![
            text("statewright.result", *carried),
            text("statewright.tenant", effect.tenant.as_str()),
            text("statewright.machine", effect.machine.as_str()),
            text("statewright.instance", effect.instance.as_str()),
            text("statewright.effect", effect.effect.key.clone()),
            text("statewright.endpoint", endpoint),
            KeyValue::new("statewright.attempt", i64::from(effect.attempts)),
        ],
    }
}
