//! Evaluating: one walk over the nodes, over borrowed JSON.
//!
//! Owns the order of evaluation, what `&&` and `||` set aside, and comprehensions. Every node costs a step, and
//! what loops costs more, so that no expression runs long. Scalars are neither boxed nor allocated.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::Scope;
use super::datum::{Datum, Key};
use super::failure::{Failure, Outcome};
use super::fuel::Fuel;
use super::kind::Kinds;
use super::node::{Fold, FoldStep, Node};
use super::operate;

/// An error that is set aside has still been worded.
const ASIDE_STEPS: u32 = 16;

pub(super) struct Run<'r, 'a> {
    scope: Scope<'a>,
    /// The variable of the comprehension that is running.
    item: Datum<'a>,
    fuel: &'r mut Fuel,
}

impl<'r, 'a> Run<'r, 'a> {
    pub fn new(scope: Scope<'a>, fuel: &'r mut Fuel) -> Self {
        Self { scope, item: Datum::Null, fuel }
    }

    pub fn value(&mut self, node: &'a Node) -> Outcome<Value> {
        let datum = self.datum(node)?;
        datum.into_json(self.fuel)
    }

    /// A condition; for what gives no boolean, its value as an error.
    pub fn test(&mut self, node: &'a Node) -> Outcome<bool> {
        self.fuel.spend(1)?;
        match node {
            Node::Bool(b) => Ok(*b),
            Node::Not(of) => self.test(of).map(|b| !b),
            Node::And(sides) => self.decide(sides, false),
            Node::Or(sides) => self.decide(sides, true),
            Node::Equal(sides) => self.equal(sides),
            Node::Unequal(sides) => self.equal(sides).map(|b| !b),
            Node::Compare(operator, sides) => {
                let (one, two) = (self.datum(&sides.0)?, self.datum(&sides.1)?);
                operate::compare(*operator, &one, &two, self.fuel)
            }
            Node::In(sides) => self.is_in(sides),
            Node::Has(of) => self.has(&of.0, &of.1),
            Node::Search(kind, sides) => {
                let (text, wanted) = (self.datum(&sides.0)?, self.datum(&sides.1)?);
                operate::search(*kind, &text, &wanted, self.fuel)
            }
            Node::Matches(of) => {
                let text = self.datum(&of.0)?;
                let Some(text) = text.as_text() else {
                    let problem = format!("{} is {}; matches() takes text", of.0, text.told());
                    return Err(Failure::told(problem));
                };
                of.1.is_match(text, self.fuel)
            }
            other => match self.other(other)? {
                Datum::Bool(b) => Ok(b),
                datum => Err(Failure::told(format!("{node} is {}, not true or false", datum.told()))),
            },
        }
    }

