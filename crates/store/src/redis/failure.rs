//! What the server's errors mean to a caller.
//!
//! The line is drawn at sending: before it nothing has been done, and after it only an answer tells. An error that the
//! server gives instead of running a script is as good as not having sent it; one of which that is not certain is not.

use std::fmt;

use redis::{RedisError, ServerError};

use crate::{CommitError, LoadError};

/// Why a server cannot be opened as a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The URL says something that means nothing, or too much.
    Location(String),
    /// The server does not answer, or what it holds or how it is set up cannot be a store.
    Unusable(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Location(detail) | Self::Unusable(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Unusable(failure.detail().to_owned())
    }
}

/// What became of a call that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not run.
    NotRun(String),
    /// It was not run, for want of memory or of a disk that takes what is written.
    Full(String),
    /// It was run or it was not.
    Unknown(String),
}

impl Failure {
    pub fn detail(&self) -> &str {
        match self {
            Self::NotRun(detail) | Self::Full(detail) | Self::Unknown(detail) => detail,
        }
    }

    /// An answer that no script gives.
    pub fn strange(what: &str) -> Self {
        Self::Unknown(format!("the server's answer makes no sense: {what}"))
    }

    /// Of an error while sending or waiting.
    pub fn at_call(address: &str, error: &RedisError) -> Self {
        let what =
            if error.is_timeout() { "it did not answer in time".to_owned() } else { error.to_string() };
        Self::Unknown(format!("{address}: {what}"))
    }

    /// Of an error that was the answer.
    pub fn answered(error: &ServerError) -> Self {
        let detail = describe(error);
        // Before Redis 7, errors within a script are wrapped in a sentence.
        let says = |code: &str| {
            error.code() == code || (error.code() == "ERR" && detail.contains(&format!(" {code} ")))
        };
        const FULL: [&str; 2] = ["OOM", "MISCONF"];
        const NOT_RUN: [&str; 15] = [
            "LOST",
            "VIOLATION",
            "READONLY",
            "LOADING",
            "CLUSTERDOWN",
            "MASTERDOWN",
            "TRYAGAIN",
            "MOVED",
            "ASK",
            "NOREPLICAS",
            "NOPERM",
            "NOAUTH",
            "NOSCRIPT",
            "BUSY",
            "CROSSSLOT",
        ];
        if FULL.iter().any(|code| says(code)) {
            Self::Full(detail)
        } else if NOT_RUN.iter().any(|code| says(code)) {
            Self::NotRun(detail)
        } else {
            Self::Unknown(detail)
        }
    }
}

fn describe(error: &ServerError) -> String {
    let detail = error.details().unwrap_or_default();
    match error.code() {
        "LOST" => {
            format!("the store lost a bucket: {detail}; restore it from a backup, or use another prefix")
        }
        "VIOLATION" => detail.to_owned(),
        code => format!("{code} {detail}"),
    }
}

/// Of one thing that was to be written.
impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotRun(detail) => Self::Unavailable(detail),
            Failure::Full(detail) => Self::Full(detail),
            Failure::Unknown(detail) => Self::Unknown(detail),
        }
    }
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.detail().to_owned())
    }
}

/// All answers, or what the whole has come to: if anything may have been done, nobody knows how much.
pub(super) fn all<T>(answers: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let is_any_done = answers.iter().any(|answer| matches!(answer, Ok(_) | Err(Failure::Unknown(_))));
    let all: Result<Vec<T>, Failure> = answers.into_iter().collect();
    all.map_err(|failure| match failure {
        Failure::NotRun(detail) | Failure::Full(detail) if is_any_done => {
            Failure::Unknown(format!("only a part was done: {detail}"))
        }
        failure => failure,
    })
}
