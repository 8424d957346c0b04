//! What a reply offers to be chosen: intents, and the items of lists.
//!
//! Owns how options are compiled, what they come to when the reply is given, and what a session keeps of them so that
//! a button or an answer can mean one. Which one an answer means is the router's business.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bound;
use crate::chart::Computed;
use crate::conversation::IntentIndex;
use crate::conversation::definition::{
    ConversationDefinition, EachDefinition, OptionDefinition, ReplyDefinition,
};
use crate::conversation::recognise::{bare, normalise};
use crate::conversation::wording::Template;
use crate::definition::{Definition, INDEX, Placed, ValueDefinition, compile_template_expression};
use crate::diagnostic::{Diagnostic, nearest};
use crate::expression::{Expression, Fuel, STEPS_MAX, Scope, Type};
use crate::id::Digest;
use crate::input::Fields;

/// A menu of more entries is no menu; one of a longer list shows its beginning.
pub(crate) const MENU_ENTRIES_MAX: usize = 10;
/// Several times what any channel shows of a label; what is longer is cut off.
const LABEL_BYTES_MAX: usize = 256;
/// The JSON of what one item carries: an id and a little more. All of a menu is written with its session.
const PAYLOAD_BYTES_MAX: usize = 4 * 1024;

/// An option as a reply has it.
#[derive(Debug)]
pub enum OptionTemplate {
    Intent(IntentIndex),
    Each(Box<Each>),
}

/// A button for each item of a list.
#[derive(Debug)]
pub struct Each {
    pub list: Expression,
    /// What the other expressions call the item.
    pub item: String,
    label: Template,
    pub event: Arc<str>,
    with: Vec<(String, Computed)>,
}

/// What a button of the prompt stands for: what its token says behind the revision, and for an item all that choosing
/// it means, as the list may be another when it is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Offer {
    /// An intent, by its name.
    Intent(String),
    Item(Box<OfferedItem>),
}

/// An item of a list that was offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferedItem {
    /// What the token calls it: a digest of the rest. No button of another session, whose revisions have the same
    /// numbers, means another item.
    pub id: String,
    pub label: String,
    pub event: Arc<str>,
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub payload: Fields,
    /// A question has been shown since: its button still counts, numbers and words mean something else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
}

impl From<&str> for Offer {
    fn from(intent: &str) -> Self {
        Self::Intent(intent.to_owned())
    }
}

impl Offer {
    pub fn item(&self) -> Option<&OfferedItem> {
        match self {
            Self::Intent(_) => None,
            Self::Item(item) => Some(item),
        }
    }

    /// What is left of it behind a question: a token says all of an intent by itself.
    pub(crate) fn put_behind(self) -> Option<Self> {
        match self {
            Self::Intent(_) => None,
            Self::Item(item) => Some(Self::Item(Box::new(OfferedItem { behind: true, ..*item }))),
        }
    }
}

impl OptionTemplate {
    pub fn each(&self) -> Option<&Each> {
        match self {
            Self::Intent(_) => None,
            Self::Each(each) => Some(each),
        }
    }
}

