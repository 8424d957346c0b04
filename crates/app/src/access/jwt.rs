//! JSON web tokens (RFC 7519) of issuers that the settings name: whose token it is, and for how much.
//!
//! Each issuer has one algorithm and one key; what a token says of its own algorithm decides nothing. Tokens are read by
//! `jsonwebtoken`, and signatures verified by ring, which is here for TLS. Keys are read at the start and fetched from
//! nowhere.

use std::fmt;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, dangerous};
use kernel::id::TenantId;
use kernel::time::Delay;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::access::{Holder, Scope};
use crate::secret::Secret;

/// Clocks that are set by the network differ by less.
const LEEWAY: Delay = Delay::from_secs(30);
/// Beyond that, what has expired would as good as not expire.
const LEEWAY_MAX: Delay = Delay::from_secs(600);
/// As many bytes as HMAC with SHA-256 gives (RFC 7518).
const SECRET_BYTES_MIN: usize = 32;
/// What is shown of who somebody is.
const WHO_BYTES_MAX: usize = 200;

/// `[[jwt]]`: whose tokens count.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    issuer: String,
    audience: String,
    algorithm: JwtAlgorithm,
    key: Secret,
    #[serde(default = "tenant_claim")]
    tenant_claim: String,
    #[serde(default = "scope_claim")]
    scope_claim: String,
    leeway: Option<Delay>,
}

fn tenant_claim() -> String {
    "tenant".to_owned()
}

fn scope_claim() -> String {
    "scope".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum JwtAlgorithm {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

/// One whose tokens count.
pub struct Issuer {
    name: String,
    key: DecodingKey,
    validation: Validation,
    tenant_claim: String,
    scope_claim: String,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({}, {:?})", self.name, self.validation.algorithms)
    }
}

impl Issuer {
    /// # Errors
    /// A fragment that names the issuer and what is wrong; the key is not repeated in it.
    pub fn of(config: JwtConfig) -> Result<Self, String> {
        // A second one finds the first, which is the same.
        let _ = PROVIDER.install_default();
        let JwtConfig { issuer: name, audience, algorithm, key, tenant_claim, scope_claim, leeway } = config;
        let wrong = |what: &str| format!("the issuer `{name}` {what}");
        for (said, text) in [("issuer", &name), ("audience", &audience)] {
            if text.is_empty() {
                return Err(wrong(&format!("has an empty `{said}`")));
            }
        }
        let leeway = leeway.unwrap_or(LEEWAY);
        if leeway > LEEWAY_MAX {
            return Err(wrong(&format!("has a `leeway` of {leeway}; it may be up to {LEEWAY_MAX}")));
        }
        let pem = key.expose().as_bytes();
        if algorithm != JwtAlgorithm::HS256 && !key.expose().contains("PUBLIC KEY-----") {
            return Err(wrong("needs as its `key` a public key in PEM, `-----BEGIN PUBLIC KEY-----`"));
        }
        let no_key = |_| wrong(&format!("has a `key` that is none for {algorithm:?}"));
        let (algorithm, key) = match algorithm {
            JwtAlgorithm::HS256 if pem.len() < SECRET_BYTES_MIN => {
                return Err(wrong(&format!(
                    "needs as its `key` a secret of {SECRET_BYTES_MIN} bytes or more"
                )));
            }
            JwtAlgorithm::HS256 => (Algorithm::HS256, DecodingKey::from_secret(pem)),
            JwtAlgorithm::RS256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(pem).map_err(no_key)?),
            JwtAlgorithm::ES256 => (Algorithm::ES256, DecodingKey::from_ec_pem(pem).map_err(no_key)?),
            JwtAlgorithm::EdDSA => (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).map_err(no_key)?),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = leeway.as_millis().unsigned_abs() / 1000;
        validation.validate_nbf = true;
        validation.set_issuer(&[&name]);
        validation.set_audience(&[&audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Ok(Self { name, key, validation, tenant_claim, scope_claim })
    }

    /// # Errors
    /// What is wrong with the token, for whoever sent it.
    fn holder(&self, token: &str) -> Result<Holder, String> {
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| told(error.kind()))?.claims;
        let text = |name: &str| {
            let text = claims.get(name).and_then(Value::as_str);
            text.ok_or_else(|| format!("the token has no claim `{name}` that is a text"))
        };
        let tenant = TenantId::parse(text(&self.tenant_claim)?)?;
        let scope = Scope::parse(text(&self.scope_claim)?)?;
        let is_shown =
            |who: &&str| !who.is_empty() && who.len() <= WHO_BYTES_MAX && !who.chars().any(char::is_control);
        let who = text("sub").ok().filter(is_shown).unwrap_or(&self.name);
        Ok(Holder { tenant, scope, who: who.into() })
    }
}

/// Whether a text may be a token at all: three parts, of which none is empty.
pub fn looks_like_one(text: &str) -> bool {
    text.split('.').count() == 3 && text.split('.').all(|part| !part.is_empty())
}

/// Whose token it is.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn holder(issuers: &[Issuer], token: &str) -> Result<Holder, String> {
    // Only which key to try: nothing of it counts before the signature has been verified with that.
    let claims = dangerous::insecure_decode_claims::<Map<String, Value>>(token);
    let claims = claims.map_err(|error| told(error.kind()))?;
    let name = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let mut problem = "the token is of an issuer that is not known here".to_owned();
    // One that changes its key is there twice.
    for issuer in issuers.iter().filter(|issuer| issuer.name == name) {
        match issuer.holder(token) {
            Ok(holder) => return Ok(holder),
            Err(found) => problem = found,
        }
    }
    Err(problem)
}

fn told(error: &ErrorKind) -> String {
    match error {
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token does not count yet".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::InvalidIssuer => "the token is of an issuer that is not known here".to_owned(),
        ErrorKind::MissingRequiredClaim(name) => {
            format!("the token has no claim `{name}`, or none that can be read")
        }
        ErrorKind::InvalidAlgorithm => {
            "the token is signed by another algorithm than its issuer's".to_owned()
        }
        ErrorKind::InvalidSignature => "the token's signature does not fit".to_owned(),
        _ => "the token cannot be read".to_owned(),
    }
}

/// Verifies with ring; nothing is signed here.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_: &Algorithm, _: &EncodingKey| -> Result<Box<dyn JwtSigner>, Error> {
        Err(new_error(ErrorKind::UnsupportedAlgorithm))
    },
    verifier_factory: |algorithm, key| {
        if algorithm.family() != key.family() {
            return Err(new_error(ErrorKind::InvalidAlgorithm));
        }
        Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.try_get_as_bytes()?.to_vec() }))
    },
    // For keys that are fetched as JWK, which none is.
    key_utils: KeyUtils::new_unimplemented(),
};

struct RingVerifier {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        use ring::signature::{self as rings, UnparsedPublicKey};
        let verified = match self.algorithm {
            Algorithm::HS256 => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.key);
                ring::hmac::verify(&key, message, signature)
            }
            Algorithm::RS256 => UnparsedPublicKey::new(&rings::RSA_PKCS1_2048_8192_SHA256, &self.key)
                .verify(message, signature),
            Algorithm::ES256 => {
                UnparsedPublicKey::new(&rings::ECDSA_P256_SHA256_FIXED, &self.key).verify(message, signature)
            }
            Algorithm::EdDSA => UnparsedPublicKey::new(&rings::ED25519, &self.key).verify(message, signature),
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests;
