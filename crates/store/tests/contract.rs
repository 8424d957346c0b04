//! Every backend of this crate keeps the contract.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use store::contract::Durable;
use store::{MemoryStore, SqliteStore, Store};
use tempfile::TempDir;

store::store_contract!(memory, || Box::new(MemoryStore::new()) as Box<dyn Store>);
store::store_contract!(sqlite, new_files());
store::durable_store_contract!(sqlite_reopened, OneFile::new());

/// A new file at each call, in a directory that goes with the test.
fn new_files() -> impl Fn() -> Box<dyn Store> {
    let directory = TempDir::new().expect("a temporary directory");
    let count = Cell::new(0);
    move || {
        count.set(count.get() + 1);
        open(&directory.path().join(format!("{}.db", count.get())))
    }
}

fn open(path: &Path) -> Box<dyn Store> {
    Box::new(SqliteStore::open(path).expect("the file can be opened"))
}

struct OneFile {
    directory: TempDir,
    copies: Cell<u32>,
}

impl OneFile {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory"), copies: Cell::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("statewright.db")
    }
}

impl Durable for OneFile {
    fn open(&self) -> Box<dyn Store> {
        open(&self.path())
    }

    /// What a killed process leaves is what it has written to its files. The log is copied first: a checkpoint that comes
    /// between moves pages that both copies then have.
    fn open_as_if_killed(&self) -> Box<dyn Store> {
        self.copies.set(self.copies.get() + 1);
        let copy = self.directory.path().join(format!("copy-{}.db", self.copies.get()));
        for suffix in ["-wal", ""] {
            let with_suffix = |path: &Path| format!("{}{suffix}", path.display());
            let (from, to) = (with_suffix(&self.path()), with_suffix(&copy));
            std::fs::copy(from, to).expect("the file can be copied");
        }
        open(&copy)
    }
}
