//! Transitions, wherever they stand: under events, delays, `always`, and where something is done.

use std::collections::BTreeMap;

use crate::diagnostic::shorten;
use crate::time::Delay;
use crate::xstate::import::delay::{DAY_MS, LONGEST_MS};
use crate::xstate::import::event::Heard;
use crate::xstate::import::guard::written_guard;
use crate::xstate::import::{Importer, action, extra, is_nothing};
use crate::xstate::json::Json;
use crate::xstate::states::{Kind, TOP};
use crate::xstate::yaml::{Map, Yaml};
use crate::xstate::{EXTRA_KEY, below};

/// What one state listens to, in the order in which it is written.
#[derive(Default)]
struct Heeded {
    on: Vec<(String, Vec<Yaml>)>,
    /// Where in `on` an event is.
    places: BTreeMap<String, usize>,
    after: Vec<(Delay, Vec<Yaml>)>,
    always: Vec<Yaml>,
    done: Vec<Yaml>,
    /// How many delays are not known.
    unknown_delays: i64,
}

impl Heeded {
    fn on(&mut self, event: String, transitions: Vec<Yaml>) {
        match self.places.get(&event) {
            Some(place) => self.on[*place].1.extend(transitions),
            None => {
                self.places.insert(event.clone(), self.on.len());
                self.on.push((event, transitions));
            }
        }
    }

    fn after(&mut self, delay: Delay, transitions: Vec<Yaml>) {
        match self.after.iter_mut().find(|(there, _)| *there == delay) {
            Some((_, there)) => there.extend(transitions),
            None => self.after.push((delay, transitions)),
        }
    }
}

