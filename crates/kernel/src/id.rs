//! A newtype for each identifier, and the digests that name payloads, receipts and definitions.
//!
//! Identifiers are shared strings: cloning one is a reference count. What may be written in one is checked where
//! it enters (`parse`), so that the rest of the code need not ask again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::time::Timestamp;

/// Long enough for any provider's identifier (Meta's reach 128 bytes) and short enough for every index.
pub const IDENTIFIER_BYTES_MAX: usize = 200;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        identifier!($(#[$doc])* $name, $noun, read by parse);

        impl $name {
            /// # Errors
            /// A fragment that names the identifier and what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, String> {
                check_identifier($noun, text)?;
                Ok(Self(text.into()))
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $noun:literal, read by $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::$read(&text).map_err(de::Error::custom)
            }
        }
    };
}

identifier!(
    /// Who owns a record: one client or engagement. Part of every key and every query.
    TenantId,
    "tenant",
    read by stored
);
identifier!(
    /// The name of a definition, such as `progress_update`.
    MachineName,
    "machine name"
);
identifier!(
    /// One running machine: a session, a flow, an instance created by hand.
    InstanceId,
    "instance id"
);
identifier!(
    /// Whom a conversation is with: a phone number, a user id.
    Subject,
    "subject"
);
identifier!(
    /// The caller's name for one input; a repeat of it gets the first answer.
    InputKey,
    "key"
);

fn check_identifier(noun: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("the {noun} is empty"));
    }
    if text.len() > IDENTIFIER_BYTES_MAX {
        return Err(format!("the {noun} has {} bytes; {IDENTIFIER_BYTES_MAX} are allowed", text.len()));
    }
    // In an address they are ways, not names.
    if matches!(text, "." | "..") {
        return Err(format!("the {noun} is `{text}`, which no address can name"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("the {noun} contains the control character {control:?}")),
        None => Ok(()),
    }
}

/// Stands between a tenant and the name of what is kept beside it. No tenant from outside has it in its name.
const BESIDE: char = '~';
const SHADOW: &str = "shadow";
const RECEIPTS: &str = "receipts";
/// What is of no tenant alone, but of the server: who may ask.
const ACCESS: &str = "statewright~access";

impl TenantId {
    /// A tenant as somebody outside names it.
    ///
    /// # Errors
    /// A fragment that says what is wrong with it. What is kept beside a tenant (`shadow`) cannot be named.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_identifier("tenant", text)?;
        if text.contains(BESIDE) {
            return Err(format!("the tenant contains {BESIDE:?}, which is for the server's own use"));
        }
        Ok(Self(text.into()))
    }

    /// A tenant as a record names it: what is kept beside one is read as well.
    ///
    /// # Errors
    /// A fragment that says what is wrong with it.
    pub fn stored(text: &str) -> Result<Self, String> {
        let (tenant, _) = text.split_once(BESIDE).unwrap_or((text, ""));
        check_identifier("tenant", tenant)?;
        Ok(Self(text.into()))
    }

    /// The tenant of a request that names none, in `dev`.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Where what this tenant's messages would do is tried out: instances of their own, which change nothing real and
    /// of whose effects none may be delivered.
    pub fn shadow(&self) -> Self {
        self.beside(SHADOW)
    }

    pub fn is_shadow(&self) -> bool {
        self.kept_beside() == Some(SHADOW)
    }

    /// Where the receipts of this tenant are kept, out of the way of its instances.
    pub fn receipts(&self) -> Self {
        self.beside(RECEIPTS)
    }

    /// Where the keys of all tenants are kept: whoever shows one has not said yet whose it is.
    pub fn access() -> Self {
        Self(ACCESS.into())
    }

    /// Whether it is no tenant but something that is kept beside one.
    pub fn is_beside(&self) -> bool {
        self.kept_beside().is_some()
    }

    /// The tenant that this is kept beside; without one, the tenant itself.
    pub fn owner(&self) -> Self {
        match self.0.split_once(BESIDE) {
            Some((owner, _)) => Self(owner.into()),
            None => self.clone(),
        }
    }

    fn beside(&self, what: &str) -> Self {
        Self(format!("{}{BESIDE}{what}", self.0).into())
    }

    fn kept_beside(&self) -> Option<&str> {
        self.0.split_once(BESIDE).map(|(_, what)| what)
    }
}

/// Machines whose names begin so are the server's own; no definition from outside may take one.
pub const OWN_MACHINE_PREFIX: &str = "statewright.";

