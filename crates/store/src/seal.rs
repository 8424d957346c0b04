//! Checksums over records, the same for every backend: what is under each, computing it, and reading what one fits.
//!
//! A record's checksum covers the name of its table, whose it is, and every column that decides anything, so that a
//! flipped bit is found wherever it is. `wake_at`, `claimed_until` and `looping_until` are hints outside it, and so is how
//! far an effect's delivery has come. The checksum finds accidents; it is no defence against someone who can write the
//! records.

use std::io::{self, Write};

use kernel::snapshot::SNAPSHOT_FORMAT;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::Formatter;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::vault::Locked;
use crate::vault::parts::{self, Closed, Secrets};

/// A table of sealed records.
#[derive(Debug)]
pub(crate) struct Table {
    pub name: &'static str,
    /// The columns under the checksum, the body last where there is one.
    pub columns: &'static [&'static str],
    /// How many of the first columns say which record it is.
    key_columns: usize,
}

pub(crate) const INSTANCES: Table = Table {
    name: "instances",
    columns: &[
        "tenant",
        "id",
        "format",
        "machine",
        "version",
        "definition",
        "subject",
        "ordinal",
        "revision",
        "state",
        "closure_reason",
        "created_at",
        "updated_at",
        "body",
    ],
    key_columns: 2,
};

/// A log line in a file that one process writes, which numbers it before it is saved.
pub(crate) const LOG: Table = Table {
    name: "log",
    columns: &["tenant", "instance", "revision", "seq", "owner", "lineage", "at", "receipt", "body"],
    key_columns: 3,
};

/// The same in a file that has no lineages yet.
pub(crate) const LOG_OF_STEP_4: Table = Table {
    name: "log",
    columns: &["tenant", "instance", "revision", "seq", "owner", "at", "receipt", "body"],
    key_columns: 3,
};

/// A log line where its number is given by the database as it is saved. The receipt tells two lines of one revision
/// apart.
pub(crate) const ENTRIES: Table = Table {
    name: "log",
    columns: &["tenant", "instance", "revision", "at", "receipt", "body"],
    key_columns: 3,
};

pub(crate) const CLARIFICATIONS: Table = Table {
    name: "clarifications",
    columns: &["tenant", "id", "instance", "status", "created_at", "body"],
    key_columns: 2,
};

pub(crate) const DEFINITIONS: Table = Table {
    name: "definitions",
    columns: &["hash", "machine", "version", "saved_at", "source"],
    key_columns: 1,
};

/// What never changes about an effect. How far it has come is beside it, and not under the checksum.
pub(crate) const OUTBOX: Table = Table {
    name: "outbox",
    columns: &["tenant", "key", "instance", "machine", "subject", "created_at", "body"],
    key_columns: 2,
};

/// How far an effect has come, where that is under a checksum too.
pub(crate) const PROGRESS: Table = Table {
    name: "outbox",
    columns: &[
        "status",
        "attempts",
        "parts_done",
        "due_at",
        "error",
        "provider_id",
        "stage",
        "settled_at",
        "lane",
    ],
    key_columns: 0,
};

pub(crate) const PHASES: Table = Table {
    name: "phases",
    columns: &[
        "tenant",
        "instance",
        "place",
        "machine",
        "phase",
        "state",
        "since",
        "attempts",
        "retries",
        "error",
        "offered_at",
        "kind",
        "lease",
        "worker",
    ],
    key_columns: 3,
};

pub(crate) const SETTINGS: Table =
    Table { name: "settings", columns: &["tenant", "name", "saved_at", "body"], key_columns: 2 };

/// Where `INSTANCES` has its format.
const FORMAT_COLUMN: usize = 2;

/// A value in a column, whatever the backend calls its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Integer(i64),
    /// No column is meant to have one; a damaged one may.
    Real(f64),
    /// UTF-8, unless it is damaged.
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// Why a record cannot be served.
#[derive(Debug)]
pub(crate) enum Fault<E> {
    /// The backend did not give it.
    Backend(E),
    Damaged(Box<Damage>),
    /// It is whole, but this program does not know its layout.
    NewerFormat(i64),
    /// It is whole, and there is no key to it. `Damage` says nothing of it, and it is not put into quarantine.
    Locked(Box<Locked>),
}

