//! Records as values, for whatever keeps values and no columns: Redis, and archives.
//!
//! A value is a line of JSON, in which the columns are that are no part of the key, and behind it the body. What is
//! found is put under the columns of `seal`'s tables and checked. A value of which the first line cannot be read is
//! checked all the same, and found damaged.

use kernel::commit::{Effect, Entry, PhaseRow};
use kernel::conversation::Clarification;
use kernel::flow::PhaseState;
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::snapshot::{SNAPSHOT_FORMAT, Snapshot};
use kernel::time::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outbox::{DeliveryStage, EffectStatus, Lane, OutboxEffect};
use crate::phase::PhaseLine;
use crate::record::{ClarificationRow, EffectRow, InstanceRow, LineRow, PhaseOf, number, text};
use crate::seal::{self, CLARIFICATIONS, Cell, DEFINITIONS, ENTRIES, INSTANCES, OUTBOX, PHASES, SETTINGS};
use crate::{Secrets, Setting, StoredDefinition};

/// Nothing goes wrong at a value but what is wrong with it.
pub(crate) type Fault = seal::Fault<std::convert::Infallible>;

/// The columns of an instance that are not its body: the checksum, those under it, `wake_at` and `looping_until`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head(
    String,
    pub i64,
    pub String,
    i64,
    String,
    pub Option<String>,
    i64,
    i64,
    pub String,
    pub Option<String>,
    i64,
    pub i64,
    pub Option<i64>,
    pub Option<i64>,
);

#[derive(Serialize, Deserialize)]
struct EntryHead(i64, String, i64, String, String);

#[derive(Serialize, Deserialize)]
struct QuestionHead(String, String, i64, String);

#[derive(Serialize, Deserialize)]
struct EffectHead(String, String, String, Option<String>, i64);

#[derive(Serialize, Deserialize)]
struct PhaseHead(
    String,
    String,
    String,
    String,
    i64,
    u32,
    u32,
    Option<String>,
    Option<i64>,
    String,
    Option<String>,
    Option<String>,
);

#[derive(Serialize, Deserialize)]
struct DefinitionHead(String, String, i64, i64);

#[derive(Serialize, Deserialize)]
struct SettingHead(String, String, String, i64);

/// Plain values can always be written as JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn with_body(head: &impl Serialize, body: &str) -> String {
    let mut value = json(head);
    value.push('\n');
    value.push_str(body);
    value
}

/// The head, if it can be read, and the body.
fn split<T: DeserializeOwned>(value: &[u8]) -> (Option<T>, &[u8]) {
    let end = value.iter().position(|byte| *byte == b'\n');
    let (head, body) = end.map_or((value, &[][..]), |end| (&value[..end], &value[end + 1..]));
    (serde_json::from_slice(head).ok(), body)
}

/// The body in a value that has one.
pub(crate) fn body_of(value: &[u8]) -> &[u8] {
    split::<IgnoredAny>(value).1
}

fn optional(value: Option<&String>) -> Cell<'_> {
    value.map_or(Cell::Null, |value| text(value))
}

/// What is not there is no number.
fn sum(checksum: &str) -> Option<i64> {
    checksum.parse().ok()
}

pub(crate) fn head_of(row: &InstanceRow<'_>) -> String {
    let snapshot = row.snapshot;
    json(&Head(
        row.checksum.to_string(),
        i64::from(SNAPSHOT_FORMAT),
        snapshot.machine.to_string(),
        i64::from(snapshot.version),
        snapshot.definition.as_str().to_owned(),
        row.subject().map(str::to_owned),
        i64::from(snapshot.ordinal),
        number(snapshot.revision),
        row.state.clone(),
        row.closure_reason().map(str::to_owned),
        snapshot.created_at.as_millis(),
        snapshot.updated_at.as_millis(),
        row.wake_at,
        row.looping_until,
    ))
}

pub(crate) fn parse_head(head: &[u8]) -> Option<Head> {
    serde_json::from_slice(head).ok()
}

