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
            if !request.method().is_safe() && origin::is_foreign(headers) {
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
        let address = self.access.rates.address(peer(&parts.extensions), headers);
        let shown = match text(headers, "authorization")? {
            Some(authorization) => bearer(authorization).map(|key| (key, false)),
            None => session_in(headers).map(|key| (key, true)),
        };
        let Some((key, by_cookie)) = shown else {
            return Err(Problem::unauthorised("send the API key as `Authorization: Bearer KEY`"));
        };
        let found = match by_cookie {
            false => self.holder_of(key, address).await?,
            true => self
                .key_of(key, address)
                .await?
                .filter(|key| key.session_of.is_some())
                .map(|key| key.holder.clone()),
        };
        let Some(holder) = found else {
            self.access.rates.note_wrong(address);
            let detail = if by_cookie {
                "the session is over; sign in again"
            } else {
                "the API key is not known here"
            };
            return Err(Problem::unauthorised(detail));
        };
        // The browser sends the cookie by itself; a page of another origin must not make use of that.
        if by_cookie && !parts.method.is_safe() && !origin::is_own(headers) {
            return Err(origin::cross_origin());
        }
        Ok(holder)
    }

    /// Whose key it is: one of the settings, a token of an issuer that is known, or a stored one.
    async fn holder_of(
        self: &Arc<Self>,
        key: &str,
        address: std::net::IpAddr,
    ) -> Result<Option<Holder>, Problem> {
        if let Some(holder) = self.access.of_settings(key) {
            return Ok(Some(holder));
        }
        if !self.access.issuers.is_empty() && jwt::looks_like_one(key) {
            return jwt::holder(&self.access.issuers, key).map(Some).map_err(|problem| {
                self.access.rates.note_wrong(address);
                Problem::unauthorised(problem)
            });
        }
        Ok(self.key_of(key, address).await?.map(|key| key.holder.clone()))
    }

    /// The stored key that this is, if it is one that opens something now. `address` is where it is shown.
    pub async fn key_of(
        self: &Arc<Self>,
        key: &str,
        address: std::net::IpAddr,
    ) -> Result<Option<Arc<ApiKey>>, Problem> {
        let Some(id) = api_key::id_in(key) else {
            self.access.rates.admit_stranger(address)?;
            return Ok(None);
        };
        // Whoever guesses makes the store no work, and whoever has asked lately is not kept from it by who guesses.
        if !self.access.known.has_been(&id) {
            self.access.rates.admit_stranger(address)?;
        }
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
