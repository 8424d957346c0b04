//! API keys: what one looks like, what is kept of it, and what is asked of the machine that keeps it.
//!
//! Each is an instance of a machine of our own (`api_key.yaml`), as receipts are: durable on every backend, with a history,
//! expiring by a timer, and the same for all servers. Of the key itself only a digest is kept. Owns no store and no
//! clock; what is remembered for how long is `known`'s business.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{Machines, MachinesError};
use kernel::definition;
use kernel::id::{InputKey, InstanceId, MachineName, Subject, TenantId};
use kernel::input::{Cause, Fields, Input, Start};
use kernel::snapshot::Snapshot;
use kernel::time::{Delay, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{InstanceQuery, LoadError, Store};
use subtle::ConstantTimeEq;

use crate::access::{Holder, Scope};

const DEFINITION: &str = include_str!("api_key.yaml");
const MACHINE: &str = "statewright.api_key";

/// By it, scanners of leaked secrets and people see what a text is.
const PREFIX: &str = "sw_";
/// Enough that no two are made alike; an id is no secret.
const ID_BYTES: usize = 8;
/// Beyond what anybody could try.
const SECRET_BYTES: usize = 32;
/// As much as a list shows well.
pub const NAME_BYTES_MAX: usize = 100;

/// Makes the machine of keys known; it is saved like any other, since instances are pinned to it.
///
/// # Errors
/// When the store cannot save it.
pub fn activate(machines: &Machines, store: &dyn Store, now: Timestamp) -> Result<(), MachinesError> {
    match definition::load_own(DEFINITION) {
        (Some(machine), _) => machines.adopt(store, machine.into(), now).map(|_| ()),
        (None, diagnostics) => Err(MachinesError::Diagnostics(diagnostics)),
    }
}

/// Whether a store has a key that opens something, of any tenant.
///
/// # Errors
/// When the store cannot say.
pub fn any_open(store: &dyn Store, now: Timestamp) -> Result<bool, LoadError> {
    let mut query = InstanceQuery {
        machine: Some(machine()),
        closed: Some(false),
        ..InstanceQuery::of(TenantId::access())
    };
    loop {
        let page = store.instances(&query)?;
        let mut keys = page.data.iter().filter_map(ApiKey::of);
        if keys.any(|key| key.session_of.is_none() && key.is_open(now)) {
            return Ok(true);
        }
        let Some(next) = page.next else { return Ok(false) };
        query.cursor = Some(next);
    }
}

pub fn machine() -> MachineName {
    MachineName::parse(MACHINE).expect("the name of our own machine is one")
}

/// A key as its owner is given it, once: `sw_ID_SECRET`.
pub struct Secret {
    pub id: InstanceId,
    pub text: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, …)", self.id)
    }
}

impl Secret {
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let id = InstanceId::parse(&id).expect("hexadecimal digits make an id");
        Ok(Self { id, text })
    }
}

/// The id that a text names which looks like one of our keys.
pub fn id_in(text: &str) -> Option<InstanceId> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_id =
        id.len() == 2 * ID_BYTES && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_id && !secret.is_empty()).then(|| InstanceId::parse(id).ok())?
}

pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// What a session is of that somebody has signed in to with a key of the settings, which has no id.
pub const OF_SETTINGS: &str = "settings";

/// A key as its snapshot says it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: InstanceId,
    pub holder: Holder,
    digest: Option<[u8; 32]>,
    /// `active`, `retiring`, `revoked` or `expired`.
    state: String,
    pub made_at: Timestamp,
    pub made_by: String,
    pub expires_at: Option<Timestamp>,
    pub retires_at: Option<Timestamp>,
    pub successor: Option<String>,
    /// Of a session.
    pub session_of: Option<String>,
}

