//! Tables by the names of a definition, looked up several times for every message.
//!
//! Owns how such names are hashed: quickly, and alike in every run. Who writes a definition could choose names that
//! collide, and would slow down his own machine; what comes with messages is only looked up, never added.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub type Lookup<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// Each part is hashed at once, on top of what came before.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// What ends a text in a tuple of texts; here one text is all.
    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
