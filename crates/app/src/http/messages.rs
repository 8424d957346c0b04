//! A person's messages, and the session that they are part of.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use kernel::conversation::{Candidate, Media, Message};
use kernel::id::{InputKey, MachineName, Subject};
use kernel::input::{Cause, Fields, Input};
use kernel::time::Timestamp;
use serde::Deserialize;

use crate::http::instances::InstanceView;
use crate::http::problem::Problem;
use crate::http::{Shared, answered, request, tenant};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageBody {
    message_id: Option<InputKey>,
    text: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    media: Vec<Media>,
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(default)]
    parameters: Fields,
    locale: Option<String>,
    received_at: Option<Timestamp>,
    quoted: Option<InputKey>,
}

impl MessageBody {
    fn message(self) -> Message {
        let Self { text, payload, media, candidates, parameters, locale, received_at, quoted, .. } = self;
        Message { text, payload, media, candidates, parameters, locale, received_at, quoted }
    }
}

pub async fn post_message(
    State(app): State<Shared>,
    Path((machine, subject)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let body: MessageBody = request::body(bytes)?;
    let key = request::key(body.message_id.clone(), &headers, "message_id")?;
    let input = Input {
        tenant,
        key,
        cause: Cause::Message {
            machine: request::parsed(MachineName::parse(&machine))?,
            subject: request::parsed(Subject::parse(&subject))?,
            message: body.message(),
        },
        expected: request::expected(&headers)?,
        by: None,
        trace_id: Some(request::trace_id(&headers)),
    };
    Ok(answered(&app.submit(input).await?))
}

pub async fn get_session(
    State(app): State<Shared>,
    Path((machine, subject)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenant = tenant(&app, &headers)?;
    let machine = request::parsed(MachineName::parse(&machine))?;
    let subject = request::parsed(Subject::parse(&subject))?;
    app.read(move |app| {
        let snapshot = app.engine.session(&tenant, &machine, &subject)?;
        let view = InstanceView::of(&app.engine, &snapshot);
        Ok(request::json(200, &view, Some(snapshot.revision)))
    })
    .await
}