pub(crate) fn instance(
    tenant: &TenantId,
    id: &str,
    head: &[u8],
    body: &[u8],
    secrets: &Secrets,
) -> Result<Snapshot, Fault> {
    let Some(found) = parse_head(head) else {
        let mut cells = vec![Cell::Null; INSTANCES.columns.len()];
        (cells[0], cells[1], cells[3], cells[13]) =
            (text(tenant.as_str()), text(id), Cell::Text(head), Cell::Text(body));
        return INSTANCES.reveal(&cells, None, 0, secrets);
    };
    let cells = [
        text(tenant.as_str()),
        text(id),
        Cell::Integer(found.1),
        text(&found.2),
        Cell::Integer(found.3),
        text(&found.4),
        optional(found.5.as_ref()),
        Cell::Integer(found.6),
        Cell::Integer(found.7),
        text(&found.8),
        optional(found.9.as_ref()),
        Cell::Integer(found.10),
        Cell::Integer(found.11),
        Cell::Text(body),
    ];
    INSTANCES.reveal(&cells, sum(&found.0), 0, secrets)
}

/// A receipt as keys have it, and as the body of its line says it.
pub(crate) fn receipt_name(receipt: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(receipt))
}

pub(crate) fn entry_value(line: &LineRow<'_>) -> String {
    let head = EntryHead(
        line.entry.at.as_millis(),
        line.checksum().to_string(),
        number(line.entry.revision),
        line.tenant.to_string(),
        line.instance.to_string(),
    );
    with_body(&head, &line.body)
}

pub(crate) fn entry(
    receipt: [u8; 16],
    value: &[u8],
    secrets: &Secrets,
) -> Result<(InstanceId, Entry), Fault> {
    let (head, body) = split::<EntryHead>(value);
    let Some(EntryHead(at, checksum, revision, tenant, instance)) = head else {
        let cells = [Cell::Null, Cell::Text(value), Cell::Null, Cell::Null, Cell::Blob(&receipt), Cell::Null];
        return Err(ENTRIES.damaged(&cells, 0, "its first line cannot be read".to_owned()));
    };
    let cells = [
        text(&tenant),
        text(&instance),
        Cell::Integer(revision),
        Cell::Integer(at),
        Cell::Blob(&receipt),
        Cell::Text(body),
    ];
    let entry = ENTRIES.reveal(&cells, sum(&checksum), 0, secrets)?;
    let id = InstanceId::parse(&instance).map_err(|problem| ENTRIES.damaged(&cells, 0, problem))?;
    Ok((id, entry))
}

pub(crate) fn question_value(row: &ClarificationRow<'_>) -> String {
    let clarification = row.clarification;
    let head = QuestionHead(
        clarification.status.as_str().to_owned(),
        row.checksum.to_string(),
        clarification.created_at.as_millis(),
        clarification.instance.to_string(),
    );
    with_body(&head, &row.body)
}

pub(crate) fn question(
    tenant: &TenantId,
    id: &str,
    value: &[u8],
    secrets: &Secrets,
) -> Result<Clarification, Fault> {
    let (head, body) = split::<QuestionHead>(value);
    let Some(QuestionHead(status, checksum, created_at, instance)) = head else {
        let cells = [text(tenant.as_str()), text(id), Cell::Text(value), Cell::Null, Cell::Null, Cell::Null];
        return Err(CLARIFICATIONS.damaged(&cells, 0, "its first line cannot be read".to_owned()));
    };
    let cells = [
        text(tenant.as_str()),
        text(id),
        text(&instance),
        text(&status),
        Cell::Integer(created_at),
        Cell::Text(body),
    ];
    CLARIFICATIONS.reveal(&cells, sum(&checksum), 0, secrets)
}

pub(crate) fn phase_value(of: &PhaseOf<'_>) -> String {
    let row = of.row;
    json(&PhaseHead(
        of.checksum.to_string(),
        of.after.machine.to_string(),
        row.phase.to_string(),
        row.state.as_str().to_owned(),
        row.since.as_millis(),
        row.attempts,
        row.retries,
        row.error.clone(),
        row.offered_at.map(Timestamp::as_millis),
        row.kind.to_string(),
        row.lease.clone(),
        row.worker.clone(),
    ))
}

