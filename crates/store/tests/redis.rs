//! Redis keeps the contract, on one server and on a cluster, and some promises of its own.
//!
//! The servers are named by the environment; `cargo xtask servers cargo nextest run -p store` starts them and names them.
//! Each store that is opened has a prefix of its own, so all tests share them.

mod redis_support;

use redis_support::{CLUSTER, ONE, fresh_stores};

store::store_contract!(redis, fresh_stores(ONE));
store::store_contract!(redis_cluster, fresh_stores(CLUSTER));
