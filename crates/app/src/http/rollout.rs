//! Messages of those whom a machine does not answer yet, and the settings that say who they are.
//!
//! Who is treated how is for `crate::rollout` to say. Here a message is decided, decided in the tenant's shadow, or left
//! alone; the answers of the last two have the shape of any other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use engine::{EngineError, Submitted};
use kernel::commit::Answer;
use kernel::conversation::{MessageOutcome, Reply};
use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{Cause, Input};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, Segments};
use crate::http::{App, Shared, answered};
use crate::rollout::{Rollout, Saved, Treatment, Written};
use crate::shadow_log::{self, ShadowQuery};

/// How long another server over the same store may go on as before after a rollout was set.
const REFRESH_EVERY: Duration = Duration::from_secs(3);

/// What became of a message.
pub(crate) enum Taken {
    Decided(Submitted),
    /// Nothing real was changed; this is what the answer would have been.
    InShadow(Submitted),
    LeftAlone,
}

impl App {
    /// How a message of somebody is treated. Who sends events, answers or operators' calls is not asked about.
    pub fn admit(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Treatment {
        self.rollouts.treats(tenant, machine, subject)
    }

    /// Treats the input of a message as the rollout says. What was answered before is answered the same again,
    /// whatever was set in the meantime.
    pub(crate) async fn take_message(self: &Arc<Self>, input: Input) -> Result<Taken, Problem> {
        let Cause::Message { machine, subject, .. } = &input.cause else {
            return Ok(Taken::Decided(self.submit(input).await?));
        };
        let treatment = self.admit(&input.tenant, machine, subject);
        if treatment == Treatment::On {
            return Ok(Taken::Decided(self.submit_message(input).await?));
        }
        self.engine.machines().current(machine)?;
        let receipt = input.receipt_id();
        let before = self.read(move |app| {
            let before = app.engine.store().receipt(receipt).map_err(EngineError::from)?;
            Ok(before.is_some())
        });
        if before.await? {
            return Ok(Taken::Decided(self.submit(input).await?));
        }
        match treatment {
            Treatment::Shadow => {
                // The caller speaks of a revision of the real session.
                let input = Input { tenant: input.tenant.shadow(), expected: None, ..input };
                Ok(Taken::InShadow(self.submit_message(input).await?))
            }
            _ => Ok(Taken::LeftAlone),
        }
    }
}

/// The answer to a message of somebody whom the machine does not answer. It has what any answer has: the outcome is
/// `ignored`, there is nothing to tell the person, and the state is that of the real session, if there is one.
#[derive(Debug, Serialize)]
struct Unanswered {
    session_id: Option<InstanceId>,
    revision: Revision,
    outcome: MessageOutcome,
    state: Option<String>,
    reply: [Reply; 0],
    rollout: Treatment,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Value>,
    why: Why,
}

/// As a router's reasons are told.
#[derive(Debug, Serialize)]
struct Why {
    rule: &'static str,
    raw: u16,
    adjusted: u16,
    trace: [Step; 1],
}

#[derive(Debug, Serialize)]
struct Step {
    rule: &'static str,
    applied: bool,
    because: String,
}

pub(super) async fn answer_message(app: &Shared, input: Input) -> Result<Response, Problem> {
    let Cause::Message { machine, subject, .. } = &input.cause else {
        return Ok(answered(&app.submit(input).await?));
    };
    let (tenant, machine, subject) = (input.tenant.clone(), machine.clone(), subject.clone());
    let (treatment, shadow) = match app.take_message(input).await? {
        Taken::Decided(submitted) => return Ok(answered(&submitted)),
        Taken::InShadow(submitted) => (Treatment::Shadow, Some(would_be(&submitted.answer)?)),
        Taken::LeftAlone => (Treatment::Off, None),
    };
    app.read(move |app| {
        let session = match app.engine.session(&tenant, &machine, &subject) {
            Ok(session) => Some(session),
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => {
                // Nobody is answered here, and nothing is decided: a session that cannot be read is no obstacle.
                tracing::warn!("failed to read the session of a message that is not answered: {error}");
                None
            }
        };
        let because = match (treatment, app.rollouts.enabled()) {
            (_, false) => format!("{} is off", crate::rollout::SWITCH),
            (Treatment::Shadow, _) => format!("`{machine}` only tries out what it would answer `{subject}`"),
            _ => format!("`{machine}` does not answer `{subject}`"),
        };
        let unanswered = Unanswered {
            revision: session.as_ref().map_or(Revision::NONE, |session| session.revision),
            state: session.as_ref().map(|session| session.state()),
            session_id: session.map(|session| session.instance),
            outcome: MessageOutcome::Ignored,
            reply: [],
            rollout: treatment,
            shadow,
            why: Why {
                rule: "rollout",
                raw: 0,
                adjusted: 0,
                trace: [Step { rule: "rollout", applied: true, because }],
            },
        };
        Ok(request::json(200, &unanswered, None))
    })
    .await
}

/// What the answer would have been, or the refusal.
fn would_be(answer: &Answer) -> Result<Value, Problem> {
    let body = match answer {
        Answer::Message(answer) => serde_json::to_value(answer),
        Answer::Event(answer) => serde_json::to_value(answer),
        Answer::Refused(refusal) => serde_json::to_value(Problem::refused(refusal)),
    };
    body.map_err(|_| Problem::internal())
}

#[derive(Debug, Serialize)]
struct RolloutView {
    machine: MachineName,
    #[serde(flatten)]
    written: Written,
    /// Absent where nothing was ever set, which is on.
    saved_at: Option<Timestamp>,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    let saved = app.rollouts.saved(&caller.tenant, &machine);
    let written = Written::from(saved.as_ref().map_or(&Rollout::ON, |saved| &saved.rollout));
    let saved_at = saved.as_ref().map(|saved| saved.saved_at);
    Ok(request::json(200, &RolloutView { machine, written, saved_at }, None))
}

/// Holds from the next message on, and on other servers over the same store within seconds.
pub async fn set(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Body(written): Body<Written>,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    let rollout = written.read().map_err(|problem| Problem::bad_request("malformed_body", problem))?;
    app.read(move |app| {
        let saved_at = app.engine.clock().now();
        let written = Written::from(&rollout);
        app.rollouts
            .set(app.engine.store(), &caller.tenant, &machine, Saved { rollout, saved_at })
            .map_err(EngineError::from)?;
        tracing::info!(tenant = %caller.tenant, %machine, mode = ?written.mode, "rollout set");
        Ok(request::json(200, &RolloutView { machine, written, saved_at: Some(saved_at) }, None))
    })
    .await
}

/// A machine that people have defined.
fn known(app: &App, machine: &MachineName) -> Result<(), Problem> {
    if machine.is_own() {
        return Err(Problem::not_found(format!("`{machine}` is the server's own; nobody sends it messages")));
    }
    app.engine.machines().current(machine)?;
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowAsked {
    subject: Option<Subject>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub async fn shadow(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Asked(asked): Asked<ShadowAsked>,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    let ShadowAsked { subject, cursor, limit } = asked;
    let limit = request::limit(limit)?;
    let query = ShadowQuery { tenant: caller.tenant, machine, subject, cursor, limit };
    app.read(move |app| {
        let page = shadow_log::page(app.engine.store(), &query).map_err(EngineError::from)?;
        Ok(request::json(200, &List::of(page, |line| line), None))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryAsked {
    subject: Option<Subject>,
}

pub async fn shadow_summary(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Asked(SummaryAsked { subject }): Asked<SummaryAsked>,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    let query = ShadowQuery { tenant: caller.tenant, machine, subject, cursor: None, limit: 1 };
    app.read(move |app| {
        let summary = shadow_log::summary(app.engine.store(), &query).map_err(EngineError::from)?;
        Ok(request::json(200, &summary, None))
    })
    .await
}

/// Takes over, every few seconds, what other servers over the same store have set. Ends with the server.
pub async fn keep_rollouts_fresh(app: Weak<App>) {
    loop {
        tokio::time::sleep(REFRESH_EVERY).await;
        let Some(app) = app.upgrade() else { return };
        let refreshed = app.read(|app| {
            app.rollouts.refresh(app.engine.store()).map_err(|error| EngineError::from(error).into())
        });
        if let Err(problem) = refreshed.await {
            tracing::warn!(?problem, "failed to read rollouts again; those that are known hold");
        }
    }
}
