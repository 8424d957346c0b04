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
}

/// What can be read from a place of one kind.
trait Reader: Send {
    /// `None` at the end.
    ///
    /// # Errors
    /// What keeps all that follow from being read.
    fn next(&mut self) -> Result<Option<Found>, Failure>;
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
    pub bytes: usize,
    /// What it is of the whole.
    pub weight: u64,
}

impl Source {
    pub fn open(args: &ImportArgs) -> Result<Self, Failure> {
        let from = args.from.as_str();
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
        let (reader, total): (Box<dyn Reader>, u64) = match (&args.table, &args.keys) {
            (Some(table), _) => {
                let (rows, total) = postgres::Rows::open(from, table)?;
                (Box::new(rows), total)
            }
            (_, Some(keys)) => (Box::new(redis::Keys::open(from, keys)?), 0),
            (None, None) => file::open(from.as_ref(), args.format)?,
        };
        Ok(Self { reader, total })
    }

    /// The next records, so many or of so many bytes; none at the end.
    pub fn some(&mut self, records: usize, bytes: usize) -> Result<Vec<Found>, Failure> {
        let (mut some, mut sum) = (Vec::new(), 0);
        while some.len() < records && sum < bytes {
            let Some(found) = self.reader.next()? else { break };
            sum += found.bytes;
            some.push(found);
        }
        Ok(some)
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
