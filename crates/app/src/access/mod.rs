//! Who may ask, as which tenant, and for what: everybody for everything in `dev`, holders of a key in `serve`.

pub mod api_key;
pub mod jwt;
mod known;
pub mod origin;
mod rates;
mod scope;
pub mod sight;

use std::net::IpAddr;
use std::sync::Arc;

use kernel::id::TenantId;
use subtle::ConstantTimeEq;

use crate::http::problem::Problem;
use api_key::digest;
pub use known::Known;
pub use origin::Names;
pub use rates::{Peer, Rates, network};
pub use scope::Scope;
pub use sight::Sight;

/// Who asks, as far as what they have shown says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub tenant: TenantId,
    pub scope: Scope,
    /// A name for people: that of the key.
    pub who: Arc<str>,
}

/// Everything by which a server tells who asks, and whether they may.
#[derive(Debug, Default)]
pub struct Access {
    /// Nobody needs a key, whatever keys there are.
    open: bool,
    /// The keys of the settings; only digests are kept.
    settings: Vec<([u8; 32], TenantId)>,
    /// Whose tokens count as keys.
    pub issuers: Vec<jwt::Issuer>,
    pub known: Known,
    pub rates: Rates,
    /// What an open server is called.
    pub names: Names,
    /// Whether figures are told to whoever asks.
    pub open_metrics: bool,
    /// Whether browsers reach us by TLS alone, so that a cookie is for nothing else.
    pub secure_cookies: bool,
}

/// The key for what is of all tenants at once: a backup. Only its digest is kept.
#[derive(Debug)]
pub struct BackupKey([u8; 32]);

impl BackupKey {
    /// It opens every tenant and has no end, so it is to be one that nobody has thought of: of what `openssl rand -hex`
    /// prints, so many characters are 96 bits.
    const CHARACTERS_MIN: usize = 24;

    /// # Errors
    /// A fragment that does not repeat it.
    pub fn new(key: &str) -> Result<Self, String> {
        let (has, wants) = (key.chars().count(), Self::CHARACTERS_MIN);
        if has < wants {
            return Err(format!(
                "`backup_key` has {has} characters and needs {wants} at least, or it would be guessed: take what `openssl rand -hex 32` prints"
            ));
        }
        Ok(Self(digest(key)))
    }
}

