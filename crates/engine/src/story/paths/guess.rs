//! Guesses at what a payload or a context should hold: values that its readers compare it with, else values of the
//! type that it becomes.
//!
//! Heuristic by nature. A guess that is wrong costs a decision; one that is missing leaves a transition untaken, and
//! the report says what it would need.

use std::collections::BTreeMap;

use kernel::definition::FieldDefinition;
use kernel::definition::FieldKind;
use kernel::input::Fields;
use serde_json::Value;

use super::tokens::{Token, tokens};

/// A length that an expression asks for is tried up to here.
const LENGTH_MAX: i64 = 1_000;

/// A list of more items is nothing that anybody would read in a story.
const ITEMS_MAX: usize = 20;

/// What is tried for each field, by its path below the root; the likeliest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Guesses(pub BTreeMap<Vec<String>, Guess>);

#[derive(Clone, Debug, Default)]
pub(super) struct Guess {
    values: Vec<Value>,
    /// Any text may do.
    is_text: bool,
    /// Lengths that it is measured by.
    lengths: Vec<usize>,
    /// Fields of the context that it is compared with.
    like: Vec<String>,
}

/// What an expression is there for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// To be true or false.
    Condition,
    /// To become the value of a field.
    Assigned(&'a FieldDefinition),
    /// To be gone through, item by item.
    List,
    /// Anything else.
    Value,
}

impl Guess {
    fn add(&mut self, value: Value) {
        if !self.values.contains(&value) {
            self.values.push(value);
        }
    }

    /// All that is worth trying in this context.
    pub fn values(&self, name: &str, context: &Fields) -> Vec<Value> {
        let mut all = Guess { values: self.values.clone(), ..Guess::default() };
        for value in self.like.iter().filter_map(|field| context.get(field)) {
            match value {
                Value::Array(items) => match items.first() {
                    // Of objects it may be like any field.
                    Some(Value::Object(fields)) => fields.values().for_each(|value| all.add(value.clone())),
                    item => item.into_iter().for_each(|item| all.add(item.clone())),
                },
                value => around(value).into_iter().for_each(|value| all.add(value)),
            }
        }
        let is = |kind: fn(&Value) -> bool| all.values.iter().any(kind);
        // What a person says comes as `text`, whatever is made of it.
        let texts = self.is_text || name == "text" || is(Value::is_string);
        let lists = is(Value::is_array);
        let unknown = !self.is_text && all.values.iter().all(Value::is_null);
        if texts || (unknown && !lists) {
            all.add(some(name));
        }
        if texts || !lists {
            self.lengths.iter().for_each(|length| all.add("x".repeat(*length).into()));
        }
        if lists || !texts {
            let short = self.lengths.iter().filter(|length| **length <= ITEMS_MAX);
            short.for_each(|length| all.add(vec![some(name); *length].into()));
        }
        if unknown && self.lengths.is_empty() {
            [1.into(), true.into()].into_iter().for_each(|value| all.add(value));
        }
        all.values.sort_by_key(Value::is_null);
        all.values
    }
}

/// A text that says what it stands for.
pub(super) fn some(name: &str) -> Value {
    Value::from(format!("some {}", name.replace('_', " ")))
}

/// A literal, and beside a number its neighbours.
fn around(value: &Value) -> Vec<Value> {
    match (value.as_i64(), value.as_f64()) {
        (Some(n), _) => {
            [Some(n), n.checked_add(1), n.checked_sub(1)].into_iter().flatten().map(Value::from).collect()
        }
        (None, Some(n)) => vec![n.into(), (n + 1.0).into(), (n - 1.0).into()],
        _ => vec![value.clone()],
    }
}

/// A part of an expression between `&&`, `||`, `?` and `:`, in which a literal belongs to the field beside it.
struct Clause<'t> {
    tokens: &'t [Token],
    is_condition: bool,
    /// How many lists that are being written it begins in.
    depth: usize,
}

impl Guesses {
    /// Adds what one expression tells of the fields of `root`, which is `event` or `context`.
    pub fn read(&mut self, root: &str, source: &str, purpose: Purpose<'_>) {
        let tokens = tokens(source);
        let is_cut = |token: &Token| matches!(token, Token::Sign("&&" | "||" | "?" | ":"));
        let mut from = 0;
        let mut depth = 0;
        let mut before: Option<&Token> = None;
        for clause in tokens.split(is_cut) {
            from += clause.len();
            let cut = tokens.get(from);
            from += 1;
            let logical = |token: Option<&Token>| matches!(token, Some(Token::Sign("&&" | "||")));
            let asked = logical(before) || logical(cut) || cut == Some(&Token::Sign("?"));
            let is_condition = asked || matches!(purpose, Purpose::Condition);
            self.read_clause(root, &Clause { tokens: clause, is_condition, depth }, purpose);
            depth = depth_after(depth, clause);
            before = cut;
        }
    }

    fn read_clause(&mut self, root: &str, clause: &Clause<'_>, purpose: Purpose<'_>) {
        let paths = clause.tokens.iter().enumerate().filter_map(|(at, token)| match token {
            Token::Path(names) if names.len() > 1 => {
                names.split_first().map(|(first, path)| (at, first, path))
            }
            _ => None,
        });
        let (own, others): (Vec<_>, Vec<_>) = paths.partition(|(_, first, _)| *first == root);
        for (at, _, path) in &own {
            let guess = self.0.entry(path.to_vec()).or_default();
            let of_context = others.iter().filter(|(_, first, _)| *first == "context");
            if clause.is_condition {
                guess.like.extend(of_context.filter_map(|(.., path)| path.first().cloned()));
                guess.of_condition(root, clause.tokens);
                continue;
            }
            match purpose {
                Purpose::Assigned(field) => {
                    guess.of_field(field, depth_after(clause.depth, &clause.tokens[..*at]) > 0);
                }
                Purpose::List => guess.add(vec![some("item")].into()),
                Purpose::Condition | Purpose::Value => {}
            }
        }
    }
}

