//! Work for workers: whoever asks for some is given a phase that waits for a worker, under a lease.
//!
//! Who has a phase is decided by the flow and by nobody else: here it is only looked for. Two workers that find the
//! same one both try to take it, and one is refused and tries the next.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::EngineError;
use kernel::commit::Answer;
use kernel::id::{Digest, InputKey, InstanceId, MachineName, Revision, TenantId};
use kernel::input::{Cause, Fields, Input};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::{Delay, Timestamp};
use kernel::trace::Trace;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{PhaseLine, PhaseQuery, WorkerQuery};

use crate::http::flows::{self, Found};
use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller};
use crate::http::{App, Shared};

/// So many phases are tried before a worker is told that there is nothing to do: with as many others taking them away,
/// it had better come back.
const TRIES_MAX: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimBody {
    key: Option<InputKey>,
    worker: String,
    /// How long the lease is to last; else as the phase says.
    lasts: Option<Delay>,
    /// What kind of work the worker does, beside what any worker does.
    #[serde(default)]
    kind: String,
    flow: Option<MachineName>,
}

/// A phase that a worker has been given, and where it reports.
#[derive(Debug, Serialize)]
struct Claimed {
    flow_id: InstanceId,
    flow: MachineName,
    version: u32,
    revision: Revision,
    phase: String,
    lease: String,
    worker: String,
    /// Not while the flow is paused: then no time passes.
    expires_at: Option<Timestamp>,
    attempt: u32,
    context: Fields,
    complete: String,
    fail: String,
    heartbeat: String,
    replayed: bool,
}

/// Somebody who asks for work.
#[derive(Clone, Debug)]
struct Claim {
    tenant: TenantId,
    key: InputKey,
    /// Made of the key, so that a repeat finds what the first was given.
    lease: String,
    worker: String,
    lasts: Option<Delay>,
    kind: String,
    flow: Option<MachineName>,
    trace: Trace,
}

