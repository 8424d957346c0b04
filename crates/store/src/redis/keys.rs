//! Names of keys, and which bucket and slot they are in.
//!
//! Every key of a bucket has the hash tag `{b<number>}`, so that a script finds all that it needs in one slot. The rest of
//! a key's name is made by the scripts, except where a command is sent without one.

use std::fmt::Write;

use kernel::id::TenantId;
use xxhash_rust::xxh3::xxh3_64;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// Where a call goes: a bucket by its number, or what belongs to no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Bucket(u16),
    Meta,
}

#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub prefix: String,
    pub buckets: u16,
}

impl Keys {
    pub fn bucket_of(&self, tenant: &TenantId) -> Place {
        let bucket = xxh3_64(tenant.as_str().as_bytes()) % u64::from(self.buckets);
        Place::Bucket(bucket as u16)
    }

    pub fn all_buckets(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.buckets).map(Place::Bucket)
    }

    /// What stands before the names of the keys there.
    pub fn home(&self, place: Place) -> String {
        match place {
            Place::Bucket(number) => format!("{}:{{b{number}}}:", self.prefix),
            Place::Meta => format!("{}:{{meta}}:", self.prefix),
        }
    }

    /// The key that holds a bucket's share of the store's identity, and its counters.
    pub fn meta(&self, place: Place) -> String {
        self.home(place) + "meta"
    }

    pub fn store(&self) -> String {
        self.home(Place::Meta) + "store"
    }

    pub fn slot(&self, place: Place) -> u16 {
        match place {
            Place::Bucket(number) => slot_of(format!("b{number}").as_bytes()),
            Place::Meta => slot_of(b"meta"),
        }
    }
}

/// The slot of a hash tag: CRC-16 of XMODEM, as clusters count.
fn slot_of(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// A name within a key, where a colon separates; the scripts do the same.
pub(super) fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_ascii_control() || char == ':' || char == '%' {
            let _ = write!(escaped, "%{:02X}", char as u32);
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// What `escaped` was given; `None` for what it never gave.
pub(super) fn unescaped(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_a_cluster() {
        // As `CLUSTER KEYSLOT` says.
        for (tag, slot) in [("123456789", 12_739), ("foo", 12_182), ("", 0)] {
            assert_eq!(slot_of(tag.as_bytes()), slot, "{tag}");
        }
    }

    #[test]
    fn names_are_escaped_so_that_a_colon_separates() {
        for (name, expected) in [("a", "a"), ("a:b%", "a%3Ab%25"), ("é\u{1}\u{7f}~", "é%01%7F~"), ("", "")]
        {
            assert_eq!(escaped(name), expected);
            assert_eq!(unescaped(expected).as_deref(), Some(name));
        }
        assert_eq!((unescaped("%4"), unescaped("%zz")), (None, None));
    }
}
