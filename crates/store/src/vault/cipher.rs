//! The cipher: keys of 256 bits, and what is sealed with one. XChaCha20-Poly1305, with a random nonce for each text.
//!
//! Nonces of 192 bits may be drawn at random as often as a key lives, by any number of servers at once. Owns bytes only;
//! what is sealed, and bound to what, is for others to say.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Wiped when it is dropped, and never printed.
#[derive(Clone)]
pub(super) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    pub fn random() -> Result<Self, String> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill(&mut *key)?;
        Ok(Self(key))
    }

    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    pub fn bytes(&self) -> &[u8] {
        &*self.0
    }

    /// The nonce and the sealed text, in base64. It opens only where `bound` is the same.
    ///
    /// # Errors
    /// A fragment, when there is no randomness to be had.
    pub fn seal(&self, text: &[u8], bound: &[u8]) -> Result<String, String> {
        let mut nonce = [0; NONCE_BYTES];
        fill(&mut nonce)?;
        let payload = Payload { msg: text, aad: bound };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| "it is too long to be encrypted".to_owned())?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// `None` when it was sealed with another key, or bound to something else, or is not what was sealed.
    pub fn open(&self, sealed: &str, bound: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: sealed, aad: bound };
        self.cipher().decrypt(&XNonce::from(nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Random bytes of the operating system.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), String> {
    getrandom::fill(bytes).map_err(|error| format!("the system gives no random bytes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_in_its_place_only() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let sealed = key.seal(b"hunter2", b"here").unwrap();
        assert_eq!(key.open(&sealed, b"here").unwrap().as_slice(), b"hunter2");
        assert!(key.open(&sealed, b"there").is_none());
        assert!(other.open(&sealed, b"here").is_none());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert!(key.open(std::str::from_utf8(&damaged).unwrap(), b"here").is_none(), "{at}");
        }
        for short in ["", "AAAA", "?"] {
            assert!(key.open(short, b"here").is_none(), "{short}");
        }
        assert_ne!(key.seal(b"hunter2", b"here").unwrap(), sealed);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::of_bytes(&[7; KEY_BYTES]).unwrap()), "Key(…)");
        assert!(Key::of_bytes(&[7; KEY_BYTES - 1]).is_none());
    }
}
