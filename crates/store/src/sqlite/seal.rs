//! Sealed records in the file: selecting them with their checksums, and putting the damaged ones into quarantine.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::de::DeserializeOwned;

use crate::seal::{self, Cell, Damage, Kept, Table};
use crate::vault::parts::Secrets;

pub(super) type Fault = seal::Fault<rusqlite::Error>;

impl Table {
    /// `SELECT` of what `verify` needs, `more` columns behind it, up to the name of the table. The table is called
    /// `t` in the rest of the statement.
    pub(super) fn select(&self, more: &[&str]) -> String {
        let mut columns: Vec<&str> = self.columns.to_vec();
        columns.extend(["checksum", "rowid"]);
        columns.extend(more);
        let columns: Vec<String> = columns.iter().map(|c| format!("t.{c}")).collect();
        format!("SELECT {} FROM {} AS t ", columns.join(", "), self.name)
    }

    /// The place of the first of the columns that `select` was given besides.
    pub(super) fn more(&self) -> usize {
        self.columns.len() + 2
    }

    /// Checks that a row of `select` is what was saved.
    pub(super) fn verify(&self, row: &Row<'_>) -> Result<(), Fault> {
        self.check(&self.cells(row)?, self.stored_checksum(row)?, self.row_number(row))
    }

    /// The body of a row of `select` that never has a secret, after its checksum has been found to fit.
    pub(super) fn open<T: DeserializeOwned>(&self, row: &Row<'_>) -> Result<T, Fault> {
        self.read(&self.cells(row)?, self.stored_checksum(row)?, self.row_number(row))
    }

    /// What is kept in a row of `select`, as `open`, with what is sealed in it.
    pub(super) fn open_sealed<T: Kept>(&self, row: &Row<'_>, secrets: &Secrets) -> Result<T, Fault> {
        self.reveal(&self.cells(row)?, self.stored_checksum(row)?, self.row_number(row), secrets)
    }

    /// As `open_sealed`, of what is never sealed in it.
    pub(super) fn open_unsealed<T: Kept>(&self, row: &Row<'_>) -> Result<T, Fault> {
        self.peek(&self.cells(row)?, self.stored_checksum(row)?, self.row_number(row))
    }

    pub(super) fn damage(&self, row: &Row<'_>, detail: String) -> Fault {
        let cells = self.cells(row).unwrap_or_default();
        self.damaged(&cells, self.row_number(row), detail)
    }

    pub(super) fn cells<'r>(&self, row: &'r Row<'_>) -> rusqlite::Result<Vec<Cell<'r>>> {
        (0..self.columns.len()).map(|column| Ok(cell(row.get_ref(column)?))).collect()
    }

    fn stored_checksum(&self, row: &Row<'_>) -> rusqlite::Result<Option<i64>> {
        let stored = row.get_ref(self.columns.len())?;
        Ok(match stored {
            ValueRef::Integer(checksum) => Some(checksum),
            _ => None,
        })
    }

    fn row_number(&self, row: &Row<'_>) -> i64 {
        row.get(self.columns.len() + 1).unwrap_or_default()
    }
}

pub(super) fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(bytes) => Cell::Text(bytes),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
    }
}

/// Keeps a copy of a damaged record, once for each damage, without touching the record itself.
pub(super) fn quarantine(connection: &Connection, damage: &Damage) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO quarantine (source, source_row, fingerprint, key, detail, raw)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![
        damage.source,
        damage.row,
        damage.fingerprint(),
        damage.key,
        damage.detail,
        damage.raw,
    ])?;
    Ok(())
}
