//! The states of an XState machine as a tree, and which of them a target means, there and with us.
//!
//! Owns keys, ids and targets as XState 5 resolves them (`resolveTarget` and `getStateNodeById` of its sources), our
//! names for the states, and how a target is written in our scoping. What else a state says is read by `import`.

use std::collections::{BTreeMap, BTreeSet};

use crate::xstate::json::Json;
use crate::xstate::names::{free_name, legal_name};
use crate::xstate::{Note, below};

/// What XState calls a machine without an id.
const UNNAMED_MACHINE: &str = "(machine)";
/// As many, the top among them, and as deep as a definition may have them.
const STATES_MAX: usize = 2_000;
const STATE_DEPTH_MAX: usize = 32;

pub(super) const TOP: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Atomic,
    Compound,
    Parallel,
    Final,
    Shallow,
    Deep,
}

#[derive(Debug)]
pub(super) struct State<'j> {
    pub json: &'j Json,
    pub kind: Kind,
    pub key: &'j str,
    /// What it is called with us.
    pub name: String,
    pub parent: usize,
    pub children: Vec<usize>,
    /// Where it stands in the JSON.
    pub pointer: String,
}

#[derive(Debug)]
pub(super) struct States<'j> {
    pub all: Vec<State<'j>>,
    by_key: BTreeMap<(usize, &'j str), usize>,
    by_id: BTreeMap<String, usize>,
    by_name: BTreeMap<(usize, String), usize>,
    /// What was noted about names and shapes, independent of what the states say.
    pub notes: Vec<Note>,
}

impl<'j> States<'j> {
    /// # Errors
    /// The tree is larger or deeper than a definition may be.
    pub fn read(top: &'j Json) -> Result<Self, String> {
        let mut states = Self {
            all: Vec::new(),
            by_key: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            notes: Vec::new(),
        };
        states.add(top, "", TOP, String::new(), 0)?;
        let id = top.text_at("id").or(top.text_at("key")).unwrap_or(UNNAMED_MACHINE);
        states.by_id.insert(id.to_owned(), TOP);
        Ok(states)
    }

    fn add(
        &mut self,
        json: &'j Json,
        key: &'j str,
        parent: usize,
        pointer: String,
        depth: usize,
    ) -> Result<usize, String> {
        if depth > STATE_DEPTH_MAX {
            return Err(format!(
                "at {pointer}: states are nested deeper than {STATE_DEPTH_MAX} levels; flatten the machine"
            ));
        }
        let index = self.all.len();
        if index >= STATES_MAX {
            return Err(format!(
                "the machine has more states than the {STATES_MAX} that a definition may have; split it"
            ));
        }
        let name = free_name(&legal_name(key), |name| self.by_name.contains_key(&(parent, name.to_owned())));
        if index != TOP && name != key {
            self.note(&pointer, format!("`{key}` is no name for a state here: it is called `{name}`"));
        }
        if !json.is_map() && *json != Json::Null {
            self.note(&pointer, format!("a state must be an object, not {}: it is left empty", json.noun()));
        }
        let kind = self.kind(json, &pointer);
        if let Some(id) = json.text_at("id").filter(|_| index != TOP)
            && self.by_id.insert(id.to_owned(), index).is_some()
        {
            self.note(&pointer, format!("the id `{id}` is there twice: `#{id}` means this state"));
        }
        let children = json.get("states").map_or(&[][..], Json::entries);
        if index != TOP {
            self.by_name.insert((parent, name.clone()), index);
        }
        self.all.push(State {
            json,
            kind,
            key,
            name,
            parent,
            children: Vec::new(),
            pointer: pointer.clone(),
        });
        if matches!(kind, Kind::Compound | Kind::Parallel) {
            for (key, child) in children {
                let place = below(&below(&pointer, "states"), key);
                let child = self.add(child, key, index, place, depth + 1)?;
                self.all[index].children.push(child);
                self.by_key.insert((index, key), child);
            }
        }
        let own = &self.all[index].children;
        if !own.is_empty() && own.iter().all(|child| self.is_history(*child)) {
            self.note(&pointer, "history of a state without any other child was left out".to_owned());
            self.all[index].kind = Kind::Atomic;
            self.all[index].children.clear();
            self.by_key.retain(|(parent, _), _| *parent != index);
        }
        Ok(index)
    }

