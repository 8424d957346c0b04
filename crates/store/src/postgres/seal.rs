//! Sealed records in the database: selecting them with their checksums, and putting the damaged ones into quarantine.
//!
//! Owns how a column's value becomes a cell, and how a text that PostgreSQL cannot keep is written down.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IntoDeserializer};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::postgres::failure::Trouble;
use crate::postgres::link::{Link, Step};
use crate::seal::{self, Cell, Damage, Kept, Table};

pub(super) type Fault = seal::Fault<Trouble>;

/// A list with what had to be left out of it.
pub(super) type Listed<T> = (T, Vec<Damage>);

/// A value as it came, before anybody knows whether its record is whole.
struct Raw<'a> {
    of: Type,
    bytes: Option<&'a [u8]>,
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self { of: of.clone(), bytes: Some(raw) })
    }

    fn from_sql_null(of: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self { of: of.clone(), bytes: None })
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value of a row, as the record has it.
enum Value<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, [u8]>),
    Blob(&'a [u8]),
}

impl Value<'_> {
    fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(number) => Cell::Integer(*number),
            Self::Text(bytes) => Cell::Text(bytes),
            Self::Blob(bytes) => Cell::Blob(bytes),
        }
    }
}

/// A row that `Table::pg_select` has asked for.
pub(super) struct Record<'a> {
    table: &'static Table,
    row: &'a Row,
    values: Vec<Value<'a>>,
}

impl Table {
    /// `SELECT` of what a `Record` needs: the columns under the checksum, the checksum, `number` (which says where the
    /// record lies), and `more`. The table is called `t` in the rest of the statement.
    pub(super) fn pg_select(&self, number: &str, more: &[&str]) -> String {
        format!("SELECT {} FROM {} AS t ", self.pg_columns(number, more), self.name)
    }

    /// What `pg_select` selects, of a table that is called `t`.
    pub(super) fn pg_columns(&self, number: &str, more: &[&str]) -> String {
        let mut columns: Vec<&str> = self.columns.to_vec();
        columns.extend(["checksum", number]);
        columns.extend(more);
        let columns: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
        columns.join(", ")
    }

    /// The place of the first of the columns that `pg_select` was given besides.
    pub(super) fn pg_more(&self) -> usize {
        self.columns.len() + 2
    }

    pub(super) fn record<'a>(&'static self, row: &'a Row) -> Record<'a> {
        let value = |(place, column): (usize, &&str)| value(row, place, *column == "body");
        Record { table: self, row, values: self.columns.iter().enumerate().map(value).collect() }
    }
}

impl Record<'_> {
    /// Checks that it is what was saved.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        self.table.check(&self.cells(), self.stored_checksum(), self.number())
    }

    /// What is kept in it, after its checksum has been found to fit; what is sealed in its body is opened.
    pub(super) fn reveal<T: Kept>(&self, link: &Link) -> Result<T, Fault> {
        self.table.reveal(&self.cells(), self.stored_checksum(), self.number(), link.secrets())
    }

    /// The body of one that never has a secret.
    pub(super) fn open<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.table.read(&self.cells(), self.stored_checksum(), self.number())
    }

    /// As `reveal`, of a shape that has none of what may be sealed: it needs no key.
    pub(super) fn peek<T: Kept>(&self) -> Result<T, Fault> {
        self.table.peek(&self.cells(), self.stored_checksum(), self.number())
    }

    /// The body as it is kept; nothing where the table has none.
    pub(super) fn body(&self) -> &[u8] {
        match self.values.last() {
            Some(Value::Text(bytes)) => bytes,
            _ => &[],
        }
    }

    pub(super) fn damaged(&self, detail: String) -> Fault {
        self.table.damaged(&self.cells(), self.number(), detail)
    }

    /// Where it lies.
    pub(super) fn number(&self) -> i64 {
        self.integer(self.table.columns.len() + 1).unwrap_or_default()
    }

    fn stored_checksum(&self) -> Option<i64> {
        self.integer(self.table.columns.len())
    }

    fn cells(&self) -> Vec<Cell<'_>> {
        self.values.iter().map(Value::cell).collect()
    }

    /// The number in a column, if there is one.
    pub(super) fn integer(&self, column: usize) -> Option<i64> {
        self.row.try_get(column).ok().flatten()
    }

    /// The text in a column, if there is one.
    pub(super) fn text(&self, column: usize) -> Result<Option<String>, String> {
        let bytes = match self.values.get(column) {
            Some(Value::Text(bytes)) => bytes.clone(),
            Some(_) => return Ok(None),
            None => match value(self.row, column, false) {
                Value::Text(bytes) => bytes,
                _ => return Ok(None),
            },
        };
        String::from_utf8(bytes.into_owned()).map(Some).map_err(|error| error.to_string())
    }

    pub(super) fn some_text(&self, column: usize) -> Result<String, String> {
        self.text(column)?.ok_or_else(|| format!("column {column} is null"))
    }

    pub(super) fn number_of<T: TryFrom<i64>>(&self, column: usize) -> Result<T, String> {
        let found = self.integer(column);
        let number = found.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("column {column} is {found:?}, which is out of range"))
    }

    /// The identifier in a column.
    pub(super) fn identifier<T: DeserializeOwned>(&self, column: usize) -> Result<T, String> {
        let text = self.some_text(column)?;
        T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| error.to_string())
    }

    /// The value that the text in a column names.
    pub(super) fn named<T>(&self, column: usize, parse: fn(&str) -> Option<T>) -> Result<T, String> {
        let text = self.some_text(column)?;
        parse(&text).ok_or_else(|| format!("`{text}` is none that this program knows"))
    }
}

