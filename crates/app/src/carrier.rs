//! The carrier: effects as requests, by the settings, and what the responses mean.
//!
//! Replies go out by the channel on which their reader is reached, or to the webhook of their machine; calls to whom
//! the settings name for them. It decides neither when nor how often: that is the engine's delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Clock;
use engine::delivery::{Carried, Carrier, Endpoint, Route, Schedule};
use kernel::commit::EffectKind;
use kernel::conversation::{Address, Reply};
use kernel::id::{MachineName, TenantId};
use kernel::input::{CallOutcome, Fields};
use kernel::time::Delay;
use serde_json::Value;
use store::OutboxEffect;
use tokio::runtime::Handle;

use crate::channels::{self, Sent, meta, slack, telegram, twilio};
use crate::connections::{CallTarget, Channel, ChannelKind, Connections, Webhook, timeout};
use crate::outgoing::{Outgoing, Request, Response, SendError};
use crate::secret::Secret;
use crate::traces::Traces;
use crate::webhook::{self, SigningSecret};

/// Providers answer within a few seconds or not at all.
pub(crate) const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer's own words in an error.
const ERROR_CHARACTERS_MAX: usize = 300;

#[derive(Debug)]
pub struct HttpCarrier {
    pub outgoing: Arc<Outgoing>,
    pub connections: Arc<Connections>,
    pub public_url: String,
    /// Where requests may block.
    pub runtime: Handle,
    /// Where attempts are noted, if anybody is told.
    pub traces: Option<Arc<Traces>>,
}

/// Which setting an effect falls under.
enum Target<'a> {
    Channel(&'a Channel, &'a Address, &'a Reply),
    Webhook(&'a Webhook),
    Call(&'a CallTarget),
}

impl Carrier for HttpCarrier {
    fn route(&self, effect: &OutboxEffect) -> Route {
        let endpoint = |name: &str, repeatable, rate, schedule| {
            Route::To(Endpoint { name: name.into(), repeatable, rate, schedule })
        };
        match target(&self.connections, effect) {
            Err(nowhere) => Route::Nowhere(nowhere),
            Ok(target) => {
                let name = target.endpoint();
                match target {
                    // No provider knows a send by its key, so none is repeated that may have arrived.
                    Target::Channel(channel, ..) => endpoint(&name, false, channel.rate, Schedule::Prompt),
                    Target::Webhook(webhook) => endpoint(&name, true, webhook.rate, Schedule::Patient),
                    Target::Call(call) => endpoint(&name, true, call.rate, Schedule::Prompt),
                }
            }
        }
    }

    fn carry(&self, effect: OutboxEffect, ended: Box<dyn FnOnce(Carried) + Send>) {
        let (connections, outgoing) = (Arc::clone(&self.connections), Arc::clone(&self.outgoing));
        let (public_url, traces) = (self.public_url.clone(), self.traces.clone());
        self.runtime.spawn_blocking(move || {
            let began = Instant::now();
            let post = Post { effect: &effect, outgoing: &outgoing, public_url: &public_url };
            let target = target(&connections, &effect);
            let endpoint = target.as_ref().map(Target::endpoint).unwrap_or_default();
            let carried = match target {
                Err(nowhere) => Carried::Refused { error: nowhere, parts_done: effect.parts_done },
                Ok(Target::Channel(channel, to, reply)) => post.by_channel(channel, to, reply),
                Ok(Target::Webhook(webhook)) => post.to_webhook(webhook),
                Ok(Target::Call(call)) => post.to_call(call),
            };
            let result = carried.as_str();
            ended(carried);
            traces.iter().for_each(|traces| traces.attempt(&effect, &endpoint, began, result));
        });
    }

    fn wants_notices(&self, tenant: &TenantId, machine: &MachineName) -> bool {
        let webhook = self.connections.webhook(tenant, machine);
        webhook.is_some_and(|webhook| webhook.transitions) && !tenant.is_shadow()
    }
}

impl Target<'_> {
    /// Names it in the log and in figures.
    fn endpoint(&self) -> String {
        match self {
            Self::Channel(channel, to, _) => format!("{}:{}", channel.name, to.account),
            Self::Webhook(webhook) => webhook.name.clone(),
            Self::Call(call) => call.name.clone(),
        }
    }
}

fn target<'a>(connections: &'a Connections, effect: &'a OutboxEffect) -> Result<Target<'a>, String> {
    let OutboxEffect { tenant, machine, .. } = effect;
    match (&effect.effect.kind, effect.effect.to.as_deref()) {
        (EffectKind::Reply(reply), Some(to)) => {
            connections.sender(effect, to).map(|channel| Target::Channel(channel, to, reply))
        }
        (EffectKind::Call { src, .. }, _) => {
            let call = connections.call(tenant, machine, src);
            call.map(Target::Call).ok_or_else(|| format!("no [[calls]] is set for `{src}` of `{machine}`"))
        }
        (EffectKind::Tell(_), _) => Err("what one flow tells another stays in the house".to_owned()),
        (EffectKind::Reply(_) | EffectKind::Notice(_), _) => {
            let webhook = connections.webhook(tenant, machine);
            webhook.map(Target::Webhook).ok_or_else(|| format!("no [[webhooks]] is set for `{machine}`"))
        }
    }
}

/// One attempt at one effect.
struct Post<'a> {
    effect: &'a OutboxEffect,
    outgoing: &'a Outgoing,
    public_url: &'a str,
}

