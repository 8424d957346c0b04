//! What PostgreSQL's errors mean to a caller.
//!
//! Owns the one question that matters after a failure: whether anything can have been saved. A server that says ERROR has
//! rolled back what it was asked; a connection that ends while something is under way says nothing.

use std::fmt;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::{CommitError, LoadError};

/// Why a database cannot be opened as a store.
#[derive(Debug)]
pub enum OpenError {
    /// The URL is none that can be connected to.
    Url(String),
    /// Nobody answers there, or not to us.
    Unreachable(String),
    /// A newer program has been here.
    NewerSchema { found: i64, known: i64 },
    /// The roles that keep tenants apart are missing and may not be created; an administrator can run this.
    Roles { detail: String, sql: String },
    /// Tenants would not be kept apart.
    NotIsolated(String),
    /// The database cannot be used as it is.
    Unusable(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(detail) => write!(f, "the store's URL: {detail}"),
            Self::Unreachable(detail) => write!(f, "the database cannot be reached: {detail}"),
            Self::NewerSchema { found, known } => write!(
                f,
                "the database has schema version {found} and this program knows up to {known}; use a newer program"
            ),
            Self::Roles { detail, sql } => write!(
                f,
                "the roles that keep tenants apart are missing and could not be created ({detail}); have an \
                 administrator run: {sql}"
            ),
            Self::NotIsolated(detail) => {
                write!(f, "tenants would not be kept apart in this database: {detail}")
            }
            Self::Unusable(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Trouble> for OpenError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoLink(detail) => Self::Unreachable(detail),
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// How something that was asked of the server has failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was not asked at all: there is no connection to be had.
    NoLink(String),
    /// The server has said no, and undone what was under way.
    Refused(Box<DbError>),
    /// It was asked, and nobody knows what became of it.
    Lost(String),
    /// What came back is whole, and there is no key to it.
    Locked(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink(detail) | Self::Lost(detail) | Self::Locked(detail) => f.write_str(detail),
            Self::Refused(error) => {
                write!(f, "{} ({})", error.message(), error.code().code())?;
                error.detail().map_or(Ok(()), |detail| write!(f, ": {detail}"))
            }
        }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(refused) = error.as_db_error()
            && refused.parsed_severity() == Some(Severity::Error)
        {
            return Self::Refused(Box::new(refused.clone()));
        }
        Self::Lost(described(&error))
    }
}

/// With its causes: the error itself says little more than where it came from.
pub(super) fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Trouble {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => Some(error.code()),
            _ => None,
        }
    }

    /// Whether the same may well go through when it is asked again: others were in the way.
    pub(super) fn is_collision(&self) -> bool {
        self.code().is_some_and(|code| {
            [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code)
        })
    }

    /// Whether a constraint of a table was broken.
    pub(super) fn is_constraint(&self) -> bool {
        // Class 23, and the error of an upsert that meets one row twice.
        self.code()
            .is_some_and(|code| code.code().starts_with("23") || *code == SqlState::CARDINALITY_VIOLATION)
    }

    pub(super) fn has_constraint(&self, name: &str) -> bool {
        matches!(self, Self::Refused(error) if error.constraint() == Some(name))
    }

    pub(super) fn has_code(&self, wanted: &SqlState) -> bool {
        self.code() == Some(wanted)
    }

    fn is_full(&self) -> bool {
        self.has_code(&SqlState::DISK_FULL)
    }

    /// Of a change that was under way when this came.
    pub(super) fn at_commit(self) -> CommitError {
        let detail = self.to_string();
        match self {
            Self::Lost(_) => CommitError::Unknown(detail),
            _ if self.is_full() => CommitError::Full(detail),
            _ => CommitError::Unavailable(detail),
        }
    }

    /// Of a change whose COMMIT had not been sent when this came.
    pub(super) fn before_commit(self) -> CommitError {
        let detail = self.to_string();
        match self {
            _ if self.is_full() => CommitError::Full(detail),
            _ => CommitError::Unavailable(detail),
        }
    }

    pub(super) fn at_load(self) -> LoadError {
        LoadError::Unavailable(self.to_string())
    }
}
