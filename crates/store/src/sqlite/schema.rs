//! The schema of a file: its steps, and taking a file from where it is to where this program needs it.
//!
//! `PRAGMA user_version` counts the steps that a file has been through. A step, once released, never changes.
//! `PRAGMA application_id` says that a file is ours. Nothing is changed in one that is not, or whose tables are not those
//! of the step that it names.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::{OpenError, lineage, outbox};

/// `Stwr`: of a file that this program has made.
pub(super) const APPLICATION_ID: i32 = 0x5374_7772;

pub(super) struct Step {
    pub sql: &'static str,
    /// What SQL cannot do: it has no checksums.
    then: fn(&Connection) -> rusqlite::Result<()>,
}

/// Each step takes the file from the version that is its index to the next.
pub(super) const STEPS: [Step; 5] = [
    Step { sql: include_str!("schema.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("schema_2.sql"), then: outbox::seal_all },
    Step { sql: include_str!("schema_3.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("schema_4.sql"), then: outbox::seal_progress_of_all },
    Step { sql: include_str!("schema_5.sql"), then: lineage::seal_all },
];

/// The step that brought a table by which a file is known.
const KNOWN_BY: [(&str, u32); 5] =
    [("instances", 1), ("log", 1), ("clarifications", 1), ("settings", 2), ("phases", 3)];

/// Whether an older program wrote the file.
pub(super) fn is_old(found: u32) -> bool {
    (1..STEPS.len() as u32).contains(&found)
}

/// Runs the steps after `found`, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection, found: u32) -> Result<(), OpenError> {
    let known = STEPS.len() as u32;
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    for (version, step) in (1_u32..).zip(STEPS).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        run(&transaction, version, &step)?;
        transaction.commit()?;
    }
    Ok(())
}

fn run(connection: &Connection, version: u32, step: &Step) -> rusqlite::Result<()> {
    connection.execute_batch(step.sql)?;
    (step.then)(connection)?;
    connection.pragma_update(None, "user_version", version)
}

/// Says in the header whose file it is, where that is not said yet.
pub(super) fn sign(connection: &Connection) -> rusqlite::Result<()> {
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found == APPLICATION_ID {
        return Ok(());
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)
}

/// How many steps the file has been through, as its header says and its tables confirm.
pub(super) fn step_of(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let mut select = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'")?;
    let tables: Vec<String> = select.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let is_known = KNOWN_BY[..3].iter().all(|(name, _)| has(name));
    let file = path.display().to_string();
    let foreign = |why| Err(OpenError::Foreign { file: file.clone(), why });
    if !is_known && id != 0 && id != APPLICATION_ID {
        return foreign(format!("its application id is {id}"));
    }
    if !is_known && id == 0 && !tables.is_empty() {
        return foreign(format!("it has the tables {}", tables.join(", ")));
    }
    // What brought no tables is told by a column.
    let by_column: u32 = connection.query_row(
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM pragma_table_info('log') WHERE name = 'lineage') THEN 5
             WHEN EXISTS (SELECT 1 FROM pragma_table_info('outbox') WHERE name = 'progress') THEN 4
             ELSE 0 END",
        (),
        |row| row.get(0),
    )?;
    let confirmed = KNOWN_BY
        .iter()
        .filter(|(name, _)| has(name))
        .map(|(_, step)| *step)
        .max()
        .unwrap_or(0)
        .max(by_column);
    let is_confirmed = confirmed == found || (found > STEPS.len() as u32 && confirmed == STEPS.len() as u32);
    if !is_confirmed || (is_known && id != 0 && id != APPLICATION_ID) {
        let detail = format!(
            "its header says step {found} of the schema and application {id}; its tables are those of step {confirmed}"
        );
        return Err(OpenError::Damaged { file, detail });
    }
    Ok(found)
}

type Definitions = BTreeMap<(String, String), String>;

/// That tables and indices are what the steps made them: one bit in a condition, and an index leads to other rows.
pub(super) fn check_definitions(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let mut new = Connection::open_in_memory()?;
    let transaction = new.transaction()?;
    for (version, step) in (1_u32..).zip(STEPS) {
        run(&transaction, version, &step)?;
    }
    transaction.commit()?;
    let found = definitions(connection)?;
    for ((kind, name), expected) in definitions(&new)? {
        let detail = match found.get(&(kind.clone(), name.clone())) {
            Some(definition) if *definition == expected => continue,
            Some(_) => format!("the definition of the {kind} {name} is not what it was"),
            None => format!("the {kind} {name} is missing"),
        };
        return Err(OpenError::Damaged { file: path.display().to_string(), detail });
    }
    Ok(())
}

fn definitions(connection: &Connection) -> rusqlite::Result<Definitions> {
    let mut select = connection.prepare(
        "SELECT type, name, tbl_name || ': ' || coalesce(sql, '') FROM sqlite_schema
         WHERE type IN ('table', 'index')",
    )?;
    let rows = select.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    rows.collect()
}
