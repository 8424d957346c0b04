//! PostgreSQL keeps the contract. Each store has a database of its own, on the server that STATEWRIGHT_TEST_POSTGRES names.

mod postgres {
    mod apart;
    mod documents;
    mod restarts;
    pub mod server;
    mod together;
}

use std::cell::RefCell;

use postgres::server::{Database, new_databases};
use store::Store;

store::store_contract!(contract, new_databases());
store::durable_store_contract!(reopened, Reopened::new());

struct Reopened {
    database: Database,
    copies: RefCell<Vec<Database>>,
}

impl Reopened {
    fn new() -> Self {
        Self { database: Database::new(), copies: RefCell::default() }
    }
}

impl store::contract::Durable for Reopened {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.database.open())
    }

    fn open_as_if_killed(&self) -> Box<dyn Store> {
        let copy = self.database.killed();
        let store = copy.open();
        self.copies.borrow_mut().push(copy);
        Box::new(store)
    }
}
