//! An overlay: what one tenant wants otherwise in a definition, and the definition that the two come to.
//!
//! The text of a customised definition is that of its base, a line `---`, and that of its overlay: hash, storage and
//! pinning are those of any definition. Owns how the two are told apart and merged, and where in which of them a place
//! is. Whether the merged whole is any good is for `definition::load` to say; whose an overlay is, for the engine.

use std::collections::HashMap;

use serde::Serialize;

use crate::definition::document::{self, Node, NodeKind, Placed};
use crate::definition::{GUESSES_MAX, load};
use crate::diagnostic::{Diagnostic, Place, nearest, shorten};
use crate::id::TenantId;
use crate::machine::Machine;

const MARKER: &str = "---";
/// What an overlay begins with: the name of its base.
pub(crate) const OVERLAY: &str = "overlay";
const TENANT: &str = "tenant";
/// What names a base; an overlay cannot make it another's.
const NAMES: [&str; 2] = ["machine", "flow"];

/// Which of the two texts of a customised definition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Base,
    Overlay,
}

/// The two texts of a customised definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'s> {
    pub base: &'s str,
    pub overlay: &'s str,
    /// Where the overlay begins in the whole.
    offset: u32,
    /// How many lines come before it.
    lines: u32,
}

/// What an overlay says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name of the machine or flow that it changes; empty if that is no text.
    pub base: String,
    /// Whose it is, if it says so and could be.
    pub tenant: Option<TenantId>,
}

impl Header {
    /// `None` for a text that is no overlay, or that nothing can be read of.
    pub fn read(text: &str) -> Option<Self> {
        let node = document::read(text).ok()?;
        let text_at = |key: &str| match &entry(&node, key)?.1.kind {
            NodeKind::Text(text) => Some(text.clone()),
            _ => None,
        };
        entry(&node, OVERLAY)?;
        let tenant = text_at(TENANT).and_then(|tenant| TenantId::parse(&tenant).ok());
        Some(Self { base: text_at(OVERLAY).unwrap_or_default(), tenant })
    }
}

impl<'s> Parts<'s> {
    /// `None` for a definition that nobody has customised. A line that begins with the marker stands in no YAML text
    /// but between two documents.
    pub fn of(source: &'s str) -> Option<Self> {
        let (mut offset, mut begun) = (0, false);
        for (number, line) in source.split_inclusive('\n').enumerate() {
            let after = offset + line.len();
            if begun && line.trim_end() == MARKER {
                let overlay = &source[after..];
                let (offset, lines) = (u32::try_from(after).ok()?, u32::try_from(number + 1).ok()?);
                let parts = Self { base: &source[..after - line.len()], overlay, offset, lines };
                return overlay.lines().any(says_something).then_some(parts);
            }
            begun |= says_something(line);
            offset = after;
        }
        None
    }

    /// Which text a place in the whole is in, and where there.
    pub fn locate(&self, place: Place) -> (Part, Place) {
        if place.line <= self.lines {
            return (Part::Base, place);
        }
        let there = Place {
            line: place.line - self.lines,
            offset: place.offset.saturating_sub(self.offset),
            ..place
        };
        (Part::Overlay, there)
    }

    /// Where the overlay begins in the whole.
    pub fn start(&self) -> Place {
        self.whole(Place::START)
    }

    fn whole(&self, place: Place) -> Place {
        Place { line: place.line + self.lines, offset: place.offset + self.offset, ..place }
    }

    fn move_to_whole(&self, node: &mut Node) {
        node.place = self.whole(node.place);
        match &mut node.kind {
            NodeKind::List(items) => items.iter_mut().for_each(|item| self.move_to_whole(item)),
            NodeKind::Map(entries) => {
                for (key, value) in entries {
                    key.place = self.whole(key.place);
                    self.move_to_whole(value);
                }
            }
            _ => {}
        }
    }
}

/// Whether a line is part of a document, and not around one.
fn says_something(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with(['#', '%']) || line == MARKER || line == "...")
}

/// The text of a customised definition.
pub fn combine(base: &str, overlay: &str) -> String {
    let end = if base.ends_with('\n') { "" } else { "\n" };
    format!("{base}{end}{MARKER}\n{overlay}")
}

