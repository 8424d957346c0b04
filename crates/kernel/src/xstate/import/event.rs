//! The names of events: the author's own, and those that come of themselves.

use crate::definition::{EXPRESSION_ERROR, is_internal};
use crate::diagnostic::shorten;
use crate::xstate::below;
use crate::xstate::import::Importer;
use crate::xstate::json::Json;
use crate::xstate::names::legal_event;
use crate::xstate::states::Kind;

/// What an event that a transition listens to is with us.
pub(super) enum Heard {
    Event(String),
    /// No event at all: version 4 wrote `""` for what is `always` now.
    Always,
    /// A timer of the state itself, as a serialised machine names it.
    After(Json),
    /// Nothing here ever takes such an event.
    Nothing,
}

/// How events that come of themselves begin, in versions 5 and 6 and then in 4, and with us. What follows is an id.
const OWN_EVENTS: [(&str, &str); 6] = [
    ("xstate.done.state.", "done.state."),
    ("xstate.done.actor.", "done.invoke."),
    ("xstate.error.actor.", "error.invoke."),
    ("done.state.", "done.state."),
    ("done.invoke.", "done.invoke."),
    ("error.platform.", "error.invoke."),
];

impl Importer<'_> {
    pub(super) fn heard(&mut self, state: usize, written: &str, on: &str) -> Heard {
        let path = below(on, written);
        if written.is_empty() {
            self.note(&path, "a transition without an event is `always` here");
            return Heard::Always;
        }
        if written == "*" {
            return Heard::Event(written.to_owned());
        }
        if let Some(timer) = written.strip_prefix("xstate.after.")
            && let Some(delay) = timer.strip_suffix(&format!(".{}", self.states.full_id(state)))
        {
            return Heard::After(Json::text(delay));
        }
        match written {
            "xstate.done.state.*" => return Heard::Event("done.state.*".to_owned()),
            "xstate.done.actor.*" => return Heard::Event("done.invoke.*".to_owned()),
            "xstate.error.actor.*" => return Heard::Event("error.invoke.*".to_owned()),
            "xstate.done.*" => return Heard::Event("done.*".to_owned()),
            "xstate.error.execution" => return Heard::Event(EXPRESSION_ERROR.to_owned()),
            "xstate.error.*" => return Heard::Event("error.*".to_owned()),
            _ => {}
        }
        for (prefix, ours) in OWN_EVENTS {
            let Some(id) = written.strip_prefix(prefix) else {
                continue;
            };
            let (id, wildcard) = id.strip_suffix(".*").map_or((id, ""), |id| (id, ".*"));
            let found = match ours {
                "done.state." => {
                    let done = |state: &usize| {
                        matches!(self.states.all[*state].kind, Kind::Compound | Kind::Parallel)
                    };
                    let found = self.states.by_id(id).filter(done);
                    found.map(|state| self.states.path(state)).filter(|path| !path.is_empty())
                }
                _ => self.calls.get(id).cloned(),
            };
            return match found {
                Some(name) => Heard::Event(format!("{ours}{name}{wildcard}")),
                None => {
                    let what = format!("the event `{}` is about nothing that is here", shorten(written));
                    self.remark(&path, format!("{what}: its transitions were left out"));
                    Heard::Nothing
                }
            };
        }
        if written.starts_with("xstate.") || written.starts_with("@xstate.") {
            let what = format!("the event `{}` is XState's own and never comes here", shorten(written));
            self.remark(&path, format!("{what}: its transitions were left out"));
            return Heard::Nothing;
        }
        match written.strip_suffix(".*") {
            Some(prefix) => Heard::Event(format!("{}.*", self.event(prefix, &path))),
            None => Heard::Event(self.event(written, &path)),
        }
    }

    /// The name of an event of the author's own.
    pub(super) fn event(&mut self, written: &str, path: &str) -> String {
        let mut wished = legal_event(written);
        if is_internal(&wished) {
            wished = wished.replace('.', "_");
        }
        let known = self.events.get(written).is_some();
        let name = self.events.stand_in(written, wished);
        if name != written && !known {
            self.note(
                path,
                format!("`{}` is no name for an event here: it is called `{name}`", shorten(written)),
            );
        }
        name
    }
}
