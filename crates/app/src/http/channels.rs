//! Providers' webhooks: verified, decoded, handed to the engine as messages, answered in the provider's own words.
//!
//! A webhook belongs to the configured channel whose secret it is signed with, and so to that channel's tenant. It is
//! answered when everything in it is durable: a provider that hears of an error sends it again, and the messages'
//! keys make that harmless.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequest, OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::{EngineError, Submitted};
use kernel::commit::Answer;
use kernel::conversation::{Address, Reply};
use kernel::id::{MachineName, TenantId};
use kernel::input::Cause;
use serde::Deserialize;
use store::{DeliveryReport, DeliveryStage};

use crate::access::{Holder, Scope};
use crate::channels::{
    DecodeError, Inbound, InboundMessage, Stage, StatusUpdate, meta, slack, telegram, twilio,
};
use crate::connections::{Channel, ChannelKind, subject_of};
use crate::http::problem::Problem;
use crate::http::request::{Asked, Caller, RawBody, Segments, text};
use crate::http::rollout::Taken;
use crate::http::{App, Shared};
use crate::rollout::Treatment;
use crate::secret::Secret;

/// The header that each provider signs with.
fn signature_header(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Twilio => "x-twilio-signature",
        ChannelKind::Meta => "x-hub-signature-256",
        ChannelKind::Telegram => "x-telegram-bot-api-secret-token",
        ChannelKind::Slack => "x-slack-signature",
    }
}

/// A webhook as it came.
struct Delivered<'a> {
    kind: ChannelKind,
    headers: &'a HeaderMap,
    /// With its query.
    path: &'a str,
    body: &'a [u8],
}

/// Who a genuine webhook belongs to.
struct Owner<'a> {
    tenant: TenantId,
    /// The channels whose secret it is signed with; several numbers may share one. None in `dev`, where none need be
    /// set.
    channels: Vec<&'a Channel>,
}

/// Meta's batches have up to 3 MB.
const WEBHOOK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A webhook's body, which may be larger than that of other requests.
pub struct WebhookBody(Bytes);

impl FromRequest<Shared> for WebhookBody {
    type Rejection = Problem;

    async fn from_request(mut request: Request, app: &Shared) -> Result<Self, Problem> {
        DefaultBodyLimit::max(WEBHOOK_BYTES_MAX).apply(&mut request);
        let RawBody(bytes) = RawBody::from_request(request, app).await?;
        Ok(Self(bytes))
    }
}

pub async fn receive(
    State(app): State<Shared>,
    Segments((kind, machine)): Segments<(String, MachineName)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    WebhookBody(body): WebhookBody,
) -> Result<Response, Problem> {
    let kind = known(&kind)?;
    let path = uri.path_and_query().map_or(uri.path(), |path| path.as_str());
    let delivered = Delivered { kind, headers: &headers, path, body: &body };
    let owners = owners(&app, &delivered, &machine)?;
    let account = owners.iter().flat_map(|o| &o.channels).find_map(|channel| channel.account.clone());
    let mut inbound = decode(&delivered, account.as_deref().unwrap_or_default())
        .map_err(|error| Problem::bad_request("bad_webhook", error.to_string()))?;
    for reason in &inbound.skipped {
        tracing::info!(channel = kind.as_str(), %machine, "left out of a webhook: {reason}");
    }
    let statuses = std::mem::take(&mut inbound.statuses);
    if !statuses.is_empty() {
        let tenants: Vec<TenantId> = owners.iter().map(|owner| owner.tenant.clone()).collect();
        note(&app, kind, tenants, statuses).await?;
    }
    let replies = take(&app, &delivered, &machine, &owners, inbound.messages).await?;
    Ok(match (kind, inbound.answer) {
        (ChannelKind::Twilio, _) => twiml(&replies),
        (_, Some(answer)) => crate::http::request::json(200, &answer, None),
        (_, None) => axum::http::StatusCode::OK.into_response(),
    })
}

#[derive(Debug, Deserialize)]
pub struct Subscription {
    #[serde(rename = "hub.mode", default)]
    mode: String,
    #[serde(rename = "hub.verify_token", default)]
    verify_token: String,
    #[serde(rename = "hub.challenge", default)]
    challenge: String,
}