pub(crate) fn phase(tenant: &TenantId, id: &str, place: u16, value: &[u8]) -> Result<PhaseLine, Fault> {
    let Ok(found) = serde_json::from_slice::<PhaseHead>(value) else {
        let mut cells = [Cell::Null; 14];
        (cells[0], cells[1]) = (text(tenant.as_str()), text(id));
        (cells[2], cells[4]) = (Cell::Integer(place.into()), Cell::Text(value));
        return Err(PHASES.damaged(&cells, 0, "it cannot be read".to_owned()));
    };
    let cells = [
        text(tenant.as_str()),
        text(id),
        Cell::Integer(place.into()),
        text(&found.1),
        text(&found.2),
        text(&found.3),
        Cell::Integer(found.4),
        Cell::Integer(found.5.into()),
        Cell::Integer(found.6.into()),
        optional(found.7.as_ref()),
        found.8.map_or(Cell::Null, Cell::Integer),
        text(&found.9),
        optional(found.10.as_ref()),
        optional(found.11.as_ref()),
    ];
    PHASES.check(&cells, sum(&found.0), 0)?;
    let damaged = |problem| PHASES.damaged(&cells, 0, problem);
    let state = PhaseState::parse(&found.3);
    Ok(PhaseLine {
        tenant: tenant.clone(),
        instance: InstanceId::parse(id).map_err(damaged)?,
        machine: MachineName::parse(&found.1).map_err(damaged)?,
        row: PhaseRow {
            phase: found.2.as_str().into(),
            place,
            state: state.ok_or_else(|| damaged(format!("the state `{}` is unknown", found.3)))?,
            since: Timestamp::from_millis(found.4),
            attempts: found.5,
            retries: found.6,
            error: found.7.clone(),
            offered_at: found.8.map(Timestamp::from_millis),
            kind: found.9.as_str().into(),
            lease: found.10.clone(),
            worker: found.11.clone(),
        },
    })
}

pub(crate) fn effect_value(row: &EffectRow<'_>) -> String {
    let head = EffectHead(
        row.checksum.to_string(),
        row.of.instance.to_string(),
        row.of.machine.to_string(),
        row.of.subject().map(str::to_owned),
        row.created_at.as_millis(),
    );
    with_body(&head, &row.body)
}

/// The lane of an effect as keys have it.
pub(crate) fn lane(effect: &Effect) -> Option<&'static str> {
    Lane::of(effect).map(|lane| match lane {
        Lane::Host => "h",
        Lane::Person => "p",
        Lane::Flows => "f",
    })
}

/// False stands for what is not there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Maybe {
    Text(String),
    No(#[expect(dead_code, reason = "it is false")] bool),
}

impl Maybe {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::No(_) => None,
        }
    }
}

/// How far an effect has come, in the order in which the scripts write it.
#[derive(Deserialize)]
struct Progress(String, IgnoredAny, String, u32, u32, Maybe, Maybe, Maybe, Maybe, Maybe);

/// How far an effect has come, as `Progress` is read; of whose lane, only the scripts say.
pub(crate) fn progress_value(effect: &OutboxEffect) -> String {
    fn or_false(value: Option<impl Into<Value>>) -> Value {
        value.map_or(Value::Bool(false), Into::into)
    }
    let time = |at: Option<Timestamp>| or_false(at.map(|at| at.as_millis().to_string()));
    json(&(
        effect.seq.to_string(),
        false,
        effect.status.as_str(),
        effect.attempts,
        effect.parts_done,
        time(effect.due_at),
        time(effect.settled_at),
        or_false(effect.stage.map(DeliveryStage::as_str)),
        or_false(effect.provider_id.clone()),
        or_false(effect.error.clone()),
    ))
}

/// How often an effect was claimed, by its progress.
pub(crate) fn attempts(progress: &[u8]) -> Option<u32> {
    serde_json::from_slice::<Progress>(progress).ok().map(|found| found.3)
}

