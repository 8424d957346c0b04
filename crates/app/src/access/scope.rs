//! What a key opens. Each scope has those before it in it, so that a key needs only one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In the order in which each contains the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Figures about the server, for what gathers them; nothing of any tenant.
    Metrics,
    /// Look at everything of the tenant; change nothing.
    Read,
    /// What hosts and workers do: messages, events, flows, receipts.
    Write,
    /// What people do who look after it: recover, migrate, import, try again, roll out.
    Operate,
    /// Definitions, overlays and keys.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Metrics, Self::Read, Self::Write, Self::Operate, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// # Errors
    /// A fragment that says which scopes there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found
            .ok_or_else(|| format!("`{text}` is no scope; there are metrics, read, write, operate and admin"))
    }

    /// Whether a key of this scope may do what needs `needed`.
    pub fn contains(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_has_those_before_it_in_it_and_none_after() {
        for (place, scope) in Scope::ALL.into_iter().enumerate() {
            for (other_place, other) in Scope::ALL.into_iter().enumerate() {
                assert_eq!(scope.contains(other), other_place <= place, "{scope} and {other}");
            }
            assert_eq!(Scope::parse(scope.as_str()), Ok(scope));
            assert_eq!(serde_json::json!(scope), scope.as_str());
        }
        assert!(Scope::parse("Admin").unwrap_err().contains("metrics, read, write, operate and admin"));
    }
}
