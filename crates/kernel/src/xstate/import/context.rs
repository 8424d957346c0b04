//! The context: fields with types that are told from their values, or from a schema of version 6.

use crate::diagnostic::shorten;
use crate::xstate::below;
use crate::xstate::import::{Importer, extra};
use crate::xstate::json::Json;
use crate::xstate::names::{Names, legal_name};
use crate::xstate::yaml::{Map, Yaml};

#[derive(Debug, Default)]
pub(super) struct Fields {
    names: Names,
    declared: Vec<(String, Map)>,
    /// The types are the author's own, and not told from values.
    pub given: bool,
    /// No type is told from a value.
    pub untyped: bool,
}

impl Fields {
    pub fn new(untyped: bool) -> Self {
        Self { untyped, ..Self::default() }
    }

    /// Whether the definition has a field of this name.
    pub fn is_ours(&self, name: &str) -> bool {
        self.names.has(name)
    }
}

impl Importer<'_> {
    pub(super) fn declare_fields(&mut self) {
        if let Some(Json::Map(fields)) = extra(self.top).and_then(|extra| extra.get("context")) {
            for (name, field) in fields {
                self.fields.names.stand_in(name, name.clone());
                let entries =
                    field.entries().iter().map(|(key, value)| (key.clone(), Yaml::from(value))).collect();
                self.fields.declared.push((name.clone(), Map { remarks: Vec::new(), entries }));
            }
            self.fields.given = true;
            return;
        }
        let schema = self.top.get("schemas").and_then(|schemas| schemas.get("context")?.get("properties"));
        let context = match self.top.get("context") {
            Some(context @ Json::Map(_)) if !self.is_resolvable(context) => Some(context),
            None | Some(Json::Null) => None,
            Some(_) => {
                self.note("/context", "the context is code or no object: its fields were left out");
                None
            }
        };
        for (field, value) in context.map_or(&[][..], Json::entries) {
            let path = below("/context", field);
            let described = schema.and_then(|schema| schema.get(field));
            let declaration = match self.is_resolvable(value) {
                true => {
                    self.note(&path, "the value is code that JSON does not hold: it begins as null");
                    declaration(&Json::Null, described)
                }
                false => declaration(value, described),
            };
            self.declare(field, declaration, &path);
        }
        for (field, described) in schema.map_or(&[][..], Json::entries) {
            if self.fields.names.get(field).is_none() {
                let declaration = without_value(described);
                self.declare(field, declaration, &below("/schemas/context/properties", field));
            }
        }
    }

    fn declare(&mut self, field: &str, mut declaration: Map, path: &str) -> String {
        if self.fields.untyped {
            declaration.entries.retain(|(key, _)| key == "default");
            declaration.entries.insert(0, ("type".to_owned(), Yaml::text("any")));
        }
        let name = self.fields.names.stand_in(field, legal_name(field));
        if name != field {
            self.note(
                path,
                format!("`{}` is no name for a field here: it is called `{name}`", shorten(field)),
            );
        }
        self.fields.declared.push((name.clone(), declaration));
        name
    }

    /// The field that an assignment names; it becomes one if it is none yet, as in XState.
    pub(super) fn field(&mut self, field: &str, path: &str) -> String {
        if let Some(name) = self.fields.names.get(field) {
            return name.to_owned();
        }
        self.note(path, format!("the context has no field `{}`: one of any type was added", shorten(field)));
        let mut declaration = Map::default();
        declaration.put("type", Yaml::text("any"));
        declaration.put("default", Yaml::Null);
        self.declare(field, declaration, path)
    }

    /// Makes a field take a value that an assignment gives it: its type was a guess.
    pub(super) fn widen(&mut self, field: &str, value: &Json, path: &str) {
        let given = self.fields.given || self.is_resolvable(value);
        let Some((_, declaration)) =
            self.fields.declared.iter_mut().find(|(name, _)| name == field && !given)
        else {
            return;
        };
        let kind = declaration.entries.iter_mut().find(|(key, _)| key == "type").map(|(_, kind)| kind);
        let Some(Yaml::Text(kind)) = kind else {
            return;
        };
        let told = kind_of_value(value);
        if kind != "any" && kind != told && (kind.as_str(), told) != ("number", "integer") {
            *kind = "any".to_owned();
            declaration.entries.retain(|(key, _)| key != "nullable");
            let noun = value.noun();
            self.note(path, format!("`{}` takes {noun} here, so its type is `any`", shorten(field)));
        }
    }

    pub(super) fn context(&self) -> Option<Yaml> {
        let entries: Vec<_> = self
            .fields
            .declared
            .iter()
            .map(|(name, field)| (name.clone(), Yaml::from(field.clone())))
            .collect();
        (!entries.is_empty()).then(|| Map { remarks: Vec::new(), entries }.into())
    }
}

/// The type and the default that fit `value`; the schema decides where the value fits it.
fn declaration(value: &Json, described: Option<&Json>) -> Map {
    let told = kind_of_value(value);
    let (kind, nullable) = described.map_or((None, false), kind_of);
    let kind = kind.filter(|kind| match value {
        Json::Null => nullable,
        _ => *kind == told || (*kind, told) == ("number", "integer"),
    });
    let mut field = Map::default();
    field.put("type", Yaml::text(kind.unwrap_or(told)));
    if nullable && kind.is_some() {
        field.put("nullable", Yaml::Bool(true));
    }
    field.put("default", value);
    field
}

fn kind_of_value(value: &Json) -> &'static str {
    match value {
        Json::Null => "any",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.as_i64().is_some() => "integer",
        Json::Number(_) => "number",
        Json::Text(_) => "string",
        Json::List(_) => "array",
        Json::Map(_) => "object",
    }
}

fn without_value(described: &Json) -> Map {
    let (kind, nullable) = kind_of(described);
    let mut field = Map::default();
    field.put("type", Yaml::text(kind.unwrap_or("any")));
    if nullable && kind.is_some() {
        field.put("nullable", Yaml::Bool(true));
    }
    field
}

/// The one type of a JSON Schema, and whether null is one too.
fn kind_of(schema: &Json) -> (Option<&'static str>, bool) {
    let words: Vec<&str> = match schema.get("type") {
        Some(Json::Text(word)) => vec![word],
        Some(Json::List(words)) => words.iter().filter_map(Json::as_text).collect(),
        _ => Vec::new(),
    };
    let known = ["string", "integer", "number", "boolean", "array", "object"];
    let mut kinds = words.iter().filter(|word| **word != "null");
    let kind = kinds.next().and_then(|word| known.into_iter().find(|known| known == word));
    (kind.filter(|_| kinds.next().is_none()), words.contains(&"null"))
}
