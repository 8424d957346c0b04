//! Whether the file leads to all that is in it: what a checksum cannot tell.
//!
//! A record whose bytes have changed is found by its checksum when it is read. One that an index no longer leads to is
//! not read at all, and its session would begin anew. So the structure of the file and its indices are looked at when it
//! is opened, and of a large one soon after. An index that was damaged is built anew from records that are whole. What
//! cannot be explained is not repaired, and nothing is decided on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::due_at;
use crate::seal::{CLARIFICATIONS, DEFINITIONS, Damage, INSTANCES, LOG, OUTBOX, PHASES, SETTINGS, Table};
use crate::sqlite::place::RESTORE;
use crate::sqlite::seal::{self, Fault};
use crate::sqlite::{OpenError, failure, outbox, phases};
use crate::vault::parts::Secrets;

/// A file that is no larger is looked at before it is used: some tenths of a second.
pub(super) const BYTES_AT_ONCE: u64 = 64 << 20;

/// More lines than one damaged page leads to; beyond that, nobody mends anything.
const LINES_MAX: usize = 1_000;

const SEALED: [Table; 7] = [INSTANCES, LOG, CLARIFICATIONS, OUTBOX, DEFINITIONS, SETTINGS, PHASES];

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    /// These indices were built anew.
    Mended(Vec<String>),
    /// So many records are damaged, each of which is found and refused by itself.
    Records(usize),
    /// Records may be missing.
    Broken(String),
}

/// Looks at all of the file, and changes nothing.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare(&format!("PRAGMA integrity_check({LINES_MAX})"))?;
    let lines = select.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    if lines == ["ok"] {
        return Ok(Vec::new());
    }
    // What is about pages comes as one text with a title.
    let lines = lines.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("***"));
    Ok(lines.map(str::to_owned).collect())
}

/// Looks at all of the file and mends what can be, within the transaction that `connection` is in. What is not `Mended`
/// or `Records` has to be rolled back.
pub(super) fn mend(connection: &Connection) -> rusqlite::Result<Verdict> {
    let lines = look(connection)?;
    if lines.is_empty() {
        return Ok(Verdict::Whole);
    }
    let told = lines.first().cloned().unwrap_or_default();
    let all = indices(connection)?;
    let Some(suspects) = suspected(&lines, &all) else {
        return Ok(Verdict::Broken(told));
    };
    let mut damaged_records = 0;
    let mut mended = Vec::new();
    let mut tables: BTreeMap<&str, Vec<&Index>> = BTreeMap::new();
    for table in &suspects.tables {
        tables.entry(table).or_default();
    }
    for index in all.iter().filter(|index| suspects.tables.contains(&index.table)) {
        tables.entry(&index.table).or_default().push(index);
    }
    for (table, indices) in tables {
        let damaged = damaged(connection, table)?;
        for index in &indices {
            if let Some(row) = index.dangling(connection)? {
                let detail =
                    format!("{told}; {} leads to row {row} of {table}, which is not there", index.name);
                return Ok(Verdict::Broken(detail));
            }
        }
        if damaged.is_empty() {
            for index in indices.iter().filter(|index| suspects.indices.contains(&index.name)) {
                connection.execute_batch(&format!("REINDEX \"{}\"", index.name))?;
                mended.push(index.name.clone());
            }
            // Which is only possible now: a value is changed in its index as well.
            correct_hints(connection, table)?;
            continue;
        }
        // What the index says of a damaged record is from before: by that it is found, and refused. Built anew, the
        // index would not lead to it any more.
        for index in &indices {
            if let Some(row) =
                index.missing(connection)?.difference(&damaged.keys().copied().collect()).next()
            {
                let detail = format!("{told}; {} does not lead to row {row} of {table}", index.name);
                return Ok(Verdict::Broken(detail));
            }
        }
        damaged_records += damaged.len();
        damaged.values().try_for_each(|damage| seal::quarantine(connection, damage))?;
    }
    if damaged_records > 0 {
        return Ok(Verdict::Records(damaged_records));
    }
    Ok(match look(connection)?.into_iter().next() {
        None => Verdict::Mended(mended),
        Some(line) => Verdict::Broken(line),
    })
}

struct Suspects {
    tables: BTreeSet<String>,
    indices: BTreeSet<String>,
}

/// What the lines are about, if it is nothing but indices and values.
fn suspected(lines: &[String], all: &[Index]) -> Option<Suspects> {
    let mut suspects = Suspects { tables: BTreeSet::new(), indices: BTreeSet::new() };
    if lines.len() >= LINES_MAX {
        return None;
    }
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        if let [.., "index", name] = &*words
            && let Some(index) = all.iter().find(|index| index.name == *name)
        {
            suspects.tables.insert(index.table.clone());
            suspects.indices.insert(index.name.clone());
        } else if let [.., "value", "in", column] = &*words {
            suspects.tables.insert(column.split('.').next()?.to_owned());
        } else {
            return None;
        }
    }
    Some(suspects)
}

#[derive(Debug)]
struct Index {
    name: String,
    table: String,
    columns: Vec<String>,
    /// Which rows are in it.
    condition: String,
}

fn indices(connection: &Connection) -> rusqlite::Result<Vec<Index>> {
    let mut select = connection
        .prepare("SELECT name, tbl_name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'")?;
    let mut rows = select.query(())?;
    let mut indices = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, table, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut columns = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns = columns.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let condition = sql.split_once(" WHERE ").map_or("true", |(_, condition)| condition).to_owned();
        indices.push(Index { name, table, columns, condition });
    }
    Ok(indices)
}

