//! Tokens that count, and the ways in which people try to make others count.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::json;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA: &str = include_str!("fixtures/test_only_rsa.pem");
const RSA_PUBLIC: &str = include_str!("fixtures/test_only_rsa.pub.pem");
const EC: &str = include_str!("fixtures/test_only_ec.pem");
const EC_PUBLIC: &str = include_str!("fixtures/test_only_ec.pub.pem");
const ED: &str = include_str!("fixtures/test_only_ed.pem");
const ED_PUBLIC: &str = include_str!("fixtures/test_only_ed.pub.pem");

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}

/// A token with such a header and such claims, signed as `algorithm` says.
fn token(header: &Value, claims: &Value, algorithm: &str, key: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let bytes = message.as_bytes();
    let random = SystemRandom::new();
    let signature = match algorithm {
        "HS256" => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
            ring::hmac::sign(&key, bytes).as_ref().to_vec()
        }
        "RS256" => {
            let key = RsaKeyPair::from_pkcs8(&der(key)).unwrap();
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
            signature
        }
        "ES256" => {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der(key), &random).unwrap();
            key.sign(&random, bytes).unwrap().as_ref().to_vec()
        }
        "EdDSA" => {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(key)).unwrap();
            key.sign(bytes).as_ref().to_vec()
        }
        _ => Vec::new(),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "typ": "JWT" })
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "statewright", "exp": in_seconds(600), "sub": "ann@example.org",
        "tenant": "acme", "scope": "operate" })
}

fn in_seconds(seconds: i64) -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap() + seconds
}

fn config(algorithm: &str, key: &str) -> Result<Issuer, String> {
    let config = json!({ "issuer": "https://id.example", "audience": "statewright", "algorithm": algorithm, "key": key });
    Issuer::of(serde_json::from_value(config).unwrap())
}

fn issuers(algorithm: &str, key: &str) -> Vec<Issuer> {
    vec![config(algorithm, key).unwrap()]
}

#[test]
fn a_token_of_each_algorithm_says_whose_it_is_and_for_how_much() {
    for (algorithm, private, public) in [
        ("HS256", SECRET, SECRET),
        ("RS256", RSA, RSA_PUBLIC),
        ("ES256", EC, EC_PUBLIC),
        ("EdDSA", ED, ED_PUBLIC),
    ] {
        let token = token(&header(algorithm), &claims(), algorithm, private);
        assert!(looks_like_one(&token));
        let found = holder(&issuers(algorithm, public), &token).unwrap();
        assert_eq!(
            (found.tenant.as_str(), found.scope, &*found.who),
            ("acme", Scope::Operate, "ann@example.org")
        );
        // Any byte of it changed, and it is another.
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut other = URL_SAFE_NO_PAD.decode(signature).unwrap();
        other[0] ^= 1;
        let other = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
        assert_eq!(
            holder(&issuers(algorithm, public), &other).unwrap_err(),
            "the token's signature does not fit"
        );
    }
}

#[test]
fn what_a_token_says_of_its_algorithm_decides_nothing() {
    let by_rsa = issuers("RS256", RSA_PUBLIC);
    // Signed with what everybody may know, as if it were the secret of an HMAC.
    let confused = token(&header("HS256"), &claims(), "HS256", RSA_PUBLIC);
    assert_eq!(
        holder(&by_rsa, &confused).unwrap_err(),
        "the token is signed by another algorithm than its issuer's"
    );
    let confused = token(&header("RS256"), &claims(), "HS256", RSA_PUBLIC);
    assert_eq!(holder(&by_rsa, &confused).unwrap_err(), "the token's signature does not fit");
    for none in ["none", "None", "NONE", "nOnE"] {
        let unsigned = token(&header(none), &claims(), "none", "");
        assert!(!looks_like_one(&unsigned));
        for issuers in [issuers("HS256", SECRET), issuers("RS256", RSA_PUBLIC)] {
            assert!(holder(&issuers, &unsigned).is_err(), "{none}");
            assert!(holder(&issuers, &format!("{unsigned}AA")).is_err(), "{none}");
        }
    }
    let other = token(&header("ES256"), &claims(), "ES256", EC);
    assert!(holder(&issuers("EdDSA", ED_PUBLIC), &other).is_err());
    let empty = token(&header("HS256"), &claims(), "HS256", "");
    assert!(holder(&issuers("HS256", SECRET), &empty).is_err());
    // Whoever says where the key is to be had is not believed.
    let mut pointing = header("HS256");
    pointing["jwk"] = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("known") });
    pointing["kid"] = json!("../../dev/null");
    let pointing = token(&pointing, &claims(), "HS256", "known");
    assert!(holder(&issuers("HS256", SECRET), &pointing).is_err());
}

