//! Records of another system, many at a time, each brought in once; and again, as long as the other system still owns what
//! it says.
//!
//! What a record's key has been used for says which instance it came to. If that says something else, and nothing but time
//! has touched it here, the record comes in its place. Owns what is told of each; whether one can stand so is for
//! `kernel::decide` to say.

use std::collections::HashSet;
use std::sync::Arc;

use kernel::commit::Answer;
use kernel::id::{Digest, InputKey, InstanceId};
use kernel::input::{Cause, Former, Input, Target};
use kernel::refusal::{Refusal, RefusalCode};
use kernel::snapshot::{BroughtIn, Snapshot};
use serde::Serialize;

use crate::landing::first_of;
use crate::{Answered, Engine, EngineError, Submitted};

/// How often a record is looked at again because something has happened to its instance in between.
const ATTEMPTS_MAX: usize = 10;

/// What has become of a record, or would.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Arrival {
    Imported {
        id: InstanceId,
        state: String,
        closure_reason: Option<String>,
    },
    /// In the place of what an earlier record said.
    Replaced {
        id: InstanceId,
        state: String,
        closure_reason: Option<String>,
    },
    /// A repeat: what it says was brought in before.
    Existed {
        id: InstanceId,
    },
    /// It says something else than when it was brought in, and the instance has gone on here since.
    GoneOn {
        id: InstanceId,
        state: String,
    },
    Rejected {
        code: &'static str,
        detail: String,
    },
}

/// What has become of all of them, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportReport {
    pub imported: usize,
    pub replaced: usize,
    pub existed: usize,
    pub gone_on: usize,
    pub rejected: usize,
    pub records: Vec<Arrival>,
}

/// Brings in instances, or says what would become of each; of two records of one instance, the later one counts.
///
/// `inputs` are creations that say how their instances stood (`Start::former`), each under a key that is the same for all
/// records of its instance.
///
/// # Errors
/// When the engine or the store cannot do its part for one of them. What was brought in stays, and is there at a repeat.
pub fn bring_in(engine: &Engine, inputs: Vec<Input>, dry_run: bool) -> Result<ImportReport, EngineError> {
    let records: Option<Vec<Record>> = inputs.into_iter().map(Record::of).collect();
    let mut records = records.ok_or_else(|| EngineError::NotFound { what: "record in this input".into() })?;
    let coming = Coming { engine, dry_run };
    let first = coming.all(records.iter().map(|record| record.input.clone()).collect())?;
    for (record, submitted) in records.iter_mut().zip(first) {
        record.arrived(submitted);
    }
    let mut waiting: Vec<&mut Record> = records.iter_mut().filter(|record| record.fate.is_none()).collect();
    while !waiting.is_empty() {
        waiting = coming.again(waiting)?;
    }
    let mut report = ImportReport::default();
    records.into_iter().filter_map(|record| record.fate).for_each(|fate| report.add(fate));
    Ok(report)
}

/// A record on its way.
struct Record {
    input: Input,
    /// What it says.
    says: Digest,
    /// What came of its key the first time, if that does not say enough.
    first: Option<Arc<Answer>>,
    fate: Option<Arrival>,
    attempts: usize,
}

impl Record {
    fn of(input: Input) -> Option<Self> {
        let Cause::Create { context, start, .. } = &input.cause else { return None };
        let says = start.former.as_deref().map(|former: &Former| former.digest(context))?;
        Some(Self { input, says, first: None, fate: None, attempts: 0 })
    }

    /// What came of it under its key.
    fn arrived(&mut self, submitted: Submitted) {
        match &*submitted.answer {
            Answer::Event(_) if submitted.replayed => self.first = Some(submitted.answer),
            Answer::Event(answer) => {
                let (id, state) = (answer.id.clone(), answer.state.clone());
                let closure_reason = answer.closure_reason.clone();
                self.fate = Some(match answer.revision.0 {
                    1 => Arrival::Imported { id, state, closure_reason },
                    _ => Arrival::Replaced { id, state, closure_reason },
                });
            }
            Answer::Refused(refusal) => match refusal.code {
                RefusalCode::KeyReused | RefusalCode::InstanceExists => self.first = Some(submitted.answer),
                _ => self.reject(refusal),
            },
            Answer::Message(answer) => {
                self.fate = Some(Arrival::Existed { id: answer.session_id.clone() });
            }
        }
    }

    fn reject(&mut self, refusal: &Refusal) {
        self.fate = Some(Arrival::Rejected { code: refusal.code.as_str(), detail: refusal.message.clone() });
    }

    /// The instance that it has come to, or would.
    fn instance(&self, engine: &Engine) -> Result<Option<InstanceId>, EngineError> {
        let first = first_of(engine.store(), &self.input)?.map(|(instance, _)| instance);
        Ok(first.or_else(|| match self.input.target() {
            Some(Target::Instance(instance)) => Some(instance),
            _ => None,
        }))
    }

