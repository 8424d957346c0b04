//! Whether a state that went and one that came are the same but for the name: offered, never asserted.
//!
//! Said only where there is no doubt about which two are meant: they have one parent, what is in them is equal to the
//! last word, there is something in them, and no other state is like them.

use std::collections::HashMap;

use crate::definition::diff::items::Item;
use crate::definition::diff::{Change, ChangeKind, Part};
use crate::snapshot::is_within;

/// States that went or came, of which more are not looked at: then nothing is sure.
const STATES_MAX: usize = 200;

pub(super) fn hint(changes: &mut [Change], before: &[Item], after: &[Item]) {
    let (gone, new) = (topmost(changes, ChangeKind::Removed), topmost(changes, ChangeKind::Added));
    if gone.is_empty() || new.is_empty() || gone.len() + new.len() > STATES_MAX {
        return;
    }
    let (gone, new) = (by_likeness(&gone, before), by_likeness(&new, after));
    for (likeness, gone) in &gone {
        let (Some(new), [gone]) = (new.get(likeness), &gone[..]) else { continue };
        let [new] = &new[..] else { continue };
        for change in changes.iter_mut().filter(|change| change.part == Part::State) {
            match change.kind {
                ChangeKind::Removed if change.name == *gone => change.maybe_renamed = Some(new.clone()),
                ChangeKind::Added if change.name == *new => change.maybe_renamed = Some(gone.clone()),
                _ => {}
            }
        }
    }
}

/// The states of which something became, without those in them.
fn topmost(changes: &[Change], kind: ChangeKind) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for change in changes.iter().filter(|change| change.part == Part::State && change.kind == kind) {
        if !found.iter().any(|outer| is_within(&change.name, outer)) {
            found.push(change.name.clone());
        }
    }
    found
}

/// States by what is in them, those with nothing in them left out.
fn by_likeness(paths: &[String], items: &[Item]) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for path in paths {
        if let Some(likeness) = likeness(path, items) {
            all.entry(likeness).or_default().push(path.clone());
        }
    }
    all
}

/// All that is said within a state, with its parent and without its own name.
fn likeness(path: &str, items: &[Item]) -> Option<String> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut text = format!("{parent}\n");
    let mut count = 0;
    for item in items {
        let within = matches!(item.part, Part::State | Part::Transition) && is_within(&item.name, path);
        if within {
            let trigger = item.trigger.as_deref().unwrap_or_default();
            let inside = &item.name[path.len()..];
            text.push_str(&format!("{inside}\n{trigger}\n{}\n", item.fingerprint_without(name, path)));
            count += 1;
        }
    }
    let empty = count == 1 && items.iter().any(|item| item.is_plain_state(path));
    (count > 0 && !empty).then_some(text)
}
