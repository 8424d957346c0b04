//! An archive: all of a store in one stream of bytes, which any store can be filled from.
//!
//! Owns what is in it and in which order: a first line that says what it is, and behind that, compressed, records of one
//! line each. Every line is under a checksum with its number, and the last one has the counts of all and a checksum over
//! all, so that a part of an archive is known as a part. What is secret is sealed as it is in a store, and the data keys
//! are there too, wrapped by master keys that are not. Bodies are those of `record` and values those of `row`: there is no
//! second way to write an instance down. It reads and writes streams, and knows no file and no network.

mod line;
mod passphrase;
mod read;
mod restore;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use passphrase::{Passphrase, Sealing, opened};
pub use read::{Item, Reader};
pub use restore::{Restored, Waiting, check, restore, what_is_there};
pub use write::write;

/// What an archive begins with, up to the number of its format.
const MAGIC: &str = "statewright backup ";
/// What this program writes. It reads no higher one.
pub const FORMAT: u32 = 1;

/// What an archive says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// When reading of the store began.
    pub created_at: Timestamp,
    /// The backend that it is from.
    pub backend: String,
    /// The version of the program that wrote it.
    pub program: String,
}

/// How many records of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub definitions: u64,
    pub settings: u64,
    pub instances: u64,
    pub entries: u64,
    pub clarifications: u64,
    pub phases: u64,
    pub effects: u64,
}

impl Counts {
    pub fn records(&self) -> u64 {
        let Self { definitions, settings, instances, entries, clarifications, phases, effects } = self;
        definitions + settings + instances + entries + clarifications + phases + effects
    }
}

/// What an archive says of itself at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    pub counts: Counts,
    /// Records of the store that are not in it because they were not what was saved.
    pub corrupt: u64,
    /// Whether all instances are as they were at the same moment, and not only each at one.
    pub at_one_moment: bool,
}

/// What was found in an archive that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    pub header: Header,
    #[serde(flatten)]
    pub trailer: Trailer,
    /// By tenant; definitions are all tenants'.
    pub tenants: BTreeMap<String, Counts>,
    /// Instances whose secrets there is no key to here: their checksums fit, and more is not known.
    pub locked: u64,
    /// Effects that wait to be sent, or were being sent.
    pub pending: u64,
}

/// A line of an archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Header(Header),
    /// Its hash, and its value.
    Definition(String, String),
    /// Its name, and its value.
    Setting(String, String),
    /// Tenant, id, head and body; what belongs to it follows: so many entries, questions, phases and effects.
    Instance(String, String, String, String, [u64; 4]),
    /// The receipt in hexadecimal digits, and the value.
    Entry(String, String),
    /// Its id, and its value.
    Question(String, String),
    /// Its place, and its value.
    Phase(u16, String),
    /// Its key, its value, and how far it has come.
    Effect(String, String, String),
    /// With the checksum over all lines before it.
    End(Trailer, String),
}

/// Why an archive cannot be written, read or restored. Each says what is to be done, where there is something.
#[derive(Debug)]
pub enum Problem {
    /// It does not begin as archives do.
    Foreign,
    NewerFormat(String),
    /// It ends behind so many lines, before its end.
    Cut(u64),
    /// What is wrong with which line.
    Damaged(u64, String),
    /// It is encrypted, and no passphrase was given, or the wrong one.
    Encrypted(&'static str),
    /// There is no key to what is sealed in it.
    Locked(String),
    /// What it is read from or written to fails.
    Io(std::io::Error),
    /// The store fails, with what it says.
    Store(String),
    /// Whoever it was written for wants no more.
    Stopped,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OTHER: &str = "take another copy of it";
        match self {
            Self::Foreign => f.write_str("it does not begin as a backup does: name another file"),
            Self::NewerFormat(found) => {
                write!(f, "it has format {found} and this program reads up to {FORMAT}: use a newer program")
            }
            Self::Cut(0) => write!(f, "it is cut off, and no record of it can be read: {OTHER}"),
            Self::Cut(lines) => {
                write!(f, "it is cut off behind record {lines}, and not all is there: {OTHER}")
            }
            Self::Damaged(line, detail) => write!(f, "its record {line} is damaged ({detail}): {OTHER}"),
            Self::Encrypted(detail) => f.write_str(detail),
            Self::Locked(detail) => write!(
                f,
                "{detail}; secret fields come back only with the encryption keys of the server that it is from: put \
                 them into the settings"
            ),
            Self::Io(error) => write!(f, "{error}"),
            Self::Store(detail) => f.write_str(detail),
            Self::Stopped => f.write_str("nobody wants the rest of it"),
        }
    }
}

impl std::error::Error for Problem {}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
