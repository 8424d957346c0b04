//! Replies as templates: a text per language with CEL in braces.
//!
//! Owns how a template is read and rendered. `{{` and `}}` stand for braces.

use serde_json::Value;

use crate::conversation::definition::{ConversationDefinition, IntentDefinition, Localised};
use crate::conversation::message::{Reply, ReplyOption};
use crate::conversation::offer::{Each, OfferedItem, OptionTemplate, compile_options};
use crate::conversation::recognise::{bare, normalise};
use crate::conversation::{Conversation, IntentIndex, texts};
use crate::definition::document::Placed;
use crate::definition::{Definition, compile_template_expression};
use crate::diagnostic::Diagnostic;
use crate::expression::{Expression, Scope, Type};
use crate::id::Revision;

/// Four times what a person can be sent at once by any channel; what is longer is cut off.
const TEXT_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub struct ReplyTemplate {
    pub name: String,
    text: Template,
    /// What is offered as buttons.
    pub options: Vec<OptionTemplate>,
}

/// A text in one or more languages, with what stands in braces to be worked out.
#[derive(Debug)]
pub(crate) struct Template(
    /// By language; `None` stands for every other.
    Vec<(Option<String>, Vec<Part>)>,
);

/// How an intent is called on a button, in one language; with `None` for a language, in all others.
#[derive(Debug)]
pub struct Label {
    locale: Option<String>,
    pub text: String,
    /// As it is compared with an answer.
    pub bare: String,
}

impl Label {
    fn new(locale: Option<String>, text: String) -> Self {
        Self { locale, bare: bare(&normalise(&text)).to_owned(), text }
    }

    /// Those that the definition writes, or one made of the intent's name.
    pub(crate) fn all_of(intent: &IntentDefinition) -> Vec<Self> {
        let written = intent.label.0.iter();
        let mut labels: Vec<Self> =
            written.map(|(locale, text)| Self::new(locale.clone(), text.value.clone())).collect();
        if labels.is_empty() {
            labels.push(Self::new(None, intent.name.value.replace('_', " ")));
        }
        labels
    }
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl ReplyTemplate {
    /// What stands in braces, in any language, and what its options are made of.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let of_options = self.options.iter().filter_map(OptionTemplate::each).flat_map(Each::expressions);
        self.text.expressions().chain(of_options)
    }

    /// A value that cannot be had is left out.
    pub fn text(&self, locale: &str, scope: Scope<'_>) -> String {
        self.text.text(locale, TEXT_BYTES_MAX, |expression| expression.evaluate(scope).unwrap_or_default())
    }
}

impl Template {
    pub fn compile(
        text: &Localised,
        definition: &Definition,
        locals: &[(String, Type)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let texts = text.0.iter();
        let parts = |(locale, text): &(Option<String>, Placed<String>)| {
            (locale.clone(), parts(text, definition, locals, diagnostics))
        };
        Self(texts.map(parts).collect())
    }

    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().flat_map(|(_, parts)| parts).filter_map(Part::expression)
    }

    /// Of each language, whether its text depends on an item.
    pub fn vary(&self) -> impl Iterator<Item = bool> {
        let varies = |parts: &[Part]| parts.iter().filter_map(Part::expression).any(|e| e.reads().locals);
        self.0.iter().map(move |(_, parts)| varies(parts))
    }

    /// The text in `locale`, else for all languages, else the first; what is longer than `bytes_max` is cut off.
    pub fn text(
        &self,
        locale: &str,
        bytes_max: usize,
        mut value: impl FnMut(&Expression) -> Value,
    ) -> String {
        let by = |wanted: Option<&str>| self.0.iter().find(|(l, _)| l.as_deref() == wanted);
        let found = by(Some(locale)).or_else(|| by(None)).or_else(|| self.0.first());
        let parts = found.map_or(&[][..], |(_, parts)| parts);
        let mut text = String::with_capacity(parts.iter().map(Part::likely_bytes).sum());
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expression(expression) => say(&value(expression), &mut text),
            }
            if text.len() > bytes_max {
                let whole = |at: &usize| text.is_char_boundary(*at);
                text.truncate((0..=bytes_max).rev().find(whole).unwrap_or_default());
                text.push('…');
                break;
            }
        }
        text
    }
}

impl Part {
    fn expression(&self) -> Option<&Expression> {
        match self {
            Self::Expression(expression) => Some(expression),
            Self::Text(_) => None,
        }
    }

    /// Room for what it says: most values are short.
    fn likely_bytes(&self) -> usize {
        match self {
            Self::Text(literal) => literal.len(),
            Self::Expression(_) => 16,
        }
    }
}

