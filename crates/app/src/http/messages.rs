//! A person's messages, and the session that they are part of.

use axum::extract::State;
use axum::response::Response;
use kernel::conversation::{Candidate, Media, Message};
use kernel::id::{InputKey, MachineName, Subject};
use kernel::input::{Cause, Fields};
use kernel::time::Timestamp;
use serde::Deserialize;

use crate::http::instances::InstanceView;
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, Segments};
use crate::http::{Shared, rollout};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageBody {
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

pub async fn post_message(
    State(app): State<Shared>,
    Segments((machine, subject)): Segments<(MachineName, Subject)>,
    caller: Caller,
    Body(body): Body<MessageBody>,
) -> Result<Response, Problem> {
    let MessageBody { text, payload, media, candidates, parameters, locale, received_at, quoted, .. } = body;
    let message = Message {
        text,
        payload,
        media,
        candidates,
        parameters,
        locale,
        received_at,
        quoted,
        ..Message::default()
    };
    let cause = Cause::Message { machine, subject, message };
    let input = caller.input("message_id", body.message_id, None, cause)?;
    rollout::answer_message(&app, input).await
}

pub async fn get_session(
    State(app): State<Shared>,
    Segments((machine, subject)): Segments<(MachineName, Subject)>,
    caller: Caller,
) -> Result<Response, Problem> {
    app.read(move |app| {
        let snapshot = app.engine.session(&caller.tenant, &machine, &subject)?;
        let view = InstanceView::of(&app.engine, &snapshot, caller.sight());
        Ok(request::json(200, &view, Some(snapshot.revision)))
    })
    .await
}
