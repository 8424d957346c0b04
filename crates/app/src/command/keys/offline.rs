//! API keys of a store that is opened here: how the first is made, before there is anybody whom a server would answer.
//!
//! As ever, an input is decided on and its commit saved; nothing else of the store is touched, no timer fired and nothing
//! delivered.

use engine::{Clock, Machines};
use kernel::decide::decide;
use kernel::id::{InstanceId, TenantId};
use kernel::input::Input;
use kernel::snapshot::Snapshot;
use kernel::time::Delay;
use serde_json::{Value, json};
use store::{InstanceQuery, Outcome, Store};

use crate::access::Holder;
use crate::access::api_key::{self, ApiKey, Secret, Wanted};
use crate::command::Failure;
use crate::http::api_keys::{KeyView, Made, OVERLAP};

/// Who it is that has the store itself.
const BY: &str = "command line";
/// Servers over the same store may change it in between.
const ATTEMPTS_MAX: u32 = 4;

pub(super) fn create(store: &dyn Store, holder: Holder, lasts: Option<Delay>) -> Result<Value, Failure> {
    let expires_at = lasts.map(|lasts| Clock::System.now().plus(lasts));
    let wanted = Wanted { holder, made_by: BY.to_owned(), expires_at, session_of: None };
    Ok(serde_json::to_value(make(store, wanted)?)?)
}

pub(super) fn rotate(store: &dyn Store, id: &InstanceId, overlap: Option<Delay>) -> Result<Value, Failure> {
    let old = load(store, id)?;
    let now = Clock::System.now();
    if old.state(now) != "active" {
        return Err(Failure(format!("the API key `{id}` is {}; make another", old.state(now))));
    }
    let expires_at = old.lasts().map(|lasts| now.plus(lasts));
    let holder = old.holder;
    let made = make(store, Wanted { holder, made_by: BY.to_owned(), expires_at, session_of: None })?;
    let until = now.plus(overlap.unwrap_or(OVERLAP));
    ask(store, &api_key::retirement(id, until, made.id(), BY))?;
    Ok(serde_json::to_value(made.replacing(until))?)
}

pub(super) fn revoke(store: &dyn Store, id: &InstanceId) -> Result<Value, Failure> {
    let key = load(store, id)?;
    let now = Clock::System.now();
    if key.is_open(now) {
        ask(store, &api_key::revocation(id, BY))?;
    }
    Ok(serde_json::to_value(KeyView::of(&load(store, id)?, now))?)
}

/// Those of a tenant, or of all.
pub(super) fn list(store: &dyn Store, tenant: Option<&TenantId>) -> Result<Vec<Value>, Failure> {
    let now = Clock::System.now();
    let mut query = InstanceQuery {
        machine: Some(api_key::machine()),
        subject: tenant.map(|tenant| api_key::listed_under(tenant, false)),
        ..InstanceQuery::of(TenantId::access())
    };
    let mut told = Vec::new();
    loop {
        let page = store.instances(&query)?;
        for key in page.data.iter().filter_map(ApiKey::of).filter(|key| key.session_of.is_none()) {
            let mut view = serde_json::to_value(KeyView::of(&key, now))?;
            view["tenant"] = json!(key.holder.tenant);
            told.push(view);
        }
        let Some(next) = page.next else { return Ok(told) };
        query.cursor = Some(next);
    }
}

fn make(store: &dyn Store, wanted: Wanted) -> Result<Made, Failure> {
    let secret = Secret::fresh().map_err(|error| Failure(format!("failed to make a key: {error}")))?;
    ask(store, &api_key::creation(&secret, &wanted))?;
    Ok(Made::of(secret, wanted))
}

fn load(store: &dyn Store, id: &InstanceId) -> Result<ApiKey, Failure> {
    let found = store.load(&TenantId::access(), id)?;
    let key = found.as_ref().and_then(ApiKey::of).filter(|key| key.session_of.is_none());
    key.ok_or_else(|| Failure(format!("there is no API key `{id}`")))
}

fn ask(store: &dyn Store, input: &Input) -> Result<(), Failure> {
    let machines = Machines::from_store(store)?;
    api_key::activate(&machines, store, Clock::System.now())?;
    for _ in 0..ATTEMPTS_MAX {
        let before: Option<Snapshot> = match input.target() {
            Some(kernel::input::Target::Instance(id)) => store.load(&input.tenant, &id)?,
            _ => None,
        };
        let machine = match &before {
            Some(before) => machines.of(before)?,
            None => machines.current(&api_key::machine())?,
        };
        let commit = decide(&machine, before.as_ref(), input, Clock::System.now());
        let commit = commit.map_err(|refusal| Failure(refusal.message))?;
        match store.commit(&[commit])?.first() {
            Some(Outcome::Stale) => {}
            _ => return Ok(()),
        }
    }
    Err(Failure("others change the key at the same time; try again".to_owned()))
}
