//! The scripts, each with what they share in front of it, and the names under which servers keep them.

use std::sync::LazyLock;

#[derive(Debug)]
pub(super) struct Script {
    pub source: String,
    pub hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let source = parts.concat();
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }
}

const COMMON: &str = include_str!("lua/common.lua");
const CHAIN: &str = include_str!("lua/chain.lua");
const OUTBOX: &str = include_str!("lua/outbox.lua");

pub(super) type Lazy = LazyLock<Script>;

pub(super) static OPEN: Lazy = LazyLock::new(|| Script::new(&[include_str!("lua/open.lua")]));
pub(super) static COMMIT: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, CHAIN, include_str!("lua/commit.lua")]));
pub(super) static GATHER: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/gather.lua")]));
pub(super) static TAKE_IN: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, CHAIN, OUTBOX, include_str!("lua/take_in.lua")]));
pub(super) static LOAD: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/load.lua")]));
pub(super) static HISTORY: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/history.lua")]));
pub(super) static LIST: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/list.lua")]));
pub(super) static DUE: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/due.lua")]));
pub(super) static CLAIM: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, OUTBOX, include_str!("lua/claim.lua")]));
pub(super) static SETTLE: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, OUTBOX, include_str!("lua/settle.lua")]));
pub(super) static RETRY: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, OUTBOX, include_str!("lua/retry.lua")]));
pub(super) static STAGE: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, OUTBOX, include_str!("lua/stage.lua")]));
pub(super) static CLEAN: Lazy =
    LazyLock::new(|| Script::new(&[COMMON, OUTBOX, include_str!("lua/clean.lua")]));
pub(super) static KEEP: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/keep.lua")]));
pub(super) static KEPT: Lazy = LazyLock::new(|| Script::new(&[COMMON, include_str!("lua/kept.lua")]));