/// The options of a reply; names that lead nowhere are noted.
pub(crate) fn compile_options(
    reply: &ReplyDefinition,
    written: &ConversationDefinition,
    definition: &Definition,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<OptionTemplate> {
    let mut options = Vec::new();
    for option in &reply.options {
        let name = match option {
            OptionDefinition::Intent(name) => name,
            OptionDefinition::Each(each) => {
                let each = each.compile(definition, diagnostics);
                options.extend(each.map(|each| OptionTemplate::Each(Box::new(each))));
                continue;
            }
        };
        match written.intents.iter().position(|i| i.name.value == name.value) {
            Some(number) => options.push(OptionTemplate::Intent(IntentIndex(number as u16))),
            None => {
                let intents = written.intents.iter().map(|i| i.name.value.as_str());
                diagnostics.push(Diagnostic::error(
                    "unknown_intent",
                    name.place,
                    format!("there is no intent `{}`", name.value),
                    nearest(&name.value, intents),
                ));
            }
        }
    }
    options
}

impl OfferedItem {
    fn new(label: String, event: &Arc<str>, payload: Fields) -> Self {
        let carried = Value::Object(payload.clone()).to_string();
        // Four bytes tell ten items apart, and these from the ten of another day.
        let digest = Digest::of_parts(&[&label, event, &carried]).0 as u32;
        Self { id: format!("#{digest:08x}"), label, event: Arc::clone(event), payload, behind: false }
    }
}

impl Each {
    /// The items to be shown, in the order of the list: those that have a label, each label once. What fails is left
    /// out, as it is in a text.
    pub fn items(&self, locale: &str, scope: Scope<'_>) -> Vec<OfferedItem> {
        let Ok(Value::Array(list)) = self.list.evaluate(scope) else {
            return Vec::new();
        };
        let mut fuel = Fuel::default();
        let mut items: Vec<OfferedItem> = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (index, item) in list.into_iter().enumerate() {
            let locals = [item, Value::from(index)];
            let scope = Scope { locals: &locals, ..scope };
            let said = self.label.text(locale, LABEL_BYTES_MAX, |expression| {
                expression.evaluate_with(scope, &mut fuel).unwrap_or_default()
            });
            let label = said.trim();
            let compared = bare(&normalise(label)).to_owned();
            if compared.is_empty() || seen.contains(&compared) {
                continue;
            }
            let payload = self.payload(scope, &mut fuel);
            if fuel.used() == STEPS_MAX {
                break;
            }
            if bound::check(&payload).is_err() || bound::size(&payload) > PAYLOAD_BYTES_MAX {
                continue;
            }
            items.push(OfferedItem::new(label.to_owned(), &self.event, payload));
            if items.len() == MENU_ENTRIES_MAX {
                break;
            }
            seen.push(compared);
        }
        items
    }

    fn payload(&self, scope: Scope<'_>, fuel: &mut Fuel) -> Fields {
        let mut payload = Fields::new();
        for (name, value) in &self.with {
            let value = match value {
                Computed::Literal(value) => Some(value.clone()),
                Computed::Expression(expression) => expression.evaluate_with(scope, fuel).ok(),
            };
            payload.extend(value.map(|value| (name.clone(), value)));
        }
        payload
    }

    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        std::iter::once(&self.list).chain(self.of_item())
    }

    /// What is worked out for each item.
    pub fn of_item(&self) -> impl Iterator<Item = &Expression> {
        let values = self.with.iter().filter_map(|(_, value)| match value {
            Computed::Expression(expression) => Some(&**expression),
            Computed::Literal(_) => None,
        });
        self.label.expressions().chain(values)
    }
}

impl EachDefinition {
    /// The expressions that are written in it, braces of labels included.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Placed<String>> {
        let values = self.with.iter().filter_map(|(_, value)| match value {
            ValueDefinition::Expression(source) => Some(source),
            ValueDefinition::Literal(_) => None,
        });
        std::iter::once(&self.list).chain(self.label.0.iter().map(|(_, text)| text)).chain(values)
    }

    fn compile(&self, definition: &Definition, diagnostics: &mut Vec<Diagnostic>) -> Option<Each> {
        let list = compile_template_expression(&self.list, definition, &[], diagnostics)?;
        let result = list.result_type();
        if !result.may_be_list() {
            diagnostics.push(Diagnostic::error(
                "type_mismatch",
                self.list.place,
                format!("`each` takes a list, and this is {result}"),
                "name a list, such as a field of the type `array`".into(),
            ));
        }
        let locals = [(self.item.clone(), result.item()), (INDEX.to_owned(), Type::INTEGER)];
        let noted = diagnostics.len();
        let label = Template::compile(&self.label, definition, &locals, diagnostics);
        let is_read = diagnostics.len() == noted;
        for ((_, text), varies) in self.label.0.iter().zip(label.vary()).filter(|_| is_read) {
            if !varies {
                let help = format!("put what differs in braces, such as `{{{}.name}}`", self.item);
                let message = "every item would have this label".to_owned();
                diagnostics.push(Diagnostic::error("bad_template", text.place, message, help));
            }
        }
        let mut with = Vec::new();
        for (name, value) in &self.with {
            let value = match value {
                ValueDefinition::Literal(value) => Computed::Literal(value.clone()),
                ValueDefinition::Expression(source) => {
                    let compiled = compile_template_expression(source, definition, &locals, diagnostics);
                    let Some(compiled) = compiled else { continue };
                    Computed::Expression(Box::new(compiled))
                }
            };
            with.push((name.value.clone(), value));
        }
        let item = self.item.clone();
        Some(Each { list, item, label, event: self.event.value.as_str().into(), with })
    }
}
