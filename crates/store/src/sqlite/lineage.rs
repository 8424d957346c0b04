//! Lineages: within what a receipt is looked for, so that all receipts need not be in one order.
//!
//! The lineage of an instance is the row of its subject's first session, or its own row if it is no session. It owns how
//! that is found and written; which receipts there are is the log's business.

use std::sync::LazyLock;

use kernel::commit::Entry;
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::Deserialize;

use crate::record;
use crate::seal::{Cell, Damage, INSTANCES, LOG, LOG_OF_STEP_4};
use crate::sqlite::seal::Fault;
use crate::vault::parts::Secrets;

/// Of what asks for a new instance, which concerns nothing that exists.
pub(super) const OF_CREATIONS: i64 = 0;

/// How many lines the migration takes at a time.
const LINES_AT_ONCE: i64 = 10_000;

/// The columns that `read` needs, in this order.
pub(super) const COLUMNS: &str = "row, lineage, lineage_check, tenant, id";

/// The row and the lineage of an instance, from the first columns of a statement that selects `COLUMNS`.
pub(super) fn read(row: &Row<'_>) -> Result<(i64, i64), Fault> {
    let (own, lineage, check): (i64, Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    if lineage.map(|lineage| !lineage) == check {
        return Ok((own, lineage.unwrap_or(own)));
    }
    let (tenant, id): (String, String) = (row.get(3)?, row.get(4)?);
    let raw = format!("lineage={lineage:?}\nlineage_check={check:?}\n").into_bytes();
    let detail = "its lineage is not what was saved".to_owned();
    let (source, key) = (INSTANCES.name, format!("{} {tenant}/{id}", INSTANCES.name));
    Err(Fault::Damaged(Box::new(Damage { source, row: own, key, detail, raw })))
}

/// The lineage in which a receipt of this scope is, if there is any.
pub(super) fn of(
    connection: &Connection,
    tenant: &TenantId,
    scope: &ReceiptScope,
) -> Result<Option<i64>, Fault> {
    match scope {
        ReceiptScope::Creations => Ok(Some(OF_CREATIONS)),
        ReceiptScope::Subject(machine, subject) => of_subject(connection, tenant, machine, subject),
        ReceiptScope::Instance(instance) => of_instance(connection, tenant, instance),
    }
}

fn of_instance(
    connection: &Connection,
    tenant: &TenantId,
    instance: &InstanceId,
) -> Result<Option<i64>, Fault> {
    let condition = "tenant = ?1 AND id = ?2";
    first(connection, condition, params![tenant.as_str(), instance.as_str()])
}

/// That of the subject's sessions so far.
pub(super) fn of_subject(
    connection: &Connection,
    tenant: &TenantId,
    machine: &MachineName,
    subject: &Subject,
) -> Result<Option<i64>, Fault> {
    let condition =
        "tenant = ?1 AND machine = ?2 AND subject = ?3 AND ordinal > 0 ORDER BY ordinal DESC LIMIT 1";
    first(connection, condition, params![tenant.as_str(), machine.as_str(), subject.as_str()])
}

fn first(connection: &Connection, condition: &str, key: impl Params) -> Result<Option<i64>, Fault> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM instances WHERE {condition}"))?;
    let mut rows = select.query(key)?;
    let found = rows.next()?.map(read).transpose()?;
    Ok(found.map(|(_, lineage)| lineage))
}

static FIND_RECEIPT: LazyLock<String> =
    LazyLock::new(|| LOG.select(&[]) + "WHERE t.lineage = ?1 AND t.receipt = ?2");

/// The line of a lineage with this receipt, and the instance that it belongs to.
pub(super) fn find_receipt(
    connection: &Connection,
    lineage: i64,
    receipt: [u8; 16],
    secrets: &Secrets,
) -> Result<Option<(InstanceId, Entry)>, Fault> {
    let mut select = connection.prepare_cached(&FIND_RECEIPT)?;
    let mut rows = select.query(params![lineage, receipt])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let entry: Entry = LOG.open_sealed(row, secrets)?;
    let instance: String = row.get(1)?;
    Ok(InstanceId::parse(&instance).ok().map(|id| (id, entry)))
}

/// Puts every line of the log under its lineage, sealed, and in order. For the step of the schema that brought it.
pub(super) fn seal_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut last = 0;
    while let Some(reached) = seal_some(connection, last)? {
        last = reached;
    }
    connection.execute_batch("CREATE UNIQUE INDEX log_by_receipt ON log (lineage, receipt)")
}

/// Seals the lines behind `last`, and says how far it came, if there were any. A line that is damaged stays so, and is
/// found where it belongs.
fn seal_some(connection: &Connection, last: i64) -> rusqlite::Result<Option<i64>> {
    let mut select =
        connection.prepare_cached(&(LOG.select(&[]) + "WHERE t.seq > ?1 ORDER BY t.seq LIMIT ?2"))?;
    let mut rows = select.query([last, LINES_AT_ONCE])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let mut cells = LOG.cells(row)?;
        let stored: Value = row.get(cells.len())?;
        let was_whole = stored == Value::Integer(LOG_OF_STEP_4.checksum(&without_lineage(&cells)));
        let seq: i64 = row.get(LOG.more() - 1)?;
        let Cell::Integer(mut lineage) = cells[LINEAGE] else { continue };
        if is_creation(connection, &cells)? {
            lineage = OF_CREATIONS;
        }
        cells[LINEAGE] = Cell::Integer(lineage);
        let checksum = if was_whole { Value::Integer(LOG.checksum(&cells)) } else { stored };
        lines.push((seq, lineage, checksum));
    }
    let mut update =
        connection.prepare_cached("UPDATE log SET lineage = ?2, checksum = ?3 WHERE seq = ?1")?;
    let reached = lines.last().map(|(seq, ..)| *seq);
    lines.into_iter().try_for_each(|line| update.execute(line).map(drop))?;
    Ok(reached)
}

/// Where `LOG` has its lineage; before that came what `LOG_OF_STEP_4` has.
const LINEAGE: usize = 5;

pub(super) fn without_lineage<'c>(cells: &[Cell<'c>]) -> Vec<Cell<'c>> {
    let each = cells.iter().enumerate();
    each.filter(|(column, _)| *column != LINEAGE).map(|(_, cell)| *cell).collect()
}

/// Whether the receipt of a line is the one that a creation under its key leaves.
fn is_creation(connection: &Connection, cells: &[Cell<'_>]) -> rusqlite::Result<bool> {
    #[derive(Deserialize)]
    struct Keyed {
        key: InputKey,
    }
    let [
        Cell::Text(tenant),
        _,
        Cell::Integer(1),
        _,
        Cell::Integer(owner),
        _,
        _,
        Cell::Blob(receipt),
        Cell::Text(body),
    ] = cells
    else {
        return Ok(false);
    };
    let sql = "SELECT machine FROM instances WHERE row = ?1";
    let machine: Option<String> =
        connection.prepare_cached(sql)?.query_row([owner], |row| row.get(0)).optional()?;
    let tenant = std::str::from_utf8(tenant).ok().and_then(|name| TenantId::parse(name).ok());
    let machine = machine.and_then(|name| MachineName::parse(&name).ok());
    let keyed = serde_json::from_slice::<Keyed>(body).ok();
    let (Some(tenant), Some(machine), Some(Keyed { key })) = (tenant, machine, keyed) else {
        return Ok(false);
    };
    Ok(record::receipt(ReceiptId::of_creation(&tenant, &machine, &key)) == *receipt)
}
