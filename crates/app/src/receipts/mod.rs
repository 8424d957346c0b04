//! Receipts: a caller's work is done once, whatever does it. Idempotency alone, for hosts that route nothing here yet.
//!
//! Each receipt is an instance of a machine of our own (`receipt.yaml`), so that it is as durable, as exact under
//! concurrency and as patient with time as any other; there is no table of receipts. They are kept beside their tenant,
//! where no list or address of instances reaches them. Owns what a receipt says and what a claim is; addresses and
//! statuses belong to `http`.

use std::fmt::Write;

use engine::{Machines, MachinesError};
use kernel::definition;
use kernel::id::{InputKey, InstanceId, MachineName};
use kernel::input::{Cause, Fields, Start};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::Store;

const DEFINITION: &str = include_str!("receipt.yaml");
const MACHINE: &str = "statewright.receipt";

/// Half of what a digest of SHA-256 has, and far beyond what anybody could try.
const CLAIM_BYTES: usize = 16;

/// Makes the machine of receipts known; it is saved like any other, since instances are pinned to it.
///
/// # Errors
/// When the store cannot save it.
pub fn activate(machines: &Machines, store: &dyn Store, now: Timestamp) -> Result<(), MachinesError> {
    match definition::load_own(DEFINITION) {
        (Some(machine), _) => machines.adopt(store, machine.into(), now).map(|_| ()),
        (None, diagnostics) => Err(MachinesError::Diagnostics(diagnostics)),
    }
}

/// What somebody shows who has begun a piece of work and now has something to say of it.
///
/// It comes from the operating system's randomness: a claim is a right, and whoever could guess one, as the ids that
/// are derived from their input can be, could complete other people's work. Only its digest is kept.
#[derive(Debug)]
pub struct Claim {
    pub text: String,
}

impl Claim {
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; CLAIM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self { text: hex(&bytes) })
    }

    fn digest(&self) -> String {
        hex(&Sha256::digest(self.text.as_bytes()))
    }
}

/// Where the receipt of a key is kept. Strangers may choose what becomes part of a key, so it is a digest for which
/// nobody finds two keys.
pub fn instance_of(key: &InputKey) -> InstanceId {
    let id = format!("receipt:{}", hex(&Sha256::digest(key.as_str().as_bytes())));
    InstanceId::parse(&id).expect("a word and hexadecimal digits make an id")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A receipt as its snapshot says it.
#[derive(Debug)]
pub struct Receipt {
    pub payload_digest: String,
    claim: String,
    pub standing: Standing,
}

/// Who has the work.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody, until then.
    Running {
        until: Timestamp,
    },
    /// Nobody: the lease is over, or the claim was given up.
    Lapsed,
    Done {
        response: String,
        at: Timestamp,
    },
}

impl Receipt {
    /// A lease that is over at `now` is over, whether its timer has fired or not.
    pub fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        let text = |name: &str| match snapshot.context.get(name) {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let until = snapshot.context.get("expires_at").and_then(Value::as_i64).unwrap_or_default();
        let until = Timestamp::from_millis(until);
        let standing = match &snapshot.closure {
            Some(closure) => Standing::Done { response: text("response"), at: closure.at },
            None if snapshot.state() == "running" && until > now => Standing::Running { until },
            None => Standing::Lapsed,
        };
        Self { payload_digest: text("payload_digest"), claim: text("claim"), standing }
    }

    pub fn is_of(&self, claim: &Claim) -> bool {
        self.claim == claim.digest()
    }
}

/// What is asked of a receipt, as an input's key and cause.
pub type Asked = (InputKey, Cause);

/// The first to begin.
pub fn creation(key: &InputKey, payload_digest: &str, claim: &Claim, until: Timestamp) -> Asked {
    let mut context = beginning(payload_digest, claim, until);
    context.insert("key".into(), key.as_str().into());
    let machine = MachineName::parse(MACHINE).expect("the name of our own machine is one");
    let cause = Cause::Create {
        machine,
        id: Some(instance_of(key)),
        subject: None,
        context,
        start: Start::default(),
    };
    (input_key("begin", &claim.digest()), cause)
}

/// Somebody after the first, when nobody has the work.
pub fn begin(key: &InputKey, payload_digest: &str, claim: &Claim, until: Timestamp) -> Asked {
    let payload = beginning(payload_digest, claim, until);
    event(key, "begin", payload, &claim.digest())
}

/// The same response under the same claim is the same input, however often it is sent.
pub fn complete(key: &InputKey, claim: &Claim, response: &str) -> Asked {
    let digest = claim.digest();
    let payload = fields([("claim", digest.clone().into()), ("response", response.into())]);
    let said = hex(&Sha256::digest([digest.as_bytes(), response.as_bytes()].concat()));
    event(key, "complete", payload, &said)
}

pub fn abandon(key: &InputKey, claim: &Claim) -> Asked {
    let digest = claim.digest();
    event(key, "abandon", fields([("claim", digest.clone().into())]), &digest)
}

fn beginning(payload_digest: &str, claim: &Claim, until: Timestamp) -> Fields {
    fields([
        ("payload_digest", payload_digest.into()),
        ("claim", claim.digest().into()),
        ("expires_at", until.as_millis().into()),
    ])
}

fn event(key: &InputKey, event: &str, payload: Fields, once: &str) -> Asked {
    let cause = Cause::Event { instance: instance_of(key), event: event.to_owned(), payload };
    (input_key(event, once), cause)
}

fn input_key(what: &str, digest: &str) -> InputKey {
    InputKey::parse(&format!("{what}:{digest}")).expect("a word and hexadecimal digits make a key")
}

fn fields<const N: usize>(named: [(&str, Value); N]) -> Fields {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether receipts are what a machine's instances are.
pub fn is_receipts(machine: &MachineName) -> bool {
    machine.as_str() == MACHINE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_of_receipts_loads_only_as_our_own() {
        let (machine, diagnostics) = definition::load_own(DEFINITION);
        assert!(is_receipts(&machine.unwrap().name));
        // What nothing in it reads is read here, and who has given up may leave it at that.
        let doubts = ["unread_field", "no_way_out_by_time"];
        assert!(diagnostics.iter().all(|found| doubts.contains(&found.code)), "{diagnostics:?}");
        let (machine, diagnostics) = definition::load(DEFINITION);
        assert!(machine.is_none());
        assert!(diagnostics[0].message.contains("server's own machines"), "{diagnostics:?}");
    }

    #[test]
    fn claims_differ_and_are_kept_as_digests_only() {
        let (one, other) = (Claim::fresh().unwrap(), Claim::fresh().unwrap());
        assert_ne!(one.text, other.text);
        assert_eq!(one.text.len(), 2 * CLAIM_BYTES);
        let key = InputKey::parse("k").unwrap();
        let (_, cause) = creation(&key, "d", &one, Timestamp::from_millis(1));
        assert!(!format!("{cause:?}").contains(&one.text));
    }
}