/// Meta asks whether the address is ours before it sends anything there.
pub async fn subscribe(
    State(app): State<Shared>,
    Segments((kind, machine)): Segments<(String, MachineName)>,
    Asked(asked): Asked<Subscription>,
) -> Result<Response, Problem> {
    let kind = known(&kind)?;
    if kind != ChannelKind::Meta {
        return Err(Problem::not_found(format!("the channel {kind} takes no GET")));
    }
    let channels = app.connections.listening(kind, &machine);
    let answers = channels.iter().filter_map(|channel| {
        let expected = revealed(&channel.verify_token);
        meta::challenge(&asked.mode, &asked.verify_token, &asked.challenge, expected)
    });
    let challenge = answers.into_iter().next().ok_or_else(|| {
        let detail = "hub.mode is not `subscribe`, or hub.verify_token is not the `verify_token` of a [[channels]] of this machine";
        Problem::forbidden("bad_verify_token", detail)
    })?;
    Ok(challenge.into_response())
}

fn known(kind: &str) -> Result<ChannelKind, Problem> {
    ChannelKind::parse(kind).ok_or_else(|| {
        let known = ChannelKind::ALL.map(ChannelKind::as_str).join(", ");
        Problem::not_found(format!("there is no channel `{kind}`; there are {known}"))
    })
}

fn revealed(secret: &Option<Secret>) -> &str {
    secret.as_ref().map_or("", Secret::expose)
}

/// Whose webhook it is. In `dev`, where no channel of the kind is set, one that is not signed belongs to whom `X-Tenant`
/// says.
fn owners<'a>(
    app: &'a App,
    delivered: &Delivered<'_>,
    machine: &MachineName,
) -> Result<Vec<Owner<'a>>, Problem> {
    let Delivered { kind, headers, .. } = delivered;
    let channels = app.connections.listening(*kind, machine);
    let header = signature_header(*kind);
    let Some(signature) = text(headers, header)? else {
        if app.access.is_open() && channels.is_empty() {
            let tenant = app.access.anybody(text(headers, "x-tenant")?)?.tenant;
            return Ok(vec![Owner { tenant, channels }]);
        }
        let detail = format!("the webhook is not signed: the header {header} is missing");
        return Err(Problem::forbidden("bad_signature", detail));
    };
    if channels.is_empty() {
        let detail = format!(
            "the webhook is signed, and no [[channels]] of kind \"{kind}\" is set for `{machine}` to check it by; see docs/channels.md"
        );
        return Err(Problem::forbidden("bad_signature", detail));
    }
    let mut owners: Vec<Owner<'a>> = Vec::new();
    let genuine = channels.into_iter().filter(|channel| is_genuine(app, delivered, channel, signature));
    for (channel, tenant) in genuine.filter_map(|channel| Some((channel, channel.tenant.clone()?))) {
        match owners.iter_mut().find(|owner| owner.tenant == tenant) {
            Some(owner) => owner.channels.push(channel),
            None => owners.push(Owner { tenant, channels: vec![channel] }),
        }
    }
    if owners.is_empty() {
        let checked = match kind {
            ChannelKind::Twilio => {
                format!("; it is checked against {}{} (see --public-url)", app.public_url, delivered.path)
            }
            _ => String::new(),
        };
        let detail = format!("{header} fits no configured secret{checked}");
        return Err(Problem::forbidden("bad_signature", detail));
    }
    Ok(owners)
}

/// The signature of Twilio's is over the configured public URL: behind a proxy `Host` says nothing.
fn is_genuine(app: &App, delivered: &Delivered<'_>, channel: &Channel, signature: &str) -> bool {
    let Delivered { headers, path, body, .. } = delivered;
    match channel.kind {
        ChannelKind::Twilio => {
            let (token, url) = (revealed(&channel.auth_token), format!("{}{path}", app.public_url));
            match is_json(headers) {
                true => twilio::verify_json(token, &url, body, signature),
                false => twilio::verify_form(token, &url, &form(body), signature),
            }
        }
        ChannelKind::Meta => meta::verify(revealed(&channel.app_secret), body, signature),
        ChannelKind::Telegram => telegram::verify(revealed(&channel.secret_token), signature),
        ChannelKind::Slack => {
            let timestamp = headers.get("x-slack-request-timestamp").and_then(|value| value.to_str().ok());
            let secret = revealed(&channel.signing_secret);
            // Slack's clock is the world's, also where ours is moved by hand.
            let now = engine::Clock::System.now();
            timestamp.is_some_and(|timestamp| slack::verify(secret, timestamp, body, signature, now))
        }
    }
}

