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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Serialize;
    use serde_json::json;

    use super::*;
    use crate::contract::{Draft, at, id, tenant};
    use crate::record::{Records, number, text, time};
    use crate::seal::{self, Fault, INSTANCES};
    use crate::vault::parts::Secrets;
    use crate::vault::{MasterKey, Vault};

    /// The columns of an instance, with a body that an older program may have written.
    fn cells<'a>(snapshot: &'a Snapshot, state: &'a str, format: i64, body: &'a str) -> [Cell<'a>; 14] {
        [
            text(snapshot.tenant.as_str()),
            text(snapshot.instance.as_str()),
            Cell::Integer(format),
            text(snapshot.machine.as_str()),
            Cell::Integer(snapshot.version.into()),
            text(snapshot.definition.as_str()),
            snapshot.subject.as_ref().map_or(Cell::Null, |subject| text(subject.as_str())),
            Cell::Integer(snapshot.ordinal.into()),
            Cell::Integer(number(snapshot.revision)),
            text(state),
            snapshot.closure.as_ref().map_or(Cell::Null, |closure| text(&closure.reason)),
            time(snapshot.created_at),
            time(snapshot.updated_at),
            text(body),
        ]
    }

    fn snapshot() -> Snapshot {
        let draft = Draft::creation("o-1").session("ana", 2).context("token", json!("x")).timer(5_000);
        let mut snapshot = draft.snapshot();
        snapshot.updated_at = at(2_000);
        snapshot.timers[0].payload = json!({ "token": "x" }).as_object().unwrap().clone();
        snapshot
    }

    fn vault() -> Secrets {
        let vault = Vault::new(vec![MasterKey::parse("a", &"07".repeat(32)).unwrap()]).unwrap();
        vault.learn(&[vault.new_key(&tenant("t"), at(1)).unwrap()]);
        Secrets::Sealed(Arc::new(vault))
    }

    fn reveal<T: Kept>(cells: &[Cell<'_>], secrets: &Secrets) -> Result<T, Fault<()>> {
        INSTANCES.reveal(cells, Some(INSTANCES.checksum(cells)), 0, secrets)
    }

    fn check(body: &str, format: i64, secrets: &Secrets) {
        let (snapshot, state) = (snapshot(), snapshot().state());
        let cells = cells(&snapshot, &state, format, body);
        assert_eq!(reveal::<Snapshot>(&cells, secrets).unwrap(), snapshot, "{body}");
        // When it is due is found without a key.
        let waiting = INSTANCES.peek::<Waiting, ()>(&cells, Some(INSTANCES.checksum(&cells)), 0).unwrap();
        assert_eq!((waiting.tenant.clone(), waiting.instance.clone()), (tenant("t"), id("o-1")), "{body}");
        assert_eq!(waiting.due_at(), Some(at(5_000)), "{body}");
    }

    fn sealed(secrets: &Secrets, body: &impl Serialize, parts: &[&str]) -> String {
        let sealer = secrets.sealer(&tenant("t")).unwrap().unwrap();
        sealer.print(body, &INSTANCES, &[text("t"), text("o-1")], parts).unwrap()
    }

    #[test]
    fn an_instance_is_read_whole_by_whichever_program_it_was_written_and_sealed() {
        let (snapshot, vault) = (snapshot(), vault());
        check(&seal::print(&snapshot).unwrap(), 4, &Secrets::Refused);
        check(&sealed(&vault, &snapshot, &["/context/token", "/timers/0/payload"]), 4, &vault);
        check(&seal::print(&snapshot.stored()).unwrap(), 5, &Secrets::Refused);
        check(&sealed(&vault, &snapshot.stored(), &["/context/token", "/due/0/3"]), 5, &vault);
    }

    #[test]
    fn whose_an_instance_is_is_read_from_its_columns_alone() {
        let records = Records { secrets: Secrets::Plain, ..Records::default() };
        let commit = Draft::creation("o-1").session("ana", 2).build();
        let body = records.prepare(&commit).unwrap().instance.unwrap().body;
        assert_eq!(body, r#"{"context":{}}"#);
        let mut other = commit.after.unwrap();
        (other.tenant, other.instance, other.ordinal) = (tenant("u~shadow"), id("o-2"), 7);
        let state = other.state();
        let found: Snapshot = reveal(&cells(&other, &state, 5, &body), &Secrets::Plain).unwrap();
        assert_eq!(found, other);
    }

    #[test]
    fn columns_that_cannot_be_read_are_told() {
        let (snapshot, state) = (snapshot(), snapshot().state());
        let body = seal::print(&snapshot.stored()).unwrap();
        let whole = cells(&snapshot, &state, 5, &body);
        for (column, cell, expected) in [
            (0, Cell::Null, "its column `tenant` has Null"),
            (1, Cell::Integer(1), "its column `id` has Integer(1)"),
            (3, Cell::Text(b""), "the machine name is empty"),
            (4, Cell::Integer(-1), "its column `version` has Integer(-1)"),
            (7, Cell::Integer(1 << 32), "its column `ordinal` has Integer(4294967296)"),
            (9, Cell::Text(b"\xff"), "invalid utf-8 sequence"),
            (10, Cell::Text(b"done"), "whether it is closed is not what is said beside it"),
            (12, Cell::Null, "its column `updated_at` has Null"),
        ] {
            let mut cells = whole;
            cells[column] = cell;
            match reveal::<Snapshot>(&cells, &Secrets::Plain) {
                Err(Fault::Damaged(damage)) => assert!(damage.detail.contains(expected), "{}", damage.detail),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
