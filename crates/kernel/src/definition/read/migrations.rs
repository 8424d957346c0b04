//! Migrations, read: which versions each is for, what their names are called here, and what is made of their context.

use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::read::actions::read_values;
use crate::definition::reader::Reader;
use crate::definition::{MigrationDefinition, OtherwiseDefinition};

pub(super) const MIGRATION_KEYS: [&str; 4] = ["from", STATES, "context", "otherwise"];
pub(super) const FLOW_MIGRATION_KEYS: [&str; 3] = ["from", PHASES, "context"];
pub(super) const OTHERWISE_KEYS: [&str; 2] = ["target", "reply"];

const STATES: &str = "states";
const PHASES: &str = "phases";

/// One migration, or a list of them.
pub(super) fn read_migrations(
    reader: &mut Reader<'_>,
    node: &Node,
    keys: &[&str],
) -> Vec<MigrationDefinition> {
    let items = reader.one_or_many(node);
    items.into_iter().filter_map(|item| read_migration(reader, item, keys)).collect()
}

fn read_migration(reader: &mut Reader<'_>, node: &Node, keys: &[&str]) -> Option<MigrationDefinition> {
    let entries = reader.entries(node, "a migration", keys)?;
    let mut from = Vec::new();
    for version in entries.get("from").map(|from| reader.one_or_many(from)).unwrap_or_default() {
        let number = reader.integer(version, "a version", 1, 1_000_000);
        let number = number.and_then(|number| u32::try_from(number).ok());
        from.extend(number.map(|value| Placed { value, place: version.place }));
    }
    let mut moves = Vec::new();
    for key in [STATES, PHASES] {
        let named = entries.get(key).and_then(|node| reader.named(node, &format!("`{key}`")));
        for (there, here) in named.iter().flat_map(|named| named.iter()) {
            let here = match here.kind {
                NodeKind::Null => Some(None),
                _ => reader.text(here, "what it is called here").map(Some),
            };
            moves.extend(here.map(|here| (there.clone(), here)));
        }
    }
    let context = entries.get("context").map(|node| read_values(reader, node, "`context`"));
    Some(MigrationDefinition {
        place: node.place,
        from,
        moves,
        context: context.unwrap_or_default(),
        otherwise: entries.get("otherwise").and_then(|node| read_otherwise(reader, node)),
    })
}

/// A state, or a state with a reply.
fn read_otherwise(reader: &mut Reader<'_>, node: &Node) -> Option<OtherwiseDefinition> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        let target = reader.text(node, "`otherwise`")?;
        return Some(OtherwiseDefinition { target, reply: None });
    }
    let entries = reader.entries(node, "`otherwise`", &OTHERWISE_KEYS)?;
    let Some(target) = entries.get("target") else {
        let message = "`otherwise` has no `target`".to_owned();
        reader.error("missing_key", node.place, message, "say where they go: `target: start`");
        return None;
    };
    let target = reader.text(target, "the target of `otherwise`")?;
    let reply = entries.get("reply").and_then(|reply| reader.text(reply, "the reply of `otherwise`"));
    Some(OtherwiseDefinition { target, reply })
}