impl Post<'_> {
    /// A reply may be several sends. Those that were accepted are not repeated.
    fn by_channel(&self, channel: &Channel, to: &Address, reply: &Reply) -> Carried {
        let mut provider_id = None;
        let sends = self.encode(channel, to, reply);
        let done = usize::try_from(self.effect.parts_done).unwrap_or(usize::MAX);
        for (part, send) in sends.into_iter().enumerate().skip(done) {
            let parts_done = u32::try_from(part).unwrap_or(u32::MAX);
            let request = Request {
                url: format!("{}{}", channel.api_url(), send.path),
                headers: send.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                content_type: send.content_type.to_owned(),
                body: send.body,
                timeout: PROVIDER_TIMEOUT,
            };
            let sent = match self.outgoing.post(&request) {
                Ok(response) => meaning(channel.kind, &response),
                Err(error) => return not_sent(error, parts_done),
            };
            match sent {
                Sent::Accepted { provider_id: id } => provider_id = id,
                Sent::Refused { error } => return Carried::Refused { error, parts_done },
                Sent::Later { error, after_seconds } => {
                    let after = after_seconds.map(seconds);
                    return Carried::Later { error, after, parts_done };
                }
                Sent::Unknown { error } => return Carried::Unknown { error, parts_done },
            }
        }
        Carried::Delivered { provider_id }
    }

    fn encode(&self, channel: &Channel, to: &Address, reply: &Reply) -> Vec<channels::Send> {
        let reveal = |secret: &Option<Secret>| secret.as_ref().map_or("", Secret::expose).to_owned();
        match channel.kind {
            ChannelKind::Twilio => {
                let path = format!("/v1/channels/twilio/{}", self.effect.machine);
                let credentials = twilio::Credentials {
                    account_sid: reveal(&channel.account_sid),
                    auth_token: reveal(&channel.auth_token),
                    from: to.account.clone(),
                    status_callback: Some(format!("{}{path}", self.public_url)),
                };
                twilio::encode_api(reply, &to.user, &credentials)
            }
            ChannelKind::Meta => {
                let version = channel.api_version.as_deref().unwrap_or(meta::DEFAULT_VERSION);
                let credentials = meta::Credentials {
                    version: version.to_owned(),
                    phone_number_id: to.account.clone(),
                    access_token: reveal(&channel.access_token),
                };
                let (locale, key) = (self.effect.effect.locale.as_deref(), &self.effect.effect.key);
                meta::encode(reply, &to.user, &credentials, locale, Some(key))
            }
            ChannelKind::Telegram => {
                let credentials = telegram::Credentials { bot_token: reveal(&channel.bot_token) };
                telegram::encode(reply, &to.user, &credentials)
            }
            ChannelKind::Slack => {
                let credentials = slack::Credentials { bot_token: reveal(&channel.bot_token) };
                slack::encode(reply, &to.user, &credentials)
            }
        }
    }

    fn to_webhook(&self, webhook: &Webhook) -> Carried {
        match self.tell(&webhook.url, &webhook.secret, timeout(webhook.timeout).unwrap_or_default()) {
            Err(error) => not_sent(error, 0),
            Ok(response) => match response.status {
                200..=299 => Carried::Delivered { provider_id: None },
                410 => Carried::Gone { error: told(&response) },
                // The specification has everything else tried again.
                _ => later(&response),
            },
        }
    }

    fn to_call(&self, call: &CallTarget) -> Carried {
        match self.tell(&call.url, &call.secret, timeout(call.timeout).unwrap_or_default()) {
            Err(error) => not_sent(error, 0),
            Ok(response) => match response.status {
                // The result is brought later, by `answer_to`.
                202 => Carried::Delivered { provider_id: None },
                // What is missing of it may be what counts; the callee knows the call by its key.
                200..=299 if response.broke_off => {
                    let error = format!("HTTP {}: the answer broke off", response.status);
                    Carried::Later { error, after: None, parts_done: 0 }
                }
                200..=299 => match fields_of(&response.body) {
                    Some(fields) => Carried::Answered(CallOutcome::Done(fields)),
                    None => Carried::Answered(failed("bad_result", "the result is no JSON object")),
                },
                408 | 425 | 429 => later(&response),
                400..=499 => Carried::Answered(refused(&response)),
                _ => later(&response),
            },
        }
    }

    fn tell(&self, url: &str, secret: &SigningSecret, timeout: Duration) -> Result<Response, SendError> {
        let body = webhook::event(self.effect, self.public_url).to_string().into_bytes();
        // Receivers compare it with their own clock, also where ours is moved by hand.
        let now = Clock::System.now();
        let mut headers = secret.headers(&webhook::id_of(self.effect), now, &body);
        headers.extend(webhook::traceparent(self.effect).map(|trace| ("traceparent".to_owned(), trace)));
        let content_type = webhook::CONTENT_TYPE.to_owned();
        self.outgoing.post(&Request { url: url.to_owned(), headers, content_type, body, timeout })
    }
}

