//! How many bytes of memory a snapshot or an answer takes, about.
//!
//! What can be large is walked, and the rest stands for itself: it need not be exact, but tell what is large from what is
//! small for a cache that is bounded by bytes, and cost little, as it is asked at every commit. What a snapshot shares with
//! others is counted with each.

use std::borrow::Cow;

use kernel::commit::{Answer, Effect, EffectKind, EventAnswer, MessageAnswer, PhaseMove, Told};
use kernel::conversation::{Clarification, ConversationState, Media, Message, Reply};
use kernel::flow::{FlowState, PhaseDetails, PhaseRecord};
use kernel::input::Fields;
use kernel::refusal::{Considered, Refusal, Violation};
use kernel::snapshot::{Invocation, Snapshot, Timer};
use serde_json::Value;

/// What an allocator adds to a block, with what it rounds up.
const BLOCK: usize = 16;
/// A node of a map, which has room for eleven entries and is two thirds full where there are many.
const NODE: usize = 12 * (size_of::<String>() + size_of::<Value>());
const NODE_ENTRIES: usize = 7;
/// A short text of its own, such as a name or an id.
const NAME: usize = size_of::<String>() + 16 + BLOCK;
/// What any snapshot has: its own ids, its states, and the transitions that it took last.
const SNAPSHOT: usize = size_of::<Snapshot>() + 8 * NAME;

pub(crate) fn of_snapshot(snapshot: &Snapshot) -> usize {
    let closure = snapshot.closure.as_ref().map_or(0, |c| text(&c.reason) + fields(&c.output));
    SNAPSHOT
        + NAME * snapshot.configuration.len()
        + NAME * snapshot.history.values().map(|states| 1 + states.len()).sum::<usize>()
        + fields(&snapshot.context)
        + each(&snapshot.timers, of_timer)
        + each(&snapshot.invocations, of_invocation)
        + closure
        + snapshot.conversation.as_deref().map_or(0, of_conversation)
        + snapshot.flow.as_deref().map_or(0, of_flow)
}

pub(crate) fn of_answer(answer: &Answer) -> usize {
    let rest = match answer {
        Answer::Message(answer) => of_message_answer(answer),
        Answer::Event(answer) => of_event_answer(answer),
        Answer::Refused(refusal) => of_refusal(refusal),
    };
    // Where it is and where it came from.
    size_of::<Answer>() + 4 * NAME + rest
}

fn text(text: &str) -> usize {
    if text.is_empty() { 0 } else { text.len() + BLOCK }
}

fn each<T>(list: &[T], inner: impl Fn(&T) -> usize) -> usize {
    let block = if list.is_empty() { 0 } else { BLOCK };
    block + list.iter().map(|one| size_of::<T>() + inner(one)).sum::<usize>()
}

fn fields(fields: &Fields) -> usize {
    let nodes =
        if fields.len() <= 11 { usize::from(!fields.is_empty()) } else { fields.len() / NODE_ENTRIES };
    nodes * NODE + fields.iter().map(|(name, held)| text(name) + value(held)).sum::<usize>()
}

/// Beside the value itself. As deep as a definition or the reader of JSON lets it be.
fn value(held: &Value) -> usize {
    match held {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(held) => text(held),
        Value::Array(list) => each(list, value),
        Value::Object(held) => fields(held),
    }
}

fn of_timer(timer: &Timer) -> usize {
    NAME + fields(&timer.payload)
}

fn of_invocation(call: &Invocation) -> usize {
    text(&call.key) + fields(&call.input)
}

fn of_message(message: &Message) -> usize {
    message.text.as_deref().map_or(0, text)
        + each(&message.media, of_media)
        + each(&message.candidates, |candidate| NAME + fields(&candidate.parameters))
        + fields(&message.parameters)
}

fn of_media(media: &Media) -> usize {
    text(&media.url) + text(&media.kind)
}