/// Adds a value to a text as a person reads it.
fn say(value: &Value, text: &mut String) {
    match value {
        Value::Null => {}
        Value::String(said) => text.push_str(said),
        // A number of JSON may be written as a fraction and be none: nobody says "25.0".
        Value::Number(number) => match number.as_f64() {
            Some(fraction) if number.is_f64() && fraction.fract() == 0.0 && fraction.abs() < 1e15 => {
                text.push_str(&format!("{fraction:.0}"));
            }
            _ => text.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    text.push_str(", ");
                }
                say(item, text);
            }
        }
        other => text.push_str(&other.to_string()),
    }
}

impl Conversation {
    pub fn reply_named(&self, name: &str) -> Option<&ReplyTemplate> {
        self.replies.iter().find(|reply| reply.name == name)
    }

    /// One of the sentences of `texts`, in the definition's own words if it has some.
    pub fn sentence(&self, name: &str, locale: &str, scope: Scope<'_>) -> String {
        self.reply_named(name).map(|reply| reply.text(locale, scope)).unwrap_or_default()
    }

    /// How an intent is called on a button: in `locale`, else for all languages, else as it comes first.
    pub fn label(&self, intent: IntentIndex, locale: &str) -> &Label {
        let labels = &self.intent(intent).labels;
        let by = |wanted: Option<&str>| labels.iter().find(|label| label.locale.as_deref() == wanted);
        by(Some(locale)).or_else(|| by(None)).unwrap_or(&labels[0])
    }

    /// A rendered reply; its buttons carry tokens bound to the revision that shows them. Beside it, what those stand for
    /// that are items of lists.
    pub fn render(
        &self,
        template: &ReplyTemplate,
        locale: &str,
        scope: Scope<'_>,
        revision: Revision,
    ) -> (Reply, Vec<OfferedItem>) {
        let mut options = Vec::with_capacity(template.options.len());
        let mut offered = Vec::new();
        for option in &template.options {
            match option {
                OptionTemplate::Intent(intent) => options.push(self.intent_option(*intent, locale, revision)),
                OptionTemplate::Each(each) => {
                    let items = each.items(locale, scope);
                    options.extend(items.iter().map(|item| ReplyOption {
                        id: token(revision, &item.id),
                        label: item.label.clone(),
                    }));
                    offered.extend(items);
                }
            }
        }
        (Reply { text: template.text(locale, scope), options, media: Vec::new() }, offered)
    }

    pub fn intent_option(&self, intent: IntentIndex, locale: &str, revision: Revision) -> ReplyOption {
        let label = self.label(intent, locale).text.clone();
        ReplyOption { id: token(revision, &self.intent(intent).name), label }
    }
}

/// What a button of a prompt carries.
fn token(revision: Revision, name: &str) -> String {
    format!("p{revision}.{name}")
}

/// The definition's replies, then the built-in sentences that it does not replace.
pub(crate) fn compile_replies(
    written: &ConversationDefinition,
    definition: &Definition,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ReplyTemplate> {
    let mut replies: Vec<ReplyTemplate> = Vec::new();
    for reply in &written.replies {
        let text = Template::compile(&reply.text, definition, &[], diagnostics);
        let options = compile_options(reply, written, definition, diagnostics);
        replies.push(ReplyTemplate { name: reply.name.value.clone(), text, options });
    }
    for name in texts::names() {
        if replies.iter().any(|reply| reply.name == name) {
            continue;
        }
        let text = |locale: &String| {
            let sentence = texts::get(name, locale)?;
            Some((Some(locale.clone()), vec![Part::Text(sentence.to_owned())]))
        };
        let text = Template(written.locales.iter().filter_map(text).collect());
        replies.push(ReplyTemplate { name: name.to_owned(), text, options: Vec::new() });
    }
    replies
}

fn parts(
    text: &Placed<String>,
    definition: &Definition,
    locals: &[(String, Type)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.value.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let start = text.value.len() - rest.len() + at;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let end = if brace == "{" { closing_brace(rest) } else { None };
        let Some(end) = end else {
            diagnostics.push(Diagnostic::error(
                "bad_template",
                text.part(start..start + 1),
                format!("a `{brace}` without its partner"),
                "write an expression in braces, `{context.name}`; a brace itself is written twice".into(),
            ));
            return parts;
        };
        let written = rest[..end].trim();
        let start = start + 1 + (rest.len() - rest.trim_start().len());
        let source = Placed { value: written.to_owned(), place: text.part(start..start + written.len()) };
        if let Some(expression) = compile_template_expression(&source, definition, locals, diagnostics) {
            parts.push(Part::Text(std::mem::take(&mut literal)));
            parts.push(Part::Expression(expression));
        }
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    parts.push(Part::Text(literal));
    parts
}

/// The brace that ends an expression: those within quotes do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '}') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}
