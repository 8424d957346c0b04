//! The schema of a file: its steps, and taking a file from where it is to where this program needs it.
//!
//! `PRAGMA user_version` counts the steps that a file has been through. A step, once released, never changes.

use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::{OpenError, outbox};

pub(super) struct Step {
    pub sql: &'static str,
    /// What SQL cannot do: it has no checksums.
    then: fn(&Connection) -> rusqlite::Result<()>,
}

/// Each step takes the file from the version that is its index to the next.
pub(super) const STEPS: [Step; 3] = [
    Step { sql: include_str!("schema.sql"), then: |_| Ok(()) },
    Step { sql: include_str!("schema_2.sql"), then: outbox::seal_all },
    Step { sql: include_str!("schema_3.sql"), then: |_| Ok(()) },
];

/// Runs the steps that the file has not been through, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as u32;
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    for (version, step) in (1_u32..).zip(STEPS).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step.sql)?;
        (step.then)(&transaction)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
