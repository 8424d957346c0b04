//! Requests to the outside: the one way by which the server makes them.
//!
//! Owns which addresses they may go to (`guard`), and what is known when one fails: whether it surely never arrived, or
//! may have. It follows no redirect, takes no proxy from the environment, repeats nothing, and blocks the thread that
//! asks. Errors never say more of a URL than its host: paths and queries may hold tokens.

mod guard;

use std::cell::Cell;
use std::error::Error as _;
use std::fmt;
use std::io::Read;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::{HeaderName, HeaderValue};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Body};

pub use guard::{Allowed, Block, ForbiddenAddress};

/// What is read of a response's body; the rest of a longer one is left.
pub const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;
/// Common servers drop an idle connection after five seconds. One that is used at just that moment makes it unknown
/// whether the request arrived, so ours are dropped before.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(4);

#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `http` or `https`, with a host and without credentials.
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Not sent if it is empty, nor with a `get`.
    pub content_type: String,
    pub body: Vec<u8>,
    /// From the look-up of the name to the end of the response's body.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Seconds. A `Retry-After` that is a date is not read.
    pub retry_after: Option<u64>,
    /// As much as came and as is read of it: the status counts also when the connection breaks after it.
    pub body: Vec<u8>,
    /// Whether the connection broke, or time ran out, before the body's end.
    pub broke_off: bool,
}

/// Why there is no response. Each says what the caller may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// It surely never arrived: no such name, nobody listens, no certificate that counts. It may be sent again.
    NotSent(String),
    /// It will never be sent as it is: a forbidden address, a URL or a header that is none.
    Forbidden(String),
    /// Some of it was on its way when the connection broke or time ran out. It may have arrived.
    Unknown(String),
}

