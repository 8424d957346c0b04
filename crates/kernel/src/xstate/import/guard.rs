//! Guards: expressions where the JSON has some, `false` where the guard is code.

use crate::diagnostic::shorten;
use crate::expression::{Expression, Names, Type};
use crate::xstate::import::Importer;
use crate::xstate::json::Json;
use crate::xstate::{EXPRESSION_LANGUAGE, GUARD_TYPE, below};

/// Named guards of version 6 may name others.
const REFERENCES_MAX: usize = 16;

impl Importer<'_> {
    /// Our expression for a guard. What is code refuses, and is noted.
    pub(super) fn guard(&mut self, written: &Json, path: &str) -> String {
        match self.condition(written, 0) {
            Ok(expression) => expression,
            Err(problem) => {
                self.remark(path, format!("{problem}: it refuses until you write it as an expression"));
                "false".to_owned()
            }
        }
    }

    /// # Errors
    /// Why there is no expression for it. A condition of which a part is code is code: `not` would turn what refuses
    /// into what allows.
    fn condition(&self, written: &Json, references: usize) -> Result<String, String> {
        let code = |name: &str| Err(format!("the guard `{}` is code that JSON does not hold", shorten(name)));
        let kind = match written {
            Json::Text(name) => name.as_str(),
            Json::Map(_) if self.is_resolvable(written) => return self.expression(written),
            Json::Map(_) => written.text_at("type").unwrap_or_default(),
            other => return Err(format!("a guard must be a string or an object, not {}", other.noun())),
        };
        if kind == GUARD_TYPE
            && let Some(source) = written.get("params").and_then(|params| params.text_at("expression"))
        {
            return self.checked(source);
        }
        let definition =
            self.top.get("guards").and_then(|guards| guards.get(kind)).and_then(|g| g.get("when"));
        if let Some(definition) = definition {
            return match references < REFERENCES_MAX {
                true => self.condition(definition, references + 1),
                false => code(kind),
            };
        }
        let (_, word) = kind.rsplit_once(['.', ':']).unwrap_or(("", kind));
        let inner = ["guards", "children", "params"].iter().find_map(|key| match written.get(key) {
            Some(Json::List(items)) => Some(items.as_slice()),
            _ => None,
        });
        match (word, inner) {
            ("stateIn" | "in", _) => {
                let params = written.get("params");
                let value = params
                    .and_then(|params| params.get("stateValue"))
                    .or(written.get("stateValue"))
                    .or(params);
                value.and_then(|value| self.state_in(value)).map_or_else(|| code(kind), Ok)
            }
            ("not", Some([one])) => Ok(format!("!({})", self.condition(one, references)?)),
            ("and" | "or", Some(inner)) if !inner.is_empty() => {
                let operator = if word == "and" { " && " } else { " || " };
                let parts: Result<Vec<String>, String> =
                    inner.iter().map(|part| Ok(format!("({})", self.condition(part, references)?))).collect();
                self.checked(&parts?.join(operator))
            }
            ("", _) => Err("a guard without a type was left open".to_owned()),
            _ => code(kind),
        }
    }

    /// Whether the machine is in a state: an id, a dotted path, or an object of states.
    pub(super) fn state_in(&self, value: &Json) -> Option<String> {
        let mut paths = Vec::new();
        match value {
            Json::Text(id) if id.starts_with('#') => {
                paths.push(self.states.path(self.states.by_id(&id[1..])?))
            }
            Json::Text(_) | Json::Map(_) => {
                let mut keys = Vec::new();
                flatten(value, "", &mut keys);
                for key in &keys {
                    let state = self.states.resolve(crate::xstate::states::TOP, key).ok()?;
                    paths.push(self.states.path(state));
                }
            }
            _ => return None,
        }
        let parts: Vec<String> = paths.iter().map(|path| format!("'{path}' in active")).collect();
        (!parts.is_empty()).then(|| parts.join(" && "))
    }

    /// Whether this is an expression or code of version 6.
    pub(super) fn is_resolvable(&self, written: &Json) -> bool {
        written.text_at("@expr").is_some() || written.text_at("@code").is_some()
    }

    /// # Errors
    /// Why this is no expression for us.
    pub(super) fn expression(&self, written: &Json) -> Result<String, String> {
        let language =
            written.text_at("@lang").or(self.top.text_at("@exprLang")).unwrap_or("an unnamed language");
        match written.text_at("@expr") {
            Some(source) if language.eq_ignore_ascii_case(EXPRESSION_LANGUAGE) => self.checked(source),
            Some(source) => Err(format!("`{}` is {}, not CEL", shorten(source), shorten(language))),
            None => {
                let source = written.text_at("@code").unwrap_or_default();
                // Code has lines; a note is one.
                let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(format!("`{}` is code, not an expression", shorten(&source)))
            }
        }
    }

    /// # Errors
    /// It cannot be compiled, or reads what the machine has not.
    fn checked(&self, source: &str) -> Result<String, String> {
        let problem =
            |problem: String| format!("the expression `{}` cannot be used: {problem}", shorten(source));
        let locals: Vec<(String, Type)> = self.locals.iter().map(|name| (name.clone(), Type::ANY)).collect();
        let expression =
            Expression::compile(source, &Names { locals: &locals, ..Names::default() }).map_err(problem)?;
        let unknown =
            expression.reads().context.names.iter().find(|name| !self.fields.is_ours(name)).cloned();
        match unknown {
            Some(name) => Err(problem(format!("the context has no field `{}`", shorten(&name)))),
            None => Ok(source.to_owned()),
        }
    }
}

/// The leaves of a state value, as dotted paths of keys.
fn flatten(value: &Json, above: &str, paths: &mut Vec<String>) {
    let join = |key: &str| if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
    match value {
        Json::Text(key) => paths.push(join(key)),
        Json::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, value)| flatten(value, &join(&key.replace('.', "\\.")), paths));
        }
        _ => paths.push(above.to_owned()),
    }
}

/// Where `guard` stands, or `cond`, as version 4 called it.
pub(super) fn written_guard<'j>(transition: &'j Json, path: &str) -> Option<(&'j Json, String)> {
    let keys = ["guard", "cond", "when"];
    keys.iter().find_map(|key| {
        let guard = transition.get(key).filter(|guard| **guard != Json::Null)?;
        Some((guard, below(path, key)))
    })
}