    /// Whether there is something that it may come in the place of. Otherwise its fate is known.
    fn may_replace(&mut self, known: Option<&Snapshot>) -> bool {
        let refusal = match self.first.as_deref() {
            Some(Answer::Refused(refusal)) => Some(refusal.clone()),
            _ => None,
        };
        let existed = |known: &Snapshot| Arrival::Existed { id: known.instance.clone() };
        let is_reused = |refusal: &Refusal| refusal.code == RefusalCode::KeyReused;
        let was_brought_in = |known: &Snapshot| known.brought_in == Some(BroughtIn::GoneOn);
        self.fate = match (known, refusal) {
            (Some(known), refusal) => match (&known.brought_in, refusal) {
                (Some(BroughtIn::Untouched { record, .. }), _) if *record == self.says => {
                    Some(existed(known))
                }
                (Some(BroughtIn::Untouched { .. } | BroughtIn::Withdrawn), _) => return true,
                (_, None) => Some(existed(known)),
                (_, Some(refusal)) if is_reused(&refusal) || was_brought_in(known) => {
                    Some(Arrival::GoneOn { id: known.instance.clone(), state: known.state() })
                }
                (_, Some(refusal)) => return self.reject_with(&refusal),
            },
            (None, Some(refusal)) => return self.reject_with(&refusal),
            (None, None) => match self.first.as_deref() {
                Some(Answer::Event(answer)) => Some(Arrival::Existed { id: answer.id.clone() }),
                _ => None,
            },
        };
        false
    }

    fn reject_with(&mut self, refusal: &Refusal) -> bool {
        self.reject(refusal);
        false
    }

    /// In the place of what is known. The key is used up only at this revision, so that the same record may come again when
    /// another has come in between; of two that come at once, the later finds it used and looks again. It has no digest
    /// of what the record says: that may be secret.
    fn again(&self, known: &Snapshot) -> Input {
        let mut input = self.input.clone();
        if let Cause::Create { id, .. } = &mut input.cause {
            *id = Some(known.instance.clone());
        }
        let instance = Digest::of(known.instance.as_str().as_bytes());
        let key = format!("again:{}:{instance}", known.revision);
        input.key = InputKey::parse(&key).expect("a number and hexadecimal digits make a key");
        input
    }

    /// What came of it in the place of what was known; `None` when that is not over.
    fn replaced(&mut self, submitted: &Submitted, known: &Snapshot) {
        self.attempts += 1;
        self.fate = match &*submitted.answer {
            Answer::Event(answer) => Some(Arrival::Replaced {
                id: answer.id.clone(),
                state: answer.state.clone(),
                closure_reason: answer.closure_reason.clone(),
            }),
            Answer::Refused(refusal) if self.attempts < ATTEMPTS_MAX && is_overtaken(refusal, known) => None,
            Answer::Refused(refusal) => return self.reject(refusal),
            Answer::Message(answer) => Some(Arrival::Existed { id: answer.session_id.clone() }),
        };
    }
}

/// Whether something has happened to the instance since it was looked at.
fn is_overtaken(refusal: &Refusal, known: &Snapshot) -> bool {
    match refusal.code {
        RefusalCode::KeyReused => true,
        RefusalCode::InstanceExists => refusal.revision != known.revision,
        _ => false,
    }
}

struct Coming<'e> {
    engine: &'e Engine,
    dry_run: bool,
}

impl Coming<'_> {
    fn all(&self, inputs: Vec<Input>) -> Result<Vec<Submitted>, EngineError> {
        let answered: Vec<Answered> = match self.dry_run {
            true => inputs.iter().map(|input| self.engine.try_creation(input)).collect(),
            false => self.engine.call_all(inputs),
        };
        answered.into_iter().collect()
    }

    /// Goes on with those whose keys have been used, at most one of each instance, and gives those that have to wait for
    /// what that comes to.
    fn again<'r>(&self, waiting: Vec<&'r mut Record>) -> Result<Vec<&'r mut Record>, EngineError> {
        let (mut met, mut wave, mut later) = (HashSet::new(), Vec::new(), Vec::new());
        for record in waiting {
            let instance = record.instance(self.engine)?;
            if instance.as_ref().is_some_and(|instance| !met.insert(instance.clone())) {
                later.push(record);
                continue;
            }
            let known = match &instance {
                Some(instance) => self.engine.store().load(&record.input.tenant, instance)?,
                None => None,
            };
            if record.may_replace(known.as_ref())
                && let Some(known) = known
            {
                wave.push((record, known));
            }
        }
        let answers = self.all(wave.iter().map(|(record, known)| record.again(known)).collect())?;
        // A second look comes before what waits for it.
        let mut left = Vec::new();
        for ((record, known), submitted) in wave.into_iter().zip(answers) {
            record.replaced(&submitted, &known);
            if record.fate.is_none() {
                left.push(record);
            }
        }
        left.extend(later);
        Ok(left)
    }
}

impl ImportReport {
    fn add(&mut self, arrival: Arrival) {
        *match &arrival {
            Arrival::Imported { .. } => &mut self.imported,
            Arrival::Replaced { .. } => &mut self.replaced,
            Arrival::Existed { .. } => &mut self.existed,
            Arrival::GoneOn { .. } => &mut self.gone_on,
            Arrival::Rejected { .. } => &mut self.rejected,
        } += 1;
        self.records.push(arrival);
    }
}
