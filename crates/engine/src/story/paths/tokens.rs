//! An expression as tokens: as much of CEL's lexis as it takes to see which literals stand beside which fields.
//!
//! No parser: what cannot be read is skipped, and costs a guess.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, with the fields selected from it: `event.address.city`.
    Path(Vec<String>),
    /// A function or a method that is called, without what it is called on.
    Call(String),
    Literal(Value),
    Sign(&'static str),
}

/// Longer signs before those that they begin with.
const SIGNS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "(", ")", "[", "]", "{", "}", ",", "+", "-",
    "*", "/",
];

pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' | '\'' => text(rest),
            c if c.is_ascii_digit() => number(rest),
            c if c.is_ascii_alphabetic() || c == '_' => path(rest),
            // A method of what is in brackets or parentheses.
            '.' => (None, 1),
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Some(vec![Token::Sign(sign)]), sign.len()),
                None => (None, first.len_utf8()),
            },
        };
        tokens.extend(token.into_iter().flatten());
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

type Read = (Option<Vec<Token>>, usize);

fn text(rest: &str) -> Read {
    let quote = rest.chars().next().unwrap_or('"');
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return (Some(vec![Token::Literal(Value::from(value))]), at + 1),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c)) => value.push(c),
                None => {}
            },
            c => value.push(c),
        }
    }
    (None, rest.len())
}

fn number(rest: &str) -> Read {
    let in_number = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let end = rest.find(|c| !in_number(c)).unwrap_or(rest.len());
    let written = rest[..end].trim_end_matches(['u', 'U']);
    let value = match written.parse::<i64>() {
        Ok(whole) => Some(Value::from(whole)),
        Err(_) => written.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from),
    };
    (value.map(|value| vec![Token::Literal(value)]), end)
}

/// A name with what is selected from it, and a call, if its last name is called.
fn path(rest: &str) -> Read {
    let in_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = rest.find(|c| !in_path(c)).unwrap_or(rest.len());
    let mut names: Vec<String> = rest[..end].split('.').map(str::to_owned).collect();
    let called = rest[end..].trim_start().starts_with('(');
    let word = match rest[..end].trim() {
        "true" => Some(Token::Literal(Value::Bool(true))),
        "false" => Some(Token::Literal(Value::Bool(false))),
        "null" => Some(Token::Literal(Value::Null)),
        "in" => Some(Token::Sign("in")),
        // A raw text: `r'\d+'`.
        "r" | "R" if rest[end..].starts_with(['"', '\'']) => return (None, end),
        _ => None,
    };
    if let Some(word) = word {
        return (Some(vec![word]), end);
    }
    let call = if called { names.pop().map(Token::Call) } else { None };
    let path = (!names.is_empty()).then_some(Token::Path(names));
    (Some(path.into_iter().chain(call).collect()), end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn an_expression_falls_into_paths_calls_literals_and_signs() {
        let path = |text: &str| Token::Path(text.split('.').map(str::to_owned).collect());
        let call = |name: &str| Token::Call(name.to_owned());
        let (and, open, close) = (Token::Sign("&&"), Token::Sign("("), Token::Sign(")"));
        let cases = [
            ("event.n >= 3u", vec![path("event.n"), Token::Sign(">="), Token::Literal(3.into())]),
            (
                r#"event.a.b=="x\"y""#,
                vec![path("event.a.b"), Token::Sign("=="), Token::Literal("x\"y".into())],
            ),
            (
                "has(event.t) && !event.t.startsWith('é')",
                vec![
                    call("has"),
                    open.clone(),
                    path("event.t"),
                    close.clone(),
                    and,
                    Token::Sign("!"),
                    path("event.t"),
                    call("startsWith"),
                    open,
                    Token::Literal("é".into()),
                    close,
                ],
            ),
            ("1.5 in context.l", vec![Token::Literal(1.5.into()), Token::Sign("in"), path("context.l")]),
            ("null ? true : false", {
                let word = |value: Value| Token::Literal(value);
                let (then, other) = (Token::Sign("?"), Token::Sign(":"));
                vec![word(Value::Null), then, word(true.into()), other, word(false.into())]
            }),
            ("'never closed", vec![]),
        ];
        for (source, expected) in cases {
            assert_eq!(tokens(source), expected, "{source}");
        }
    }
}