#[test]
fn a_token_that_is_not_for_us_now_says_so() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        let token = token(&header("HS256"), &claims, "HS256", SECRET);
        holder(&issuers("HS256", SECRET), &token).map(|_| ()).unwrap_err()
    };
    let table = [
        ("exp", json!(in_seconds(-31)), "the token has expired"),
        ("exp", Value::Null, "the token has no claim `exp`"),
        ("exp", json!("tomorrow"), "the token has no claim `exp`"),
        ("exp", json!(-1), "the token has no claim `exp`"),
        ("nbf", json!(in_seconds(60)), "the token does not count yet"),
        ("aud", json!("others"), "the token is for another audience"),
        ("aud", json!(["others", "more"]), "the token is for another audience"),
        ("aud", Value::Null, "the token has no claim `aud`"),
        ("iss", json!("https://evil.example"), "the token is of an issuer that is not known here"),
        ("iss", Value::Null, "the token is of an issuer that is not known here"),
        ("iss", json!(["https://id.example"]), "the token is of an issuer that is not known here"),
        ("scope", json!("root"), "`root` is no scope"),
        ("scope", json!("read admin"), "`read admin` is no scope"),
        ("scope", json!(["admin"]), "the token has no claim `scope`"),
        ("scope", Value::Null, "the token has no claim `scope`"),
        ("tenant", json!("acme~shadow"), "the tenant contains '~'"),
        ("tenant", json!("statewright~access"), "the tenant contains '~'"),
        ("tenant", json!("a\nb"), "the tenant contains the control character"),
        ("tenant", json!(""), "the tenant is empty"),
        ("tenant", json!(7), "the token has no claim `tenant`"),
        ("tenant", Value::Null, "the token has no claim `tenant`"),
    ];
    for (name, value, expected) in table {
        let told = with(name, value.clone());
        assert!(told.starts_with(expected), "{name} {value}: {told}");
    }
}

#[test]
fn clocks_may_differ_by_the_leeway_and_several_audiences_may_be_meant() {
    let mut claims = claims();
    claims["exp"] = json!(in_seconds(-20));
    claims["nbf"] = json!(in_seconds(20));
    claims["aud"] = json!(["others", "statewright"]);
    claims.as_object_mut().unwrap().remove("sub");
    let token = token(&header("HS256"), &claims, "HS256", SECRET);
    assert_eq!(&*holder(&issuers("HS256", SECRET), &token).unwrap().who, "https://id.example");
}

#[test]
fn an_issuer_that_changes_its_key_is_there_twice() {
    let both = vec![config("HS256", &SECRET.replace('0', "x")).unwrap(), config("HS256", SECRET).unwrap()];
    assert!(holder(&both, &token(&header("HS256"), &claims(), "HS256", SECRET)).is_ok());
}

#[test]
fn keys_that_do_not_fit_their_algorithm_keep_a_server_from_starting() {
    for (algorithm, key, expected) in [
        ("HS256", "short", "needs as its `key` a secret of 32 bytes"),
        ("RS256", SECRET, "needs as its `key` a public key in PEM"),
        ("RS256", RSA, "needs as its `key` a public key in PEM"),
        ("RS256", EC_PUBLIC, "has a `key` that is none for RS256"),
        ("ES256", RSA_PUBLIC, "has a `key` that is none for ES256"),
        ("EdDSA", EC_PUBLIC, "has a `key` that is none for EdDSA"),
    ] {
        let told = config(algorithm, key).unwrap_err();
        assert!(told.contains(expected) && !told.contains(key), "{algorithm}: {told}");
    }
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    for text in ["a.b.c", "..", "eyJhbGciOiJIUzI1NiJ9..x", "é.é.é", "eyJhbGciOiJIUzI1NiJ9.W10.AA"] {
        assert!(holder(&issuers("HS256", SECRET), text).is_err(), "{text}");
    }
}