fn decode(delivered: &Delivered<'_>, account: &str) -> Result<Inbound, DecodeError> {
    let Delivered { kind, headers, body, .. } = delivered;
    match kind {
        ChannelKind::Twilio if is_json(headers) => twilio::decode_json(body),
        ChannelKind::Twilio => twilio::decode(&form(body)),
        ChannelKind::Meta => meta::decode(body),
        ChannelKind::Telegram => telegram::decode(body, account),
        ChannelKind::Slack => slack::decode(body),
    }
}

/// Hands the messages over in their order and waits for all of them. The replies are those that travel in the answer.
async fn take(
    app: &Shared,
    delivered: &Delivered<'_>,
    machine: &MachineName,
    owners: &[Owner<'_>],
    messages: Vec<InboundMessage>,
) -> Result<Vec<Reply>, Problem> {
    // Each with whether its replies are sent, rather than told in the answer.
    let (mut waiting, mut answers) = (Vec::new(), Vec::<(Submitted, bool)>::new());
    for InboundMessage { key, account, user, message } in messages {
        let kind = delivered.kind;
        let Some((owner, channel)) = owner_of(owners, &account) else {
            tracing::warn!(channel = kind.as_str(), %machine, account, "a message for an account that no channel is set for");
            continue;
        };
        let subject = match subject_of(kind, &account, &user) {
            Ok(subject) => subject,
            // As what cannot be decoded: to have it sent again would not change it, and the others are not lost.
            Err(problem) => {
                tracing::warn!(channel = kind.as_str(), %machine, "left out of a webhook: {problem}");
                continue;
            }
        };
        let mut message = message;
        let sent = channel.map_or(kind != ChannelKind::Twilio, Channel::sends_replies);
        message.deliver = sent;
        message.from = Some(Address { channel: kind.as_str().to_owned(), account, user }.into());
        let who = kind.as_str().into();
        let holder = Holder { tenant: owner.tenant.clone(), scope: Scope::Write, who };
        let caller = Caller::of(holder, delivered.headers)?;
        let cause = Cause::Message { machine: machine.clone(), subject: subject.clone(), message };
        let input = caller.input("the message's id", Some(key), Some(kind.as_str().to_owned()), cause)?;
        match app.admit(&owner.tenant, machine, &subject) {
            Treatment::On => waiting.push((app.hand_over_message(input), sent)),
            Treatment::Shadow | Treatment::Off => match app.take_message(input).await? {
                Taken::Decided(before) => answers.push((before, sent)),
                Taken::InShadow(_) | Taken::LeftAlone => {}
            },
        }
    }
    for (waiting, sent) in waiting {
        answers.push((waiting.answer().await?, sent));
    }
    let mut replies = Vec::new();
    for (submitted, sent) in answers {
        match &*submitted.answer {
            Answer::Message(_) | Answer::Event(_) if sent => {}
            Answer::Message(answer) => replies.extend(answer.reply.iter().cloned()),
            Answer::Event(answer) => replies.extend(answer.reply.iter().cloned()),
            // Its webhooks have one message each, and it tells whoever set it up of errors.
            Answer::Refused(refusal) if delivered.kind == ChannelKind::Twilio => {
                return Err(Problem::refused(refusal));
            }
            // To have it sent again for a week, with all that came beside it, would not change it.
            Answer::Refused(refusal) => {
                tracing::warn!(
                    code = refusal.code.as_str(),
                    "a message of a webhook was refused: {}",
                    refusal.message
                );
            }
        }
    }
    Ok(replies)
}

/// The channel for just this account, before one for any.
fn owner_of<'o, 'c>(owners: &'o [Owner<'c>], account: &str) -> Option<(&'o Owner<'c>, Option<&'c Channel>)> {
    let all = || owners.iter().flat_map(|owner| owner.channels.iter().map(move |channel| (owner, *channel)));
    let exact = all().find(|(_, channel)| channel.account.as_deref() == Some(account));
    let any = || all().find(|(_, channel)| channel.account.is_none());
    let found = exact.or_else(any).map(|(owner, channel)| (owner, Some(channel)));
    found.or_else(|| owners.iter().find(|owner| owner.channels.is_empty()).map(|owner| (owner, None)))
}

