//! Encryption of a whole archive with a passphrase, in the format of age (age-encryption.org/v1), so that its own tool
//! opens it too.
//!
//! A key for the file is wrapped by one that scrypt makes of the passphrase; what follows are chunks of 64 KiB, each sealed
//! with ChaCha20-Poly1305 under its number, the last one marked as the last. Owns these bytes, and nothing of what is in
//! them. Of the format's many ways to wrap a key, only this one is known here.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result as IoResult, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hmac::{Hmac, Mac};
use scrypt::Params;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Problem;

const VERSION: &str = "age-encryption.org/v1";
const SCRYPT_LABEL: &str = "age-encryption.org/v1/scrypt";
/// The logarithm of scrypt's work: half a second and 128 MiB. What asks for more than the second is not tried.
const WORK: u8 = 17;
const WORK_MAX: u8 = 20;
const SALT_BYTES: usize = 16;
const FILE_KEY_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
/// Longer than any header with one wrapped key.
const HEADER_BYTES_MAX: u64 = 1 << 10;

type Key = Zeroizing<[u8; 32]>;

/// What somebody has chosen to encrypt archives with.
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// Without the line break at its end, if it has one.
    ///
    /// # Errors
    /// When there is nothing of it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        match text.is_empty() {
            true => Err("the passphrase is empty".to_owned()),
            false => Ok(Self(Zeroizing::new(text.to_owned()))),
        }
    }

    /// The key that wraps that of the file.
    fn key(&self, salt: &[u8], work: u8) -> Option<Key> {
        let params = Params::new(work, 8, 1).ok()?;
        let salt = [SCRYPT_LABEL.as_bytes(), salt].concat();
        let mut key = Key::default();
        scrypt::scrypt(self.0.as_bytes(), &salt, &params, &mut *key).ok()?;
        Some(key)
    }
}

/// HMAC-SHA256.
fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("an HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// HKDF-SHA256, as long as its digest.
fn derived(key: &[u8], salt: &[u8], info: &str) -> Key {
    let extracted = mac(salt, &[key]);
    mac(&*extracted, &[info.as_bytes(), &[1]])
}

fn cipher(key: &Key) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new((&**key).into())
}

fn random<const N: usize>() -> IoResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::other(error.to_string()))?;
    Ok(bytes)
}

/// The number of a chunk, and whether it is the last.
fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce.into()
}

/// Seals what is written to it.
pub struct Sealing<W> {
    to: W,
    cipher: ChaCha20Poly1305,
    number: u64,
    chunk: Vec<u8>,
}

impl<W> std::fmt::Debug for Sealing<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<W: Write> Sealing<W> {
    /// # Errors
    /// When the beginning cannot be written, or the system gives no random bytes.
    pub fn new(mut to: W, passphrase: &Passphrase) -> IoResult<Self> {
        let file_key = Zeroizing::new(random::<FILE_KEY_BYTES>()?);
        let salt = random::<SALT_BYTES>()?;
        let too_much = || Error::other("there is not enough memory for the passphrase");
        let wrapping = passphrase.key(&salt, WORK).ok_or_else(too_much)?;
        let wrapped = cipher(&wrapping).encrypt(&Nonce::default(), &file_key[..]);
        let wrapped = wrapped.map_err(|_| Error::other("the key cannot be wrapped"))?;
        let [salt, wrapped] = [&salt[..], &wrapped].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        let header = format!("{VERSION}\n-> scrypt {salt} {WORK}\n{wrapped}\n---");
        let seal = mac(&*derived(&*file_key, &[], "header"), &[header.as_bytes()]);
        writeln!(to, "{header} {}", STANDARD_NO_PAD.encode(*seal))?;
        let start = random::<16>()?;
        to.write_all(&start)?;
        let cipher = cipher(&derived(&*file_key, &start, "payload"));
        Ok(Self { to, cipher, number: 0, chunk: Vec::with_capacity(CHUNK_BYTES) })
    }

    fn put_chunk(&mut self, is_last: bool) -> IoResult<()> {
        let sealed = self.cipher.encrypt(&nonce(self.number, is_last), &self.chunk[..]);
        self.to.write_all(&sealed.map_err(|_| Error::other("a chunk cannot be encrypted"))?)?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }

