//! Messages of those whom a machine does not answer yet, and the settings that say who they are.
//!
//! Who is treated how is for `crate::rollout` to say. Here a message is decided, decided in the tenant's shadow, or left
//! alone; the answers of the last two have the shape of any other.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use engine::{EngineError, Submitted};
use kernel::commit::Answer;
use kernel::conversation::{MessageOutcome, Reply};
use kernel::id::{InstanceId, MachineName, Revision, Subject, TenantId};
use kernel::input::{Cause, Input};
use kernel::snapshot::Snapshot;
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::problem::Problem;
use crate::http::request::{self, Asked, Body, Caller, List, Segments};
use crate::http::{App, Shared, answered};
use crate::rollout::{Change, ChangeError, Rollout, Treatment};
use crate::shadow_log::{self, ShadowQuery};

/// How long another server over the same store may go on as before after a rollout or an overlay was set.
const REFRESH_EVERY: Duration = Duration::from_secs(3);
/// A wait for news holds up the end of the server for no longer.
const STOPPED_WITHIN: Duration = Duration::from_millis(250);

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
    /// whatever was set in the meantime, and a session that is open is finished where it was begun.
    pub(crate) async fn take_message(self: &Arc<Self>, input: Input) -> Result<Taken, Problem> {
        let Cause::Message { machine, subject, .. } = &input.cause else {
            return Ok(Taken::Decided(self.submit(input).await?));
        };
        let treatment = self.admit(&input.tenant, machine, subject);
        if treatment == Treatment::On {
            return Ok(Taken::Decided(self.submit_message(input).await?));
        }
        self.engine.machines().current(machine)?;
        let (machine, subject, asked) = (machine.clone(), subject.clone(), input.clone());
        let begun = self.read(move |app| {
            if app.engine.answered_before(&asked)? {
                return Ok(Begun::Answered);
            }
            let goes_on = app.goes_on(&asked.tenant, &machine, &subject);
            Ok(if goes_on { Begun::Session } else { Begun::Nothing })
        });
        match (begun.await?, treatment) {
            (Begun::Answered, _) => Ok(Taken::Decided(self.submit(input).await?)),
            (Begun::Session, _) => Ok(Taken::Decided(self.submit_message(input).await?)),
            (Begun::Nothing, Treatment::Shadow) => {
                // The caller speaks of a revision of the real session.
                let input = Input { tenant: input.tenant.shadow(), expected: None, ..input };
                Ok(Taken::InShadow(self.submit_message(input).await?))
            }
            (Begun::Nothing, _) => Ok(Taken::LeftAlone),
        }
    }

    /// Whether somebody who is left out has a session to go on with. May block. A message that comes while the one
    /// before is ending the session still counts as part of it.
    fn goes_on(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> bool {
        self.rollouts.finishes_sessions(tenant, machine)
            && self.last_session(tenant, machine, subject).is_some_and(|session| !session.is_closed())
    }

    /// The open session of somebody who is perhaps not answered, else the last.
    fn last_session(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Option<Snapshot> {
        match self.engine.session(tenant, machine, subject) {
            Ok(session) => Some(session),
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => {
                // What cannot be read cannot be gone on with, and is no obstacle to leaving somebody alone.
                tracing::warn!("failed to read the session of somebody who is left out: {error}");
                None
            }
        }
    }
}

/// What there is of a message, or of its sender, from before.
enum Begun {
    Nothing,
    Session,
    Answered,
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
        let session = app.last_session(&tenant, &machine, &subject);
        let reason = app.rollouts.because(&tenant, &machine, &subject);
        let because = match treatment {
            Treatment::Shadow => {
                format!("`{machine}` only tries out what it would answer `{subject}`: {reason}")
            }
            _ => format!("`{machine}` does not answer `{subject}`: {reason}"),
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
    rollout: Rollout,
    /// Absent where nothing was ever set, which is on.
    saved_at: Option<Timestamp>,
    #[serde(flatten)]
    person: Option<Treated>,
}

/// How somebody is treated who is asked about.
#[derive(Debug, Serialize)]
struct Treated {
    subject: Subject,
    treatment: Treatment,
    because: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutAsked {
    subject: Option<Subject>,
}

pub async fn show(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Asked(RolloutAsked { subject }): Asked<RolloutAsked>,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    app.read(move |app| {
        let saved = app.rollouts.saved(&caller.tenant, &machine);
        let person = subject.map(|subject| treated(app, &caller.tenant, &machine, subject));
        let rollout = saved.as_ref().map_or(Rollout::ON, |saved| saved.rollout.clone());
        let saved_at = saved.as_ref().map(|saved| saved.saved_at);
        Ok(request::json(200, &RolloutView { machine, rollout, saved_at, person }, None))
    })
    .await
}

fn treated(app: &App, tenant: &TenantId, machine: &MachineName, subject: Subject) -> Treated {
    let reason = app.rollouts.because(tenant, machine, &subject);
    let (treatment, because) = match app.admit(tenant, machine, &subject) {
        Treatment::On => (Treatment::On, reason),
        otherwise if app.goes_on(tenant, machine, &subject) => {
            let then = if otherwise == Treatment::Shadow { "shadow" } else { "off" };
            let because = format!("an open session is finished; after it, `{then}`: {reason}");
            (Treatment::On, because)
        }
        otherwise => (otherwise, reason),
    };
    Treated { subject, treatment, because }
}

/// Holds from the next message on, and on other servers over the same store within seconds.
pub async fn set(
    State(app): State<Shared>,
    Segments(machine): Segments<MachineName>,
    caller: Caller,
    Body(change): Body<Change>,
) -> Result<Response, Problem> {
    known(&app, &machine)?;
    app.read(move |app| {
        let now = app.engine.clock().now();
        let changed = app.rollouts.change(app.engine.store(), &caller.tenant, &machine, change, now);
        let saved = changed.map_err(|error| match error {
            ChangeError::Refused(problem) => Problem::bad_request("malformed_body", problem),
            ChangeError::Load(error) => EngineError::from(error).into(),
            ChangeError::Save(error) => EngineError::from(error).into(),
        })?;
        tracing::info!(tenant = %caller.tenant, %machine, mode = saved.rollout.mode.as_str(), "rollout set");
        let (rollout, saved_at) = (saved.rollout.clone(), Some(saved.saved_at));
        Ok(request::json(200, &RolloutView { machine, rollout, saved_at, person: None }, None))
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
    let veil = caller.sight().over_any(app.engine.machines(), &machine);
    let query = ShadowQuery { tenant: caller.tenant, machine, subject, cursor, limit, veil };
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
    let veil = caller.sight().over_any(app.engine.machines(), &machine);
    let query = ShadowQuery { tenant: caller.tenant, machine, subject, cursor: None, limit: 1, veil };
    app.read_in_turn(move |app| {
        let summary = shadow_log::summary(app.engine.store(), &query).map_err(EngineError::from)?;
        Ok(request::json(200, &summary, None))
    })
    .await
}

/// Takes over what other servers over the same store have set and activated: when the store says that there is something,
/// and every few seconds. Ends with the server.
pub async fn keep_settings_fresh(app: Weak<App>) {
    let Some(store) = app.upgrade().map(|app| app.engine.shared_store()) else { return };
    if !store.info().is_shared {
        return;
    }
    loop {
        let asked = Instant::now();
        while asked.elapsed() < REFRESH_EVERY {
            if app.strong_count() == 0 {
                return;
            }
            let waiting = Arc::clone(&store);
            let waited = tokio::task::spawn_blocking(move || waiting.wait_for_news(STOPPED_WITHIN));
            if waited.await.unwrap_or(true) {
                break;
            }
        }
        let Some(app) = app.upgrade() else { return };
        let refreshed = app.read(|app| {
            app.engine.machines().refresh(app.engine.store()).map_err(EngineError::from)?;
            app.rollouts.refresh(app.engine.store()).map_err(EngineError::from)?;
            app.engine.machines().refresh_overlays(app.engine.store()).map_err(super::machines::refused)
        });
        if let Err(problem) = refreshed.await {
            tracing::warn!(?problem, "failed to read the settings again; those that are known hold");
        }
    }
}
