//! Settings in the file.

use kernel::time::Timestamp;
use rusqlite::{Connection, params};

use crate::Setting;
use crate::seal::SETTINGS;
use crate::sqlite::read::{Listed, identifier};
use crate::sqlite::seal::Fault;

/// `body` is the setting's, printed.
pub(super) fn save(
    connection: &Connection,
    setting: &Setting,
    body: &str,
    checksum: i64,
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO settings (tenant, name, saved_at, checksum, body) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant, name) DO UPDATE
         SET saved_at = excluded.saved_at, checksum = excluded.checksum, body = excluded.body",
    )?;
    upsert.execute(params![
        setting.tenant.as_str(),
        setting.name,
        setting.saved_at.as_millis(),
        checksum,
        body,
    ])?;
    Ok(())
}

pub(super) fn list(connection: &Connection) -> rusqlite::Result<Listed<Vec<Setting>>> {
    let mut select = connection.prepare_cached(&(SETTINGS.select(&[]) + "ORDER BY t.tenant, t.name"))?;
    let mut rows = select.query(())?;
    let mut settings = Vec::new();
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        match SETTINGS.open(row) {
            Ok(body) => settings.push(Setting {
                tenant: identifier(row, 0)?,
                name: row.get(1)?,
                body,
                saved_at: Timestamp::from_millis(row.get(2)?),
            }),
            Err(Fault::Backend(error)) => return Err(error),
            Err(Fault::NewerFormat(_) | Fault::Locked(_)) => {}
            Err(Fault::Damaged(damage)) => damaged.push(*damage),
        }
    }
    Ok((settings, damaged))
}
