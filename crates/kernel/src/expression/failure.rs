//! Why an evaluation ends without a value.
//!
//! Owns the two ways: an error of the expression, which `&&`, `||`, `all` and `exists` may set aside as CEL says,
//! and fuel that is used up, which nothing sets aside.

use std::fmt;

#[derive(Debug)]
pub(super) enum Failure {
    /// All of so many steps are used.
    Spent(u32),
    /// What holds values. No larger than a value, so that a result is not either.
    Told(Box<str>),
    /// What is named is not there: the expression's own words.
    Missing(Box<str>),
}

pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    #[cold]
    pub fn told(message: String) -> Self {
        Self::Told(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spent(steps) => write!(
                formatter,
                "it takes more than {steps} steps; use smaller lists and texts, or do less with them"
            ),
            Self::Told(message) | Self::Missing(message) => formatter.write_str(message),
        }
    }
}