impl MachineName {
    pub fn is_own(&self) -> bool {
        self.0.starts_with(OWN_MACHINE_PREFIX)
    }
}

impl InstanceId {
    /// An identifier made from `seed`, ordered by `now`: the layout of UUID version 8 with the milliseconds of
    /// version 7 in front, so that neighbours in time are neighbours in an index.
    pub fn derive(now: Timestamp, seed: &[&str]) -> Self {
        let hash = hash_parts(seed);
        let ms = u128::from(now.as_millis().unsigned_abs()) & 0xffff_ffff_ffff;
        let version_and_variant = (0x8_u128 << 76) | (0b10_u128 << 62);
        let random_bits = hash & 0x0fff_3fff_ffff_ffff_ffff;
        let bits = (ms << 80) | version_and_variant | random_bits;
        let hex = format!("{bits:032x}");
        let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        Self(text.into())
    }

    /// Whether `derive` may have made it, so that it is ordered by time.
    pub fn is_derived(&self) -> bool {
        let is_in_place = |(place, byte): (usize, u8)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'8',
            _ => byte.is_ascii_hexdigit(),
        };
        self.0.len() == 36 && self.0.bytes().enumerate().all(is_in_place)
    }
}

/// How often an instance has changed. A new instance is committed at revision 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first commit: nothing is stored.
    pub const NONE: Revision = Revision(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A 128-bit XXH3 digest, written as 32 hexadecimal digits. Tells payloads apart; it is no defence against forgery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes))
    }

    pub fn of_parts(parts: &[&str]) -> Self {
        Self(hash_parts(parts))
    }
}

/// Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
fn hash_parts(parts: &[&str]) -> u128 {
    let mut hasher = Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest128()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_| de::Error::custom(format!("`{text}` is no digest of 32 hexadecimal digits")))
    }
}

/// SHA-256 of a definition's source text, written as 64 hexadecimal digits. An instance is pinned to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinitionHash(Arc<str>);

impl DefinitionHash {
    pub fn of(source: &str) -> Self {
        use sha2::Digest as _;
        let bytes = sha2::Sha256::digest(source.as_bytes());
        Self(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into())
    }

    /// One that `of` has made, as a record names it.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_what_no_index_should_hold() {
        for text in ["", "a\nb", "\u{0}", &"x".repeat(IDENTIFIER_BYTES_MAX + 1)] {
            assert!(InputKey::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(InputKey::parse("wamid.HBg=").unwrap().as_str(), "wamid.HBg=");
    }

    #[test]
    fn what_is_kept_beside_a_tenant_is_read_and_cannot_be_named_from_outside() {
        let tenant = TenantId::parse("acme").unwrap();
        let shadow = tenant.shadow();
        assert_eq!((shadow.as_str(), shadow.is_shadow()), ("acme~shadow", true));
        assert!(!tenant.is_shadow() && !tenant.receipts().is_shadow());
        assert!(TenantId::access().is_beside() && TenantId::parse(TenantId::access().as_str()).is_err());
        assert!(TenantId::parse(shadow.as_str()).unwrap_err().contains("'~'"));
        assert_eq!((shadow.owner(), tenant.owner()), (tenant.clone(), tenant.clone()));
        let longest = TenantId::parse(&"x".repeat(IDENTIFIER_BYTES_MAX)).unwrap();
        for kept in [shadow, tenant.receipts(), longest.shadow(), TenantId::access()] {
            let read: TenantId = serde_json::from_value(serde_json::json!(kept)).unwrap();
            assert_eq!(read, kept);
        }
    }

    #[test]
    fn derived_instance_ids_are_repeatable_and_ordered_by_time() {
        let early = InstanceId::derive(Timestamp::from_millis(1_000), &["t", "a"]);
        let again = InstanceId::derive(Timestamp::from_millis(1_000), &["t", "a"]);
        let other = InstanceId::derive(Timestamp::from_millis(1_000), &["ta", ""]);
        let late = InstanceId::derive(Timestamp::from_millis(2_000), &["t", "a"]);
        assert_eq!(early, again);
        assert_ne!(early, other);
        assert!(early < late);
        assert_eq!((&early.as_str()[14..15], early.as_str().len()), ("8", 36));
        let chosen = InstanceId::parse("order-000000000000000000000000000012").expect("an id");
        assert_eq!((late.is_derived(), chosen.is_derived()), (true, false));
    }

    #[test]
    fn digests_of_parts_depend_on_where_parts_end() {
        assert_ne!(Digest::of_parts(&["ab", "c"]), Digest::of_parts(&["a", "bc"]));
    }
}
