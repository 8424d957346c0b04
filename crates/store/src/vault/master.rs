//! Master keys: what whoever runs the server keeps, and by which the data keys in the store are wrapped.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::cipher::{KEY_BYTES, Key};

/// Longer names are no names.
const ID_BYTES_MAX: usize = 64;

/// A key and what it is called in the settings and beside what it has wrapped.
#[derive(Clone, Debug)]
pub struct MasterKey {
    id: String,
    pub(super) key: Key,
}

impl MasterKey {
    /// `text` is 32 bytes in base64, or in hexadecimal digits.
    ///
    /// # Errors
    /// A fragment that names the key and never repeats it.
    pub fn parse(id: &str, text: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.chars().all(good) {
            return Err(format!(
                "the encryption key `{id}` needs an id of letters, digits, `-`, `_` and `.`"
            ));
        }
        let bytes = Zeroizing::new(from_hex(text).or_else(|| STANDARD.decode(text).ok()).unwrap_or_default());
        let key = Key::of_bytes(&bytes).ok_or_else(|| {
            format!(
                "the encryption key `{id}` is no {KEY_BYTES} bytes in base64 or hexadecimal digits; make one with \
                 `openssl rand -base64 {KEY_BYTES}`"
            )
        })?;
        Ok(Self { id: id.to_owned(), key })
    }

    /// A new key as `parse` reads it.
    ///
    /// # Errors
    /// A fragment, when there is no randomness to be had.
    pub fn generate() -> Result<Zeroizing<String>, String> {
        let key = Key::random()?;
        Ok(Zeroizing::new(STANDARD.encode(key.bytes())))
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok());
    digits.collect()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_base64_and_in_hexadecimal_digits() {
        let digits = "00".repeat(31) + "ff";
        let bytes = from_hex(&digits).unwrap();
        for text in [digits.clone(), digits.to_uppercase(), STANDARD.encode(&bytes)] {
            assert_eq!(MasterKey::parse("2026-11", &text).unwrap().key.bytes(), bytes, "{text}");
        }
        assert_eq!(to_hex(&bytes), digits);
        let made = MasterKey::generate().unwrap();
        assert!(MasterKey::parse("a", &made).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let key = "00".repeat(32);
        for (id, text) in [
            ("", key.as_str()),
            ("a b", &key),
            ("a", ""),
            ("a", "hunter2"),
            ("a", &key[2..]),
            ("a", &format!("{key}00")),
        ] {
            let told = MasterKey::parse(id, text).unwrap_err();
            assert!(told.starts_with(&format!("the encryption key `{id}`")), "{told}");
            assert!(text.is_empty() || !told.contains(text), "{told}");
        }
    }
}
