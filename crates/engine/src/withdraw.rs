//! An import undone: what was brought in, and what nothing but time has touched since, is withdrawn, many at a time.
//!
//! Each is an input of its own, so that a repeat goes on where an earlier one ended. Those that have gone on here are told
//! and left.

use std::time::{Duration, Instant};

use kernel::commit::Answer;
use kernel::id::{InputKey, InstanceId, MachineName, TenantId};
use kernel::input::{Cause, Input};
use kernel::snapshot::{BroughtIn, Snapshot};
use serde::Serialize;
use store::InstanceQuery;

use crate::{Engine, EngineError};

/// Handed over before the first of them has its answer: enough to be saved together, and too few to keep people waiting.
const EACH: usize = 128;
/// Whoever asks gets an answer this soon, and the cursor to go on from.
const PATIENCE: Duration = Duration::from_secs(5);
/// Instances that are named in one report.
const NAMED_MAX: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Withdraw {
    /// Say what would become of each, and change nothing.
    pub dry_run: bool,
    /// After so many instances it is enough.
    pub limit: Option<usize>,
    /// Where an earlier report ended.
    pub cursor: Option<String>,
    pub by: Option<String>,
    /// Why, for the log.
    pub reason: String,
}

/// What came of it, or would come of it. Every instance that was brought in is counted once.
#[derive(Clone, Debug, Serialize)]
pub struct WithdrawalReport {
    pub machine: MachineName,
    pub dry_run: bool,
    pub withdrawn: usize,
    /// It is withdrawn already.
    pub already: usize,
    /// It has gone on here, and goes on.
    pub gone_on: usize,
    /// Those that have gone on, the first of them.
    pub found: Vec<Kept>,
    /// There may be more, from here on.
    pub next_cursor: Option<String>,
    pub has_more: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    pub id: InstanceId,
    pub state: String,
    pub reason: String,
}

/// Goes through the instances of a tenant, open or not, the newest first.
///
/// # Errors
/// When there is no such machine, or the store cannot answer. What was withdrawn by then is withdrawn, and a repeat goes
/// on from there.
pub fn withdraw(
    engine: &Engine,
    tenant: &TenantId,
    name: &MachineName,
    asked: &Withdraw,
) -> Result<WithdrawalReport, EngineError> {
    let began = Instant::now();
    engine.machines().current_for(tenant, name)?;
    let mut report = WithdrawalReport {
        machine: name.clone(),
        dry_run: asked.dry_run,
        withdrawn: 0,
        already: 0,
        gone_on: 0,
        found: Vec::new(),
        next_cursor: None,
        has_more: false,
    };
    let mut query = InstanceQuery {
        machine: Some(name.clone()),
        cursor: asked.cursor.clone(),
        ..InstanceQuery::of(tenant.clone())
    };
    let mut left = asked.limit.unwrap_or(usize::MAX);
    loop {
        query.limit = EACH.min(left);
        let page = engine.store().instances(&query)?;
        left -= page.data.len();
        report.go_through(engine, &page.data, asked)?;
        query.cursor = page.next;
        if query.cursor.is_none() || left == 0 || began.elapsed() > PATIENCE {
            report.has_more = query.cursor.is_some();
            report.next_cursor = query.cursor;
            return Ok(report);
        }
    }
}

/// Under a key that is the same at a repeat, as long as nothing has happened to the instance.
fn input(snapshot: &Snapshot, asked: &Withdraw) -> Input {
    let key = format!("withdraw:{}", snapshot.revision);
    Input {
        tenant: snapshot.tenant.clone(),
        key: InputKey::parse(&key).expect("a word and a number make a key"),
        cause: Cause::Withdraw { instance: snapshot.instance.clone(), reason: asked.reason.clone() },
        expected: None,
        by: asked.by.clone(),
        trace: None,
    }
}

impl WithdrawalReport {
    fn go_through(
        &mut self,
        engine: &Engine,
        snapshots: &[Snapshot],
        asked: &Withdraw,
    ) -> Result<(), EngineError> {
        let mut untouched = Vec::new();
        for snapshot in snapshots {
            match &snapshot.brought_in {
                None => {}
                Some(BroughtIn::Untouched { .. }) => untouched.push(snapshot),
                Some(BroughtIn::Withdrawn) => self.already += 1,
                Some(BroughtIn::GoneOn) => {
                    self.keep(snapshot, "it has gone on here since it was brought in".to_owned());
                }
            }
        }
        if asked.dry_run {
            self.withdrawn += untouched.len();
            return Ok(());
        }
        let inputs = untouched.iter().map(|snapshot| input(snapshot, asked)).collect();
        let mut failed = None;
        for (snapshot, answered) in untouched.into_iter().zip(engine.call_all(inputs)) {
            match answered.map(|submitted| submitted.answer) {
                Ok(answer) => match &*answer {
                    Answer::Event(_) => self.withdrawn += 1,
                    Answer::Refused(refusal) => self.keep(snapshot, refusal.message.clone()),
                    Answer::Message(_) => self.keep(snapshot, "its key was a message's".to_owned()),
                },
                Err(error) if error.passes() => failed = failed.or(Some(error)),
                Err(error) => self.keep(snapshot, error.to_string()),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn keep(&mut self, snapshot: &Snapshot, reason: String) {
        self.gone_on += 1;
        if self.found.len() < NAMED_MAX {
            self.found.push(Kept { id: snapshot.instance.clone(), state: snapshot.state(), reason });
        }
    }
}