impl Importer<'_> {
    pub(super) fn put_transitions(&mut self, state: usize, map: &mut Map) {
        let json = self.states.all[state].json;
        let path = self.states.all[state].pointer.clone();
        let mut heeded = Heeded::default();
        let on = below(&path, "on");
        for (event, written) in json.get("on").map_or(&[][..], Json::entries) {
            match self.heard(state, event, &on) {
                Heard::Event(name) => {
                    let transitions = self.transitions(state, written, &below(&on, event));
                    heeded.on(name, transitions);
                }
                Heard::Always => heeded.always.extend(self.transitions(state, written, &below(&on, event))),
                Heard::After(delay) => {
                    self.heed_after(state, &delay, written, &below(&on, event), &mut heeded)
                }
                Heard::Nothing => {}
            }
        }
        self.heed_delays(state, &mut heeded);
        if let Some(always) = json.get("always") {
            heeded.always.extend(self.transitions(state, always, &below(&path, "always")));
        }
        if let Some(choice) = json.get("choice").filter(|choice| !is_nothing(choice)) {
            heeded.always.extend(self.transitions(state, choice, &below(&path, "choice")));
        }
        if let Some(failed) = json.get("onError").filter(|failed| !is_nothing(failed)) {
            self.note(
                &below(&path, "onError"),
                "errors of calls and of expressions are the events `error.*` here",
            );
            let transitions = self.transitions(state, failed, &below(&path, "onError"));
            heeded.on("error.*".to_owned(), transitions);
        }
        self.heed_done(state, &mut heeded);
        put_heeded(heeded, map);
    }

    fn heed_done(&mut self, state: usize, heeded: &mut Heeded) {
        let json = self.states.all[state].json;
        let path = below(&self.states.all[state].pointer, "onDone");
        let Some(done) = json.get("onDone").filter(|done| !is_nothing(done)) else {
            return;
        };
        if !matches!(self.states.all[state].kind, Kind::Compound | Kind::Parallel) {
            self.remark(&path, "only a state with children is ever done: `onDone` was left out");
            return;
        }
        heeded.done = self.transitions(state, done, &path);
    }

    fn heed_delays(&mut self, state: usize, heeded: &mut Heeded) {
        let json = self.states.all[state].json;
        let path = self.states.all[state].pointer.clone();
        let at = below(&path, "after");
        for (delay, written) in json.get("after").map_or(&[][..], Json::entries) {
            self.heed_after(state, &Json::text(delay), written, &below(&at, delay), heeded);
        }
        if let Some(timeout) = json.get("timeout").filter(|timeout| !is_nothing(timeout)) {
            match json.get("onTimeout") {
                Some(written) => self.heed_after(state, timeout, written, &below(&path, "onTimeout"), heeded),
                None => self.remark(&below(&path, "timeout"), "a timeout without `onTimeout` was left out"),
            }
        }
        let counts = !heeded.after.is_empty() && extra(json).is_none();
        if state == TOP && counts {
            self.note("/after", "delays at the top count from the last input here, not from the beginning");
        }
    }

    fn heed_after(&mut self, state: usize, delay: &Json, written: &Json, path: &str, heeded: &mut Heeded) {
        let transitions = self.transitions(state, written, path);
        let length = self.delay(delay).unwrap_or_else(|| {
            // Each has a delay of its own, for two of the same would be one.
            let stand_in = Delay::from_millis((LONGEST_MS - heeded.unknown_delays * DAY_MS).max(1));
            heeded.unknown_delays += 1;
            let name = match delay {
                Json::Text(name) => format!("the delay `{}`", shorten(name)),
                _ => "this delay".to_owned(),
            };
            self.remark(path, format!("{name} is code that JSON does not hold: {stand_in} stands here until you write how long it is"));
            stand_in
        });
        let asked = delay.as_text().and_then(|text| text.parse::<f64>().ok());
        if asked.is_some_and(|ms| ms >= 0.0 && ms.is_finite() && ms != length.as_millis() as f64) {
            self.note(
                path,
                format!("a delay is at least 1ms, whole, and at most a hundred years here: it is {length}"),
            );
        }
        heeded.after(length, transitions);
    }

    /// All of one event. An empty list is left out; `{}` and null take the event and do nothing.
    pub(super) fn transitions(&mut self, source: usize, written: &Json, path: &str) -> Vec<Yaml> {
        match written {
            Json::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| self.transition(source, item, &below(path, &at.to_string())))
                .collect(),
            one => self.transition(source, one, path).into_iter().collect(),
        }
    }

    fn transition(&mut self, source: usize, written: &Json, path: &str) -> Option<Yaml> {
        // A comment about a transition that is not there says which one it was.
        let place = path
            .strip_prefix(self.states.all[source].pointer.as_str())
            .unwrap_or(path)
            .trim_start_matches('/');
        let place = place.to_owned();
        if self.is_resolvable(written) {
            self.note(path, "this transition is code, so nobody knows where it leads: it was left out");
            self.remarks.push(format!("{place}: this transition is code, and was left out"));
            return None;
        }
        let outer = std::mem::take(&mut self.remarks);
        let made = self.transition_map(source, written, path);
        let remarks = std::mem::replace(&mut self.remarks, outer);
        match made {
            Some(mut map) => {
                map.remarks = remarks;
                let bare = map.remarks.is_empty()
                    && matches!(&map.entries[..], [(key, Yaml::Text(_))] if key == "target");
                match bare {
                    true => map.entries.pop().map(|(_, target)| target),
                    false => Some(map.into()),
                }
            }
            None => {
                self.remarks.extend(remarks.into_iter().map(|remark| format!("{place}: {remark}")));
                None
            }
        }
    }

    fn transition_map(&mut self, source: usize, written: &Json, path: &str) -> Option<Map> {
        let mut map = Map::default();
        let target = match written {
            Json::Null => None,
            Json::Text(_) => Some(written),
            Json::Map(_) => written.get("target").filter(|target| !is_nothing(target)),
            other => {
                self.remark(
                    path,
                    format!(
                        "a transition must be a target or an object, not {}: it was left out",
                        other.noun()
                    ),
                );
                return None;
            }
        };
        let targets = match target {
            Some(target) => self.targets(source, target, path)?,
            None => Vec::new(),
        };
        self.put_guard(written, path, &mut map);
        let targets = targets.into_iter().map(|target| Yaml::text(self.name_for(source, target))).collect();
        map.put_some("target", Yaml::one_or_many(targets));
        let mut actions = Vec::new();
        if let Some(context) = written.get("context") {
            actions.extend(self.assign(context, &below(path, "context")));
        }
        if let Some(written) = written.get("actions") {
            actions.extend(self.actions(written, &below(path, "actions")));
        }
        action::put_actions(&mut map, actions);
        if written.get("reenter") == Some(&Json::Bool(true)) {
            map.put("reenter", Yaml::Bool(true));
        } else if written.get("internal") == Some(&Json::Bool(false)) {
            self.note(&below(path, "internal"), "`internal: false` of XState 4 is `reenter: true`");
            map.put("reenter", Yaml::Bool(true));
        }
        for key in ["ensures", "reason", "loop"] {
            map.put_some(key, extra(written).and_then(|extra| extra.get(key)).map(Yaml::from));
        }
        map.put_some(
            "description",
            written.get("description").filter(|d| d.as_text().is_some()).map(Yaml::from),
        );
        self.check_transition_keys(written, path);
        Some(map)
    }

    fn put_guard(&mut self, written: &Json, path: &str, map: &mut Map) {
        let mut guards = Vec::new();
        if let Some((guard, at)) = written_guard(written, path) {
            guards.push(self.guard(guard, &at));
        }
        if let Some(state) = written.get("in").filter(|state| !is_nothing(state)) {
            guards.push(self.state_in(state).unwrap_or_else(|| {
                self.remark(
                    &below(path, "in"),
                    "`in` names no state: it refuses until you write it as an expression",
                );
                "false".to_owned()
            }));
        }
        let guard = match &guards[..] {
            [] => return,
            [one] => one.clone(),
            several => several.iter().map(|guard| format!("({guard})")).collect::<Vec<_>>().join(" && "),
        };
        map.put("guard", Yaml::text(guard));
    }

    /// The states that a target or a list of them means; `None`, with a remark, if one of them is nothing.
    fn targets(&mut self, source: usize, written: &Json, path: &str) -> Option<Vec<usize>> {
        let written = match written {
            Json::List(items) => items.iter().collect(),
            one => vec![one],
        };
        let mut targets: Vec<usize> = Vec::new();
        for target in written {
            let found = match target {
                Json::Text(target) => self.states.resolve(source, target),
                other => Err(format!("a target must be a string, not {}", other.noun())),
            };
            let found = match found {
                Ok(found) => self.states.instead(found).unwrap_or_else(|| vec![found]),
                Err(problem) => {
                    self.remark(path, format!("{}: the transition was left out", shorten(&problem)));
                    return None;
                }
            };
            for found in found {
                if targets.contains(&found) {
                    continue;
                }
                if targets.iter().all(|target| self.states.are_orthogonal(*target, found)) {
                    targets.push(found);
                } else {
                    let name = self.states.path(found);
                    self.note(
                        path,
                        format!(
                            "`{name}` cannot be active together with the other targets, and was left out"
                        ),
                    );
                }
            }
        }
        if targets.is_empty() {
            self.remark(path, "the target is a machine without states: the transition was left out");
            return None;
        }
        Some(targets)
    }

    fn check_transition_keys(&mut self, written: &Json, path: &str) {
        const READ: [&str; 17] = [
            "target",
            "guard",
            "cond",
            "when",
            "in",
            "actions",
            "context",
            "reenter",
            "internal",
            "description",
            "meta",
            "source",
            "eventType",
            "event",
            "delay",
            "order",
            "type",
        ];
        for (key, value) in written.entries() {
            let own_meta = key == "meta" && value.entries().iter().any(|(key, _)| key != EXTRA_KEY);
            if (!READ.contains(&key.as_str()) || own_meta) && !is_nothing(value) {
                let what =
                    format!("`{}` of a transition has no counterpart here and was left out", shorten(key));
                self.note(&below(path, key), what);
            }
        }
    }
}

fn put_heeded(heeded: Heeded, map: &mut Map) {
    let Heeded { mut on, after, always, done, .. } = heeded;
    // XState tries what names the event before wildcards, and longer wildcards before shorter ones. Here it is the
    // order of writing.
    on.sort_by_key(|(event, _)| match event.ends_with('*') {
        true => (true, std::cmp::Reverse(event.len())),
        false => (false, std::cmp::Reverse(0)),
    });
    let mut entries = Map::default();
    for (event, transitions) in on {
        entries.put_some(&event, Yaml::one_or_many(transitions));
    }
    if !entries.entries.is_empty() {
        map.put("on", entries);
    }
    let mut entries = Map::default();
    for (delay, transitions) in after {
        entries.put_some(&delay.to_string(), Yaml::one_or_many(transitions));
    }
    if !entries.entries.is_empty() {
        map.put("after", entries);
    }
    map.put_some("always", Yaml::one_or_many(always));
    map.put_some("on_done", Yaml::one_or_many(done));
}