    fn kind(&mut self, json: &Json, pointer: &str) -> Kind {
        let has_children = json.get("states").is_some_and(|states| !states.entries().is_empty());
        let normal = if has_children { Kind::Compound } else { Kind::Atomic };
        let history = match json.get("history") {
            Some(Json::Text(depth)) if depth == "deep" => Some(Kind::Deep),
            Some(Json::Text(_) | Json::Bool(true)) => Some(Kind::Shallow),
            _ => None,
        };
        let kind = match json.get("type") {
            None | Some(Json::Null) => history.filter(|_| !has_children).unwrap_or(normal),
            Some(Json::Text(word)) => match word.as_str() {
                "atomic" | "compound" | "choice" => normal,
                "parallel" if has_children => Kind::Parallel,
                "parallel" => {
                    self.note(pointer, "a parallel state without children is an atomic one".to_owned());
                    Kind::Atomic
                }
                "final" if pointer.is_empty() => normal,
                "final" => Kind::Final,
                "history" if pointer.is_empty() => normal,
                "history" => history.unwrap_or(Kind::Shallow),
                other => {
                    self.note(pointer, format!("`{other}` is no type of a state and was left out"));
                    normal
                }
            },
            Some(other) => {
                self.note(pointer, format!("the type of a state must be a string, not {}", other.noun()));
                normal
            }
        };
        let leaf = matches!(kind, Kind::Final | Kind::Shallow | Kind::Deep);
        if leaf && has_children {
            self.note(
                pointer,
                "a final or history state has no children here: they were left out".to_owned(),
            );
        }
        kind
    }

    fn note(&mut self, path: &str, message: String) {
        self.notes.push(Note { path: path.to_owned(), message });
    }

    pub fn is_history(&self, state: usize) -> bool {
        matches!(self.all[state].kind, Kind::Shallow | Kind::Deep)
    }

