//! Sessions of another system, brought in many at a time.
//!
//! Each record is an input of its own: what becomes of one does not depend on the others, and a repeat of the whole request
//! brings in nothing twice.

use axum::extract::State;
use axum::response::Response;
use kernel::commit::Answer;
use kernel::id::{InputKey, InstanceId, MachineName, Subject};
use kernel::input::{Cause, Fields, Former, Input, Start};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::http::problem::Problem;
use crate::http::request::{self, Body, Caller};
use crate::http::{App, Shared};

/// In one request.
const RECORDS_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    machine: MachineName,
    records: Vec<ImportRecord>,
    /// Say what would become of each, and bring in nothing.
    #[serde(default)]
    dry_run: bool,
    by: Option<String>,
}

/// What is no name of ours is what `Former` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportRecord {
    key: Option<InputKey>,
    id: Option<InstanceId>,
    subject: Option<Subject>,
    #[serde(default)]
    context: Fields,
    state: String,
    began_at: Option<Timestamp>,
    changed_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    reason: Option<String>,
    locale: Option<String>,
    topic: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct ImportReport {
    imported: usize,
    /// A repeat: it was brought in before.
    existed: usize,
    rejected: usize,
    /// In the order of the request.
    records: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Imported { id: InstanceId, state: String, closure_reason: Option<String> },
    Existed { id: InstanceId },
    Rejected { code: &'static str, detail: String },
}

pub async fn post(
    State(app): State<Shared>,
    caller: Caller,
    Body(body): Body<ImportBody>,
) -> Result<Response, Problem> {
    let ImportBody { machine, records, dry_run, by } = body;
    app.engine.machines().current_for(&caller.tenant, &machine)?;
    if records.len() > RECORDS_MAX {
        let detail = format!("there are {} records; send at most {RECORDS_MAX} at a time", records.len());
        return Err(Problem::bad_request("malformed_body", detail));
    }
    let mut inputs = Vec::with_capacity(records.len());
    for (place, record) in records.into_iter().enumerate() {
        inputs.push(input(&caller, &machine, record, by.clone(), place)?);
    }
    let report = match dry_run {
        true => app.read(move |app| tried(app, &inputs)).await?,
        false => imported(&app, inputs).await?,
    };
    Ok(request::json(200, &report, None))
}

/// Under its key, else under one that is made of its id.
fn input(
    caller: &Caller,
    machine: &MachineName,
    record: ImportRecord,
    by: Option<String>,
    place: usize,
) -> Result<Input, Problem> {
    let ImportRecord { key, id, subject, context, .. } = record;
    let ImportRecord { state, began_at, changed_at, expires_at, reason, locale, topic, .. } = record;
    let former = Former { state, began_at, changed_at, expires_at, reason, locale, topic };
    let key = match (key, &id) {
        (Some(key), _) => key,
        (None, Some(id)) => InputKey::parse(&format!("import:{id}"))
            .map_err(|problem| Problem::bad_request("bad_key", format!("records[{place}]: {problem}")))?,
        (None, None) => {
            let detail = format!(
                "records[{place}] has neither a `key` nor an `id`: without one, a repeat would bring it in twice"
            );
            return Err(Problem::bad_request("missing_key", detail));
        }
    };
    let start = Start { former: Some(Box::new(former)), ..Start::default() };
    let cause = Cause::Create { machine: machine.clone(), id, subject, context, start };
    caller.clone().input("key", Some(key), by, cause)
}

fn tried(app: &App, inputs: &[Input]) -> Result<ImportReport, Problem> {
    let mut report = ImportReport::default();
    for input in inputs {
        let tried = app.engine.try_creation(input)?;
        report.add(&tried.answer, tried.replayed);
    }
    Ok(report)
}

/// Hands over all of them before it waits for the first, so that they are saved together.
async fn imported(app: &Shared, inputs: Vec<Input>) -> Result<ImportReport, Problem> {
    let waiting: Vec<_> = inputs.into_iter().map(|input| app.hand_over(input)).collect();
    let mut report = ImportReport::default();
    let mut failed = None;
    for waiting in waiting {
        match waiting.answer().await {
            Ok(submitted) => report.add(&submitted.answer, submitted.replayed),
            Err(problem) => failed = failed.or(Some(problem)),
        }
    }
    // What was brought in stays, and is there when the request is repeated.
    failed.map_or(Ok(report), Err)
}

impl ImportReport {
    fn add(&mut self, answer: &Answer, replayed: bool) {
        let (count, outcome) = match answer {
            Answer::Event(answer) if replayed => {
                (&mut self.existed, Outcome::Existed { id: answer.id.clone() })
            }
            Answer::Event(answer) => {
                let (state, closure_reason) = (answer.state.clone(), answer.closure_reason.clone());
                (&mut self.imported, Outcome::Imported { id: answer.id.clone(), state, closure_reason })
            }
            Answer::Refused(refusal) => {
                let (code, detail) = (refusal.code.as_str(), refusal.message.clone());
                (&mut self.rejected, Outcome::Rejected { code, detail })
            }
            Answer::Message(answer) => {
                (&mut self.existed, Outcome::Existed { id: answer.session_id.clone() })
            }
        };
        *count += 1;
        self.records.push(outcome);
    }
}