/// Loads what an overlay makes of a base. Diagnostics say in which of the two they are, and where there.
pub fn load_over(base: &str, overlay: &str) -> (Option<Machine>, Vec<Diagnostic>) {
    let alone = match document::read(overlay) {
        Ok(node) if entry(&node, OVERLAY).is_some() => None,
        Ok(_) => {
            let message = "the text is no overlay: it has no `overlay`".to_owned();
            let help = "begin with `overlay: ` and the name of the machine or flow that it changes";
            Some(Diagnostic::error("bad_overlay", Place::START, message, help.into()))
        }
        Err(diagnostic) => Some(*diagnostic),
    };
    if let Some(mut diagnostic) = alone {
        diagnostic.part = Some(Part::Overlay);
        return (None, vec![diagnostic]);
    }
    let source = combine(base, overlay);
    let (machine, mut diagnostics) = load(&source);
    locate(&source, &mut diagnostics);
    (machine, diagnostics)
}

/// Says of each diagnostic of `source` in which text it is, and where there. Those of a definition that nobody has
/// customised stay as they are.
pub fn locate(source: &str, diagnostics: &mut [Diagnostic]) {
    let Some(parts) = Parts::of(source) else { return };
    for diagnostic in diagnostics {
        let (part, place) = parts.locate(diagnostic.place);
        diagnostic.part = Some(part);
        (diagnostic.line, diagnostic.column, diagnostic.place) = (place.line, place.column, place);
    }
}

/// Reads a definition, customised or not, and says what an overlay changes that it cannot.
///
/// # Errors
/// The one syntax error at which reading stopped.
pub(crate) fn read(source: &str) -> Result<(Node, Vec<Diagnostic>), Box<Diagnostic>> {
    let Some(parts) = Parts::of(source) else {
        let node = document::read(source)?;
        return match entry(&node, OVERLAY) {
            Some((key, _)) if NAMES.iter().all(|name| entry(&node, name).is_none()) => {
                let message = "an overlay alone is no definition".to_owned();
                let help = "it is checked and loaded over its base, whose file stands in the same folder";
                Err(Box::new(Diagnostic::error("bad_overlay", key.place, message, help.into())))
            }
            _ => Ok((node, Vec::new())),
        };
    };
    document::check_size(source)?;
    let mut overlay = document::read(parts.overlay).map_err(|mut diagnostic| {
        diagnostic.place = parts.whole(diagnostic.place);
        diagnostic.line = diagnostic.place.line;
        diagnostic
    })?;
    // Two definitions in one text are a mistake that the parser has words for.
    if entry(&overlay, OVERLAY).is_none() {
        return Ok((document::read(source)?, Vec::new()));
    }
    parts.move_to_whole(&mut overlay);
    let mut base = document::read(parts.base)?;
    let mut merge = Merge { diagnostics: Vec::new() };
    merge.all(&mut base, overlay);
    Ok((base, merge.diagnostics))
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n (Placed<String>, Node)> {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().find(|(name, _)| name.value == key),
        _ => None,
    }
}

struct Merge {
    diagnostics: Vec<Diagnostic>,
}

