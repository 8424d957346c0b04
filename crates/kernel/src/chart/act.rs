//! Executable content: what the actions of a step do to the instance (SCXML's `executeContent`).
//!
//! Owns the order of actions, what they cost together, and what becomes of one that fails: the rest of its block is
//! skipped and `error.execution` is raised.

use std::sync::Arc;

use serde_json::Value;

use crate::bound;
use crate::chart::run::{Failed, Payload, Raised, Run};
use crate::chart::step::StepError;
use crate::chart::{Action, Computed, EventIndex, FieldIndex, Wait};
use crate::expression::{Expression, Scope};
use crate::input::Fields;
use crate::snapshot::Timer;
use crate::time::Delay;

/// Actions of one big step, all rounds of `for_each` counted. A person's session takes a dozen.
const ACTIONS_MAX: usize = 10_000;
/// Rounds of one `for_each`.
const ROUNDS_MAX: usize = 1_000;
/// Replies of one big step: nobody reads more, and each keeps the context of its moment.
const REPLIES_MAX: usize = 32;
/// Timers of one instance, which are written with it at every revision.
const TIMERS_MAX: usize = 256;

/// Why an action stops.
pub(super) enum Stopped {
    /// It failed, which the chart may answer to.
    Failed(String),
    /// The whole step has to be given up.
    Step(StepError),
}

impl From<String> for Stopped {
    fn from(problem: String) -> Self {
        Self::Failed(problem)
    }
}

