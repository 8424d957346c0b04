//! The schema of a file: its steps, and taking a file from where it is to where this program needs it.
//!
//! `PRAGMA user_version` counts the steps that a file has been through. A step, once released, never changes.

use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::OpenError;

/// Each step takes the file from the version that is its index to the next.
pub(super) const STEPS: [&str; 1] = [include_str!("schema.sql")];

/// Runs the steps that the file has not been through, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as u32;
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    for (version, step) in (1_u32..).zip(STEPS).skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
