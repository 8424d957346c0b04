//! Calls: what XState invokes as an actor is an effect here, done by whoever takes it.

use crate::diagnostic::shorten;
use crate::xstate::below;
use crate::xstate::import::{Importer, is_nothing};
use crate::xstate::json::Json;
use crate::xstate::names::{Names, legal_name};
use crate::xstate::states::TOP;
use crate::xstate::yaml::{Map, Yaml};

impl<'j> Importer<'j> {
    /// Gives every call its name, before a transition listens to one.
    pub(super) fn name_calls(&mut self) {
        self.calls.clear();
        let mut names = Names::default();
        for state in 0..self.states.all.len() {
            for (at, (call, _)) in self.invokes(state).into_iter().enumerate() {
                // One that names nothing is left out, and nobody can listen to it.
                if source(call).is_none() {
                    continue;
                }
                let id = self.call_id(state, at, call);
                let wished = match call.text_at("id") {
                    Some(id) => legal_name(id),
                    None if state == TOP => "machine".to_owned(),
                    None => self.states.path(state).replace('.', "_"),
                };
                let name = names.stand_in(&format!("{state} {at}"), wished);
                self.calls.entry(id).or_insert(name);
            }
        }
    }

    fn invokes(&self, state: usize) -> Vec<(&'j Json, String)> {
        let path = below(&self.states.all[state].pointer, "invoke");
        match self.states.all[state].json.get("invoke") {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::List(items)) => {
                items.iter().enumerate().map(|(at, item)| (item, below(&path, &at.to_string()))).collect()
            }
            Some(one) => vec![(one, path)],
        }
    }

    fn call_id(&self, state: usize, at: usize, call: &Json) -> String {
        let made_up = || format!("{at}.{}", self.states.full_id(state));
        call.text_at("id").map_or_else(made_up, str::to_owned)
    }

    pub(super) fn put_invokes(&mut self, state: usize, map: &mut Map) {
        let mut calls = Vec::new();
        for (at, (written, path)) in self.invokes(state).into_iter().enumerate() {
            let outer = std::mem::take(&mut self.remarks);
            let call = self.invoke(state, at, written, &path);
            let remarks = std::mem::replace(&mut self.remarks, outer);
            match call {
                Some(mut call) => {
                    call.remarks = remarks;
                    calls.push(call.into());
                }
                None => self.remarks.extend(remarks),
            }
        }
        map.put_some("invoke", Yaml::one_or_many(calls));
    }

    fn invoke(&mut self, state: usize, at: usize, written: &Json, path: &str) -> Option<Map> {
        let Some(src) = source(written) else {
            self.remark(path, "what is invoked is not named: the invocation was left out");
            return None;
        };
        let id = self.call_id(state, at, written);
        let name = self.calls.get(&id).cloned().unwrap_or_default();
        let default =
            if state == TOP { "machine".to_owned() } else { self.states.path(state).replace('.', "_") };
        let mut call = Map::default();
        if written.text_at("id").is_some_and(|id| id != name) {
            self.note(
                &below(path, "id"),
                format!("`{}` is no name for a call here: it is called `{name}`", shorten(&id)),
            );
        }
        if name != default || state == TOP {
            call.put("id", Yaml::text(name));
        }
        call.put("src", Yaml::text(src));
        self.note(
            path,
            format!("the actor `{}` is code: whoever takes this effect has to do it", shorten(src)),
        );
        if let Some(input) = written.get("input") {
            call.put_some("input", self.values(input, &below(path, "input"), "the input of a call"));
        }
        if let Some(timeout) = written.get("timeout").filter(|timeout| !is_nothing(timeout)) {
            match self.delay(timeout) {
                Some(timeout) => call.put("timeout", Yaml::text(timeout.to_string())),
                None => self.remark(
                    &below(path, "timeout"),
                    "the timeout is code that JSON does not hold, and was left out",
                ),
            }
        }
        let transitions = |importer: &mut Self, key: &str| match written.get(key).filter(|t| !is_nothing(t)) {
            Some(transitions) => importer.transitions(state, transitions, &below(path, key)),
            None => Vec::new(),
        };
        let done = transitions(self, "onDone");
        let late = transitions(self, "onTimeout");
        let failed = transitions(self, "onError");
        call.put_some("on_done", Yaml::one_or_many(done));
        if !late.is_empty() {
            self.note(
                &below(path, "onTimeout"),
                "a call that takes too long is an error of the code `timeout` here",
            );
        }
        let late = late.into_iter().map(when_late);
        call.put_some("on_error", Yaml::one_or_many(late.chain(failed).collect()));
        call.put_some(
            "description",
            written.get("description").filter(|d| d.as_text().is_some()).map(Yaml::from),
        );
        self.check_invoke_keys(written, path);
        Some(call)
    }

    fn check_invoke_keys(&mut self, written: &Json, path: &str) {
        const READ: [&str; 9] =
            ["id", "src", "input", "timeout", "onDone", "onError", "onTimeout", "type", "description"];
        for (key, value) in written.entries() {
            if !READ.contains(&key.as_str()) && !is_nothing(value) {
                let what =
                    format!("`{}` of an invocation has no counterpart here and was left out", shorten(key));
                self.note(&below(path, key), what);
            }
        }
    }
}

/// A transition of `on_error` that is taken only if the call took too long.
fn when_late(transition: Yaml) -> Yaml {
    const LATE: &str = "has(event.code) && event.code == 'timeout'";
    let mut map = match transition {
        Yaml::Map(map) => map,
        target => Map { remarks: Vec::new(), entries: vec![("target".to_owned(), target)] },
    };
    match map.entries.iter_mut().find(|(key, _)| key == "guard") {
        Some((_, Yaml::Text(guard))) => *guard = format!("{LATE} && ({guard})"),
        _ => map.entries.insert(0, ("guard".to_owned(), Yaml::text(LATE))),
    }
    map.into()
}

/// What is called.
fn source(written: &Json) -> Option<&str> {
    let src = match written.get("src") {
        Some(Json::Text(src)) => Some(src.as_str()),
        Some(src @ Json::Map(_)) => src.text_at("type").or(src.text_at("id")),
        _ => None,
    };
    src.or(written.text_at("id")).filter(|src| !src.is_empty())
}
