//! Providers' webhooks: verified, decoded, handed to the engine as messages, answered in the provider's own words.

use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use kernel::commit::Answer;
use kernel::id::{MachineName, Subject};
use kernel::input::Cause;

use crate::channels::twilio::{self, Inbound};
use crate::http::problem::Problem;
use crate::http::request::{Caller, RawBody, Segments};
use crate::http::{App, Shared};

/// A WhatsApp message of Twilio's; the reply is TwiML.
pub async fn twilio(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    RawBody(bytes): RawBody,
) -> Result<Response, Problem> {
    let tenant = app.access.channel_tenant(&headers)?;
    let is_json = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let path = uri.path_and_query().map_or(uri.path(), |path| path.as_str());
    let decode = |error: twilio::DecodeError| Problem::bad_request("bad_webhook", error.to_string());
    let inbound = if is_json {
        verify(
            &app,
            &headers,
            |token, signature, url| twilio::verify_json(token, url, &bytes, signature),
            path,
        )?;
        twilio::decode_json(&bytes).map_err(decode)?
    } else {
        let params = form(&bytes);
        verify(
            &app,
            &headers,
            |token, signature, url| twilio::verify_form(token, url, &params, signature),
            path,
        )?;
        twilio::decode(&params).map_err(decode)?
    };
    let Inbound::Message { key, from, message, .. } = inbound else {
        return Ok(twiml(&[]));
    };
    let subject = Subject::parse(&from).map_err(|problem| Problem::bad_request("bad_webhook", problem))?;
    let caller = Caller::of(tenant, &headers)?;
    let cause = Cause::Message { machine, subject, message };
    let input = caller.input("MessageSid", Some(key), Some("twilio".into()), cause)?;
    let submitted = app.submit_message(input).await?;
    match &*submitted.answer {
        Answer::Message(answer) => Ok(twiml(&answer.reply)),
        Answer::Event(answer) => Ok(twiml(&answer.reply)),
        Answer::Refused(refusal) => Err(Problem::refused(refusal)),
    }
}

/// The signature is over the configured public URL: behind a proxy `Host` says nothing.
fn verify(
    app: &App,
    headers: &HeaderMap,
    genuine: impl Fn(&str, &str, &str) -> bool,
    path: &str,
) -> Result<(), Problem> {
    let signature = headers.get("x-twilio-signature").and_then(|value| value.to_str().ok());
    let token = app.twilio_auth_token.as_deref();
    match (token, signature) {
        (Some(token), Some(signature)) => {
            let url = format!("{}{path}", app.public_url);
            if genuine(token, signature, &url) {
                return Ok(());
            }
            let detail = format!(
                "X-Twilio-Signature does not fit the request; it is checked against {url} (see --public-url) and the configured auth token"
            );
            Err(Problem::forbidden("bad_signature", detail))
        }
        (Some(_), None) => {
            Err(Problem::forbidden("bad_signature", "the header X-Twilio-Signature is missing"))
        }
        (None, Some(_)) => {
            let detail = "the request is signed, but no auth token is configured to check it: set STATEWRIGHT_TWILIO_AUTH_TOKEN";
            Err(Problem::forbidden("bad_signature", detail))
        }
        (None, None) if app.access.is_open() => Ok(()),
        (None, None) => {
            let detail = "Twilio's webhook needs its auth token: set STATEWRIGHT_TWILIO_AUTH_TOKEN";
            Err(Problem::forbidden("bad_signature", detail))
        }
    }
}

fn form(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn twiml(replies: &[kernel::conversation::Reply]) -> Response {
    let mut response = twilio::encode(replies).into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static(twilio::CONTENT_TYPE));
    response
}