pub(crate) fn effect(
    tenant: &TenantId,
    key: &str,
    value: &[u8],
    progress: &[u8],
    secrets: &Secrets,
) -> Result<OutboxEffect, Fault> {
    let (head, body) = split::<EffectHead>(value);
    let Some(EffectHead(checksum, instance, machine, subject, created_at)) = head else {
        let mut cells = [Cell::Null; 7];
        (cells[0], cells[1], cells[2]) = (text(tenant.as_str()), text(key), Cell::Text(value));
        return Err(OUTBOX.damaged(&cells, 0, "its first line cannot be read".to_owned()));
    };
    let cells = [
        text(tenant.as_str()),
        text(key),
        text(&instance),
        text(&machine),
        optional(subject.as_ref()),
        Cell::Integer(created_at),
        Cell::Text(body),
    ];
    let effect = OUTBOX.reveal(&cells, sum(&checksum), 0, secrets)?;
    let damaged = |problem: String| OUTBOX.damaged(&cells, 0, problem);
    let found: Progress = serde_json::from_slice(progress)
        .map_err(|error| damaged(format!("its progress cannot be read: {error}")))?;
    let Progress(seq, _, status, attempts, parts_done, due_at, settled_at, stage, provider_id, error) = found;
    let at = |time: Maybe| -> Result<Option<Timestamp>, Fault> {
        let Some(text) = time.text() else { return Ok(None) };
        let ms = text.parse().map_err(|_| damaged(format!("`{text}` is no time")))?;
        Ok(Some(Timestamp::from_millis(ms)))
    };
    let stage = stage.text().map(|name| {
        DeliveryStage::parse(&name).ok_or_else(|| damaged(format!("the stage `{name}` is unknown")))
    });
    let known = EffectStatus::parse(&status);
    Ok(OutboxEffect {
        seq: seq.parse().map_err(|_| damaged(format!("`{seq}` is no number")))?,
        tenant: tenant.clone(),
        instance: InstanceId::parse(&instance).map_err(damaged)?,
        machine: MachineName::parse(&machine).map_err(damaged)?,
        subject: subject.as_deref().map(Subject::parse).transpose().map_err(damaged)?,
        effect,
        status: known.ok_or_else(|| damaged(format!("the status `{status}` is unknown")))?,
        attempts,
        parts_done,
        created_at: Timestamp::from_millis(created_at),
        due_at: at(due_at)?,
        error: error.text(),
        provider_id: provider_id.text(),
        stage: stage.transpose()?,
        settled_at: at(settled_at)?,
    })
}

pub(crate) fn definition_value(definition: &StoredDefinition, checksum: i64) -> String {
    let head = DefinitionHead(
        checksum.to_string(),
        definition.machine.to_string(),
        i64::from(definition.version),
        definition.saved_at.as_millis(),
    );
    with_body(&head, &definition.source)
}

pub(crate) fn definition(hash: &str, value: &[u8]) -> Result<StoredDefinition, Fault> {
    let (head, source) = split::<DefinitionHead>(value);
    let Some(DefinitionHead(checksum, machine, version, saved_at)) = head else {
        let cells = [text(hash), Cell::Text(value), Cell::Null, Cell::Null, Cell::Null];
        return Err(DEFINITIONS.damaged(&cells, 0, "its first line cannot be read".to_owned()));
    };
    let cells =
        [text(hash), text(&machine), Cell::Integer(version), Cell::Integer(saved_at), Cell::Text(source)];
    DEFINITIONS.check(&cells, sum(&checksum), 0)?;
    let damaged = |problem: String| DEFINITIONS.damaged(&cells, 0, problem);
    let quoted = serde_json::Value::String(hash.to_owned());
    Ok(StoredDefinition {
        hash: serde_json::from_value(quoted).map_err(|error| damaged(error.to_string()))?,
        machine: MachineName::parse(&machine).map_err(damaged)?,
        version: u32::try_from(version).map_err(|error| damaged(error.to_string()))?,
        source: String::from_utf8(source.to_vec()).map_err(|error| damaged(error.to_string()))?,
        saved_at: Timestamp::from_millis(saved_at),
    })
}

pub(crate) fn setting_value(setting: &Setting, body: &str, checksum: i64) -> String {
    let head = SettingHead(
        checksum.to_string(),
        setting.tenant.to_string(),
        setting.name.clone(),
        setting.saved_at.as_millis(),
    );
    with_body(&head, body)
}

pub(crate) fn setting(field: &str, value: &[u8]) -> Result<Setting, Fault> {
    let (head, body) = split::<SettingHead>(value);
    let Some(SettingHead(checksum, tenant, name, saved_at)) = head else {
        let cells = [text(field), Cell::Text(value), Cell::Null, Cell::Null];
        return Err(SETTINGS.damaged(&cells, 0, "its first line cannot be read".to_owned()));
    };
    let cells = [text(&tenant), text(&name), Cell::Integer(saved_at), Cell::Text(body)];
    let body = SETTINGS.read(&cells, sum(&checksum), 0)?;
    let tenant = TenantId::stored(&tenant).map_err(|problem| SETTINGS.damaged(&cells, 0, problem))?;
    Ok(Setting { tenant, name, body, saved_at: Timestamp::from_millis(saved_at) })
}
