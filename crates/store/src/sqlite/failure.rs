//! What SQLite's errors mean to a caller, and which of them end the process.
//!
//! A failed flush ends it: the kernel of the operating system may report the failure once and then call the lost
//! pages clean, so that a second flush succeeds over data that is gone. What the log on disk says is the truth, and
//! it is read at the next start.

use std::fmt;
use std::io::Write;
use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use crate::sqlite::place::RESTORE;
use crate::sqlite::readers::is_interrupted;
use crate::{CommitError, LoadError};

/// Why a file cannot be opened as a store.
#[derive(Debug)]
pub enum OpenError {
    /// SQLite before 3.51.3 can lose commits when a checkpoint meets a writer.
    SqliteTooOld { found: String },
    /// Another server has the file.
    InUse { lock: String, pid: Option<u32> },
    /// The file is where other machines may have it too.
    Network { file: String, kind: String },
    /// A database, but none of this program's.
    Foreign { file: String, why: String },
    /// It is one of ours, but not what was saved.
    Damaged { file: String, detail: String },
    /// A newer program wrote the file.
    NewerSchema { found: u32, known: u32 },
    /// The file cannot be read or written, or is no database.
    Unusable(String),
    /// What SQLite says, where that is all there is to say.
    Sqlite(Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SqliteTooOld { found } => {
                write!(f, "SQLite 3.51.3 or later is needed; this is {found}")
            }
            Self::InUse { lock, pid } => {
                let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                write!(
                    f,
                    "another server{process} is using this file; it holds the lock {lock}; stop that one, or give this \
                     one a file of its own"
                )
            }
            Self::Network { file, kind } => write!(
                f,
                "{file} is on a network file system ({kind}), where locks and flushes do not keep what is saved; use a \
                 disk of this machine, or a database server, or add `?network=allow` if you know better"
            ),
            Self::Foreign { file, why } => write!(
                f,
                "{file} is a database of another program ({why}); nothing in it was changed; name another file"
            ),
            Self::Damaged { file, detail } => {
                write!(f, "{file} is damaged ({detail}); nothing in it was changed; {RESTORE}")
            }
            Self::NewerSchema { found, known } => write!(
                f,
                "the file has schema version {found} and this program knows up to {known}; use a newer program"
            ),
            Self::Unusable(detail) => f.write_str(detail),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Sqlite(checked(error))
    }
}

/// Names the file in an error that SQLite has given without.
pub(super) fn at_open(path: &Path, error: OpenError) -> OpenError {
    let OpenError::Sqlite(error) = error else { return error };
    let file = path.display().to_string();
    let detail = error.to_string();
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            return OpenError::Damaged { file, detail };
        }
        Some(ErrorCode::DiskFull) => "make room",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "the server has to write it, and to create files beside it"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "somebody holds it, such as an sqlite3 shell in a transaction; end that"
        }
        // Nothing but damage makes the schema unreadable.
        _ if detail.contains("malformed") => return OpenError::Damaged { file, detail },
        _ => "see to that first",
    };
    OpenError::Unusable(format!("cannot open {file}: {detail}: {remedy}"))
}

/// An error before COMMIT: nothing was saved.
pub(super) fn before_commit(error: Error) -> CommitError {
    match checked(error) {
        error if is_full(&error) => CommitError::Full(error.to_string()),
        error => CommitError::Unavailable(error.to_string()),
    }
}

/// An error of COMMIT itself. When there was no room for the log's last page, the batch has no end in it and is not
/// saved; after any other error nobody can tell.
pub(super) fn at_commit(error: Error) -> CommitError {
    match checked(error) {
        error if is_full(&error) => CommitError::Full(error.to_string()),
        error => CommitError::Unknown(error.to_string()),
    }
}

pub(super) fn at_load(error: Error) -> LoadError {
    let error = checked(error);
    if is_interrupted(&error) {
        let detail =
            "this was read for so long that the log could not be shortened, and was cut short; ask for less";
        return LoadError::Unavailable(detail.to_owned());
    }
    LoadError::Unavailable(error.to_string())
}

/// Hands the error on, unless it is one that no process should survive.
pub(super) fn checked(error: Error) -> Error {
    if is_failed_flush(&error) {
        end_process(&error);
    }
    error
}

fn is_full(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn is_failed_flush(error: &Error) -> bool {
    let code = error.sqlite_error().map(|e| e.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

fn end_process(error: &Error) -> ! {
    let line = format!("statewright: the disk did not keep what was written ({error}); stopping\n");
    // Nothing is left to do about a standard error that cannot be written to either.
    let _ = std::io::stderr().write_all(line.as_bytes());
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(extended_code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn only_failed_flushes_end_the_process() {
        assert!(is_failed_flush(&error(ffi::SQLITE_IOERR_FSYNC)));
        assert!(is_failed_flush(&error(ffi::SQLITE_IOERR_DIR_FSYNC)));
        for survivable in
            [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ]
        {
            assert!(!is_failed_flush(&error(survivable)), "{survivable}");
        }
    }

    #[test]
    fn errors_say_whether_the_batch_may_be_saved() {
        let detail = |code| error(code).to_string();
        let (full, io) = (ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE);
        let is_full = CommitError::Full(detail(full));
        assert_eq!(before_commit(error(full)), is_full);
        assert_eq!(at_commit(error(full)), is_full);
        let retry = CommitError::Unavailable(detail(io));
        assert_eq!(before_commit(error(io)), retry);
        let unsure = CommitError::Unknown(detail(io));
        assert_eq!(at_commit(error(io)), unsure);
    }
}
