//! What changed between two definitions, as data: which part, what of it, how it was and how it is.
//!
//! Owns which items of the two belong together and what of them differs; what a definition's items are is for `items` to
//! say. Definitions are compared as they are read, so that layout, comments, descriptions, other spellings of the same,
//! and defaults that are written out are no changes. What is allowed to change is not for this to say.

mod items;
mod pairs;
mod renamed;
mod written;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::definition::diff::items::{Aspect, Item, items};
use crate::definition::diff::pairs::pairs;
use crate::machine::Machine;

/// What changed, part by part, within each in the order of the later definition; what went is where it stood.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    pub changes: Vec<Change>,
}

impl Difference {
    /// Whether nothing differs that matters.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The parts of a definition, in the order in which their changes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The top: where it begins, what holds everywhere.
    Definition,
    Field,
    Event,
    State,
    Transition,
    Phase,
    /// The settings of the conversation.
    Conversation,
    Intent,
    Reply,
    /// What it says of instances of other versions; called after those.
    Migration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// One thing that is there, that is gone, or that is otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub part: Part,
    /// A state's path, or the name of anything else; of a transition, the path of its state. Empty for the top.
    pub name: String,
    /// What a transition waits for, as a path within its state: `on.go`, `after`, `always`, `on_done`,
    /// `invoke.charge.on_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    pub kind: ChangeKind,
    /// All of what is gone; of what is changed, only what differs. What was not there, or is the default, is left out.
    /// Of phrases, keywords and patterns, only those that went or came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
    /// Of a state: the one of the other definition that is like it but for its name. A guess that only people can confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maybe_renamed: Option<String>,
    /// What instances that run should be looked at for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<&'static str>,
}

/// What changed from one definition to another, whichever of their texts was customised.
pub fn diff(before: &Machine, after: &Machine) -> Difference {
    let (before, after) = (items(before), items(after));
    let mut changes = compare(&before, &after);
    renamed::hint(&mut changes, &before, &after);
    Difference { changes }
}

/// What identifies an item; those of a transition may be several, of which the first that may be is taken.
type Key<'i> = (Part, &'i str, Option<&'i str>);

fn compare(before: &[Item], after: &[Item]) -> Vec<Change> {
    let (mut were, mut are) = (by_key(before), by_key(after));
    // Where each item of `before` is in `after`, and the other way round.
    let mut successor: Vec<Option<usize>> = vec![None; before.len()];
    let mut predecessor: Vec<Option<usize>> = vec![None; after.len()];
    let mut reordered = Vec::new();
    for (key, were) in &mut were {
        let Some(are) = are.get_mut(key) else { continue };
        let paired = pairs(before, were, after, are);
        for (was, is) in &paired {
            (successor[*was], predecessor[*is]) = (Some(*is), Some(*was));
        }
        if pairs::is_reordered(after, &paired) {
            reordered.push((are[0], order_changed(before, were, after, are)));
        }
    }
    // What went stands behind what came before it and stayed, and so before what took its place.
    let mut placed: Vec<((Part, usize, bool), Change)> = Vec::new();
    let mut next = 0;
    for (item, successor) in before.iter().zip(&successor) {
        match successor {
            Some(is) => next = is + 1,
            None => placed.push(((item.part, next, false), item.removed())),
        }
    }
    for (at, item) in after.iter().enumerate() {
        let change = match predecessor[at] {
            None => Some(item.added()),
            Some(was) => changed(&before[was], item),
        };
        placed.extend(change.map(|change| ((item.part, at, true), change)));
    }
    placed.extend(reordered.into_iter().map(|(at, change)| ((change.part, at, true), change)));
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, change)| change).collect()
}

fn by_key(items: &[Item]) -> HashMap<Key<'_>, Vec<usize>> {
    let mut all: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        all.entry(item.key()).or_default().push(at);
    }
    all
}

/// Of transitions for one trigger, that another one is asked first.
fn order_changed(before: &[Item], were: &[usize], after: &[Item], are: &[usize]) -> Change {
    let order = |items: &[Item], of: &[usize]| {
        let each = of.iter().map(|at| Value::from(items[*at].in_short()));
        Map::from_iter([("order".to_owned(), Value::from_iter(each))])
    };
    let change = after[are[0]].change(ChangeKind::Changed);
    Change { before: Some(order(before, were)), after: Some(order(after, are)), ..change }
}

fn changed(was: &Item, is: &Item) -> Option<Change> {
    let (mut before, mut after) = (Map::new(), Map::new());
    let keys = was.aspects.keys().chain(is.aspects.keys().filter(|key| !was.aspects.contains_key(*key)));
    for key in keys {
        let (was, is) = differing(was.aspects.get(key), is.aspects.get(key));
        before.extend(was.map(|was| (key.clone(), was)));
        after.extend(is.map(|is| (key.clone(), is)));
    }
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let remark = is.remark_if_changed(&before, &after);
    Some(Change { before: Some(before), after: Some(after), remark, ..is.change(ChangeKind::Changed) })
}

/// What to say of an aspect before and after.
fn differing(was: Option<&Aspect>, is: Option<&Aspect>) -> (Option<Value>, Option<Value>) {
    if was == is {
        return (None, None);
    }
    let words = |aspect: Option<&Aspect>| match aspect {
        Some(Aspect::Words(words)) => words.clone(),
        _ => Vec::new(),
    };
    match (was, is) {
        (Some(Aspect::Words(_)), _) | (_, Some(Aspect::Words(_))) => {
            let (was, is) = (words(was), words(is));
            let (gone, new) = (missing(&was, &is), missing(&is, &was));
            let some = |words: Vec<String>| (!words.is_empty()).then(|| Value::from(words));
            (some(gone), some(new))
        }
        (Some(Aspect::Order(was)), Some(Aspect::Order(is))) => match same_order(was, is) {
            true => (None, None),
            false => (Some(Value::from(was.as_slice())), Some(Value::from(is.as_slice()))),
        },
        // An order that came or went with what it is the order of.
        (Some(Aspect::Order(_)), _) | (_, Some(Aspect::Order(_))) => (None, None),
        (was, is) => (was.map(Aspect::to_json), is.map(Aspect::to_json)),
    }
}

/// The words of the one list that the other does not have.
fn missing(words: &[String], others: &[String]) -> Vec<String> {
    let others: HashSet<&String> = others.iter().collect();
    words.iter().filter(|word| !others.contains(word)).cloned().collect()
}

/// Whether the names that both have follow each other alike.
fn same_order(was: &[String], is: &[String]) -> bool {
    let places: BTreeMap<&String, usize> = is.iter().enumerate().map(|(at, name)| (name, at)).collect();
    let kept: Vec<usize> = was.iter().filter_map(|name| places.get(name).copied()).collect();
    kept.is_sorted()
}