impl<E> From<E> for Fault<E> {
    fn from(error: E) -> Self {
        Self::Backend(error)
    }
}

/// What a record is kept for. Its body may leave out what its columns say.
pub(crate) trait Kept: Sized {
    type Body: DeserializeOwned;

    /// # Errors
    /// A fragment that says what of it cannot be read.
    fn of(body: Self::Body, table: &Table, cells: &[Cell<'_>]) -> Result<Self, String>;
}

/// A record that is not what was saved.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The table, and where in it the record lies, if the backend numbers its records.
    pub source: &'static str,
    pub row: i64,
    pub key: String,
    pub detail: String,
    /// The columns under the checksum as they were found, a line each.
    pub raw: Vec<u8>,
}

impl Damage {
    /// Tells two damages of one record apart.
    pub fn fingerprint(&self) -> i64 {
        xxh3_64(&self.raw).cast_signed()
    }
}

impl Table {
    /// The checksum of a record with these values under `columns`.
    pub fn checksum(&self, cells: &[Cell<'_>]) -> i64 {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.name);
        let mut hasher = Xxh3::new();
        hasher.update(self.name.as_bytes());
        for cell in cells {
            update(&mut hasher, *cell);
        }
        hasher.digest().cast_signed()
    }

    /// Checks that a record is what was saved under `checksum`; `row` is where it lies.
    pub fn check<E>(&self, cells: &[Cell<'_>], checksum: Option<i64>, row: i64) -> Result<(), Fault<E>> {
        if checksum != Some(self.checksum(cells)) {
            let detail = "the checksum does not fit the record";
            return Err(self.damaged(cells, row, detail.to_owned()));
        }
        Ok(())
    }

    /// What is kept in a record, after its checksum has been found to fit; what is sealed in its body is opened.
    pub fn reveal<T: Kept, E>(
        &self,
        cells: &[Cell<'_>],
        checksum: Option<i64>,
        row: i64,
        secrets: &Secrets,
    ) -> Result<T, Fault<E>> {
        let body = self.opened(cells, checksum, row, secrets)?;
        T::of(body, self, cells).map_err(|problem| self.unreadable(cells, row, &problem))
    }

    /// The body of a record, its last column.
    fn opened<T: DeserializeOwned, E>(
        &self,
        cells: &[Cell<'_>],
        checksum: Option<i64>,
        row: i64,
        secrets: &Secrets,
    ) -> Result<T, Fault<E>> {
        let bytes = self.checked_body(cells, checksum, row)?;
        if !parts::is_sealed(bytes) {
            return self.parsed(bytes, cells, row);
        }
        match secrets.open(bytes, self, &self.identity(cells)) {
            Ok(body) => T::deserialize(body).map_err(|error| self.unreadable(cells, row, &error)),
            Err(Closed::Damaged(detail)) => Err(self.damaged(cells, row, detail)),
            Err(Closed::Locked(mut locked)) => {
                locked.detail = format!("the record {} cannot be opened: {}", self.key(cells), locked.detail);
                Err(Fault::Locked(Box::new(locked)))
            }
        }
    }

    /// The body of a record that never has a secret, after its checksum has been found to fit. A sealed one is none that
    /// it reads.
    pub fn read<T: DeserializeOwned, E>(
        &self,
        cells: &[Cell<'_>],
        checksum: Option<i64>,
        row: i64,
    ) -> Result<T, Fault<E>> {
        self.opened(cells, checksum, row, &Secrets::Refused)
    }

    /// As `reveal`, of a shape that has none of what may be sealed: it needs no key.
    pub fn peek<T: Kept, E>(
        &self,
        cells: &[Cell<'_>],
        checksum: Option<i64>,
        row: i64,
    ) -> Result<T, Fault<E>> {
        let bytes = self.checked_body(cells, checksum, row)?;
        let body = self.parsed(bytes, cells, row)?;
        T::of(body, self, cells).map_err(|problem| self.unreadable(cells, row, &problem))
    }

    fn checked_body<'c, E>(
        &self,
        cells: &[Cell<'c>],
        checksum: Option<i64>,
        row: i64,
    ) -> Result<&'c [u8], Fault<E>> {
        self.check(cells, checksum, row)?;
        if self.name == INSTANCES.name
            && let Some(Cell::Integer(format)) = cells.get(FORMAT_COLUMN)
            && *format > i64::from(SNAPSHOT_FORMAT)
        {
            return Err(Fault::NewerFormat(*format));
        }
        match cells.last() {
            Some(Cell::Text(bytes)) => Ok(bytes),
            _ => Err(self.unreadable(cells, row, &"it is no text")),
        }
    }

    fn parsed<T: DeserializeOwned, E>(
        &self,
        bytes: &[u8],
        cells: &[Cell<'_>],
        row: i64,
    ) -> Result<T, Fault<E>> {
        parse(bytes).map_err(|error| self.unreadable(cells, row, &error))
    }

    fn unreadable<E>(&self, cells: &[Cell<'_>], row: i64, why: &dyn std::fmt::Display) -> Fault<E> {
        self.damaged(cells, row, format!("the body cannot be read: {why}"))
    }

    /// Which record it is, as what is sealed in it is bound to that: a log line also by its receipt, since several may
    /// have one revision.
    fn identity<'c>(&self, cells: &[Cell<'c>]) -> Vec<Cell<'c>> {
        cells.iter().take(self.key_columns).copied().chain(self.cell(cells, "receipt")).collect()
    }

    /// The value in the column of this name, if there is one.
    pub fn cell<'c>(&self, cells: &[Cell<'c>], column: &str) -> Option<Cell<'c>> {
        let place = self.columns.iter().position(|name| *name == column)?;
        cells.get(place).copied()
    }

    fn key(&self, cells: &[Cell<'_>]) -> String {
        let key: Vec<String> = cells.iter().take(self.key_columns).map(printed).collect();
        format!("{} {}", self.name, key.join("/"))
    }

    pub fn damaged<E>(&self, cells: &[Cell<'_>], row: i64, detail: String) -> Fault<E> {
        let key = self.key(cells);
        let mut raw = Vec::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            raw.extend_from_slice(column.as_bytes());
            raw.push(b'=');
            match cell {
                Cell::Text(bytes) | Cell::Blob(bytes) => raw.extend_from_slice(bytes),
                other => raw.extend_from_slice(printed(other).as_bytes()),
            }
            raw.push(b'\n');
        }
        Fault::Damaged(Box::new(Damage { source: self.name, row, key, detail, raw }))
    }
}

/// What a sealed part is bound to: its record, and its place in it.
pub(crate) fn bound(table: &Table, identity: &[Cell<'_>], part: &str) -> Vec<u8> {
    let mut bound = b"statewright record".to_vec();
    let mut put = |kind: u8, bytes: &[u8]| {
        bound.push(kind);
        bound.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        bound.extend_from_slice(bytes);
    };
    put(3, table.name.as_bytes());
    for cell in identity {
        match cell {
            Cell::Null => put(0, &[]),
            Cell::Integer(number) => put(1, &number.to_le_bytes()),
            Cell::Real(number) => put(2, &number.to_bits().to_le_bytes()),
            Cell::Text(bytes) => put(3, bytes),
            Cell::Blob(bytes) => put(4, bytes),
        }
    }
    put(3, part.as_bytes());
    bound
}

/// Each value is preceded by its kind and, where that varies, its length: no two records have the same input.
fn update(hasher: &mut Xxh3, cell: Cell<'_>) {
    let (kind, bytes): (u8, &[u8]) = match cell {
        Cell::Null => (0, &[]),
        Cell::Integer(number) => {
            hasher.update(&[1]);
            hasher.update(&number.to_le_bytes());
            return;
        }
        Cell::Real(number) => {
            hasher.update(&[2]);
            hasher.update(&number.to_bits().to_le_bytes());
            return;
        }
        Cell::Text(bytes) => (3, bytes),
        Cell::Blob(bytes) => (4, bytes),
    };
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn printed(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        Cell::Text(bytes) | Cell::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Deeper than any limit on what comes in, and shallow enough for any thread's stack. A context may be nested deeper than
/// the 128 levels at which serde_json stops by itself, because a snapshot puts levels of its own around it.
const DEPTH_MAX: usize = 512;

/// Reads what `print` has written. Only for bytes whose checksum fits: their depth has been checked then.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Most records are shorter.
const USUAL_BYTES: usize = 1 << 9;

/// A record as JSON that `parse` can read again.
///
/// # Errors
/// A fragment, when it cannot be written or is nested too deeply to be read.
pub(crate) fn print(record: &impl Serialize) -> Result<String, String> {
    let mut depth = Depth::default();
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Counting(&mut depth));
    record.serialize(&mut serializer).map_err(|error| error.to_string())?;
    match depth.deepest {
        0..=DEPTH_MAX => String::from_utf8(bytes).map_err(|error| error.to_string()),
        deeper => Err(format!("the record is nested {deeper} levels deep; {DEPTH_MAX} are allowed")),
    }
}

/// How deep lists and objects are nested.
#[derive(Debug, Default)]
struct Depth {
    here: usize,
    deepest: usize,
}

impl Depth {
    fn enter(&mut self) {
        self.here += 1;
        self.deepest = self.deepest.max(self.here);
    }

    fn leave(&mut self) {
        self.here -= 1;
    }
}

/// Writes as compactly as serde_json does by itself, and counts.
struct Counting<'d>(&'d mut Depth);

impl Formatter for Counting<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.enter();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.leave();
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.enter();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.leave();
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_lists_and_objects_and_no_brackets_in_strings() {
        for (json, expected) in
            [("1", 0), ("[]", 1), (r#"{"a":[{"b":1}],"c":[]}"#, 3), (r#"["[[[","\"[[","\\",[1],{}]"#, 2)]
        {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let (mut depth, mut bytes) = (Depth::default(), Vec::new());
            let formatter = Counting(&mut depth);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).unwrap();
            assert_eq!((depth.here, depth.deepest), (0, expected), "{json}");
            assert_eq!(String::from_utf8(bytes).unwrap(), json);
        }
    }

    #[test]
    fn what_is_printed_can_be_parsed_at_every_allowed_depth() {
        let nested = |levels: usize| {
            let innermost = serde_json::Value::Null;
            (0..levels).fold(innermost, |inner, _| serde_json::json!([inner]))
        };
        let deepest = nested(DEPTH_MAX);
        let text = print(&deepest).unwrap();
        assert_eq!(parse::<serde_json::Value>(text.as_bytes()).unwrap(), deepest);
        assert_eq!(
            print(&nested(DEPTH_MAX + 1)),
            Err("the record is nested 513 levels deep; 512 are allowed".to_owned())
        );
    }

    #[test]
    fn the_checksum_depends_on_where_values_end_and_on_their_kind() {
        let sum = |a: Cell<'_>, b: Cell<'_>| {
            let rest = [Cell::Null; 3];
            DEFINITIONS.checksum(&[a, b, rest[0], rest[1], rest[2]])
        };
        let plain = sum(Cell::Text(b"a"), Cell::Text(b"b\x03c"));
        let shifted = sum(Cell::Text(b"a\x03b"), Cell::Text(b"c"));
        assert_ne!(plain, shifted);
        let blob = sum(Cell::Blob(b"a"), Cell::Text(b"b\x03c"));
        assert_ne!(plain, blob);
        assert_ne!(sum(Cell::Null, Cell::Integer(0)), sum(Cell::Integer(0), Cell::Null));
    }
}