fn value(row: &Row, column: usize, is_body: bool) -> Value<'_> {
    let Ok(Raw { of, bytes }) = row.try_get::<_, Raw<'_>>(column) else { return Value::Null };
    let Some(bytes) = bytes else { return Value::Null };
    match of {
        Type::INT8 => bytes.try_into().map_or(Value::Null, |bytes| Value::Integer(i64::from_be_bytes(bytes))),
        Type::BYTEA => Value::Blob(bytes),
        _ if is_body => Value::Text(Cow::Borrowed(bytes)),
        _ => Value::Text(unescaped(bytes)),
    }
}

const MARK: char = '\u{2400}';
const MARK_BYTES: &[u8] = "\u{2400}".as_bytes();

/// A text as PostgreSQL can keep it. A body needs none of this: JSON has no such character in it.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(MARK, "\u{2400}\u{2400}").replace('\0', "\u{2400}0"))
}

pub(super) fn maybe_escaped(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(escaped)
}

/// What `escaped` was given. What it cannot have given is damaged, and stays as it is.
fn unescaped(bytes: &[u8]) -> Cow<'_, [u8]> {
    let has_mark = bytes.windows(MARK_BYTES.len()).any(|window| window == MARK_BYTES);
    if !has_mark {
        return Cow::Borrowed(bytes);
    }
    let (mut text, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(MARK_BYTES) {
            Some(after) if after.first() == Some(&b'0') => {
                text.push(0);
                rest = &after[1..];
            }
            Some(after) if after.starts_with(MARK_BYTES) => {
                text.extend_from_slice(MARK_BYTES);
                rest = &after[MARK_BYTES.len()..];
            }
            _ => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    Cow::Owned(text)
}

const QUARANTINE: &str = "INSERT INTO quarantine (source, source_number, fingerprint, key, detail, raw)
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

/// Keeps a copy of each damaged record, once for each damage, without touching the record itself.
pub(super) fn quarantine(link: &Link, damaged: &[Damage]) -> Result<(), Trouble> {
    let owned: Vec<_> = damaged
        .iter()
        .map(|damage| (damage.fingerprint(), escaped(&damage.key), escaped(&damage.detail)))
        .collect();
    let steps: Vec<Step<'_>> = damaged
        .iter()
        .zip(&owned)
        .map(|(damage, (fingerprint, key, detail))| {
            Step::new(QUARANTINE, vec![&damage.source, &damage.row, fingerprint, key, detail, &damage.raw])
        })
        .collect();
    link.ask(&steps).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_kept_as_it_was() {
        for text in
            ["", "plain", "w\0one", "\u{2400}", "\u{2400}0", "\0\0\u{2400}\0", "0\u{2400}\u{2400}0", "łódź"]
        {
            let kept = escaped(text);
            assert!(!kept.contains('\0'), "{kept:?}");
            assert_eq!(unescaped(kept.as_bytes()), text.as_bytes(), "{text:?} as {kept:?}");
        }
    }
}
