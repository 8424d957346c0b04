//! Where records come from, one after the other, each with the place where it was found.

mod file;
mod postgres;
mod redis;

use serde_json::Value;

use crate::command::Failure;
use crate::command::import::ImportArgs;

pub(super) struct Source {
    reader: Box<dyn Reader>,
    /// What there is, in what `Found::weight` counts; 0 where nobody knows.
    pub total: u64,
    /// Whether all that there is will be read, and not only what has come since.
    pub is_all: bool,
}

/// How far was read, for whoever reads on from there. Where there is no telling, nothing, and all is read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// The highest value of the column that a mapping names, as the database writes it.
    column: Option<String>,
    file: Option<file::Place>,
}

/// What is to be read, beside where from.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub args: &'a ImportArgs,
    /// The column by which rows are new.
    pub column: Option<&'a str>,
    /// `None` for whoever reads once.
    pub since: Option<&'a Mark>,
}

/// What can be read from a place of one kind.
trait Reader: Send {
    /// `None` at the end.
    ///
    /// # Errors
    /// What keeps all that follow from being read.
    fn next(&mut self) -> Result<Option<Found>, Failure>;

    /// How far was read, once there is nothing more.
    fn mark(&self) -> Mark {
        Mark::default()
    }
}

/// A record, or why there is none.
#[derive(Debug)]
pub(super) struct Found {
    /// Its number in the order of reading, from 1.
    pub number: u64,
    /// `line 3`, `row 3`, `key user:3:state`.
    pub place: String,
    pub record: Result<Value, String>,
    /// What is there, where it is no record.
    pub raw: Option<String>,
    /// What it is of the whole.
    pub weight: u64,
}

impl Source {
    pub fn open(scope: Scope<'_>) -> Result<Self, Failure> {
        let Scope { args, column, since } = scope;
        let from = args.from.as_deref().unwrap_or_default();
        let is_of = |scheme: &str| from.starts_with(&format!("{scheme}://"));
        let is_table = is_of("postgres") || is_of("postgresql");
        for (name, given, is_meant) in
            [("--table", &args.table, is_table), ("--keys", &args.keys, is_of("redis"))]
        {
            match (given, is_meant) {
                (None, true) => {
                    return Err(Failure(format!("{name} is missing: say what of {} to read", shown(from))));
                }
                (Some(_), false) => return Err(Failure(format!("{name} means nothing for {}", shown(from)))),
                _ => {}
            }
        }
        let column = column.filter(|_| since.is_some());
        let (reader, total): (Box<dyn Reader>, u64) = match (&args.table, &args.keys, column) {
            (Some(table), ..) => {
                let after = since.and_then(|mark| mark.column.as_deref());
                let (rows, total) = postgres::Rows::open(from, table, column.map(|column| (column, after)))?;
                (Box::new(rows), total)
            }
            (_, _, Some(column)) => {
                let message = "the mapping says `follow`, which is for a table: there are no columns in";
                return Err(Failure(format!("{message} {} (`{column}`)", shown(from))));
            }
            (_, Some(keys), _) => (Box::new(redis::Keys::open(from, keys)?), 0),
            (None, None, _) => {
                file::open(from.as_ref(), args.format, since.map(|mark| mark.file.unwrap_or_default()))?
            }
        };
        let is_all = reader.mark() == Mark::default();
        Ok(Self { reader, total, is_all })
    }

    /// `None` at the end.
    ///
    /// # Errors
    /// What keeps all that follow from being read.
    pub fn next(&mut self) -> Result<Option<Found>, Failure> {
        self.reader.next()
    }

    pub fn mark(&self) -> Mark {
        self.reader.mark()
    }
}

/// An address without what is secret in it.
pub(super) fn shown(from: &str) -> String {
    match from.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, rest)))) => format!("{scheme}://…@{rest}"),
        _ => from.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (from, expected) in [
            ("postgres://ann:se@cret@db/x", "postgres://…@db/x"),
            ("redis://127.0.0.1/0", "redis://127.0.0.1/0"),
            ("old@home.jsonl", "old@home.jsonl"),
        ] {
            assert_eq!(shown(from), expected);
        }
    }
}