impl Run<'_> {
    /// Runs one block of actions. One that fails ends the block and becomes an event.
    pub(super) fn act(&mut self, actions: &[Action]) -> Result<(), StepError> {
        let result = self.act_all(actions);
        self.settle_failure(result)
    }

    /// What a failure becomes: an event, if anything in the chart listens, else the end of the step.
    pub(super) fn settle_failure(&mut self, result: Result<(), Stopped>) -> Result<(), StepError> {
        self.locals.clear();
        match result {
            Ok(()) => Ok(()),
            Err(Stopped::Step(error)) => Err(error),
            Err(Stopped::Failed(problem)) => self.raise_failure(problem, Failed::Action),
        }
    }

    fn act_all(&mut self, actions: &[Action]) -> Result<(), Stopped> {
        actions.iter().try_for_each(|action| self.act_one(action))
    }

    fn act_one(&mut self, action: &Action) -> Result<(), Stopped> {
        self.actions += 1;
        if self.actions > ACTIONS_MAX {
            return Err(Stopped::Step(StepError::TooMuch(format!("runs more than {ACTIONS_MAX} actions"))));
        }
        self.budget.check().map_err(Stopped::Step)?;
        match action {
            Action::Assign { field, name, value } => self.assign(*field, name, value),
            Action::Reply(reply) => {
                if self.trail.replies.len() == REPLIES_MAX {
                    return Err(format!("one event gives more than {REPLIES_MAX} replies").into());
                }
                self.trail.replies.push((*reply, Arc::clone(&self.position.context)));
                Ok(())
            }
            Action::Raise { event, data } => {
                let payload = self.payload_of(data)?;
                self.internal.push_back(Raised { event: *event, payload, failed: None });
                Ok(())
            }
            Action::RaiseLater { event, data, id, delay } => self.raise_later(*event, data, id, delay),
            Action::Cancel(id) => {
                self.position.timers.retain(|timer| timer.id != *id);
                Ok(())
            }
            Action::If { condition, then, otherwise } => {
                let chosen = if self.test(condition)? { then } else { otherwise };
                self.act_all(chosen)
            }
            Action::ForEach { list, body } => self.for_each(list, body),
        }
    }

    fn assign(&mut self, field: FieldIndex, name: &str, value: &Computed) -> Result<(), Stopped> {
        let value = self.compute(value)?;
        let definition = &self.stepper.fields[usize::from(field.0)];
        bound::check_value(&value)
            .and_then(|()| definition.accepts(&value))
            .map_err(|problem| format!("context.{name} {problem}"))?;
        self.assigned = true;
        let context = Arc::make_mut(&mut self.position.context);
        match context.get_mut(name) {
            Some(place) => *place = value,
            None => {
                context.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// A delayed `send`: one timer by id, which setting it again replaces.
    fn raise_later(
        &mut self,
        event: EventIndex,
        data: &[(Arc<str>, Computed)],
        id: &Arc<str>,
        delay: &Wait,
    ) -> Result<(), Stopped> {
        let delay = match delay {
            Wait::Fixed(delay) => *delay,
            Wait::Computed(expression) => match self.evaluate(expression)? {
                // At once is not later: what is due before its own event has ended would never let it end.
                Value::Number(ms) if ms.is_i64() => Delay::from_millis(ms.as_i64().unwrap_or(1).max(1)),
                other => {
                    let (source, told) = (&expression.source, expression.result_told(&other));
                    return Err(format!("the delay `{source}` must be whole milliseconds, not {told}").into());
                }
            },
        };
        let payload = self.payload_of(data)?.fields().clone();
        self.position.timers.retain(|timer| timer.id != *id);
        if self.position.timers.len() >= TIMERS_MAX {
            return Err(format!("an instance may have {TIMERS_MAX} timers").into());
        }
        let event = Arc::clone(self.chart.event_name(event));
        let deadline = self.stepper.now.plus(delay);
        self.position.timers.push(Timer { id: Arc::clone(id), deadline, event: Some(event), payload });
        Ok(())
    }

    fn for_each(&mut self, list: &Expression, body: &[Action]) -> Result<(), Stopped> {
        let Value::Array(items) = self.evaluate(list)? else {
            return Err(format!("`for_each` needs a list, which `{}` is not", list.source).into());
        };
        if items.len() > ROUNDS_MAX {
            let found = items.len();
            return Err(format!("`for_each` takes {ROUNDS_MAX} items; `{}` has {found}", list.source).into());
        }
        // The list is that of the beginning, whatever the rounds do to the context.
        for (index, item) in items.into_iter().enumerate() {
            self.locals.push(item);
            self.locals.push(Value::from(index));
            let result = self.act_all(body);
            self.locals.truncate(self.locals.len().saturating_sub(2));
            result?;
        }
        Ok(())
    }

    /// Named values as the payload of an event.
    pub(super) fn payload_of(&mut self, data: &[(Arc<str>, Computed)]) -> Result<Payload<'static>, String> {
        if data.is_empty() {
            return Ok(Payload::Nothing);
        }
        let mut payload = Fields::new();
        for (name, value) in data {
            payload.insert(name.to_string(), self.compute(value)?);
        }
        bound::check(&payload).map_err(|problem| format!("the payload {problem}"))?;
        Ok(Payload::Own(Arc::new(payload)))
    }

    fn compute(&mut self, value: &Computed) -> Result<Value, String> {
        match value {
            Computed::Literal(value) => {
                self.budget.pay_for(bound::size_of_value(value));
                Ok(value.clone())
            }
            Computed::Expression(expression) => self.evaluate(expression),
        }
    }

    fn evaluate(&mut self, expression: &Expression) -> Result<Value, String> {
        let active =
            if expression.reads().active { self.stepper.active_paths(self.position) } else { Vec::new() };
        let scope = Scope {
            context: &self.position.context,
            event: self.payload.fields(),
            event_name: self.event_name,
            active: &active,
            now: self.stepper.now,
            locals: &self.locals,
            before: None,
        };
        let result = self.budget.spend(|fuel| expression.evaluate_with(scope, fuel));
        result.map_err(|problem| format!("`{}`: {problem}", expression.source))
    }

    fn test(&mut self, condition: &Expression) -> Result<bool, String> {
        match self.evaluate(condition)? {
            Value::Bool(verdict) => Ok(verdict),
            other => {
                let told = condition.result_told(&other);
                Err(format!("`{}` must be true or false, not {told}", condition.source))
            }
        }
    }
}