fn meaning(kind: ChannelKind, response: &Response) -> Sent {
    let Response { status, retry_after, body, .. } = response;
    match kind {
        ChannelKind::Twilio => twilio::sent(*status, *retry_after, body),
        ChannelKind::Meta => meta::sent(*status, *retry_after, body),
        ChannelKind::Telegram => telegram::sent(*status, *retry_after, body),
        ChannelKind::Slack => slack::sent(*status, *retry_after, body),
    }
}

fn not_sent(error: SendError, parts_done: u32) -> Carried {
    match error {
        SendError::NotSent(error) => Carried::Later { error, after: None, parts_done },
        SendError::Forbidden(error) => Carried::Refused { error, parts_done },
        SendError::Unknown(error) => Carried::Unknown { error, parts_done },
    }
}

fn later(response: &Response) -> Carried {
    let after = response.retry_after.map(seconds);
    Carried::Later { error: told(response), after, parts_done: 0 }
}

fn seconds(seconds: u64) -> Delay {
    // A day at most: nobody is left alone for ever by a header.
    Delay::from_secs(i64::try_from(seconds.min(86_400)).unwrap_or_default())
}

/// What an answer says, on one line.
fn told(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body[..response.body.len().min(4 * ERROR_CHARACTERS_MAX)])
        .into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(ERROR_CHARACTERS_MAX).collect();
    format!("HTTP {}: {}", response.status, if line.is_empty() { "no reason given" } else { &line })
}

/// No content is an empty result.
fn fields_of(body: &[u8]) -> Option<Fields> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Some(Fields::new());
    }
    serde_json::from_slice(body).ok()
}

/// A call that was refused: with the `code` and the `message` (or `detail`) of the answer, if it has them.
fn refused(response: &Response) -> CallOutcome {
    let mut fields = fields_of(&response.body).unwrap_or_default();
    let code = format!("http_{}", response.status);
    fields.entry("code").or_insert_with(|| code.into());
    let detail = fields.get("detail").filter(|detail| detail.is_string()).cloned();
    fields.entry("message").or_insert_with(|| detail.unwrap_or_else(|| Value::from(told(response))));
    CallOutcome::Failed(fields)
}

fn failed(code: &str, message: &str) -> CallOutcome {
    let fields = [("code", code), ("message", message)].map(|(name, value)| (name.to_owned(), value.into()));
    CallOutcome::Failed(Fields::from_iter(fields))
}
