//! Every backend of this crate keeps the contract.

use store::{MemoryStore, Store};

store::store_contract!(memory, || Box::new(MemoryStore::new()) as Box<dyn Store>);