/// How deep in lists one is behind some tokens.
fn depth_after(depth: usize, tokens: &[Token]) -> usize {
    tokens.iter().fold(depth, |depth, token| match token {
        Token::Sign("[") => depth + 1,
        Token::Sign("]") => depth.saturating_sub(1),
        _ => depth,
    })
}

impl Guess {
    /// Literals of a condition are what the field is compared with, or measured by.
    fn of_condition(&mut self, root: &str, clause: &[Token]) {
        let calls = |name: &str| clause.iter().any(|t| matches!(t, Token::Call(called) if called == name));
        let bare = |token: &Token| matches!(token, Token::Path(_) | Token::Sign("!" | "(" | ")"));
        if clause.iter().all(bare) {
            [true, false].into_iter().for_each(|flag| self.add(flag.into()));
        }
        let negative = |at: usize| at > 0 && clause[at - 1] == Token::Sign("-");
        for (at, token) in clause.iter().enumerate() {
            let Token::Literal(literal) = token else { continue };
            match literal.as_i64() {
                Some(length) if calls("size") => self.of_length(length),
                Some(n) if negative(at) => around(&Value::from(-n)).into_iter().for_each(|v| self.add(v)),
                _ if calls("matches") => self.of_pattern(literal.as_str().unwrap_or_default()),
                _ => around(literal).into_iter().for_each(|value| self.add(value)),
            }
        }
        // Something is looked for in it, rather than it in something.
        let looked_in =
            |pair: &[Token]| matches!(pair, [Token::Sign("in"), Token::Path(names)] if names[0] == root);
        if clause.windows(2).any(looked_in) || calls("exists") || calls("all") {
            let items = std::mem::take(&mut self.values);
            let lists =
                items.into_iter().map(|item| if item.is_array() { item } else { Value::from(vec![item]) });
            lists.for_each(|list| self.add(list));
        }
    }

    fn of_length(&mut self, length: i64) {
        for length in [length.saturating_add(1), length, length.saturating_sub(1)] {
            let Some(count) = usize::try_from(length).ok().filter(|_| length <= LENGTH_MAX) else { continue };
            if !self.lengths.contains(&count) {
                self.lengths.push(count);
            }
        }
    }

    /// A pattern that lists words is met by each; of others the most usual are guessed.
    fn of_pattern(&mut self, pattern: &str) {
        let words = pattern.trim_start_matches(['^', '(']).trim_end_matches(['$', ')']);
        if words.chars().all(|c| c.is_alphanumeric() || "|_- ".contains(c)) {
            words.split('|').for_each(|word| self.add(word.into()));
        }
        ["a", "1", "A1", "a@b.cd"].into_iter().for_each(|text| self.add(text.into()));
    }

    /// What a context field takes, as an event's field becomes it, or, within a list, an item of it.
    fn of_field(&mut self, field: &FieldDefinition, in_list: bool) {
        match (field.kind, field.items, in_list) {
            (FieldKind::Array, items, true) => self.of_kind(items.unwrap_or(FieldKind::Any)),
            (FieldKind::Array, items, false) => {
                let mut item = Guess::default();
                item.of_kind(items.unwrap_or(FieldKind::String));
                let items = item.values(&field.name.value, &Fields::new());
                items.into_iter().take(1).for_each(|item| self.add(vec![item].into()));
            }
            (kind, _, _) => self.of_kind(kind),
        }
        if field.nullable && !in_list {
            self.add(Value::Null);
        }
    }

    fn of_kind(&mut self, kind: FieldKind) {
        self.is_text |= matches!(kind, FieldKind::String | FieldKind::Any);
        let values = match kind {
            FieldKind::String => Vec::new(),
            FieldKind::Integer | FieldKind::Number => vec![1.into(), 0.into(), (-1).into()],
            FieldKind::Boolean => vec![true.into(), false.into()],
            FieldKind::Array => vec![Value::Array(Vec::new())],
            FieldKind::Object => vec![Value::Object(Fields::new())],
            FieldKind::Any => vec![1.into(), true.into()],
        };
        values.into_iter().for_each(|value| self.add(value));
    }
}

/// The fields of the context that an expression reads; `None` if it may read all of them.
pub(super) fn context_read(source: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for token in tokens(source) {
        if let Token::Path(names) = token
            && names[0] == "context"
        {
            fields.push(names.get(1)?.clone());
        }
    }
    Some(fields)
}

/// The fields that an expression reads of `root`.
pub(super) fn fields_read(source: &str, root: &str) -> Vec<String> {
    let fields = tokens(source).into_iter().filter_map(|token| match token {
        Token::Path(names) if names[0] == root => names.into_iter().nth(1),
        _ => None,
    });
    fields.collect()
}

/// Whether an expression reads anything of `root`.
pub(super) fn reads(source: &str, root: &str) -> bool {
    tokens(source).iter().any(|token| matches!(token, Token::Path(names) if names[0] == root))
}
