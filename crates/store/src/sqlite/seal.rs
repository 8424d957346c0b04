//! Checksums over records: what is under each, computing it, and what is done when one does not fit.
//!
//! A record's checksum covers the name of its table, whose it is, and every column that decides anything, so that a
//! flipped bit is found wherever it is. `wake_at`, `claimed_until` and `looping_until` are hints outside it, and so is how
//! far an effect's delivery has come. The checksum finds accidents; it is no defence against someone who can write the
//! file.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use kernel::snapshot::SNAPSHOT_FORMAT;

/// A table of sealed records.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    /// The columns under the checksum, the body last where there is one.
    pub columns: &'static [&'static str],
    /// How many of the first columns say which record it is.
    key_columns: usize,
}

pub(super) const INSTANCES: Table = Table {
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

pub(super) const LOG: Table = Table {
    name: "log",
    columns: &["tenant", "instance", "revision", "seq", "owner", "at", "receipt", "body"],
    key_columns: 3,
};

pub(super) const CLARIFICATIONS: Table = Table {
    name: "clarifications",
    columns: &["tenant", "id", "instance", "status", "created_at", "body"],
    key_columns: 2,
};

pub(super) const DEFINITIONS: Table = Table {
    name: "definitions",
    columns: &["hash", "machine", "version", "saved_at", "source"],
    key_columns: 1,
};

/// What never changes about an effect. How far it has come is beside it, and not under the checksum.
pub(super) const OUTBOX: Table = Table {
    name: "outbox",
    columns: &["tenant", "key", "instance", "machine", "subject", "created_at", "body"],
    key_columns: 2,
};

pub(super) const PHASES: Table = Table {
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

pub(super) const SETTINGS: Table =
    Table { name: "settings", columns: &["tenant", "name", "saved_at", "body"], key_columns: 2 };

/// Where `INSTANCES` has its format.
const FORMAT_COLUMN: usize = 2;

/// Why a record cannot be served.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Damaged(Box<Damage>),
    /// It is whole, but this program does not know its layout.
    NewerFormat(i64),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// A record that is not what was saved.
#[derive(Debug)]
pub(super) struct Damage {
    source: &'static str,
    row: i64,
    pub key: String,
    pub detail: String,
    raw: Vec<u8>,
}

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

    /// The checksum of a record with these values under `columns`.
    pub(super) fn checksum(&self, values: &[ValueRef<'_>]) -> i64 {
        debug_assert_eq!(values.len(), self.columns.len(), "{}", self.name);
        let mut hasher = Xxh3::new();
        hasher.update(self.name.as_bytes());
        for value in values {
            update(&mut hasher, *value);
        }
        hasher.digest().cast_signed()
    }

    /// Checks that a row of `select` is what was saved.
    pub(super) fn verify(&self, row: &Row<'_>) -> Result<(), Fault> {
        let values = self.values(row)?;
        let stored = row.get_ref(self.columns.len())?;
        if stored != ValueRef::Integer(self.checksum(&values)) {
            let detail = "the checksum does not fit the record";
            return Err(self.damage(row, detail.to_owned()));
        }
        Ok(())
    }

    /// The body of a row of `select`, after its checksum has been found to fit.
    pub(super) fn open<T: DeserializeOwned>(&self, row: &Row<'_>) -> Result<T, Fault> {
        self.verify(row)?;
        if self.name == INSTANCES.name
            && let ValueRef::Integer(format) = row.get_ref(FORMAT_COLUMN)?
            && format > i64::from(SNAPSHOT_FORMAT)
        {
            return Err(Fault::NewerFormat(format));
        }
        let body = row.get_ref(self.columns.len() - 1)?;
        let parsed = match body {
            ValueRef::Text(bytes) => parse(bytes).map_err(|error| error.to_string()),
            _ => Err("it is no text".to_owned()),
        };
        parsed.map_err(|error| self.damage(row, format!("the body cannot be read: {error}")))
    }

    pub(super) fn values<'r>(&self, row: &'r Row<'_>) -> rusqlite::Result<Vec<ValueRef<'r>>> {
        (0..self.columns.len()).map(|i| row.get_ref(i)).collect()
    }

    pub(super) fn damage(&self, row: &Row<'_>, detail: String) -> Fault {
        let values = self.values(row).unwrap_or_default();
        let key: Vec<String> = values.iter().take(self.key_columns).map(printed).collect();
        let mut raw = Vec::new();
        for (column, value) in self.columns.iter().zip(&values) {
            raw.extend_from_slice(column.as_bytes());
            raw.push(b'=');
            match value {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => raw.extend_from_slice(bytes),
                other => raw.extend_from_slice(printed(other).as_bytes()),
            }
            raw.push(b'\n');
        }
        Fault::Damaged(Box::new(Damage {
            source: self.name,
            row: row.get(self.columns.len() + 1).unwrap_or_default(),
            key: format!("{} {}", self.name, key.join("/")),
            detail,
            raw,
        }))
    }
}

/// Each value is preceded by its kind and, where that varies, its length: no two records have the same input.
fn update(hasher: &mut Xxh3, value: ValueRef<'_>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => {
            hasher.update(&[1]);
            hasher.update(&number.to_le_bytes());
            return;
        }
        ValueRef::Real(number) => {
            hasher.update(&[2]);
            hasher.update(&number.to_bits().to_le_bytes());
            return;
        }
        ValueRef::Text(bytes) => (3, bytes),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn printed(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Deeper than any limit on what comes in, and shallow enough for any thread's stack. A context may be nested deeper than
/// the 128 levels at which serde_json stops by itself, because a snapshot puts levels of its own around it.
const DEPTH_MAX: usize = 512;

/// Reads what `print` has written. Only for bytes whose checksum fits: their depth has been checked then.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// A record as JSON that `parse` can read again.
///
/// # Errors
/// A fragment, when it cannot be written or is nested too deeply to be read.
pub(super) fn print(record: &impl serde::Serialize) -> Result<String, String> {
    let text = serde_json::to_string(record).map_err(|error| error.to_string())?;
    match depth(text.as_bytes()) {
        0..=DEPTH_MAX => Ok(text),
        deeper => Err(format!("the record is nested {deeper} levels deep; {DEPTH_MAX} are allowed")),
    }
}

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
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
        xxh3_64(&damage.raw).cast_signed(),
        damage.key,
        damage.detail,
        damage.raw,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (json, expected) in
            [("1", 0), ("[]", 1), (r#"{"a":[{"b":1}],"c":[]}"#, 3), (r#"["[[[", "\"[[", "\\", [1]]"#, 2)]
        {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
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
        let sum = |a: ValueRef<'_>, b: ValueRef<'_>| {
            let rest = [ValueRef::Null; 3];
            DEFINITIONS.checksum(&[a, b, rest[0], rest[1], rest[2]])
        };
        let plain = sum(ValueRef::Text(b"a"), ValueRef::Text(b"b\x03c"));
        let shifted = sum(ValueRef::Text(b"a\x03b"), ValueRef::Text(b"c"));
        assert_ne!(plain, shifted);
        let blob = sum(ValueRef::Blob(b"a"), ValueRef::Text(b"b\x03c"));
        assert_ne!(plain, blob);
        assert_ne!(sum(ValueRef::Null, ValueRef::Integer(0)), sum(ValueRef::Integer(0), ValueRef::Null));
    }
}
