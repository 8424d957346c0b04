//! Reading actions, wherever they may stand, and the values that go with them.
//!
//! A text where a value is expected is an expression; whether it is a good one is `compile`'s to say.

use crate::definition::document::{Node, NodeKind, Placed};
use crate::definition::reader::Reader;
use crate::definition::{ActionDefinition, DelayDefinition, RaiseDefinition, ValueDefinition};
use crate::time::Delay;

/// What an action may say. A map may hold several; they run in the order in which they are written.
pub(super) const ACTION_KEYS: [&str; 10] =
    ["assign", "reply", "raise", "cancel", "if", "then", "else", "for_each", "as", "do"];
pub(super) const RAISE_KEYS: [&str; 4] = ["event", "data", "delay", "id"];
/// What an item of `for_each`, or of a list that is offered, is called unless `as` says otherwise.
pub(crate) const ITEM: &str = "item";
/// Actions recurse when they run.
const ACTION_DEPTH_MAX: usize = 16;

pub(super) fn read_actions(reader: &mut Reader<'_>, node: &Node) -> Vec<ActionDefinition> {
    read_nested(reader, node, 0)
}

fn read_nested(reader: &mut Reader<'_>, node: &Node, depth: usize) -> Vec<ActionDefinition> {
    if depth > ACTION_DEPTH_MAX {
        let message = format!("actions are nested deeper than {ACTION_DEPTH_MAX} levels");
        reader.error("too_deep", node.place, message, "use `guard` on several transitions instead");
        return Vec::new();
    }
    let mut actions = Vec::new();
    for item in reader.one_or_many(node) {
        if let Some(entries) = reader.entries(item, "an action", &ACTION_KEYS) {
            let found: Vec<(&Placed<String>, &Node)> = entries.iter().collect();
            actions.extend(read_action_map(reader, &found, depth));
        }
    }
    actions
}

/// The actions among the keys of a transition, or of an action, in the order in which they are written.
pub(super) fn read_inline<'n>(
    reader: &mut Reader<'_>,
    entries: impl Iterator<Item = (&'n Placed<String>, &'n Node)>,
) -> Vec<ActionDefinition> {
    read_action_map(reader, &entries.collect::<Vec<_>>(), 0)
}

fn read_action_map(
    reader: &mut Reader<'_>,
    entries: &[(&Placed<String>, &Node)],
    depth: usize,
) -> Vec<ActionDefinition> {
    let get = |name: &str| entries.iter().find(|(key, _)| key.value == name).map(|(_, node)| *node);
    let mut actions = Vec::new();
    for (key, node) in entries {
        let alone = |reader: &mut Reader<'_>, with: &str| {
            if get(with).is_none() {
                let message = format!("`{}` stands without `{with}`", key.value);
                reader.error("missing_key", key.place, message, format!("write `{with}` beside it"));
            }
        };
        match key.value.as_str() {
            "assign" => actions.extend(
                read_values(reader, node, "`assign`")
                    .into_iter()
                    .map(|(field, value)| ActionDefinition::Assign { field, value }),
            ),
            "reply" => {
                let names = reader.texts(node, "`reply`");
                actions.extend(names.into_iter().map(|name| ActionDefinition::Reply { name }));
            }
            "raise" => actions.extend(read_raises(reader, node)),
            "cancel" => {
                let ids = reader.texts(node, "`cancel`");
                actions.extend(ids.into_iter().map(|id| ActionDefinition::Cancel { id }));
            }
            "if" => {
                let condition = reader.text(node, "`if`");
                alone(reader, "then");
                let mut branch =
                    |name| get(name).map(|n| read_nested(reader, n, depth + 1)).unwrap_or_default();
                let (then, otherwise) = (branch("then"), branch("else"));
                actions.extend(condition.map(|condition| ActionDefinition::If {
                    condition,
                    then,
                    otherwise,
                }));
            }
            "for_each" => {
                let list = reader.text(node, "`for_each`");
                alone(reader, "do");
                let item = get("as").and_then(|node| reader.text(node, "`as`"));
                let item = item.filter(|name| reader.variable(name));
                let body = get("do").map(|n| read_nested(reader, n, depth + 1)).unwrap_or_default();
                let item = item.map_or_else(|| ITEM.to_owned(), |name| name.value);
                actions.extend(list.map(|list| ActionDefinition::ForEach { list, item, body }));
            }
            "then" | "else" => alone(reader, "if"),
            "do" | "as" => alone(reader, "for_each"),
            _ => {}
        }
    }
    actions
}

/// `event`, `{ event: …, data: …, delay: …, id: … }`, or a list of either.
fn read_raises(reader: &mut Reader<'_>, node: &Node) -> Vec<ActionDefinition> {
    let items = reader.one_or_many(node);
    items.into_iter().filter_map(|item| read_raise(reader, item)).map(ActionDefinition::Raise).collect()
}

fn read_raise(reader: &mut Reader<'_>, node: &Node) -> Option<RaiseDefinition> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        let event = reader.text(node, "`raise`")?;
        return Some(RaiseDefinition { event, data: Vec::new(), delay: None, id: None });
    }
    let entries = reader.entries(node, "`raise`", &RAISE_KEYS)?;
    let Some(event) = entries.get("event") else {
        let message = "`raise` names no event".to_owned();
        reader.error("missing_key", node.place, message, "write `raise: { event: … }`");
        return None;
    };
    let event = reader.text(event, "the event of `raise`")?;
    let data = entries.get("data").map(|d| read_values(reader, d, "`data`")).unwrap_or_default();
    let delay = entries.get("delay").and_then(|d| reader.text(d, "`delay`")).and_then(|written| {
        match Delay::parse(&written.value) {
            Ok(Delay::ZERO) => {
                let message = "a delay of nothing at all would come at once".to_owned();
                let help =
                    "write a longer delay, or drop `delay`: then the event comes before any from outside";
                reader.error("bad_delay", written.place, message, help);
                None
            }
            Ok(delay) => Some(DelayDefinition::Fixed(delay)),
            Err(problem) if is_like_a_delay(&written.value) => {
                let help = "a number and a unit (d, h, m, s or ms), or an expression that gives milliseconds";
                reader.error("bad_delay", written.place, problem, help);
                None
            }
            Err(_) => Some(DelayDefinition::Expression(written)),
        }
    });
    let id = entries.get("id").and_then(|id| reader.text(id, "`id`"));
    let id = id.filter(|id| reader.name(id, "a delayed event"));
    if let (Some(id), None) = (&id, entries.get("delay")) {
        let message = format!("`id: {}` stands on an event without a `delay`", id.value);
        let help = "only what comes later can be cancelled; add `delay`, or drop `id`";
        reader.error("missing_key", id.place, message, help);
    }
    Some(RaiseDefinition { event, data, delay, id })
}

/// Numbers and letters in turn, as in `5min`: no expression, but a delay with a unit that is none.
fn is_like_a_delay(text: &str) -> bool {
    let made_of = text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_alphabetic());
    made_of && text.starts_with(|c: char| c.is_ascii_digit())
}

/// Names with their values.
pub(crate) fn read_values(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Vec<(Placed<String>, ValueDefinition)> {
    let Some(fields) = reader.named(node, what) else {
        return Vec::new();
    };
    let value = |(name, value): (&Placed<String>, &Node)| {
        let value = match &value.kind {
            NodeKind::Text(source) => {
                ValueDefinition::Expression(Placed { value: source.clone(), place: value.place })
            }
            _ => ValueDefinition::Literal(value.to_json()),
        };
        (name.clone(), value)
    };
    fields.iter().map(value).collect()
}