/// How often, and after how long, a status that nobody knows yet is looked at again.
const STATUS_AGAIN: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
/// How much later those are looked at that have the key of what was sent: when the send that they are of must have
/// ended, and when one that a killed server had begun is known to be over. By then it may be `unknown`.
const OWN_STATUS_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(90)];

/// Statuses of what was sent. One that nobody knows may have overtaken the answer to the send itself, and is looked at
/// again; if nobody knows it then, it was sent by other means, or long ago.
async fn note(
    app: &Shared,
    kind: ChannelKind,
    tenants: Vec<TenantId>,
    statuses: Vec<StatusUpdate>,
) -> Result<(), Problem> {
    let tenants: Arc<[TenantId]> = tenants.into();
    let unknown = note_known(app, kind, Arc::clone(&tenants), statuses).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    // A server that stops is not held up by what it may yet hear.
    let app = Arc::downgrade(app);
    tokio::spawn(async move {
        let mut unknown = unknown;
        for (number, pause) in STATUS_AGAIN.into_iter().chain(OWN_STATUS_AGAIN).enumerate() {
            if number == STATUS_AGAIN.len() {
                unknown.retain(|status| status.correlation.is_some());
            }
            if unknown.is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
            let Some(app) = app.upgrade() else { return };
            match note_known(&app, kind, Arc::clone(&tenants), unknown).await {
                Ok(still) if !still.is_empty() => unknown = still,
                _ => return,
            }
        }
        tracing::info!(
            channel = kind.as_str(),
            statuses = unknown.len(),
            "statuses that brought no news: of what is not known here, or known already"
        );
    });
    Ok(())
}

/// Notes what can be, and gives the others back.
async fn note_known(
    app: &Shared,
    kind: ChannelKind,
    tenants: Arc<[TenantId]>,
    statuses: Vec<StatusUpdate>,
) -> Result<Vec<StatusUpdate>, Problem> {
    app.read(move |app| {
        let store = app.engine.store();
        let mut unknown = Vec::new();
        for status in statuses {
            let stage = match status.stage {
                Stage::Sent => DeliveryStage::Sent,
                Stage::Delivered => DeliveryStage::Delivered,
                Stage::Read => DeliveryStage::Read,
                Stage::Failed => DeliveryStage::Failed,
            };
            let mut news = false;
            for tenant in tenants.iter() {
                let report = DeliveryReport {
                    tenant: tenant.clone(),
                    provider_id: status.provider_id.clone(),
                    key: status.correlation.clone(),
                    stage,
                    error: status.error.clone(),
                };
                news |= store.note_stage(&report).map_err(EngineError::from)?;
            }
            let (id, error) = (status.provider_id.as_str(), status.error.as_deref());
            match news {
                true => {
                    let error = error.unwrap_or("");
                    tracing::info!(
                        channel = kind.as_str(),
                        provider_id = id,
                        stage = stage.as_str(),
                        error,
                        "status"
                    );
                }
                false => unknown.push(status),
            }
        }
        Ok(unknown)
    })
    .await
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

fn form(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn twiml(replies: &[Reply]) -> Response {
    let mut response = twilio::encode(replies).into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static(twilio::CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_waits_for_the_send_that_it_has_overtaken_also_through_a_kill() {
        let total: Duration = STATUS_AGAIN.iter().chain(&OWN_STATUS_AGAIN).sum();
        let lease = engine::Settings::default().delivery_lease;
        assert!(total > Duration::from_millis(lease.as_millis().unsigned_abs()), "{total:?}");
        let early: Duration = STATUS_AGAIN.iter().chain(&OWN_STATUS_AGAIN[..1]).sum();
        assert!(early > crate::carrier::PROVIDER_TIMEOUT, "{early:?}");
    }
}
