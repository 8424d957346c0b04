//! What records are kept for: made of a body and of what the columns beside it say.
//!
//! A body leaves out what its record says in columns under the same checksum, so here both come together again. Which
//! columns there are is `seal`'s business, and what is in a body the kernel's.

use kernel::commit::{Effect, Entry, EntryPlace, StoredEntry};
use kernel::conversation::Clarification;
use kernel::id::{DefinitionHash, Digest, InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::ReceiptId;
use kernel::snapshot::{Snapshot, SnapshotPlace, StoredSnapshot, StoredWaiting};
use kernel::time::Timestamp;
use serde::de::IgnoredAny;

use crate::seal::{Cell, Kept, Table};

/// What is in its body as a whole.
macro_rules! kept_whole {
    ($($name:ty),*) => {
        $(impl Kept for $name {
            type Body = Self;

            fn of(body: Self, _: &Table, _: &[Cell<'_>]) -> Result<Self, String> {
                Ok(body)
            }
        })*
    };
}

kept_whole!(Clarification, Effect, IgnoredAny);

/// A log entry's body leaves out whose it is, its revision and its receipt.
impl Kept for Entry {
    type Body = StoredEntry;

    fn of(body: StoredEntry, table: &Table, cells: &[Cell<'_>]) -> Result<Self, String> {
        let columns = Columns { table, cells };
        let receipt = columns.blob("receipt")?.try_into();
        let receipt = receipt.map_err(|_| "its receipt has not 16 bytes".to_owned())?;
        body.restore(EntryPlace {
            instance: InstanceId::parse(columns.text("instance")?)?,
            revision: columns.revision()?,
            receipt: ReceiptId(Digest(u128::from_be_bytes(receipt))),
        })
    }
}

/// An instance's body leaves out whose it is, what it is of, its state and its times.
impl Kept for Snapshot {
    type Body = StoredSnapshot;

    fn of(body: StoredSnapshot, table: &Table, cells: &[Cell<'_>]) -> Result<Self, String> {
        let columns = Columns { table, cells };
        body.restore(SnapshotPlace {
            tenant: TenantId::stored(columns.text("tenant")?)?,
            instance: InstanceId::parse(columns.text("id")?)?,
            machine: MachineName::parse(columns.text("machine")?)?,
            version: columns.count("version")?,
            definition: DefinitionHash::stored(columns.text("definition")?),
            subject: columns.maybe_text("subject")?.map(Subject::parse).transpose()?,
            ordinal: columns.count("ordinal")?,
            revision: columns.revision()?,
            state: columns.text("state")?.into(),
            closure_reason: columns.maybe_text("closure_reason")?.map(str::to_owned),
            created_at: columns.time("created_at")?,
            updated_at: columns.time("updated_at")?,
        })
    }
}

/// What of an instance says when it next has to be looked at. It is read without a key: what waits is found due also
/// where nobody can open it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub tenant: TenantId,
    pub instance: InstanceId,
    due_at: Option<Timestamp>,
}

impl Kept for Waiting {
    type Body = StoredWaiting;

    fn of(body: StoredWaiting, table: &Table, cells: &[Cell<'_>]) -> Result<Self, String> {
        let columns = Columns { table, cells };
        Ok(Self {
            tenant: TenantId::stored(columns.text("tenant")?)?,
            instance: InstanceId::parse(columns.text("id")?)?,
            due_at: body.due_at(columns.time("updated_at")?),
        })
    }
}

impl Waiting {
    /// As `due_at` of its snapshot.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due_at
    }
}

/// The columns beside a body, by their names.
struct Columns<'t, 'c> {
    table: &'t Table,
    cells: &'t [Cell<'c>],
}

impl<'c> Columns<'_, 'c> {
    fn cell(&self, column: &str) -> Cell<'c> {
        self.table.cell(self.cells, column).unwrap_or(Cell::Null)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<&'c str>, String> {
        match self.cell(column) {
            Cell::Null => Ok(None),
            Cell::Text(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|error| error.to_string()),
            other => Err(wrong(column, other)),
        }
    }

    fn text(&self, column: &str) -> Result<&'c str, String> {
        self.maybe_text(column)?.ok_or_else(|| wrong(column, Cell::Null))
    }

    fn blob(&self, column: &str) -> Result<&'c [u8], String> {
        match self.cell(column) {
            Cell::Blob(bytes) => Ok(bytes),
            other => Err(wrong(column, other)),
        }
    }

    fn integer(&self, column: &str) -> Result<i64, String> {
        match self.cell(column) {
            Cell::Integer(number) => Ok(number),
            other => Err(wrong(column, other)),
        }
    }

    fn count(&self, column: &str) -> Result<u32, String> {
        let number = self.integer(column)?;
        u32::try_from(number).map_err(|_| wrong(column, Cell::Integer(number)))
    }

    fn revision(&self) -> Result<Revision, String> {
        Ok(Revision(self.integer("revision")?.cast_unsigned()))
    }

    fn time(&self, column: &str) -> Result<Timestamp, String> {
        self.integer(column).map(Timestamp::from_millis)
    }
}

fn wrong(column: &str, cell: Cell<'_>) -> String {
    format!("its column `{column}` has {cell:?}")
}
