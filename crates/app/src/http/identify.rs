//! Who asks: what a request shows, and whose that is. Everything that answers a request which needs a key goes through
//! `App::identify`; everything that answers any request, through `App::let_in`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use engine::EngineError;
use kernel::id::{InstanceId, TenantId};

use crate::access::api_key::{self, ApiKey};
use crate::access::{Holder, Peer, bearer, jwt, origin};
use crate::http::App;
use crate::http::problem::Problem;
use crate::http::request::text;

/// Holds the key of a session.
pub const COOKIE: &str = "statewright_session";

/// Of a request that comes from nowhere, as those of tests do.
const NOWHERE: Peer = Peer(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

impl App {
    /// What is asked of every request, whatever it wants.
    pub fn let_in(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        if self.access.is_open() {
            self.access.names.check(headers)?;
            let changes = !request.method().is_safe();
            if changes && origin::is_foreign(headers) || origin::is_used_elsewhere(headers) {
                return Err(origin::cross_origin());
            }
        }
        self.access.rates.admit_address(self.access.rates.address(peer(request.extensions()), headers))
    }

    /// Who asks, as what, and for how much.
    pub async fn identify(self: &Arc<Self>, parts: &Parts) -> Result<Holder, Problem> {
        let holder = self.holder(parts).await?;
        self.access.rates.admit_tenant(&holder.tenant)?;
        Ok(holder)
    }

    async fn holder(self: &Arc<Self>, parts: &Parts) -> Result<Holder, Problem> {
        let headers = &parts.headers;
        if self.access.is_open() {
            return self.access.anybody(text(headers, "x-tenant")?);
        }
        let Some(shown) = shown_in(headers)? else {
            return Err(Problem::unauthorised("send the API key as `Authorization: Bearer KEY`"));
        };
        let holder = self.opened_by(shown).await?.map_err(|wrong| {
            let rates = &self.access.rates;
            let address = rates.address(peer(&parts.extensions), headers);
            rates.note_wrong(address).err().unwrap_or_else(|| Problem::unauthorised(wrong))
        })?;
        // The browser sends the cookie by itself; a page of another origin must not make use of that.
        if matches!(shown, Shown::Session(_)) {
            let changes = !parts.method.is_safe();
            if changes && !origin::is_own(headers) || origin::is_used_elsewhere(headers) {
                return Err(origin::cross_origin());
            }
        }
        Ok(holder)
    }

    /// Whether what a request has shown opens anything still, for an answer that goes on. It counts for no rate. While the
    /// store cannot say, it does not: whoever is told nothing more can ask again, and is then told why.
    pub async fn still_opens(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        if self.access.is_open() {
            return true;
        }
        let Ok(Some(shown)) = shown_in(headers) else { return false };
        matches!(self.opened_by(shown).await, Ok(Ok(_)))
    }

    /// Whose it is, or why nobody's.
    async fn opened_by(self: &Arc<Self>, shown: Shown<'_>) -> Result<Result<Holder, String>, Problem> {
        match shown {
            Shown::Key(key) => self.holder_of(key).await,
            Shown::Session(key) => {
                Ok(self.session_of(key).await?.ok_or("the session is over; sign in again".to_owned()))
            }
        }
    }

    /// Whose key it is: one of the settings, a token of an issuer that is known, or a stored one; or why it is none.
    async fn holder_of(self: &Arc<Self>, key: &str) -> Result<Result<Holder, String>, Problem> {
        if let Some(holder) = self.access.of_settings(key) {
            return Ok(Ok(holder));
        }
        if !self.access.issuers.is_empty() && jwt::looks_like_one(key) {
            return Ok(jwt::holder(&self.access.issuers, key));
        }
        let found = self.key_of(key).await?;
        Ok(found.map(|key| key.holder.clone()).ok_or("the API key is not known here".to_owned()))
    }

    async fn session_of(self: &Arc<Self>, key: &str) -> Result<Option<Holder>, Problem> {
        let found = self.key_of(key).await?.filter(|key| key.session_of.is_some());
        Ok(found.map(|key| key.holder.clone()))
    }

    /// The stored key that this is, if it is one that opens something now.
    pub async fn key_of(self: &Arc<Self>, key: &str) -> Result<Option<Arc<ApiKey>>, Problem> {
        let Some(id) = api_key::id_in(key) else { return Ok(None) };
        // Whoever guesses waits with others who guess, and not with those who have been here lately.
        let _turn = match self.access.known.has_been(&id) {
            true => None,
            false => self.access.known.turn().await,
        };
        let digest = api_key::digest(key);
        let found = self.known_key(&id).await?.filter(|known| known.is(&digest) && self.is_open(known));
        let Some(found) = found else { return Ok(None) };
        Ok(self.outlived(&found).await?.then_some(found))
    }

    fn is_open(&self, key: &ApiKey) -> bool {
        key.is_open(self.engine.clock().now())
    }

    /// Whether what a session was begun with still opens something; of what is no session, nothing is asked.
    async fn outlived(self: &Arc<Self>, key: &ApiKey) -> Result<bool, Problem> {
        match key.session_of.as_deref() {
            None => Ok(true),
            Some(api_key::OF_SETTINGS) => Ok(self.access.has_settings_for(&key.holder.tenant)),
            Some(id) => match InstanceId::parse(id) {
                Ok(id) => Ok(self.known_key(&id).await?.is_some_and(|key| self.is_open(&key))),
                Err(_) => Ok(false),
            },
        }
    }

    /// A key as it is stored, or was a few seconds ago.
    async fn known_key(self: &Arc<Self>, id: &InstanceId) -> Result<Option<Arc<ApiKey>>, Problem> {
        match self.access.known.get(id, Instant::now()) {
            Some(known) => Ok(known),
            None => self.stored_key(id).await,
        }
    }

    /// A key as it is stored, which is remembered.
    pub async fn stored_key(self: &Arc<Self>, id: &InstanceId) -> Result<Option<Arc<ApiKey>>, Problem> {
        let id = id.clone();
        self.read(move |app| {
            let mark = app.access.known.mark();
            let found = app.engine.store().load(&TenantId::access(), &id).map_err(EngineError::from)?;
            let found = found.as_ref().and_then(ApiKey::of).map(Arc::new);
            app.access.known.remember(&id, found.clone(), mark, Instant::now());
            Ok(found)
        })
        .await
    }
}

/// What a request has to say who asks.
#[derive(Clone, Copy)]
enum Shown<'h> {
    Key(&'h str),
    /// The key of a session, which the browser sends by itself.
    Session(&'h str),
}

fn shown_in(headers: &HeaderMap) -> Result<Option<Shown<'_>>, Problem> {
    Ok(match text(headers, "authorization")? {
        Some(authorization) => bearer(authorization).map(Shown::Key),
        None => session_in(headers).map(Shown::Session),
    })
}

/// Where a request comes from.
pub fn peer(extensions: &axum::http::Extensions) -> Peer {
    extensions.get::<Peer>().copied().unwrap_or(NOWHERE)
}

/// The key of the session that the cookie has.
pub fn session_in(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all("cookie").iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, key)| key)
}
