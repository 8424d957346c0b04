//! Outgoing webhooks: what is told to somebody's own server, and how it is signed.
//!
//! Bodies are CloudEvents 1.0 (structured JSON), headers and signatures those of the Standard Webhooks specification.
//! Pure: the time is given, and nothing is sent.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD};
use engine::delivery::attempt_of;
use hmac::{Hmac, KeyInit, Mac};
use kernel::commit::EffectKind;
use kernel::time::Timestamp;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};
use sha2::Sha256;
use store::OutboxEffect;

use crate::outgoing::escaped;
use crate::secret::Secret;

pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";
const SECRET_PREFIX: &str = "whsec_";

/// The key of a signature: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// # Errors
    /// A fragment that says what a secret looks like, and nothing of this one.
    pub fn parse(written: &str) -> Result<Self, String> {
        let secret = Secret::parse(written)?;
        let shape = "a signing secret is `whsec_` and 24 to 64 random bytes in base64, such as `openssl rand -base64 32` gives";
        let encoded = secret.expose().strip_prefix(SECRET_PREFIX).ok_or(shape)?;
        let bytes = BASE64.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).map_err(|_| shape)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(format!("{shape}; this one has {} bytes", bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The headers of one attempt.
    pub fn headers(&self, id: &str, now: Timestamp, body: &[u8]) -> Vec<(String, String)> {
        let timestamp = (now.as_millis() / 1_000).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("an HMAC takes a key of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        let signature = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ];
        headers.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

impl<'de> Deserialize<'de> for SigningSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An effect as a CloudEvent. `public_url` is where the result of a call may be brought later.
pub fn event(effect: &OutboxEffect, public_url: &str) -> Value {
    let instance = effect.instance.as_str();
    let path = format!("/v1/instances/{}", escaped(instance));
    let mut data = json!({
        "tenant": effect.tenant,
        "machine": effect.machine,
        "instance": instance,
        "subject": effect.subject,
    });
    let (kind, told) = match &effect.effect.kind {
        EffectKind::Reply(reply) => ("reply", json!({ "reply": reply, "locale": effect.effect.locale })),
        EffectKind::Call { id, src, input } => {
            let key = &effect.effect.key;
            let answer_to = format!("{public_url}{path}/calls/{}", escaped(key));
            ("call", json!({ "call": key, "id": id, "src": src, "input": input, "answer_to": answer_to }))
        }
        EffectKind::Notice(notice) => ("transition", json!(notice)),
        EffectKind::Tell(told) => ("tell", json!({ "told": told })),
    };
    if let (Value::Object(data), Value::Object(told)) = (&mut data, told) {
        data.extend(told);
    }
    let mut event = json!({
        "specversion": "1.0",
        "id": id_of(effect),
        "source": path,
        "type": format!("statewright.{kind}"),
        "time": effect.created_at,
        "datacontenttype": "application/json",
        "data": data,
    });
    // CloudEvents knows no null.
    if let Some(subject) = &effect.subject {
        event["subject"] = subject.as_str().into();
    }
    event
}

/// What the receiver knows an effect by, at every attempt: its key, as far as a header can hold it.
pub fn id_of(effect: &OutboxEffect) -> String {
    let key = &effect.effect.key;
    if key.bytes().all(|byte| byte.is_ascii_graphic()) { key.clone() } else { escaped(key) }
}

/// The trace of the input that led to an effect, from the attempt at it on.
pub fn traceparent(effect: &OutboxEffect) -> Option<String> {
    attempt_of(effect).map(|trace| trace.to_string())
}

#[cfg(test)]
mod tests {
    use kernel::commit::Effect;
    use kernel::id::{InstanceId, MachineName, Revision, TenantId};
    use store::EffectStatus;

    use super::*;

    /// The example of the Standard Webhooks specification's libraries.
    #[test]
    fn signature_is_that_of_the_specification() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let now = Timestamp::from_millis(1_614_265_330_000);
        let headers = secret.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#);
        let told: Vec<&str> = headers.iter().map(|(_, value)| value.as_str()).collect();
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(told, ["msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signature]);
    }

    /// Ids may hold what neither a path nor a header can.
    #[test]
    fn names_are_written_so_that_they_arrive() {
        let name = |text: &str| text.to_owned();
        let instance = InstanceId::parse("bestellung/7 ü").unwrap();
        let kind = EffectKind::Call { id: name("pay"), src: name("bank"), input: Default::default() };
        let effect = OutboxEffect {
            seq: 1,
            tenant: TenantId::default_tenant(),
            machine: MachineName::parse("m").unwrap(),
            subject: None,
            effect: Effect::new(&instance, Revision(2), 0, kind),
            instance,
            status: EffectStatus::Sending,
            attempts: 1,
            parts_done: 0,
            created_at: Timestamp::EPOCH,
            due_at: None,
            error: None,
            provider_id: None,
            stage: None,
            settled_at: None,
        };
        let event = event(&effect, "https://h");
        assert_eq!(event["id"], "bestellung%2F7%20%C3%BC%3A2%3A0");
        assert_eq!(event["source"], "/v1/instances/bestellung%2F7%20%C3%BC");
        let answer_to =
            "https://h/v1/instances/bestellung%2F7%20%C3%BC/calls/bestellung%2F7%20%C3%BC%3A2%3A0";
        assert_eq!(event["data"]["answer_to"], answer_to);
        assert_eq!(event["data"]["call"], "bestellung/7 ü:2:0");
    }

    #[test]
    fn what_is_no_signing_secret_is_refused_without_being_told() {
        for written in ["hidden", "whsec_hidden", "whsec_aGlkZGVu", "whsec_", ""] {
            let problem = SigningSecret::parse(written).unwrap_err();
            assert!(!problem.contains("hidden"), "{problem}");
        }
    }
}