impl ApiKey {
    /// `None` if it says nothing that a key could do.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        let context = &snapshot.context;
        let text = |name: &str| context.get(name).and_then(Value::as_str);
        let owned = |name: &str| text(name).map(str::to_owned);
        let time = |name: &str| {
            context.get(name).and_then(Value::as_i64).filter(|ms| *ms > 0).map(Timestamp::from_millis)
        };
        let holder = Holder {
            tenant: TenantId::parse(text("tenant")?).ok()?,
            scope: Scope::parse(text("scope")?).ok()?,
            who: text("name")?.into(),
        };
        let state = snapshot.state();
        Some(Self {
            id: snapshot.instance.clone(),
            holder,
            digest: from_hex(text("digest")?),
            state: state.rsplit('.').next().unwrap_or_default().to_owned(),
            made_at: snapshot.created_at,
            made_by: owned("made_by")?,
            expires_at: time("expires_at"),
            retires_at: time("retires_at"),
            successor: owned("successor"),
            session_of: owned("session_of"),
        })
    }

    /// How it stands. One whose time is over at `now` is over, whether its timer has fired or not.
    pub fn state(&self, now: Timestamp) -> &str {
        let over = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
        match self.state.as_str() {
            "active" | "retiring" if over(self.expires_at) || over(self.retires_at) => "expired",
            state => state,
        }
    }

    pub fn is_open(&self, now: Timestamp) -> bool {
        matches!(self.state(now), "active" | "retiring")
    }

    /// Whether `digest` is that of this key.
    pub fn is(&self, digest: &[u8; 32]) -> bool {
        self.digest.is_some_and(|kept| kept.ct_eq(digest).into())
    }

    /// How long it was made for.
    pub fn lasts(&self) -> Option<Delay> {
        self.expires_at.map(|end| end.since(self.made_at))
    }
}

/// What a key is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub holder: Holder,
    pub made_by: String,
    pub expires_at: Option<Timestamp>,
    pub session_of: Option<String>,
}

/// A name as people may give it.
///
/// # Errors
/// A fragment that says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("`name` is empty; say whose key it is, or what for".to_owned()),
        NAME_BYTES_MAX.. if name.len() > NAME_BYTES_MAX => {
            Err(format!("`name` has {} bytes; {NAME_BYTES_MAX} are allowed", name.len()))
        }
        _ if name.chars().any(char::is_control) => Err("`name` has control characters in it".to_owned()),
        _ => Ok(()),
    }
}

/// The input that makes a key.
pub fn creation(secret: &Secret, wanted: &Wanted) -> Input {
    let digest: String = digest(&secret.text).iter().map(|byte| format!("{byte:02x}")).collect();
    let Holder { tenant, scope, who } = &wanted.holder;
    let mut context = fields([
        ("tenant", tenant.as_str().into()),
        ("name", (**who).into()),
        ("scope", scope.as_str().into()),
        ("digest", digest.into()),
        ("made_by", wanted.made_by.as_str().into()),
    ]);
    if let Some(end) = wanted.expires_at {
        context.insert("expires_at".into(), end.as_millis().into());
    }
    if let Some(of) = &wanted.session_of {
        context.insert("session_of".into(), of.as_str().into());
    }
    let cause = Cause::Create {
        machine: machine(),
        id: Some(secret.id.clone()),
        subject: Some(listed_under(tenant, wanted.session_of.is_some())),
        context,
        start: Start::default(),
    };
    input("make", &secret.id, cause, &wanted.made_by)
}

/// A key opens on until `until`, and then no more: another has taken its place.
pub fn retirement(id: &InstanceId, until: Timestamp, successor: &InstanceId, by: &str) -> Input {
    let payload = fields([
        ("retires_at", until.as_millis().into()),
        ("successor", successor.as_str().into()),
        ("by", by.into()),
    ]);
    let cause = Cause::Event { instance: id.clone(), event: "retire".to_owned(), payload };
    input("retire", successor, cause, by)
}

/// A key opens nothing any more.
pub fn revocation(id: &InstanceId, by: &str) -> Input {
    let payload = fields([("by", by.into())]);
    let cause = Cause::Event { instance: id.clone(), event: "revoke".to_owned(), payload };
    input("revoke", id, cause, by)
}