pub async fn claim(
    State(app): State<Shared>,
    caller: Caller,
    Body(body): Body<ClaimBody>,
) -> Result<Response, Problem> {
    if let Some(flow) = &body.flow {
        flows::definition(&app, flow)?;
    }
    if body.worker.trim().is_empty() {
        return Err(Problem::bad_request("malformed_body", "`worker` is empty; say who takes the work"));
    }
    let key = caller.key("key", body.key)?;
    let lease = format!("lease-{}", Digest::of_parts(&["lease", caller.tenant.as_str(), key.as_str()]));
    let claim = Claim {
        tenant: caller.tenant,
        key,
        lease,
        worker: body.worker,
        lasts: body.lasts,
        kind: body.kind,
        flow: body.flow,
        trace: caller.trace,
    };
    let asked = claim.clone();
    let (held, offered) = app.read(move |app| asked.look(app)).await?;
    if let Some(held) = held {
        return Ok(given(&Claimed { replayed: true, ..held }));
    }
    for line in offered {
        if let Some(claimed) = claim.take(&app, line).await? {
            return Ok(given(&claimed));
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn given(claimed: &Claimed) -> Response {
    let mut response = request::json(200, claimed, Some(claimed.revision));
    if claimed.replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

impl Claim {
    /// What the worker has already under this key, and what is offered to it. What is offered is asked first: of two
    /// requests under one key that come at once, the later then finds what the earlier has taken.
    fn look(&self, app: &App) -> Result<(Option<Claimed>, Vec<PhaseLine>), Problem> {
        let worker = WorkerQuery { now: app.engine.clock().now(), kind: self.kind.clone() };
        let of_tenant = PhaseQuery::of(self.tenant.clone());
        let offered = PhaseQuery {
            machine: self.flow.clone(),
            for_worker: Some(worker),
            limit: TRIES_MAX,
            ..of_tenant.clone()
        };
        let held = PhaseQuery { lease: Some(self.lease.clone()), ..of_tenant };
        let lines = |query| app.engine.store().phases(query).map(|page| page.data).map_err(EngineError::from);
        let offered = lines(&offered)?;
        for line in lines(&held)? {
            if let Some(claimed) = self.held(app, &line)? {
                return Ok((Some(claimed), offered));
            }
        }
        Ok((None, offered))
    }

    /// What the worker is told of a phase that it holds; `None` if it does not, or no longer.
    fn held(&self, app: &App, line: &PhaseLine) -> Result<Option<Claimed>, Problem> {
        let now = app.engine.clock().now();
        let Found { machine, snapshot } = Found::load(app, &self.tenant, &line.instance)?;
        let place = machine.flow.as_ref().and_then(|flow| flow.by_name(&line.row.phase));
        let Some((state, place)) = snapshot.flow.as_ref().zip(place) else { return Ok(None) };
        let record = state.record(place);
        let lease = record.lease().filter(|lease| lease.token == self.lease && !state.cancelled);
        let Some(lease) = lease else { return Ok(None) };
        if lease.worker != self.worker {
            let message = "the key was used by another worker to claim a phase";
            let refusal = Refusal::new(RefusalCode::KeyReused, Revision::NONE, message);
            return Err(Problem::refused(&refusal));
        }
        let timer = format!("{}.lease_expired", line.row.phase);
        let expires_at = snapshot.timers.iter().find(|set| *set.id == *timer).map(|set| set.deadline);
        if state.paused.is_none() && expires_at.is_none_or(|at| at <= now) {
            return Ok(None);
        }
        let id = request::segment(line.instance.as_str());
        let address =
            |action: &str| format!("/v1/flows/{id}/phases/{}/{action}", request::segment(&line.row.phase));
        Ok(Some(Claimed {
            flow_id: line.instance.clone(),
            flow: snapshot.machine.clone(),
            version: snapshot.version,
            revision: snapshot.revision,
            phase: line.row.phase.to_string(),
            lease: self.lease.clone(),
            worker: self.worker.clone(),
            expires_at,
            attempt: record.attempts,
            context: Fields::clone(&snapshot.context),
            complete: address("complete"),
            fail: address("fail"),
            heartbeat: address("heartbeat"),
            replayed: false,
        }))
    }

    /// Tries to take a phase. `None` if it cannot be had: somebody was quicker, the flow is paused, …
    async fn take(&self, app: &Shared, line: PhaseLine) -> Result<Option<Claimed>, Problem> {
        let input = self.input(&line)?;
        let asked = input.clone();
        // Asked before it is tried, so that the history of a flow is not full of those who came too late.
        let open = app.read(move |app| {
            let found = Found::load(app, &asked.tenant, &line.instance)?;
            Ok((app.engine.try_out(&found.snapshot, &asked)?, line))
        });
        let (answer, line) = match open.await {
            Ok(asked) => asked,
            // One that is damaged or of an unknown definition is not to keep workers from the others.
            Err(problem) if problem.status() < 503 => return Ok(None),
            Err(problem) => return Err(problem),
        };
        if let Answer::Refused(refusal) = answer {
            return self.refused(app, line, &refusal).await;
        }
        let submitted = app.submit(input).await?;
        if let Answer::Refused(refusal) = &*submitted.answer {
            return self.refused(app, line, refusal).await;
        }
        // A repeat of the answer does not mean that the worker holds it still.
        let (claim, replayed) = (self.clone(), submitted.replayed);
        let held = app.read(move |app| claim.held(app, &line)).await?;
        Ok(held.map(|held| Claimed { replayed, ..held }))
    }

    /// What is wrong with the claim itself is wrong with the next phase too; all else concerns this one. If it cannot be
    /// had because the same request came twice at once and the other has it, it is this one's answer as well: to go on to
    /// the next phase would give one key two of them.
    async fn refused(
        &self,
        app: &Shared,
        line: PhaseLine,
        refusal: &Refusal,
    ) -> Result<Option<Claimed>, Problem> {
        if matches!(refusal.code, RefusalCode::MalformedRequest | RefusalCode::InvalidContext) {
            return Err(Problem::refused(refusal));
        }
        let claim = self.clone();
        let held = app.read(move |app| claim.held(app, &line)).await?;
        Ok(held.map(|held| Claimed { replayed: true, ..held }))
    }

    fn input(&self, line: &PhaseLine) -> Result<Input, Problem> {
        let lasts = self.lasts.map(|lasts| lasts.to_string());
        let payload =
            [("worker", Some(self.worker.clone())), ("lease", Some(self.lease.clone())), ("lasts", lasts)];
        let payload: Fields = payload
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))))
            .collect();
        let event = format!("{}.claim", line.row.phase);
        // Apart for each phase: that one could not be had is no answer about another.
        let digest = Digest::of_parts(&[self.key.as_str(), &event]);
        Ok(Input {
            tenant: self.tenant.clone(),
            key: InputKey::parse(&format!("claim:{digest}")).map_err(|_| Problem::internal())?,
            cause: Cause::Event { instance: line.instance.clone(), event, payload },
            expected: None,
            by: Some(self.worker.clone()),
            trace: Some(self.trace.clone()),
        })
    }
}
