//! Lines of an archive, each under a checksum with its number, and the checksum over all of them.
//!
//! A line is sixteen hexadecimal digits, a space, and a record as JSON, which has no line break in it. Owns how a line that
//! is damaged, and a stream that ends too early, are known.

use std::io::{BufRead, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

use super::Problem;
use crate::seal;

/// Longer than any record makes one: a body has four mebibytes, some more sealed, and as text in JSON at most twice that.
const LINE_BYTES_MAX: u64 = 64 << 20;

const DIGITS: usize = 16;

/// As a line has it.
fn checksum(number: u64, json: &[u8]) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(json);
    format!("{:016x}", hasher.digest())
}

/// Writes lines.
pub(super) struct Lines<W> {
    to: W,
    number: u64,
    all: Xxh3,
}

impl<W: Write> Lines<W> {
    pub fn new(to: W) -> Self {
        Self { to, number: 0, all: Xxh3::new() }
    }

    pub fn put(&mut self, record: &impl Serialize) -> Result<(), Problem> {
        let json = seal::print(record).map_err(Problem::Store)?;
        self.number += 1;
        let line = format!("{} {json}\n", checksum(self.number, json.as_bytes()));
        self.all.update(line.as_bytes());
        Ok(self.to.write_all(line.as_bytes())?)
    }

    /// The checksum over all lines so far.
    pub fn all(&self) -> String {
        format!("{:016x}", self.all.digest())
    }

    pub fn into_inner(self) -> W {
        self.to
    }
}

/// Reads what `Lines` has written.
pub(super) struct ReadLines<R> {
    from: R,
    pub number: u64,
    all: Xxh3,
    /// Of the lines before the last one.
    before: u64,
    line: Vec<u8>,
}

impl<R: BufRead> ReadLines<R> {
    pub fn new(from: R) -> Self {
        Self { from, number: 0, all: Xxh3::new(), before: 0, line: Vec::new() }
    }

    /// The next record.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        self.line.clear();
        let mut rest = self.from.by_ref().take(LINE_BYTES_MAX);
        let read = rest.read_until(b'\n', &mut self.line);
        read.map_err(|error| self.failed(error))?;
        let Some(line) = self.line.strip_suffix(b"\n") else {
            let is_long = self.line.len() as u64 == LINE_BYTES_MAX;
            return Err(if is_long { self.damaged("it has no end") } else { Problem::Cut(self.number) });
        };
        self.number += 1;
        let (digits, rest) = line.split_at_checked(DIGITS).unwrap_or_default();
        let json = rest.strip_prefix(b" ").unwrap_or_default();
        if digits != checksum(self.number, json).as_bytes() {
            return Err(Problem::Damaged(self.number, "the checksum does not fit it".to_owned()));
        }
        self.before = self.all.digest();
        self.all.update(&self.line);
        seal::parse(json).map_err(|error| Problem::Damaged(self.number, error.to_string()))
    }

    /// Whether this is the checksum over all lines before the last one that was read.
    pub fn is_before(&self, all: &str) -> bool {
        all == format!("{:016x}", self.before)
    }

    /// That nothing follows.
    pub fn end(&mut self) -> Result<(), Problem> {
        match self.from.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(Problem::Damaged(self.number + 1, "it comes behind the last".to_owned())),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn damaged(&self, detail: &str) -> Problem {
        Problem::Damaged(self.number + 1, detail.to_owned())
    }

    /// What the layers below find: of a stream that ends too early, that it does.
    fn failed(&self, error: std::io::Error) -> Problem {
        match error.kind() {
            ErrorKind::UnexpectedEof => Problem::Cut(self.number),
            ErrorKind::InvalidData | ErrorKind::Other => self.damaged(&error.to_string()),
            _ => Problem::Io(error),
        }
    }
}