fn of_clarification(asked: &Clarification) -> usize {
    let options = each(&asked.options, |option| text(&option.id) + text(&option.label) + NAME);
    4 * NAME + text(&asked.question) + options + of_message(&asked.original)
}

fn of_conversation(state: &ConversationState) -> usize {
    size_of::<ConversationState>()
        + state.address.as_deref().map_or(0, |_| 4 * NAME)
        + state.pending.as_ref().map_or(0, of_clarification)
        + each(&state.prompt, |_| 2 * NAME)
        + each(&state.held_media, of_media)
        + state.drafts.iter().map(|(key, draft)| NAME + text(key) + fields(draft)).sum::<usize>()
}

fn of_flow(flow: &FlowState) -> usize {
    let phases = flow.phases.iter();
    let details = |record: &PhaseRecord| record.details.as_deref().map_or(0, of_details);
    size_of::<FlowState>()
        + phases.map(|record| size_of::<PhaseRecord>() + details(record)).sum::<usize>()
        + flow.paused.as_ref().map_or(0, |pause| NAME + each(&pause.timers, of_timer))
        + (4 * NAME) * (flow.watchers.len() + usize::from(flow.parent.is_some()))
}

fn of_details(details: &PhaseDetails) -> usize {
    let error = details.error.as_ref().map_or(0, |e| NAME + text(&e.message) + fields(&e.details));
    size_of::<PhaseDetails>()
        + each(&details.worked_by, |by| text(by))
        + details.reason.as_deref().map_or(0, text)
        + error
        + details.lease.as_ref().map_or(0, |_| 2 * NAME)
}

fn of_message_answer(answer: &MessageAnswer) -> usize {
    // Most of what rules say of themselves is part of the program.
    let because = |because: &Cow<'static, str>| match because {
        Cow::Borrowed(_) => 0,
        Cow::Owned(told) => text(told),
    };
    let clarification = answer.clarification.as_ref().map_or(0, |asked| {
        NAME + text(&asked.question) + each(&asked.options, |option| text(&option.id) + text(&option.label))
    });
    each(&answer.reply, of_reply)
        + each(&answer.effects, of_effect)
        + clarification
        + answer.refusal.as_deref().map_or(0, of_refusal)
        + each(&answer.why.trace, |step| because(&step.because))
}

fn of_event_answer(answer: &EventAnswer) -> usize {
    let flow = answer.flow.as_deref().map_or(0, |flow| 2 * NAME + each(&flow.moved, of_move));
    each(&answer.reply, of_reply)
        + each(&answer.effects, of_effect)
        + answer.replaced.as_ref().map_or(0, |r| fields(&r.context) + each(&r.kept, |kept| text(kept)))
        + flow
}

fn of_move(moved: &PhaseMove) -> usize {
    moved.error.as_ref().map_or(0, |error| NAME + text(&error.message) + fields(&error.details))
}

fn of_reply(reply: &Reply) -> usize {
    text(&reply.text)
        + each(&reply.options, |option| text(&option.id) + text(&option.label))
        + each(&reply.media, of_media)
}

fn of_effect(effect: &Effect) -> usize {
    let kind = match &effect.kind {
        EffectKind::Reply(reply) => of_reply(reply),
        EffectKind::Call { id, src, input } => text(id) + text(src) + fields(input),
        EffectKind::Notice(notice) => 4 * NAME + each(&notice.moved, of_move),
        EffectKind::Tell(Told::Begin { context, .. }) => 4 * NAME + fields(context),
        EffectKind::Tell(Told::Event { payload, .. }) => 2 * NAME + fields(payload),
        EffectKind::Tell(Told::Result { fields: result, .. }) => 4 * NAME + fields(result),
    };
    text(&effect.key) + kind
}