impl Merge {
    fn error(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, place, message, help.into()));
    }

    /// `overlay` is a map, and `base` what it changes.
    fn all(&mut self, base: &mut Node, overlay: Node) {
        let NodeKind::Map(changes) = overlay.kind else { return };
        let name = NAMES.iter().find_map(|key| entry(base, key)).map(|(_, name)| name.clone());
        let NodeKind::Map(entries) = &mut base.kind else { return };
        let changes = changes.into_iter().filter(|(key, value)| self.is_change(key, value, name.as_ref()));
        let changes: Vec<_> = changes.collect();
        self.map(entries, changes, "the base");
    }

    /// Whether an entry at the top is about the base, and not about the overlay itself.
    fn is_change(&mut self, key: &Placed<String>, value: &Node, base: Option<&Node>) -> bool {
        match (key.value.as_str(), &value.kind) {
            (OVERLAY, NodeKind::Text(name)) => {
                if let Some(Node { kind: NodeKind::Text(base), .. }) = base
                    && base != name
                {
                    let message = format!("the overlay is for `{}`, and its base is `{base}`", shorten(name));
                    self.error("bad_overlay", value.place, message, format!("write `overlay: {base}`"));
                }
                false
            }
            (OVERLAY, _) => {
                let message = format!("`overlay` must be text, not {}", value.noun());
                self.error("wrong_type", value.place, message, "write the name of the base");
                false
            }
            (TENANT, NodeKind::Text(tenant)) => {
                if let Err(problem) = TenantId::parse(tenant) {
                    self.error("bad_name", value.place, problem, "write the tenant's name");
                }
                false
            }
            (TENANT, _) => {
                let message = format!("`tenant` must be text, not {}", value.noun());
                self.error("wrong_type", value.place, message, "write the tenant's name, or leave it out");
                false
            }
            (name, _) if NAMES.contains(&name) => {
                let message = format!("an overlay cannot change `{name}`");
                self.error("bad_overlay", key.place, message, "leave it out: the name stays the base's");
                false
            }
            _ => true,
        }
    }

    /// Maps merge, null removes, everything else replaces. What is new is taken as it is written, nulls and all.
    fn map(
        &mut self,
        base: &mut Vec<(Placed<String>, Node)>,
        changes: Vec<(Placed<String>, Node)>,
        what: &str,
    ) {
        let mut places: HashMap<String, usize> =
            base.iter().enumerate().map(|(at, (key, _))| (key.value.clone(), at)).collect();
        let mut merged: Vec<Option<(Placed<String>, Node)>> = base.drain(..).map(Some).collect();
        for (key, change) in changes {
            let at = places.get(&key.value).copied();
            match (at.and_then(|at| merged[at].as_mut()), change.kind) {
                (Some((_, Node { kind: NodeKind::Map(there), .. })), NodeKind::Map(changes)) => {
                    self.map(there, changes, &format!("`{}` of the base", shorten(&key.value)));
                }
                (Some(_), NodeKind::Null) => {
                    places.remove(&key.value);
                    merged[at.unwrap_or_default()] = None;
                }
                (Some(there), kind) => *there = (key, Node { kind, place: change.place }),
                (None, NodeKind::Null) => {
                    let message = format!("{what} has no `{}` to remove", shorten(&key.value));
                    let mut help = "write `{}` for something new that is empty".to_owned();
                    if !places.is_empty() && self.diagnostics.len() < GUESSES_MAX {
                        let known = places.keys().map(String::as_str);
                        help = format!("{}; {help}", nearest(&key.value, known));
                    }
                    self.error("unknown_key", key.place, message, help);
                }
                (None, kind) => merged.push(Some((key, Node { kind, place: change.place }))),
            }
        }
        base.extend(merged.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn maps_merge_null_removes_and_everything_else_replaces() {
        let base = "machine: m\na: { x: 1, y: { z: 2 }, l: [1, 2] }\nb: old\nempty:\n";
        for (overlay, expected) in [
            (
                "b: new",
                json!({"machine": "m", "a": {"x": 1, "y": {"z": 2}, "l": [1, 2]}, "b": "new", "empty": null}),
            ),
            ("a: null\nb:", json!({"machine": "m", "empty": null})),
            (
                "a: { y: { w: 3 }, x: null }",
                json!({"machine": "m", "a": {"y": {"z": 2, "w": 3}, "l": [1, 2]}, "b": "old", "empty": null}),
            ),
            (
                "a: { l: [3] }\nb: { c: 1 }",
                json!({"machine": "m", "a": {"x": 1, "y": {"z": 2}, "l": [3]}, "b": {"c": 1}, "empty": null}),
            ),
            // What is new is taken as it is written: there is nothing to remove in it.
            (
                "n: { d: null, e: [null] }\nempty: { x: null }",
                json!({"machine": "m", "a": {"x": 1, "y": {"z": 2}, "l": [1, 2]}, "b": "old", "n": {"d": null, "e": [null]}, "empty": {"x": null}}),
            ),
        ] {
            for base in [base, base.trim_end()] {
                let (node, diagnostics) = read(&combine(base, &format!("overlay: m\n{overlay}"))).unwrap();
                assert_eq!((node.to_json(), diagnostics), (expected.clone(), Vec::new()), "{overlay}");
            }
        }
    }

    #[test]
    fn what_is_changed_keeps_its_turn_and_what_is_new_comes_last() {
        let source =
            combine("machine: m\nz: 1\ny: { b: 1, a: 1 }\n", "overlay: m\nn: 1\ny: { c: 1, b: 2 }\nz: 2\n");
        let NodeKind::Map(entries) = read(&source).unwrap().0.kind else { panic!("no map") };
        let keys = |entries: &[(Placed<String>, Node)]| {
            entries.iter().map(|(key, _)| key.value.clone()).collect::<String>()
        };
        assert_eq!(keys(&entries), "machinezyn");
        let NodeKind::Map(inner) = &entries[2].1.kind else { panic!("no map") };
        assert_eq!(keys(inner), "bac");
    }

    #[test]
    fn a_place_is_in_the_base_or_in_the_overlay_and_the_text_there_is_what_it_says() {
        let source = combine("---\n# a lamp\nmachine: m\nold: ä\n", "# ours\noverlay: m\n\nnew: ö\n");
        let parts = Parts::of(&source).unwrap();
        let node = read(&source).unwrap().0;
        for (key, part, line) in
            [("machine", Part::Base, 3), ("old", Part::Base, 4), ("new", Part::Overlay, 4)]
        {
            let (found, place) = parts.locate(entry(&node, key).unwrap().0.place);
            let text = if part == Part::Base { parts.base } else { parts.overlay };
            let at = &text[place.offset as usize..][..place.length as usize];
            assert_eq!((found, place.line, at), (part, line, key));
        }
    }

    #[test]
    fn only_a_line_of_its_own_between_two_documents_is_the_marker() {
        for alone in [
            "machine: m\n",
            "---\nmachine: m\n",
            "# a\n%YAML 1.2\n---\nmachine: m\n---\n# nothing\n",
            "machine: m\ntext: |\n  ---\n",
            "machine: m\n--- {overlay: m}\n",
            "",
        ] {
            assert_eq!(Parts::of(alone), None, "{alone:?}");
        }
        for overlay in ["overlay: m\n", "---\noverlay: m\n", "{\"overlay\": \"m\"}"] {
            for base in ["machine: m\n", "{\"machine\": \"m\"}", "---\r\nmachine: m\r\n"] {
                let source = combine(base, overlay);
                let parts = Parts::of(&source).unwrap();
                assert_eq!((parts.base.trim_end(), parts.overlay), (base.trim_end(), overlay));
                assert_eq!(read(&source).unwrap().1, Vec::new());
                // And again: the base of a customised definition is what it was.
                assert_eq!(combine(parts.base, parts.overlay), source);
            }
        }
    }

    #[test]
    fn a_flow_is_customised_as_a_machine_is() {
        let base =
            "flow: move\nphases:\n  pack: {}\n  insure: { needs: [pack] }\n  ship: { needs: [insure] }\n";
        let phases = |overlay: &str| {
            let (machine, diagnostics) = load_over(base, overlay);
            let machine = machine.ok_or(diagnostics)?;
            let names = machine.flow.as_ref().unwrap().phases.iter().map(|phase| phase.name.to_string());
            Ok((machine.is_customised(), names.collect::<Vec<_>>().join(" ")))
        };
        let without = "overlay: move\nphases: { insure: null, ship: { needs: [pack] } }\n";
        assert_eq!(phases(without), Ok((true, "pack ship".to_owned())));
        let more = "overlay: move\nphases: { greet: { needs: [ship], approval: true } }\n";
        assert_eq!(phases(more), Ok((true, "pack insure ship greet".to_owned())));
        // What the base says is wrong once the phase is gone.
        let told: Vec<Diagnostic> = phases("overlay: move\nphases: { insure: null }\n").unwrap_err();
        assert_eq!((told[0].part, told[0].line), (Some(Part::Base), 5), "{told:?}");
    }

    #[test]
    fn a_header_is_read_of_overlays_only() {
        let acme = TenantId::parse("acme").ok();
        for (text, expected) in [
            ("overlay: m\ntenant: acme\n", Some(("m", acme))),
            ("overlay: m\n", Some(("m", None))),
            ("overlay: [m]\ntenant: a~b\n", Some(("", None))),
            ("machine: m\n", None),
            ("[overlay]", None),
            ("overlay: {", None),
        ] {
            let expected = expected.map(|(base, tenant)| Header { base: base.to_owned(), tenant });
            assert_eq!(Header::read(text), expected, "{text}");
        }
    }
}