    /// Without it, what was written is cut off.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> IoResult<W> {
        self.put_chunk(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        // A full one stays until more comes: it may be the last.
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.put_chunk(false)?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> IoResult<()> {
        self.to.flush()
    }
}

/// What is in a stream that may be encrypted.
///
/// # Errors
/// When it is, and the passphrase is missing or another.
pub fn opened<'r>(
    mut from: Box<dyn BufRead + 'r>,
    passphrase: Option<&Passphrase>,
) -> Result<Box<dyn BufRead + 'r>, Problem> {
    if !from.fill_buf()?.starts_with(VERSION.as_bytes()) {
        return Ok(from);
    }
    let missing =
        "it is encrypted: give its passphrase by --passphrase-file or STATEWRIGHT_BACKUP_PASSPHRASE";
    let passphrase = passphrase.ok_or(Problem::Encrypted(missing))?;
    let file_key = unwrapped(&mut from, passphrase)?;
    let mut start = [0; 16];
    from.read_exact(&mut start).map_err(|_| Problem::Cut(0))?;
    let cipher = cipher(&derived(&file_key, &start, "payload"));
    Ok(Box::new(BufReader::new(Opening {
        from,
        cipher,
        number: 0,
        chunk: Vec::new(),
        read: 0,
        is_over: false,
    })))
}

/// The key of a file, from its header.
fn unwrapped(from: &mut impl BufRead, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, Problem> {
    const OTHER: &str =
        "it is encrypted for a recipient and not with a passphrase: decrypt it with `age -d` first";
    const WRONG: &str = "the passphrase is not the one that it was encrypted with";
    let mut header = Vec::new();
    let mut rest = from.take(HEADER_BYTES_MAX);
    let mut lines = Vec::new();
    for _ in 0..4 {
        let begin = header.len();
        rest.read_until(b'\n', &mut header)?;
        let line = header[begin..].strip_suffix(b"\n").ok_or(Problem::Cut(0))?;
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
    let words: Vec<&str> = lines[1].split(' ').collect();
    let ["->", "scrypt", salt, work] = words[..] else { return Err(Problem::Encrypted(OTHER)) };
    let damaged = || Problem::Damaged(0, "what says how it is encrypted cannot be read".to_owned());
    let bytes = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| damaged());
    let work: u8 = work.parse().ok().filter(|work| *work <= WORK_MAX).ok_or_else(damaged)?;
    let wrapping = passphrase.key(&bytes(salt)?, work).ok_or_else(damaged)?;
    let file_key = cipher(&wrapping).decrypt(&Nonce::default(), &bytes(&lines[2])?[..]);
    let file_key = Zeroizing::new(file_key.map_err(|_| Problem::Encrypted(WRONG))?);
    let seal = lines[3].strip_prefix("--- ").ok_or_else(damaged)?;
    let sealed = header.len() - seal.len() - 2;
    let expected = mac(&*derived(&file_key, &[], "header"), &[&header[..sealed]]);
    if bytes(seal)? != *expected {
        return Err(damaged());
    }
    Ok(file_key)
}

/// Opens chunk after chunk.
struct Opening<R> {
    from: R,
    cipher: ChaCha20Poly1305,
    number: u64,
    chunk: Vec<u8>,
    /// How much of the chunk has been read.
    read: usize,
    is_over: bool,
}

impl<R: BufRead> Opening<R> {
    fn next_chunk(&mut self) -> IoResult<()> {
        let mut sealed = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        (&mut self.from).take((CHUNK_BYTES + TAG_BYTES) as u64).read_to_end(&mut sealed)?;
        let is_last = self.from.fill_buf()?.is_empty();
        let chunk = self.cipher.decrypt(&nonce(self.number, is_last), &sealed[..]);
        self.chunk = chunk.map_err(|_| {
            // A chunk that should not be the last opens as what it is.
            let is_cut = is_last && self.cipher.decrypt(&nonce(self.number, false), &sealed[..]).is_ok();
            match is_cut || (is_last && sealed.len() < CHUNK_BYTES + TAG_BYTES) {
                true => Error::from(ErrorKind::UnexpectedEof),
                false => Error::new(ErrorKind::InvalidData, "an encrypted chunk is not what was written"),
            }
        })?;
        (self.read, self.is_over) = (0, is_last);
        self.number += 1;
        Ok(())
    }
}

impl<R: BufRead> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> IoResult<usize> {
        while self.read == self.chunk.len() && !self.is_over {
            self.next_chunk()?;
        }
        let count = into.len().min(self.chunk.len() - self.read);
        into[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