impl SendError {
    pub fn detail(&self) -> &str {
        let (Self::NotSent(detail) | Self::Forbidden(detail) | Self::Unknown(detail)) = self;
        detail
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for SendError {}

/// Makes requests. Shared by all that make some, so that connections are used again.
#[derive(Debug)]
pub struct Outgoing {
    agent: Agent,
}

impl Outgoing {
    pub fn new(allowed: Allowed) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would lead a signed request, or its credentials, to somebody else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // One from the environment would resolve names by itself, behind the guard's back.
            .proxy(None)
            .max_idle_age(IDLE_CONNECTION_MAX)
            .user_agent(concat!("statewright/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = DefaultConnector::new().chain(NoteSending);
        let resolver = GuardedResolver { names: DefaultResolver::default(), allowed };
        Self { agent: Agent::with_parts(config, connector, resolver) }
    }

    /// # Errors
    /// When there is no response; the variant says whether the request may have arrived.
    pub fn post(&self, request: &Request) -> Result<Response, SendError> {
        let host = host_of(&request.url)?;
        let mut builder = self.agent.post(&request.url);
        if !request.content_type.is_empty() {
            builder = builder.header("content-type", &request.content_type);
        }
        for (name, value) in headers(request)? {
            builder = builder.header(name, value);
        }
        let builder = builder.config().timeout_global(Some(request.timeout)).build();
        SENDING.set(false);
        outcome(builder.send(&request.body[..]), &host)
    }

    /// # Errors
    /// As `post`.
    pub fn get(&self, request: &Request) -> Result<Response, SendError> {
        let host = host_of(&request.url)?;
        let mut builder = self.agent.get(&request.url);
        for (name, value) in headers(request)? {
            builder = builder.header(name, value);
        }
        let builder = builder.config().timeout_global(Some(request.timeout)).build();
        SENDING.set(false);
        outcome(builder.call(), &host)
    }
}

/// Whether a request might go to a URL, as far as its letters tell: for settings, before anything is sent.
///
/// # Errors
/// `SendError::Forbidden`, with what is wrong.
pub fn check_url(url: &str) -> Result<(), SendError> {
    host_of(url).map(|_| ())
}

fn host_of(url: &str) -> Result<String, SendError> {
    let forbidden = |problem: &str| Err(SendError::Forbidden(format!("the URL {problem}")));
    let Ok(uri) = url.parse::<Uri>() else { return forbidden("is none") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return forbidden("does not begin with http:// or https://");
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            forbidden("holds credentials; they belong into a header")
        }
        Some(authority) if !authority.host().is_empty() => Ok(authority.host().to_owned()),
        _ => forbidden("names no host"),
    }
}

/// A name as a segment of a path: a subject such as `whatsapp:+4915…`, or an id with a slash.
pub fn escaped(segment: &str) -> String {
    form_urlencoded::byte_serialize(segment.as_bytes()).collect::<String>().replace('+', "%20")
}

fn headers(request: &Request) -> Result<Vec<(HeaderName, HeaderValue)>, SendError> {
    let parsed = request.headers.iter().map(|(name, value)| {
        let parsed = name.parse().ok().zip(value.parse().ok());
        parsed.ok_or_else(|| {
            SendError::Forbidden(format!("the header `{}` cannot be sent", name.escape_debug()))
        })
    });
    parsed.collect()
}

/// What became of a request, by what ureq says and by whether any of it was sent.
fn outcome(
    result: Result<ureq::http::Response<Body>, ureq::Error>,
    host: &str,
) -> Result<Response, SendError> {
    let response = match result {
        Ok(response) => response,
        Err(ureq::Error::Other(inner)) if inner.is::<ForbiddenAddress>() => {
            return Err(SendError::Forbidden(format!("requests to {host} are not allowed: {inner}")));
        }
        Err(ureq::Error::Http(_) | ureq::Error::BadUri(_)) => {
            return Err(SendError::Forbidden(format!("the request to {host} cannot be written as HTTP")));
        }
        Err(error) if SENDING.get() => return Err(SendError::Unknown(told(&error, host))),
        Err(error) => return Err(SendError::NotSent(told(&error, host))),
    };
    let (parts, body) = response.into_parts();
    let retry_after =
        parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut read = Vec::new();
    let came = body.into_reader().take(RESPONSE_BYTES_MAX).read_to_end(&mut read);
    if let Err(error) = &came {
        tracing::debug!(host, status = parts.status.as_u16(), "the body of a response broke off: {error}");
    }
    Ok(Response { status: parts.status.as_u16(), retry_after, body: read, broke_off: came.is_err() })
}

/// An error with its causes, of which ureq leaves the innermost to be asked for.
fn told(error: &ureq::Error, host: &str) -> String {
    let mut text = match error {
        ureq::Error::Timeout(_) => return format!("{host} did not answer in time"),
        ureq::Error::HostNotFound => return format!("there is no host `{host}`"),
        error => format!("{host}: {error}"),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Looks names up, and keeps of the addresses those that requests may go to. What is checked is what is connected to:
/// a name that changes its address in between (DNS rebinding) gains nothing.
#[derive(Debug)]
struct GuardedResolver {
    names: DefaultResolver,
    allowed: Allowed,
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let mut open = self.empty();
        let mut forbidden = None;
        for address in found.iter() {
            match self.allowed.check(address.ip()) {
                Ok(()) => open.push(*address),
                Err(error) => forbidden = Some(error),
            }
        }
        match forbidden {
            Some(error) if open.is_empty() => Err(ureq::Error::Other(error.into())),
            _ => Ok(open),
        }
    }
}

thread_local! {
    /// Whether any byte of the request that this thread makes was handed to its connection. A request is made on one
    /// thread from its beginning to its end.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// The last link of a connection: notes when a request begins to be sent, after names, connecting and TLS.
#[derive(Debug)]
struct NoteSending;

impl<In: Transport> Connector<In> for NoteSending {
    type Out = Noting<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Noting))
    }
}

#[derive(Debug)]
struct Noting<In>(In);

impl<In: Transport> Transport for Noting<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        SENDING.set(true);
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

#[cfg(test)]
mod tests;