impl Access {
    /// No key is needed: `X-Tenant` names the tenant, else it is `default`.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Reads `tenant=key` pairs separated by commas: the keys that are there before any is stored.
    ///
    /// # Errors
    /// A fragment that says which pair is wrong; keys are not repeated in it.
    pub fn from_pairs(pairs: &str) -> Result<Self, String> {
        let mut settings = Vec::new();
        for (number, pair) in pairs.split(',').map(str::trim).filter(|p| !p.is_empty()).enumerate() {
            let Some((tenant, key)) = pair.split_once('=') else {
                return Err(format!("the API key number {} is not written tenant=key", number + 1));
            };
            if key.len() < 16 {
                return Err(format!(
                    "the API key of `{tenant}` has fewer than 16 characters; it would be guessed"
                ));
            }
            settings.push((digest(key), TenantId::parse(tenant)?));
        }
        Ok(Self { settings, ..Self::default() })
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the settings let anybody in.
    pub fn has_any(&self) -> bool {
        !self.settings.is_empty() || !self.issuers.is_empty()
    }

    /// Whether the settings have a key for a tenant.
    pub fn has_settings_for(&self, tenant: &TenantId) -> bool {
        self.settings.iter().any(|(_, of)| of == tenant)
    }

    /// Who asks a server that needs no key.
    pub fn anybody(&self, x_tenant: Option<&str>) -> Result<Holder, Problem> {
        let tenant = match x_tenant {
            Some(name) => TenantId::parse(name).map_err(|p| Problem::bad_request("bad_identifier", p))?,
            None => TenantId::default_tenant(),
        };
        Ok(Holder { tenant, scope: Scope::Admin, who: "dev".into() })
    }

    /// Whose key it is, if the settings have it. They are for beginning with, and so for everything.
    pub fn of_settings(&self, key: &str) -> Option<Holder> {
        let asked = digest(key);
        let found = self.settings.iter().find(|(known, _)| bool::from(known.ct_eq(&asked)));
        found.map(|(_, tenant)| Holder {
            tenant: tenant.clone(),
            scope: Scope::Admin,
            who: api_key::OF_SETTINGS.into(),
        })
    }

    /// Whether whoever sends this may have a backup of all tenants. No tenant's key opens it.
    /// What is shown instead is counted, and said in the log as far as it is let through: who guesses is not to fill that.
    pub fn check_backup(
        &self,
        key: Option<&BackupKey>,
        authorization: Option<&str>,
        address: IpAddr,
    ) -> Result<(), Problem> {
        if self.is_open() {
            return Ok(());
        }
        let Some(BackupKey(known)) = key else {
            let detail = "a backup has all tenants, and this server has no key for one: set `backup_key`";
            return Err(Problem::forbidden("no_backup_key", detail));
        };
        let shown = authorization.and_then(bearer);
        if shown.is_some_and(|shown| bool::from(known.ct_eq(&digest(shown)))) {
            return Ok(());
        }
        if shown.is_some() {
            self.rates.note_wrong(address)?;
            tracing::warn!(%address, "somebody has shown a wrong backup key");
        }
        Err(Problem::unauthorised("send the server's backup key as `Authorization: Bearer KEY`"))
    }

    /// Whose the sessions of a channel are that names no tenant: those of the first key, as it is written.
    pub fn first_tenant(&self) -> TenantId {
        self.settings.first().map_or_else(TenantId::default_tenant, |(_, tenant)| tenant.clone())
    }
}

/// The key that is shown in `Authorization`.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, key) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_key_of_the_settings_says_its_tenant_and_opens_everything_of_it() {
        let access = Access::from_pairs("acme=0123456789abcdef, other=fedcba9876543210").unwrap();
        let tenant =
            |key: &str| access.of_settings(key).map(|holder| (holder.tenant.to_string(), holder.scope));
        assert_eq!(tenant("0123456789abcdef"), Some(("acme".to_owned(), Scope::Admin)));
        assert_eq!(tenant("fedcba9876543210"), Some(("other".to_owned(), Scope::Admin)));
        assert_eq!((tenant("0123456789abcdeg"), tenant("")), (None, None));
        assert_eq!(access.first_tenant().as_str(), "acme");
        assert_eq!((bearer("bearer  k "), bearer("Basic k"), bearer("Bearer")), (Some("k"), None, None));
    }

    #[test]
    fn a_backup_is_for_the_backup_key_and_no_other() {
        let access = Access::from_pairs("acme=0123456789abcdef").unwrap();
        let key = BackupKey::new("all-of-it-and-nothing-else").unwrap();
        let check = |key, bearer: &str| {
            let found = access.check_backup(key, Some(&format!("Bearer {bearer}")), ADDRESS);
            found.err().map(|problem| problem.status())
        };
        assert_eq!(check(Some(&key), "all-of-it-and-nothing-else"), None);
        assert_eq!(check(Some(&key), "0123456789abcdef"), Some(401));
        assert_eq!(check(None, "0123456789abcdef"), Some(403));
        assert_eq!(access.check_backup(Some(&key), None, ADDRESS).unwrap_err().status(), 401);
        assert!(Access::open().check_backup(None, None, ADDRESS).is_ok());
    }

    #[test]
    fn a_backup_key_that_may_be_guessed_is_refused_with_what_to_do() {
        for (key, is_taken) in
            [("", false), ("23-characters-and-short", false), ("24-characters-and-enough", true)]
        {
            assert_eq!(BackupKey::new(key).is_ok(), is_taken, "{key}");
        }
        let told = BackupKey::new("short-secret").unwrap_err();
        assert!(!told.contains("short-secret"), "{told}");
        for part in ["has 12 characters", "needs 24", "openssl rand -hex 32"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn wrong_backup_keys_of_one_address_are_answered_slower() {
        let access = Access::from_pairs("acme=0123456789abcdef").unwrap();
        let key = BackupKey::new("all-of-it-and-nothing-else").unwrap();
        let check = |shown: Option<&str>, address| {
            let found = access.check_backup(Some(&key), shown, address);
            found.err().map(|problem| problem.status())
        };
        // Who shows nothing does not guess.
        assert!((0..30).all(|_| check(None, ADDRESS) == Some(401)));
        let statuses: Vec<_> = (0..30).map(|_| check(Some("Bearer guess"), ADDRESS)).collect();
        assert_eq!((statuses[0], statuses[29]), (Some(401), Some(429)));
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(check(Some("Bearer guess"), elsewhere), Some(401));
        assert_eq!(check(Some("Bearer all-of-it-and-nothing-else"), ADDRESS), None);
    }

    #[test]
    fn short_and_unreadable_keys_are_refused_without_being_repeated() {
        for pairs in ["acme", "acme=short-secret"] {
            let error = Access::from_pairs(pairs).unwrap_err();
            assert!(!error.contains("short-secret"), "{error}");
        }
    }
}