/// Keys are listed by their tenants, apart from sessions. A digest, as the names of tenants may be as long as a subject.
pub fn listed_under(tenant: &TenantId, sessions: bool) -> Subject {
    let what = if sessions { "sessions" } else { "keys" };
    let digest: String =
        Sha256::digest(tenant.as_str().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Subject::parse(&format!("{what}:{digest}")).expect("a word and hexadecimal digits make a subject")
}

fn input(what: &str, id: &InstanceId, cause: Cause, by: &str) -> Input {
    let key = InputKey::parse(&format!("{what}:{id}")).expect("a word and an id make a key");
    let by = Some(by.to_owned());
    Input { tenant: TenantId::access(), key, cause, expected: None, by, trace: None }
}

fn fields<const N: usize>(named: [(&str, Value); N]) -> Fields {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use kernel::decide::decide;
    use kernel::machine::Machine;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    fn loaded() -> Machine {
        definition::load_own(DEFINITION).0.unwrap()
    }

    fn made(secret: &Secret, expires_at: Option<Timestamp>) -> Snapshot {
        let holder =
            Holder { tenant: TenantId::parse("acme").unwrap(), scope: Scope::Operate, who: "the bot".into() };
        let wanted = Wanted { holder, made_by: "ann".to_owned(), expires_at, session_of: None };
        let input = creation(secret, &wanted);
        decide(&loaded(), None, &input, at(0)).unwrap().after.unwrap()
    }

    fn after(before: &Snapshot, input: &Input, now: Timestamp) -> Snapshot {
        decide(&loaded(), Some(before), input, now).unwrap().after.unwrap()
    }

    #[test]
    fn the_machine_of_keys_loads_only_as_our_own() {
        let (machine, diagnostics) = definition::load_own(DEFINITION);
        assert_eq!(machine.unwrap().name.as_str(), MACHINE);
        // What nothing in it reads is read here, and a key may be open for ever.
        let doubts = ["unread_field", "no_way_out_by_time"];
        assert!(diagnostics.iter().all(|found| doubts.contains(&found.code)), "{diagnostics:?}");
        assert!(definition::load(DEFINITION).0.is_none());
    }

    #[test]
    fn a_key_is_known_again_by_its_digest_and_kept_as_nothing_else() {
        let (secret, other) = (Secret::fresh().unwrap(), Secret::fresh().unwrap());
        assert_ne!(secret.text, other.text);
        assert_eq!(id_in(&secret.text), Some(secret.id.clone()));
        let snapshot = made(&secret, None);
        assert!(!format!("{snapshot:?} {secret:?}").contains(&secret.text[20..]));
        let key = ApiKey::of(&snapshot).unwrap();
        assert!(key.is(&digest(&secret.text)) && !key.is(&digest(&other.text)));
        assert_eq!((key.holder.tenant.as_str(), key.holder.scope), ("acme", Scope::Operate));
        assert_eq!((&*key.holder.who, key.made_by.as_str()), ("the bot", "ann"));
        assert!(key.is_open(at(1_000_000_000)), "without an end it stays open");
    }

    #[test]
    fn what_does_not_look_like_a_key_names_none() {
        let secret = Secret::fresh().unwrap().text;
        let upper = secret.replacen(&secret[3..19], &secret[3..19].to_uppercase().replace('0', "A"), 1);
        let short = secret.replacen("sw_", "sw_0", 1);
        for text in ["", "sw_", "sw__x", "sw_0123456789abcdef", "sw_0123456789abcdef_", &short, &upper] {
            assert_eq!(id_in(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_over_at_its_end_before_its_timer_has_fired_and_by_it() {
        let snapshot = made(&Secret::fresh().unwrap(), Some(at(60)));
        let key = ApiKey::of(&snapshot).unwrap();
        assert_eq!((key.state(at(59)), key.state(at(60))), ("active", "expired"));
        assert_eq!(key.lasts(), Some(Delay::from_secs(60)));
        let timer = &snapshot.timers[0];
        assert_eq!(timer.deadline, at(60));
        let cause = Cause::Timer {
            instance: snapshot.instance.clone(),
            timer: timer.id.to_string(),
            deadline: at(60),
        };
        let over = after(&snapshot, &input("timer", &snapshot.instance, cause, ""), at(60));
        assert!(over.is_closed());
        assert!(!ApiKey::of(&over).unwrap().is_open(at(0)));
    }

    #[test]
    fn a_retired_key_opens_until_its_overlap_is_over_and_a_revoked_one_not_at_all() {
        let secret = Secret::fresh().unwrap();
        let before = made(&secret, None);
        let successor = Secret::fresh().unwrap().id;
        let retiring = after(&before, &retirement(&secret.id, at(100), &successor, "ann"), at(10));
        let key = ApiKey::of(&retiring).unwrap();
        assert_eq!((key.state(at(99)), key.state(at(100))), ("retiring", "expired"));
        assert_eq!(key.successor.as_deref(), Some(successor.as_str()));
        let again = retirement(&secret.id, at(1_000), &Secret::fresh().unwrap().id, "ann");
        assert!(decide(&loaded(), Some(&retiring), &again, at(11)).is_err(), "it is retired once");
        for snapshot in [&before, &retiring] {
            let revoked = after(snapshot, &revocation(&secret.id, "ann"), at(20));
            assert_eq!(ApiKey::of(&revoked).unwrap().state(at(20)), "revoked");
        }
    }
}