fn of_refusal(refusal: &Refusal) -> usize {
    let considered = |considered: &Considered| {
        let guard = considered.guard.as_ref().map_or(0, |guard| {
            text(&guard.expression) + guard.error.as_deref().map_or(0, text) + fields(&guard.values)
        });
        text(&considered.state) + text(&considered.event) + each(&considered.target, |to| text(to)) + guard
    };
    let violated = |violated: &Violation| 3 * NAME + text(&violated.expression) + fields(&violated.values);
    size_of::<Refusal>()
        + text(&refusal.message)
        + each(&refusal.allowed, |event| text(event))
        + each(&refusal.explain, considered)
        + each(&refusal.violated, violated)
        + each(&refusal.timers, of_timer)
        + refusal.phase.as_ref().map_or(0, |_| 4 * NAME)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kernel::id::TenantId;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use store::{HistoryQuery, InstanceQuery, Store};

    use super::*;

    /// What the allocator gave for a copy that shares nothing, and what the copy is estimated at.
    fn given_and_estimated<T: Serialize + DeserializeOwned>(
        original: &T,
        estimate: fn(&T) -> usize,
    ) -> (usize, usize) {
        let written = serde_json::to_string(original).unwrap();
        let mut copy = None;
        let given = allocation_counter::measure(|| copy = Some(serde_json::from_str::<T>(&written).unwrap()));
        let blocks = given.count_current as usize * BLOCK;
        (size_of::<T>() + given.bytes_current as usize + blocks, estimate(&copy.unwrap()))
    }

    fn assert_near(what: &str, sizes: &[(usize, usize)]) {
        let given = sizes.iter().map(|(given, _)| given).sum::<usize>();
        let estimated = sizes.iter().map(|(_, estimated)| estimated).sum::<usize>();
        assert!(!sizes.is_empty(), "{what}");
        assert!(
            given <= 2 * estimated && estimated <= 2 * given,
            "{what}: {given} bytes, estimated {estimated}"
        );
        for (given, estimated) in sizes {
            assert!(
                given <= &(3 * estimated) && estimated <= &(3 * given),
                "{what}: {given}, estimated {estimated}"
            );
        }
    }

    #[test]
    fn what_shipped_machines_leave_is_estimated_within_a_factor_of_two() {
        let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
        for name in ["banking_menu", "discovery", "progress_update", "purchase", "release_train"] {
            let (mut snapshots, mut answers) = (Vec::new(), Vec::new());
            for store in crate::story::stores_after(&machines.join(format!("{name}.stories.yaml"))) {
                let tenant = TenantId::default_tenant();
                let found = store.instances(&InstanceQuery::of(tenant.clone())).unwrap();
                for snapshot in found.data {
                    snapshots.push(given_and_estimated(&snapshot, of_snapshot));
                    let instance = snapshot.instance;
                    let query = HistoryQuery { limit: 1_000, ..HistoryQuery::of(tenant.clone(), instance) };
                    let log = store.history(&query).unwrap().data;
                    answers.extend(log.iter().map(|entry| given_and_estimated(&entry.answer, of_answer)));
                }
            }
            assert_near(&format!("snapshots of {name}"), &snapshots);
            assert_near(&format!("answers of {name}"), &answers);
        }
    }

    #[test]
    fn what_is_large_in_a_value_is_counted_wherever_it_is() {
        let long = "x".repeat(100_000);
        for held in [
            serde_json::json!({ "a": long }),
            serde_json::json!({ "a": [[{ "b": long }]] }),
            serde_json::json!({ long.as_str(): 1 }),
            serde_json::json!({ "a": vec!["0123456789"; 2_000] }),
            serde_json::json!({ "a": vec![1; 3_000] }),
            Value::Object((0..1_000).map(|number| (number.to_string(), Value::Null)).collect()),
        ] {
            let (given, estimated) = given_and_estimated(&held, |held| size_of::<Value>() + value(held));
            assert!(given <= 2 * estimated && estimated <= 2 * given, "{given} bytes, estimated {estimated}");
        }
    }
}
