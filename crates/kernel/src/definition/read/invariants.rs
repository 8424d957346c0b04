//! What has to hold, read: a name with an expression, or with a map that also says what whoever is refused is told.

use crate::definition::InvariantDefinition;
use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::reader::Reader;
use crate::diagnostic::shorten;

pub(super) const INVARIANT_KEYS: [&str; 2] = ["check", "message"];

/// A sentence or two.
const MESSAGE_BYTES_MAX: usize = 1_000;

pub(super) fn read_invariants(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<InvariantDefinition> {
    let Some(named) = reader.named(node, what) else {
        return Vec::new();
    };
    named.iter().filter_map(|(name, written)| read_invariant(reader, name, written)).collect()
}

/// `expression`, or `{ check: expression, message: text }`.
fn read_invariant(
    reader: &mut Reader<'_>,
    name: &Placed<String>,
    node: &Node,
) -> Option<InvariantDefinition> {
    reader.name(name, "an invariant");
    if let NodeKind::Text(check) = &node.kind {
        let check = Placed { value: check.clone(), place: node.place };
        return Some(InvariantDefinition { name: name.clone(), check, message: None });
    }
    let what = format!("the invariant `{}`", shorten(&name.value));
    if !matches!(node.kind, NodeKind::Map(_)) {
        reader.wrong_type(node, &what, "an expression or a map");
        return None;
    }
    let entries = reader.entries(node, &what, &INVARIANT_KEYS)?;
    let message = entries.get("message").and_then(|m| reader.text(m, "`message`"));
    if let Some(long) = message.as_ref().filter(|text| text.value.len() > MESSAGE_BYTES_MAX) {
        let message = format!("the message of `{}` has {} bytes", shorten(&name.value), long.value.len());
        let help = format!("{MESSAGE_BYTES_MAX} are allowed, as every refusal is stored with it");
        reader.error("too_large", long.place, message, help);
    }
    let message = message.map(|text| text.value);
    let Some(check) = entries.get("check") else {
        let message = format!("{what} has no `check`");
        reader.error("missing_key", name.place, message, "say what has to hold: `check: context.count >= 0`");
        return None;
    };
    let check = reader.text(check, "`check`")?;
    Some(InvariantDefinition { name: name.clone(), check, message })
}
