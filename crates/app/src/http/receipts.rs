//! Receipts over HTTP: begun, completed, given up. What a receipt is, is `receipts`' business.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use engine::EngineError;
use kernel::commit::Answer;
use kernel::id::{InputKey, TenantId};
use kernel::input::Input;
use kernel::refusal::{Refusal, RefusalCode};
use kernel::time::{Delay, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller, Segments};
use crate::http::{App, Shared};
use crate::receipts::{self, Asked, Claim, Receipt, Standing};

/// What is kept for those who ask again: an answer, not a file.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Longer than any digest that is in use.
const PAYLOAD_DIGEST_BYTES_MAX: usize = 200;
/// Whoever forgets a claim keeps everybody else waiting for this long.
const LEASE_MAX: Delay = Delay::from_secs(86_400);
const LEASE: Delay = Delay::from_secs(60);
/// Others were faster so often: then one of them has it.
const ATTEMPTS_MAX: u32 = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginBody {
    payload_digest: String,
    lease: Option<Delay>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    claim: String,
    response: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbandonBody {
    claim: String,
}

/// `claim` and `expires_at` while it runs, `response` and `completed_at` when it is done.
#[derive(Debug, Default, Serialize)]
struct ReceiptView {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
}

impl ReceiptView {
    fn running(claim: Claim, expires_at: Timestamp) -> Self {
        Self { state: "running", claim: Some(claim.text), expires_at: Some(expires_at), ..Self::default() }
    }

    fn done(response: String, at: Timestamp) -> Result<Self, Problem> {
        let response = RawValue::from_string(response).map_err(|_| Problem::internal())?;
        Ok(Self { state: "done", response: Some(response), completed_at: Some(at), ..Self::default() })
    }
}

/// Gives the work to the first who asks, the response to everybody after it is done, and nothing in between.
pub async fn begin(
    State(app): State<Shared>,
    Segments(key): Segments<InputKey>,
    caller: Caller,
    Body(body): Body<BeginBody>,
) -> Result<Response, Problem> {
    let digest = body.payload_digest;
    let lease = body.lease.unwrap_or(LEASE);
    if digest.is_empty() || digest.len() > PAYLOAD_DIGEST_BYTES_MAX {
        let detail = format!("`payload_digest` has {} bytes; 1 to 200 are allowed", digest.len());
        return Err(Problem::bad_request("malformed_body", detail));
    }
    if lease <= Delay::ZERO || lease > LEASE_MAX {
        let detail = format!("`lease` is {lease}; it may be up to {LEASE_MAX}, and not nothing");
        return Err(Problem::bad_request("malformed_body", detail));
    }
    for _ in 0..ATTEMPTS_MAX {
        let found = load(&app, &caller.tenant, &key).await?;
        let now = app.engine.clock().now();
        if let Some(receipt) = &found
            && receipt.payload_digest != digest
        {
            return Err(reused(&format!("the key `{key}` was begun with another payload")));
        }
        let claim = Claim::fresh().map_err(|error| {
            tracing::error!("failed to make a claim: {error}");
            Problem::internal()
        })?;
        let until = now.plus(lease);
        let asked = match found.map(|receipt| receipt.standing) {
            Some(Standing::Done { response, at }) => {
                return Ok(replayed(request::json(200, &ReceiptView::done(response, at)?, None)));
            }
            Some(Standing::Running { until }) => return Err(Problem::receipt_running(until.since(now))),
            Some(Standing::Lapsed) => receipts::begin(&key, &digest, &claim, until),
            None => receipts::creation(&key, &digest, &claim, until),
        };
        match ask(&app, &caller, asked).await?.0 {
            None => return Ok(request::json(200, &ReceiptView::running(claim, until), None)),
            Some(refusal) if is_overtaken(refusal.code) => {}
            Some(refusal) => return Err(Problem::refused(&refusal)),
        }
    }
    Err(Problem::receipt_running(Delay::from_secs(1)))
}

/// Keeps the response for all who ask again.
pub async fn complete(
    State(app): State<Shared>,
    Segments(key): Segments<InputKey>,
    caller: Caller,
    Body(body): Body<CompleteBody>,
) -> Result<Response, Problem> {
    let response = body.response.get();
    if response.len() > RESPONSE_BYTES_MAX {
        let detail = format!("the response has {} bytes; {RESPONSE_BYTES_MAX} are kept", response.len());
        return Err(Problem::new(413, "body_too_large", "The body is too large", detail));
    }
    let claim = Claim { text: body.claim };
    let (refusal, again) = ask(&app, &caller, receipts::complete(&key, &claim, response))
        .await
        .map_err(|problem| unknown(problem, &key))?;
    let done = || request::json(200, &ReceiptView { state: "done", ..ReceiptView::default() }, None);
    let refusal = match refusal {
        None => return Ok(if again { replayed(done()) } else { done() }),
        // Nothing was kept, and nobody is told otherwise.
        Some(refusal) if !is_overtaken(refusal.code) => return Err(Problem::refused(&refusal)),
        Some(refusal) => refusal,
    };
    match load(&app, &caller.tenant, &key).await? {
        Some(receipt) if receipt.is_of(&claim) => match &receipt.standing {
            Standing::Done { response: kept, .. } if is_same(kept, response) => Ok(replayed(done())),
            Standing::Done { .. } => Err(reused(&format!("`{key}` was completed with another response"))),
            _ => Err(Problem::refused(&refusal)),
        },
        _ => Err(lost(&key)),
    }
}

/// Gives a claim up, so that the next to begin gets the work at once.
pub async fn abandon(
    State(app): State<Shared>,
    Segments(key): Segments<InputKey>,
    caller: Caller,
    Body(AbandonBody { claim }): Body<AbandonBody>,
) -> Result<Response, Problem> {
    let asked = receipts::abandon(&key, &Claim { text: claim });
    match ask(&app, &caller, asked).await.map_err(|problem| unknown(problem, &key))?.0 {
        None => Ok(request::json(200, &ReceiptView { state: "lapsed", ..ReceiptView::default() }, None)),
        Some(refusal) if is_overtaken(refusal.code) => Err(lost(&key)),
        Some(refusal) => Err(Problem::refused(&refusal)),
    }
}

async fn load(app: &Shared, tenant: &TenantId, key: &InputKey) -> Result<Option<Receipt>, Problem> {
    let (tenant, instance) = (tenant.receipts(), receipts::instance_of(key));
    app.read(move |app| {
        let found = app.engine.store().load(&tenant, &instance).map_err(EngineError::from)?;
        Ok(found.map(|snapshot| Receipt::of(&snapshot, app.engine.clock().now())))
    })
    .await
}

/// The refusal, if it is one, and whether the same was asked before.
async fn ask(app: &App, caller: &Caller, (key, cause): Asked) -> Result<(Option<Refusal>, bool), Problem> {
    let input = Input {
        tenant: caller.tenant.receipts(),
        key,
        cause,
        expected: None,
        by: None,
        trace: Some(caller.trace.clone()),
    };
    let submitted = app.submit(input).await?;
    let refusal = match &*submitted.answer {
        Answer::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    };
    Ok((refusal, submitted.replayed))
}

/// The receipt is not as it was when it was looked at, or not as the caller believes.
fn is_overtaken(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::InstanceExists
            | RefusalCode::InvalidTransition
            | RefusalCode::GuardRejected
            | RefusalCode::InstanceClosed
    )
}

/// Whether two texts are the same JSON: who sends a response again need not write it in the same way.
fn is_same(kept: &str, response: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    kept == response || read(kept).is_some_and(|kept| read(response) == Some(kept))
}

fn lost(key: &InputKey) -> Problem {
    let detail = format!(
        "the claim on `{key}` is not, or no longer, the one that counts: its lease was over and another began, it was given up, or the work is done"
    );
    Problem::new(409, "claim_lost", "The claim does not count", detail)
}

fn reused(detail: &str) -> Problem {
    Problem::refused(&Refusal::new(RefusalCode::KeyReused, Default::default(), detail))
}

fn unknown(problem: Problem, key: &InputKey) -> Problem {
    match problem.status() {
        404 => Problem::not_found(format!("there is no receipt `{key}`; begin it first")),
        _ => problem,
    }
}

fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}