    /// The state around it and those around that, from the inside out, the top last. None for the top.
    fn above(&self, state: usize) -> impl Iterator<Item = usize> + '_ {
        let next = |state: &usize| (*state != TOP).then(|| self.all[*state].parent);
        std::iter::successors((state != TOP).then(|| self.all[state].parent), next)
    }

    pub fn is_below(&self, state: usize, above: usize) -> bool {
        self.above(state).any(|a| a == above)
    }

    /// Our name for a state as seen from one around it; empty for that one itself.
    pub fn path_from(&self, above: usize, state: usize) -> String {
        let mut names = vec![];
        let mut at = state;
        while at != above && at != TOP {
            names.push(self.all[at].name.as_str());
            at = self.all[at].parent;
        }
        names.reverse();
        names.join(".")
    }

    pub fn path(&self, state: usize) -> String {
        self.path_from(TOP, state)
    }

    /// What XState calls a state in the names of events, unless it has an id of its own.
    pub fn full_id(&self, state: usize) -> String {
        if let Some(id) = self.all[state].json.text_at("id") {
            return id.to_owned();
        }
        let top = self.all[TOP].json;
        let mut keys = vec![];
        let mut at = state;
        while at != TOP {
            keys.push(self.all[at].key);
            at = self.all[at].parent;
        }
        keys.push(top.text_at("id").or(top.text_at("key")).unwrap_or(UNNAMED_MACHINE));
        keys.reverse();
        keys.join(".")
    }

    /// A state by its id, or by an id and the keys below it: `menu`, `menu.open`.
    pub fn by_id(&self, id: &str) -> Option<usize> {
        let keys = split_path(id);
        // The id ends at the first dot for XState; an id with dots in it is tried after that.
        (1..=keys.len()).find_map(|end| {
            let start = self.by_id.get(&keys[..end].join("."))?;
            self.below(*start, &keys[end..])
        })
    }

    fn below(&self, state: usize, keys: &[String]) -> Option<usize> {
        // Nothing between two dots, or behind the last, ends the path.
        let keys = keys.split(String::is_empty).next().unwrap_or_default();
        keys.iter().try_fold(state, |state, key| self.by_key.get(&(state, key.as_str())).copied())
    }

    /// The state that a target of `source` means to XState.
    ///
    /// # Errors
    /// A fragment that says that there is none.
    pub fn resolve(&self, source: usize, target: &str) -> Result<usize, String> {
        let found = match (target.strip_prefix('#'), target.strip_prefix('.')) {
            (Some(id), _) => self.by_id(id),
            (_, Some(child)) => self.below(source, &split_path(child)),
            // XState 4 looked below the machine for the targets of the machine itself; XState 5 refuses them.
            _ if source == TOP => self.below(TOP, &split_path(target)),
            _ => self.below(self.all[source].parent, &split_path(target)),
        };
        found.ok_or_else(|| format!("the target `{target}` is no state"))
    }

    /// Where a compound state begins; its first child where that is not said.
    pub fn initial(&self, state: usize) -> usize {
        let written = match self.all[state].json.get("initial") {
            Some(Json::Map(_)) => self.all[state].json.get("initial").and_then(|i| i.get("target")),
            written => written,
        };
        let written = match written {
            Some(Json::List(targets)) => targets.first(),
            written => written,
        };
        let named = written.and_then(Json::as_text).and_then(|name| self.initial_named(state, name));
        let children = &self.all[state].children;
        let first = || children.iter().copied().find(|child| !self.is_history(*child));
        let remembered = |found: &usize| state == TOP && self.is_history(*found);
        named.filter(|found| !remembered(found)).or_else(first).or(children.first().copied()).unwrap_or(state)
    }

    /// The state below `state` that its `initial` names.
    pub fn initial_named(&self, state: usize, name: &str) -> Option<usize> {
        // XState 5 takes it for a key, whatever is in it; paths and ids are how version 4 wrote it.
        let key = self.all[state].children.iter().copied().find(|child| self.all[*child].key == name);
        let found = key.or_else(|| match name.strip_prefix('#') {
            Some(id) => self.by_id(id),
            None => self.below(state, &split_path(name.strip_prefix('.').unwrap_or(name))),
        });
        found.filter(|found| self.is_below(*found, state))
    }

    pub fn regions(&self, state: usize) -> Vec<usize> {
        self.all[state].children.iter().copied().filter(|child| !self.is_history(*child)).collect()
    }

    /// History of the top: it is never left, so there is nothing to remember.
    pub fn is_void(&self, state: usize) -> bool {
        self.is_history(state) && self.all[state].parent == TOP
    }

    /// What to lead to instead of states that cannot be led to here: the top, and its history. All regions of a
    /// parallel top; nothing for a machine without states.
    pub fn instead(&self, state: usize) -> Option<Vec<usize>> {
        let all = self.all[TOP].children.iter().copied().filter(|child| !self.is_void(*child));
        (state == TOP || self.is_void(state)).then(|| match self.all[TOP].kind {
            Kind::Parallel => all.collect(),
            _ => all.filter(|child| *child == self.initial(TOP)).collect(),
        })
    }

    /// Whether two states can be active together: they lie in different regions of a parallel state.
    pub fn are_orthogonal(&self, one: usize, other: usize) -> bool {
        let place = |state: usize| if self.is_history(state) { self.all[state].parent } else { state };
        let (one, other) = (place(one), place(other));
        let nested = one == other || self.is_below(one, other) || self.is_below(other, one);
        let common = self.above(one).find(|above| self.is_below(other, *above));
        !nested && common.is_some_and(|common| self.all[common].kind == Kind::Parallel)
    }

    /// How a transition of `source` names `target` in our scoping; `None` where every name of it means another state.
    pub fn name_for(&self, source: usize, target: usize) -> Option<String> {
        if source != TOP && self.is_below(target, source) {
            return Some(format!(".{}", self.path_from(source, target)));
        }
        let top = (source == TOP).then_some(TOP);
        let scopes: Vec<usize> = top.into_iter().chain(self.above(source)).collect();
        scopes.iter().filter(|scope| self.is_below(target, **scope)).find_map(|scope| {
            let name = self.path_from(*scope, target);
            let meant = scopes.iter().find_map(|scope| self.named(*scope, &name));
            (meant == Some(target)).then_some(name)
        })
    }

    /// The state of this name below another, as we look it up.
    fn named(&self, above: usize, path: &str) -> Option<usize> {
        path.split('.').try_fold(above, |state, name| self.by_name.get(&(state, name.to_owned())).copied())
    }

    /// Gives the state at the top around `target` a name that no other state has, so that it can be named from
    /// everywhere.
    pub fn make_nameable(&mut self, target: usize) {
        let Some(outermost) = std::iter::once(target).chain(self.above(target)).filter(|s| *s != TOP).last()
        else {
            return;
        };
        let before = self.all[outermost].name.clone();
        let all: BTreeSet<&str> = self.all.iter().map(|state| state.name.as_str()).collect();
        let name = free_name(&before, |name| all.contains(name));
        let path = self.all[outermost].pointer.clone();
        self.note(
            &path,
            format!("`{before}` is called `{name}`: from where it is a target, `{before}` would mean a nearer state"),
        );
        self.by_name.remove(&(TOP, before));
        self.by_name.insert((TOP, name.clone()), outermost);
        self.all[outermost].name = name;
    }
}

/// Keys joined by dots; a backslash keeps a dot from joining.
fn split_path(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => keys.push(String::new()),
            '\\' => push_to_last(&mut keys, chars.next().unwrap_or('\\')),
            c => push_to_last(&mut keys, c),
        }
    }
    keys
}

fn push_to_last(keys: &mut [String], c: char) {
    if let Some(last) = keys.last_mut() {
        last.push(c);
    }
}