    pub fn datum(&mut self, node: &'a Node) -> Outcome<Datum<'a>> {
        match node {
            Node::Not(_)
            | Node::And(_)
            | Node::Or(_)
            | Node::Equal(_)
            | Node::Unequal(_)
            | Node::Compare(..)
            | Node::In(_)
            | Node::Has(_)
            | Node::Search(..)
            | Node::Matches(_) => self.test(node).map(Datum::Bool),
            _ => {
                self.fuel.spend(1)?;
                self.other(node)
            }
        }
    }

    /// Whatever is no condition. Its own step is paid for.
    fn other(&mut self, node: &'a Node) -> Outcome<Datum<'a>> {
        Ok(match node {
            Node::ContextField(name) => match self.scope.context.get(&**name) {
                Some(value) => Datum::from(value),
                None => return Err(missing(node)),
            },
            Node::EventField(name) => match self.scope.event.get(&**name) {
                Some(value) => Datum::from(value),
                None => return Err(missing(node)),
            },
            Node::Int(int) => Datum::Int(*int),
            Node::Arithmetic(operator, sides) => {
                let (one, two) = (self.datum(&sides.0)?, self.datum(&sides.1)?);
                operate::calculate(*operator, one, two, self.fuel)?
            }
            Node::If(of) => match self.test(&of.0)? {
                true => self.datum(&of.1)?,
                false => self.datum(&of.2)?,
            },
            Node::Null => Datum::Null,
            Node::Bool(b) => Datum::Bool(*b),
            Node::UInt(unsigned) => Datum::UInt(*unsigned),
            Node::Double(double) => Datum::Double(*double),
            Node::Text(text) => Datum::Text(text),
            Node::Type(name) => Datum::Type(name),
            Node::Context => Datum::Fields(self.scope.context),
            Node::Event => Datum::Fields(self.scope.event),
            Node::EventName => Datum::Text(self.scope.event_name),
            Node::Active => Datum::Paths(self.scope.active),
            Node::Now => Datum::Int(self.scope.now.as_millis()),
            Node::Local(slot, _) => match self.scope.locals.get(*slot) {
                Some(value) => Datum::from(value),
                None => return Err(missing(node)),
            },
            Node::Item(_) => self.item.clone(),
            Node::Select(of) => self.select(node, &of.0, &of.1)?,
            Node::Index(sides) => self.index(node, sides)?,
            Node::Negate(of) => self.negate(of)?,
            Node::List(nodes) => {
                self.fuel.spend_many(4 + nodes.len())?;
                Datum::made_list(nodes.iter().map(|node| self.datum(node)).collect::<Outcome<_>>()?)
            }
            Node::Map(entries) => self.map(entries)?,
            Node::Convert(kind, of) => {
                let value = self.datum(of)?;
                operate::convert(*kind, value, self.fuel)?
            }
            Node::Fold(fold) => self.fold(fold)?,
            // The rest are conditions.
            _ => Datum::Bool(self.test(node)?),
        })
    }

    /// `&&` (decided by false) or `||` (decided by true): an error on one side is set aside if the other decides.
    fn decide(&mut self, sides: &'a (Node, Node), by: bool) -> Outcome<bool> {
        match self.test(&sides.0) {
            Ok(left) if left == by => Ok(by),
            Ok(_) => self.test(&sides.1),
            Err(left) => {
                self.set_aside()?;
                match self.test(&sides.1) {
                    Ok(right) if right == by => Ok(by),
                    Err(Failure::Spent(steps)) => Err(Failure::Spent(steps)),
                    _ => Err(left),
                }
            }
        }
    }

    /// An error may be set aside while there is fuel; when it is used up, this fails as well.
    fn set_aside(&mut self) -> Outcome<()> {
        self.fuel.spend(ASIDE_STEPS)
    }

    fn equal(&mut self, sides: &'a (Node, Node)) -> Outcome<bool> {
        match (self.datum(&sides.0)?, self.datum(&sides.1)?) {
            (Datum::Int(a), Datum::Int(b)) => Ok(a == b),
            (one, two) => one.equals(&two, self.fuel),
        }
    }

    fn is_in(&mut self, sides: &'a (Node, Node)) -> Outcome<bool> {
        let (wanted, place) = (self.datum(&sides.0)?, self.datum(&sides.1)?);
        if place.kind() == Kinds::OBJECT {
            check_key(&wanted)?;
            wanted.spend_lookup(self.fuel)?;
            return Ok(place.entry(&wanted).is_some());
        }
        let Some(items) = place.items() else {
            let problem = format!("{} is {}; `in` looks into a list or an object", sides.1, place.told());
            return Err(Failure::told(problem));
        };
        for item in items {
            self.fuel.spend(1)?;
            if item.equals(&wanted, self.fuel)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has(&mut self, of: &'a Node, name: &'a str) -> Outcome<bool> {
        let whole = self.datum(of)?;
        match whole.kind() {
            Kinds::OBJECT => Ok(whole.field(name).is_some()),
            _ => Err(Failure::told(format!("{of} is {} and has no fields", whole.told()))),
        }
    }

    fn select(&mut self, node: &'a Node, of: &'a Node, name: &'a str) -> Outcome<Datum<'a>> {
        let whole = self.datum(of)?;
        match whole.field(name) {
            Some(value) => Ok(value),
            None if whole.kind() == Kinds::OBJECT => Err(missing(node)),
            None => Err(Failure::told(format!("{of} is {} and has no field `{name}`", whole.told()))),
        }
    }

    fn index(&mut self, node: &'a Node, sides: &'a (Node, Node)) -> Outcome<Datum<'a>> {
        let (whole, index) = (self.datum(&sides.0)?, self.datum(&sides.1)?);
        match whole.kind() {
            Kinds::OBJECT => {
                check_key(&index)?;
                index.spend_lookup(self.fuel)?;
                whole.entry(&index).ok_or_else(|| missing(node))
            }
            Kinds::LIST => {
                let place = match &index {
                    Datum::Int(int) => usize::try_from(*int).ok(),
                    Datum::UInt(unsigned) => usize::try_from(*unsigned).ok(),
                    Datum::Double(double) if double.fract() == 0.0 && *double >= 0.0 => {
                        Some(*double as usize)
                    }
                    Datum::Double(_) => None,
                    _ => {
                        let problem = format!("{} is a list, which {} is no place in", sides.0, index.told());
                        return Err(Failure::told(problem));
                    }
                };
                place.and_then(|place| whole.item(place)).ok_or_else(|| {
                    let length = whole.length().unwrap_or_default();
                    let (list, place) = (&sides.0, index.told());
                    Failure::told(format!("{list} has {length} items and none at {place}; the first is at 0"))
                })
            }
            _ => {
                let problem = format!("{} is {}; only lists and objects have [...]", sides.0, whole.told());
                Err(Failure::told(problem))
            }
        }
    }

    fn negate(&mut self, of: &'a Node) -> Outcome<Datum<'a>> {
        match self.datum(of)? {
            Datum::Int(int) => int
                .checked_neg()
                .map(Datum::Int)
                .ok_or_else(|| Failure::told(format!("-({int}) is outside of what a whole number can be"))),
            Datum::Double(double) => Ok(Datum::Double(-double)),
            other => Err(Failure::told(format!("`-` takes a number with a sign, not {}", other.told()))),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Outcome<Datum<'a>> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let (key, value) = (self.datum(key)?, self.datum(value)?);
            key.spend_lookup(self.fuel)?;
            self.fuel.spend(4)?;
            let told = key.told();
            let Some(key) = Key::new(key) else {
                return Err(Failure::told(format!(
                    "{told} cannot be a key; take text, a whole number or a boolean"
                )));
            };
            if map.insert(key, value).is_some() {
                return Err(Failure::told(format!("the key {told} is there twice")));
            }
        }
        Ok(Datum::MadeMap(Rc::new(map)))
    }

    fn fold(&mut self, fold: &'a Fold) -> Outcome<Datum<'a>> {
        let range = self.datum(&fold.range)?;
        let Some(items) = range.items() else {
            let problem = format!("{} is {}, not a list or an object", fold.range, range.told());
            return Err(Failure::told(problem));
        };
        match &fold.step {
            FoldStep::All(test) => self.quantify(items, test, false).map(Datum::Bool),
            FoldStep::Exists(test) => self.quantify(items, test, true).map(Datum::Bool),
            FoldStep::ExistsOne(test) => {
                let mut count = 0;
                for item in items {
                    self.take(item)?;
                    count += usize::from(self.test(test)?);
                }
                Ok(Datum::Bool(count == 1))
            }
            FoldStep::Collect { condition, item: kept } => {
                let mut list = Vec::new();
                self.fuel.spend(4)?;
                for item in items {
                    self.take(item)?;
                    if condition.as_ref().map_or(Ok(true), |test| self.test(test))? {
                        list.push(self.datum(kept)?);
                    }
                }
                Ok(Datum::made_list(list))
            }
        }
    }

    /// `all` (decided by a false) or `exists` (decided by a true): errors count only if nothing decides.
    fn quantify(
        &mut self,
        items: impl Iterator<Item = Datum<'a>>,
        test: &'a Node,
        by: bool,
    ) -> Outcome<bool> {
        let mut failure = None;
        for item in items {
            self.take(item)?;
            match self.test(test) {
                Ok(verdict) if verdict == by => return Ok(by),
                Ok(_) => {}
                Err(error) => {
                    self.set_aside()?;
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(!by), Err)
    }

    fn take(&mut self, item: Datum<'a>) -> Outcome<()> {
        self.item = item;
        self.fuel.spend(1)
    }
}

#[cold]
fn missing(node: &Node) -> Failure {
    Failure::told(format!("{node} is missing"))
}

/// A fraction may be looked up, as keys are compared by value, but not be a key.
fn check_key(key: &Datum<'_>) -> Outcome<()> {
    match key.kind() {
        Kinds::NULL | Kinds::LIST | Kinds::OBJECT | Kinds::TYPE => {
            Err(Failure::told(format!("{} cannot be a key of an object", key.told())))
        }
        _ => Ok(()),
    }
}
