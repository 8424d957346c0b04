//! Parts: what of a record is sealed, how that is written into its body, and how it is read.
//!
//! A sealed body begins with the list of what is sealed in it. Only that is opened, so that nobody's own values are ever
//! taken for sealed ones. A sealed part is bound to its tenant, its record and its place there: copied elsewhere, it does
//! not open.

use std::sync::Arc;

use kernel::id::TenantId;
use kernel::snapshot::{Snapshot, pointer_to_payload};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::cipher::Key;
use super::{Locked, NO_KEY, Vault};
use crate::seal::{self, Cell, Table};

/// How a sealed body begins, and no other: the key is none of any record.
const HEAD: &str = "{\"$sealed\":";
const LIST: &str = "$sealed";
const MARK: &str = "$secret";
const VERSION: &str = "v1";
/// Where within an instance its context is.
const CONTEXT: &str = "/context/";

/// What is done with the values of secret fields.
#[derive(Clone, Debug, Default)]
pub enum Secrets {
    /// There is no key: a record that would have some is not written.
    #[default]
    Refused,
    /// What is written is not at rest.
    Plain,
    Sealed(Arc<Vault>),
}

/// Seals the parts of one commit's records.
#[derive(Debug)]
pub(crate) struct Sealer {
    id: Arc<str>,
    key: Key,
}

/// Why a sealed body cannot be read.
#[derive(Debug)]
pub(crate) enum Closed {
    Locked(Locked),
    /// It is not what was sealed here.
    Damaged(String),
}

/// The values themselves, and all that may hold copies of them, or a digest. What operators find instances by stays as it is.
pub(crate) fn of_instance(snapshot: &Snapshot, secrets: &[Arc<str>]) -> Vec<String> {
    let mut parts: Vec<String> = secrets.iter().map(|field| format!("{CONTEXT}{field}")).collect();
    parts.extend((0..snapshot.timers.len()).map(pointer_to_payload));
    parts.extend(
        ["/invocations", "/conversation", "/flow", "/closure/output", "/brought_in"].map(str::to_owned),
    );
    parts
}

/// What came and what was answered. The digest is that of what came: of few possible values it would tell which.
pub(crate) const OF_ENTRY: [&str; 5] = ["/payload", "/message", "/cause", "/answer", "/digest"];
pub(crate) const OF_EFFECT: [&str; 1] = ["/kind"];
/// A question and its options are words that were shown.
pub(crate) const OF_CLARIFICATION: [&str; 1] = ["/original"];

impl Secrets {
    /// What seals a commit with secrets of this tenant; nothing where that is not needed.
    ///
    /// # Errors
    /// A fragment, when there is no key to it.
    pub(crate) fn sealer(&self, tenant: &TenantId) -> Result<Option<Sealer>, String> {
        match self {
            Self::Plain => Ok(None),
            Self::Refused => Err(NO_KEY.to_owned()),
            Self::Sealed(vault) => match vault.current(tenant) {
                Some((id, key)) => Ok(Some(Sealer { id, key })),
                None => Err(format!("the tenant `{tenant}` has no data key; {NO_KEY}")),
            },
        }
    }

