//! Who may ask, as which tenant, and for what: everybody for everything in `dev`, holders of a key in `serve`.

mod scope;

use std::sync::Arc;

use kernel::id::TenantId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::http::problem::Problem;
pub use scope::Scope;

/// Who asks, as far as what they have shown says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub tenant: TenantId,
    pub scope: Scope,
    /// A name for people: that of the key.
    pub who: Arc<str>,
}

#[derive(Debug)]
pub enum Access {
    /// No key needed; `X-Tenant` names the tenant, else `default`.
    Open,
    /// `Authorization: Bearer KEY`; the key says the tenant. Only digests of keys are kept.
    Keys(Vec<([u8; 32], TenantId)>),
}

/// The key for what is of all tenants at once: a backup. Only its digest is kept.
#[derive(Debug)]
pub struct BackupKey([u8; 32]);

impl BackupKey {
    /// # Errors
    /// A fragment that does not repeat it.
    pub fn new(key: &str) -> Result<Self, String> {
        match key.len() {
            0..16 => Err("`backup_key` has fewer than 16 characters; it would be guessed".to_owned()),
            _ => Ok(Self(digest(key))),
        }
    }
}

impl Access {
    /// Reads `tenant=key` pairs separated by commas.
    ///
    /// # Errors
    /// A fragment that says which pair is wrong; keys are not repeated in it.
    pub fn from_pairs(pairs: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, pair) in pairs.split(',').map(str::trim).filter(|p| !p.is_empty()).enumerate() {
            let Some((tenant, key)) = pair.split_once('=') else {
                return Err(format!("the API key number {} is not written tenant=key", number + 1));
            };
            if key.len() < 16 {
                return Err(format!(
                    "the API key of `{tenant}` has fewer than 16 characters; it would be guessed"
                ));
            }
            keys.push((digest(key), TenantId::parse(tenant)?));
        }
        if keys.is_empty() {
            return Err("no API key is configured; set STATEWRIGHT_API_KEYS=tenant=key, or use `dev`".into());
        }
        Ok(Self::Keys(keys))
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub fn holder(&self, authorization: Option<&str>, x_tenant: Option<&str>) -> Result<Holder, Problem> {
        match self {
            Self::Open => {
                let tenant = match x_tenant {
                    Some(name) => {
                        TenantId::parse(name).map_err(|p| Problem::bad_request("bad_identifier", p))?
                    }
                    None => TenantId::default_tenant(),
                };
                Ok(Holder { tenant, scope: Scope::Admin, who: "dev".into() })
            }
            Self::Keys(keys) => {
                let Some(key) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
                    return Err(Problem::unauthorised("send the API key as `Authorization: Bearer KEY`"));
                };
                let asked = digest(key.trim());
                let found = keys.iter().find(|(known, _)| bool::from(known.ct_eq(&asked)));
                found
                    .map(|(_, tenant)| Holder {
                        tenant: tenant.clone(),
                        scope: Scope::Admin,
                        who: "settings".into(),
                    })
                    .ok_or_else(|| Problem::unauthorised("the API key is not known here"))
            }
        }
    }

    /// Whether whoever sends this may have a backup of all tenants. No tenant's key opens it.
    pub fn check_backup(&self, key: Option<&BackupKey>, authorization: Option<&str>) -> Result<(), Problem> {
        if self.is_open() {
            return Ok(());
        }
        let Some(BackupKey(known)) = key else {
            let detail = "a backup has all tenants, and this server has no key for one: set `backup_key`";
            return Err(Problem::forbidden("no_backup_key", detail));
        };
        let asked = authorization.and_then(|value| value.strip_prefix("Bearer "));
        match asked.is_some_and(|asked| bool::from(known.ct_eq(&digest(asked.trim())))) {
            true => Ok(()),
            false => {
                Err(Problem::unauthorised("send the server's backup key as `Authorization: Bearer KEY`"))
            }
        }
    }

    /// Whose the sessions of a channel are that names no tenant: those of the first key, as it is written.
    pub fn first_tenant(&self) -> TenantId {
        match self {
            Self::Keys(keys) if !keys.is_empty() => keys[0].1.clone(),
            _ => TenantId::default_tenant(),
        }
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_its_tenant_and_no_key_is_no_entry() {
        let access = Access::from_pairs("acme=0123456789abcdef, other=fedcba9876543210").unwrap();
        let tenant = |key: &str| {
            access.holder(Some(&format!("Bearer {key}")), Some("acme")).map(|h| h.tenant.to_string())
        };
        assert_eq!(tenant("0123456789abcdef").unwrap(), "acme");
        assert_eq!(tenant("fedcba9876543210").unwrap(), "other");
        assert_eq!(tenant("0123456789abcdeg").unwrap_err().status(), 401);
        assert_eq!(access.holder(None, Some("acme")).unwrap_err().status(), 401);
    }

    #[test]
    fn a_backup_is_for_the_backup_key_and_no_other() {
        let access = Access::from_pairs("acme=0123456789abcdef").unwrap();
        let key = BackupKey::new("all-of-it-all-of-it").unwrap();
        let check = |key, bearer: &str| {
            let found = access.check_backup(key, Some(&format!("Bearer {bearer}")));
            found.err().map(|problem| problem.status())
        };
        assert_eq!(check(Some(&key), "all-of-it-all-of-it"), None);
        assert_eq!(check(Some(&key), "0123456789abcdef"), Some(401));
        assert_eq!(check(None, "0123456789abcdef"), Some(403));
        assert_eq!(access.check_backup(Some(&key), None).unwrap_err().status(), 401);
        assert!(Access::Open.check_backup(None, None).is_ok());
        assert!(!BackupKey::new("short-secret").unwrap_err().contains("short-secret"));
    }

    #[test]
    fn short_and_missing_keys_are_refused_without_being_repeated() {
        for pairs in ["", "acme", "acme=short-secret"] {
            let error = Access::from_pairs(pairs).unwrap_err();
            assert!(!error.contains("short-secret"), "{error}");
        }
    }
}