impl Index {
    /// A row that it leads to and that is not there.
    fn dangling(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        let Self { name, table, condition, .. } = self;
        let sql = format!(
            "SELECT i.rowid FROM (SELECT rowid FROM \"{table}\" INDEXED BY \"{name}\" WHERE {condition}) AS i
             WHERE NOT EXISTS (SELECT 1 FROM \"{table}\" AS t NOT INDEXED WHERE t.rowid = i.rowid) LIMIT 1"
        );
        let mut select = connection.prepare(&sql)?;
        let mut rows = select.query(())?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    /// The rows that it should lead to and does not.
    fn missing(&self, connection: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
        let Self { name, table, condition, columns } = self;
        let same: Vec<String> = columns.iter().map(|c| format!("i.\"{c}\" IS t.\"{c}\"")).collect();
        let same = same.join(" AND ");
        let sql = format!(
            "SELECT t.rowid FROM (SELECT rowid, * FROM \"{table}\" NOT INDEXED WHERE {condition}) AS t
             WHERE NOT EXISTS (
                 SELECT 1 FROM (SELECT rowid, * FROM \"{table}\" INDEXED BY \"{name}\" WHERE {condition}) AS i
                 WHERE {same} AND i.rowid = t.rowid)"
        );
        let mut select = connection.prepare(&sql)?;
        select.query_map((), |row| row.get(0))?.collect()
    }
}

/// The records of a table that are not what was saved, by their rows.
fn damaged(connection: &Connection, table: &str) -> rusqlite::Result<BTreeMap<i64, Damage>> {
    let Some(table) = SEALED.iter().find(|sealed| sealed.name == table) else {
        return Ok(BTreeMap::new());
    };
    let more: &[&str] = if table.name == OUTBOX.name { &outbox::MORE } else { &[] };
    let sql = table.select(more).replacen(" AS t ", " AS t NOT INDEXED ", 1);
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query(())?;
    let mut damaged = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let found = match table.name {
            name if name == OUTBOX.name => outbox::check(row),
            name if name == PHASES.name => phases::open(row).map(drop),
            _ => table.verify(row),
        };
        match found {
            Ok(()) | Err(Fault::NewerFormat(_) | Fault::Locked(_)) => {}
            Err(Fault::Backend(error)) => return Err(error),
            Err(Fault::Damaged(damage)) => drop(damaged.insert(damage.row, *damage)),
        }
    }
    Ok(damaged)
}

/// Columns that an index is about and no checksum covers are worked out anew, so that the index is not built on a value
/// that was damaged.
fn correct_hints(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    if table == OUTBOX.name {
        return outbox::seat_all(connection);
    }
    if table != INSTANCES.name {
        return Ok(());
    }
    let mut select = connection.prepare(&INSTANCES.select(&["wake_at", "looping_until"]))?;
    let mut rows = select.query(())?;
    let mut corrections = Vec::new();
    while let Some(row) = rows.next()? {
        let snapshot: Snapshot = match INSTANCES.open_sealed(row, &Secrets::Refused) {
            Ok(snapshot) => snapshot,
            Err(Fault::Backend(error)) => return Err(error),
            Err(_) => continue,
        };
        let number: i64 = row.get(INSTANCES.more() - 1)?;
        let stored: (Option<i64>, Option<i64>) = (row.get(INSTANCES.more())?, row.get(INSTANCES.more() + 1)?);
        let looping = snapshot.looping.as_ref().map(|looping| looping.until.as_millis());
        let hints = (due_at(&snapshot).map(Timestamp::as_millis), looping);
        if stored != hints {
            corrections.push((number, hints));
        }
    }
    let mut update =
        connection.prepare("UPDATE instances SET wake_at = ?2, looping_until = ?3 WHERE row = ?1")?;
    for (row, (wake_at, looping)) in corrections {
        update.execute(params![row, wake_at, looping])?;
    }
    Ok(())
}

/// Looks at a file before it is used, mends what can be, and says what there is to note.
pub(super) fn at_open(connection: &mut Connection, path: &Path) -> Result<Option<String>, OpenError> {
    let found = examine(connection);
    match found.unwrap_or_else(|error| Verdict::Broken(failure::checked(error).to_string())) {
        Verdict::Broken(detail) => Err(OpenError::Damaged { file: path.display().to_string(), detail }),
        other => Ok(other.note(path)),
    }
}

/// That a file of an older program is whole: what a step of the schema makes of damage, nobody could tell from it any more.
pub(super) fn before_migrating(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let lines = look(connection).unwrap_or_else(|error| vec![failure::checked(error).to_string()]);
    let Some(line) = lines.into_iter().next() else { return Ok(()) };
    let detail =
        format!("{line}; it is of an older release, which is to mend it before this one can take it");
    Err(OpenError::Damaged { file: path.display().to_string(), detail })
}

/// Looks, and if need be mends, in a transaction that is kept only if all is accounted for.
pub(super) fn examine(connection: &mut Connection) -> rusqlite::Result<Verdict> {
    if look(connection)?.is_empty() {
        return Ok(Verdict::Whole);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let verdict = mend(&transaction)?;
    match verdict {
        Verdict::Broken(_) => transaction.rollback()?,
        _ => transaction.commit()?,
    }
    Ok(verdict)
}

impl Verdict {
    pub fn note(&self, path: &Path) -> Option<String> {
        let file = path.display();
        match self {
            Self::Whole => None,
            Self::Mended(indices) => Some(format!(
                "{file}: the indices {} did not lead to all records and were built anew; suspect the disk",
                indices.join(", ")
            )),
            Self::Records(count) => {
                Some(format!("{file}: {count} records are damaged and in quarantine; suspect the disk"))
            }
            Self::Broken(detail) => Some(format!(
                "{file} is damaged ({detail}); records may be missing, so that nothing is saved and nothing is taken to be \
                 new; stop the server; {RESTORE}"
            )),
        }
    }
}