    /// The body of a record with all that was sealed in it. `identity` says which record of `table` it is.
    pub(crate) fn open(&self, bytes: &[u8], table: &Table, identity: &[Cell<'_>]) -> Result<Value, Closed> {
        let malformed = |what: &str| Closed::Damaged(format!("what is sealed in it cannot be read: {what}"));
        let mut body: Value = seal::parse(bytes).map_err(|error| malformed(&error.to_string()))?;
        let list = body.as_object_mut().and_then(|body| body.remove(LIST)).unwrap_or_default();
        let tenant = match identity.first() {
            Some(Cell::Text(tenant)) => {
                std::str::from_utf8(tenant).ok().and_then(|t| TenantId::stored(t).ok())
            }
            _ => None,
        };
        let (Value::Array(list), Some(tenant)) = (list, tenant) else { return Err(malformed("its list")) };
        for part in &list {
            let place = part.as_str().and_then(|part| Some((part, body.pointer_mut(part)?)));
            let (part, place) = place.ok_or_else(|| malformed("its list"))?;
            let mark = place.get(MARK).and_then(Value::as_str).and_then(|mark| mark.strip_prefix(VERSION));
            let mark = mark.and_then(|mark| mark.strip_prefix('.')).and_then(|mark| mark.split_once('.'));
            let (id, sealed) = mark.ok_or_else(|| malformed(part))?;
            let key = match self {
                Self::Sealed(vault) => vault.key(&tenant, id).map_err(Closed::Locked)?,
                _ => return Err(Closed::Locked(Locked { detail: NO_KEY.to_owned(), may_open: false })),
            };
            let text = key
                .open(sealed, &seal::bound(table, identity, part))
                .ok_or_else(|| Closed::Damaged(format!("`{part}` does not open with its data key `{id}`")))?;
            *place = seal::parse(&text).map_err(|error| malformed(&error.to_string()))?;
        }
        Ok(body)
    }
}

/// The fields of the context that are sealed in a body, if it is a sealed one.
pub(crate) fn fields_sealed(body: &[u8]) -> Option<Vec<Arc<str>>> {
    let rest = body.strip_prefix(HEAD.as_bytes())?;
    let list = serde_json::Deserializer::from_slice(rest).into_iter::<Vec<String>>().next();
    let list = list.and_then(Result::ok).unwrap_or_default();
    Some(list.iter().filter_map(|part| part.strip_prefix(CONTEXT)).map(Arc::from).collect())
}

/// Whether some of a body is sealed.
pub(crate) fn is_sealed(body: &[u8]) -> bool {
    body.starts_with(HEAD.as_bytes())
}

impl Sealer {
    /// `record` as JSON, with those of `parts` sealed that it has.
    ///
    /// # Errors
    /// As `seal::print`.
    pub fn print(
        &self,
        record: &impl Serialize,
        table: &Table,
        identity: &[Cell<'_>],
        parts: &[impl AsRef<str>],
    ) -> Result<String, String> {
        let mut body = serde_json::to_value(record).map_err(|error| error.to_string())?;
        let mut sealed = Vec::new();
        for part in parts.iter().map(AsRef::as_ref) {
            let Some(place) = body.pointer_mut(part).filter(|value| !value.is_null()) else { continue };
            let text = Zeroizing::new(seal::print(place)?);
            let text = self.key.seal(text.as_bytes(), &seal::bound(table, identity, part))?;
            *place = json!({ MARK: format!("{VERSION}.{}.{text}", self.id) });
            sealed.push(part);
        }
        let (list, body) = (seal::print(&sealed)?, seal::print(&body)?);
        let rest = body.strip_prefix('{').filter(|rest| rest.len() > 1);
        let rest = rest.ok_or_else(|| "the record is no object".to_owned())?;
        Ok(format!("{HEAD}{list},{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use kernel::conversation::{ConversationState, Message};
    use kernel::flow::FlowState;
    use kernel::id::Digest;
    use kernel::snapshot::{BroughtIn, Invocation};

    use super::*;
    use crate::contract::{Draft, at};
    use crate::record::Records;
    use crate::seal::{Fault, INSTANCES, OUTBOX};
    use crate::vault::MasterKey;

    fn records() -> Records {
        let master = MasterKey::parse("a", &"07".repeat(32)).unwrap();
        let vault = Vault::new(vec![master]).unwrap();
        for name in ["t", "u"] {
            vault.learn(&[vault.new_key(&crate::contract::tenant(name), at(1)).unwrap()]);
        }
        Records { secrets: Secrets::Sealed(Arc::new(vault)), ..Records::default() }
    }

    /// The body of an instance as it is found in the row of another.
    fn found(body: &str, tenant: &str, id: &str, records: &Records) -> Result<Value, Closed> {
        let identity = [Cell::Text(tenant.as_bytes()), Cell::Text(id.as_bytes())];
        records.secrets.open(body.as_bytes(), &INSTANCES, &identity)
    }

    #[test]
    fn what_is_sealed_opens_in_its_own_record_and_place_only() {
        let records = records();
        let draft = Draft::creation("o-1").context("token", json!("x")).context("other", json!("y"));
        let commit = draft.secret("token").secret("other").build();
        let prepared = records.prepare(&commit).unwrap();
        let body = prepared.instance.unwrap().body;
        assert!(body.starts_with("{\"$sealed\":[\"/context/other\",\"/context/token\"],"), "{body}");
        let stored = serde_json::to_value(commit.after.unwrap().stored()).unwrap();
        assert_eq!(found(&body, "t", "o-1", &records).unwrap(), stored);
        // Elsewhere.
        assert!(matches!(found(&body, "t", "o-2", &records), Err(Closed::Damaged(_))));
        assert!(matches!(found(&body, "u", "o-1", &records), Err(Closed::Locked(_))));
        let sealed = |body: &Value, field: &str| body["context"][field].clone();
        let mut swapped: Value = serde_json::from_str(&body).unwrap();
        let (token, other) = (sealed(&swapped, "token"), sealed(&swapped, "other"));
        (swapped["context"]["token"], swapped["context"]["other"]) = (other, token);
        let Err(Closed::Damaged(told)) = found(&swapped.to_string(), "t", "o-1", &records) else {
            panic!("a field opens as another")
        };
        assert!(told.starts_with("`/context/other` does not open with its data key"), "{told}");
        // What is no list of parts, or no sealed part, opens nothing.
        for wrong in [
            body.replace("[\"/context/other\"", "[\"/context/nothing\""),
            body.replace("\"v1.", "\"v2."),
            body.replace("[\"/context/other\",\"/context/token\"]", "7"),
        ] {
            assert!(matches!(found(&wrong, "t", "o-1", &records), Err(Closed::Damaged(_))), "{wrong}");
        }
    }

    #[test]
    fn what_is_sealed_is_not_read_without_a_vault() {
        let commit = Draft::creation("o-1").effect("x").secret("token").build();
        let records = records();
        let prepared = records.prepare(&commit).unwrap();
        let row = &prepared.effects[0];
        let (key, body) = (row.effect.key.as_bytes(), row.body.as_bytes());
        let rest = [Cell::Text(b"o-1"), Cell::Text(b"order"), Cell::Null, Cell::Integer(1_000)];
        let cells = [&[Cell::Text(b"t"), Cell::Text(key)][..], &rest, &[Cell::Text(body)]].concat();
        let read = |secrets: &Secrets| {
            OUTBOX.reveal::<kernel::commit::Effect, ()>(&cells, Some(row.checksum), 0, secrets)
        };
        assert_eq!(read(&records.secrets).unwrap(), commit.effects[0]);
        let read = OUTBOX.read::<kernel::commit::Effect, ()>(&cells, Some(row.checksum), 0);
        assert!(matches!(read, Err(Fault::Locked(_))));
    }

    #[test]
    fn of_an_entry_nothing_is_read_without_a_key_but_what_operators_look_for() {
        let commit = Draft::creation("o-1").effect("x").secret("token").build();
        let body: Value = serde_json::from_str(&records().prepare(&commit).unwrap().line.body).unwrap();
        let is_plain = |value: &Value| value.get(MARK).is_none();
        let plain = body.as_object().unwrap().iter().filter(|(_, value)| is_plain(value));
        let plain: Vec<&str> = plain.map(|(name, _)| name.as_str()).collect();
        assert_eq!(plain, [LIST, "at", "by", "event", "from", "key", "success", "t", "to"]);
    }

    #[test]
    fn of_an_instance_nothing_is_read_without_a_key_but_what_operators_look_for() {
        const SECRET: &str = "hunter2";
        let secret = json!({ "token": SECRET }).as_object().unwrap().clone();
        let draft = Draft::creation("o-1").session("ana", 1).context("token", json!(SECRET));
        let draft =
            draft.context("stage", json!("paid")).timer(5_000).closed("done").secret("token").asks("q");
        let mut commit = draft.build();
        let after = commit.after.as_mut().unwrap();
        after.timers[0].payload = secret.clone();
        after.closure.as_mut().unwrap().output = secret.clone();
        let key = "o-1:1:0".to_owned();
        after.invocations = vec![Invocation { id: "c".into(), src: "s".into(), input: secret.clone(), key }];
        let mut pending = commit.clarifications[0].clone();
        pending.original = Message::of_text(SECRET);
        let drafts = [("task".to_owned(), secret)].into_iter().collect();
        let talk = ConversationState { pending: Some(pending), drafts, ..ConversationState::default() };
        after.conversation = Some(Arc::new(talk));
        after.flow = Some(Arc::new(FlowState::new(1, at(1))));
        let record = Digest::of(SECRET.as_bytes());
        after.brought_in = Some(BroughtIn::Untouched { record, changed_at: None });
        let body = records().prepare(&commit).unwrap().instance.unwrap().body;
        assert!(!body.contains(SECRET) && !body.contains(&record.to_string()), "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let sealed: Vec<&str> = body[LIST].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let expected = [
            "/context/token",
            "/due/0/3",
            "/invocations",
            "/conversation",
            "/flow",
            "/closure/output",
            "/brought_in",
        ];
        assert_eq!(sealed, expected);
        assert_eq!(body["context"]["stage"], "paid");
        assert_eq!(body["closure"]["at"], "1970-01-01T00:00:01.000Z");
    }
}
