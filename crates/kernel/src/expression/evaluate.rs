//! Evaluating: one walk over the nodes, over borrowed JSON.
//!
//! Owns the order of evaluation, what `&&` and `||` set aside, and comprehensions. Every node costs a step, and
//! what loops costs more, so that no expression runs long. Scalars are neither boxed nor allocated.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::Scope;
use super::datum::{Datum, Key, spend_copy};
use super::failure::{Failure, Outcome};
use super::fuel::Fuel;
use super::kind::Kinds;
use super::node::{Conversion, Fold, FoldStep, Guess, Node};
use super::operate;
use super::secrecy::Secrecy;

/// An error that is set aside has still been worded.
const ASIDE_STEPS: u32 = 16;

pub(super) struct Run<'r, 'a> {
    scope: &'r Scope<'a>,
    /// The variable of the comprehension that is running.
    item: Datum<'a>,
    fuel: &'r mut Fuel,
    secrecy: &'r Secrecy,
}

impl<'r, 'a> Run<'r, 'a> {
    pub fn new(scope: &'r Scope<'a>, fuel: &'r mut Fuel, secrecy: &'r Secrecy) -> Self {
        Self { scope, item: Datum::Null, fuel, secrecy }
    }

    /// # Errors
    /// The failure in words. The result is made where the caller wants it: moving a value costs more than adding two.
    pub fn value(&mut self, node: &'a Node) -> Result<Value, String> {
        // The short ways of what most expressions are.
        if let Node::Arithmetic(_, Guess::Whole, _) = node {
            if let Some(int) = self.whole(node) {
                return Ok(Value::from(int));
            }
        } else if let Some(value) = self.read(node) {
            return match self.fuel.spend(1).and_then(|()| spend_copy(value, self.fuel)) {
                Ok(()) => Ok(value.clone()),
                Err(failure) => Err(self.secrecy.words(&failure)),
            };
        } else if node.is_condition() {
            return match self.test(node) {
                Ok(verdict) => Ok(Value::Bool(verdict)),
                Err(failure) => Err(self.secrecy.words(&failure)),
            };
        }
        self.datum(node)
            .and_then(|datum| datum.into_json(self.fuel))
            .map_err(|failure| self.secrecy.words(&failure))
    }

    /// A condition; for what gives no boolean, its value as an error.
    pub fn test(&mut self, node: &'a Node) -> Outcome<bool> {
        self.fuel.spend(1)?;
        match node {
            Node::Bool(b) => Ok(*b),
            Node::Not(of) => self.test(of).map(|b| !b),
            Node::And(sides) => self.decide(sides, false),
            Node::Or(sides) => self.decide(sides, true),
            Node::Equal(guess, sides) => self.equal(*guess, sides),
            Node::Unequal(guess, sides) => self.equal(*guess, sides).map(|b| !b),
            Node::Compare(operator, guess, sides) => {
                if let Some(order) = self.short_order(*guess, sides) {
                    return Ok(operator.holds(order));
                }
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
            other => match self.read(other) {
                Some(Value::Bool(b)) => Ok(*b),
                _ => self.test_datum(other),
            },
        }
    }

    fn test_datum(&mut self, node: &'a Node) -> Outcome<bool> {
        match self.other(node)? {
            Datum::Bool(b) => Ok(b),
            datum => Err(Failure::told(format!("{node} is {}, not true or false", datum.told()))),
        }
    }

    pub fn datum(&mut self, node: &'a Node) -> Outcome<Datum<'a>> {
        if node.is_condition() {
            return self.test(node).map(Datum::Bool);
        }
        self.fuel.spend(1)?;
        self.other(node)
    }

    /// What a node reads from the scope, if it names something there.
    #[inline]
    fn read(&self, node: &'a Node) -> Option<&'a Value> {
        match node {
            Node::ContextField(name) => self.scope.context.get(&**name),
            Node::EventField(name) => self.scope.event.get(&**name),
            Node::BeforeField(name) => self.scope.before?.get(&**name),
            Node::Local(slot, _) => self.scope.locals.get(*slot),
            _ => None,
        }
    }

    /// The short way to a whole number, in registers. `None` if it is none or anything is in the way, an error too:
    /// then the long way tells.
    fn whole(&mut self, node: &'a Node) -> Option<i64> {
        self.fuel.spend(1).ok()?;
        match node {
            Node::Int(int) => Some(*int),
            Node::Now => Some(self.scope.now.as_millis()),
            Node::Arithmetic(operator, Guess::Whole, sides) => {
                operator.checked(self.whole(&sides.0)?, self.whole(&sides.1)?)
            }
            Node::Convert(Conversion::Size, of) => match self.read(of)? {
                Value::Array(items) => i64::try_from(items.len()).ok(),
                Value::String(text) => {
                    self.fuel.spend_bytes(text.len()).ok()?;
                    i64::try_from(text.chars().count()).ok()
                }
                _ => None,
            },
            Node::Item(_) => match self.item {
                Datum::Int(int) => Some(int),
                _ => None,
            },
            _ => self.read(node)?.as_i64(),
        }
    }

    /// The short way to a text, as `whole`.
    fn text(&mut self, node: &'a Node) -> Option<&'a str> {
        self.fuel.spend(1).ok()?;
        match node {
            Node::Text(text) => Some(text),
            Node::EventName => Some(self.scope.event_name),
            Node::Item(_) => match self.item {
                Datum::Text(text) => Some(text),
                _ => None,
            },
            _ => self.read(node)?.as_str(),
        }
    }

    fn short_order(&mut self, guess: Guess, sides: &'a (Node, Node)) -> Option<Ordering> {
        match guess {
            Guess::Whole => Some(self.whole(&sides.0)?.cmp(&self.whole(&sides.1)?)),
            Guess::Text => {
                let (one, two) = (self.text(&sides.0)?, self.text(&sides.1)?);
                self.fuel.spend_bytes(one.len().min(two.len())).ok()?;
                Some(one.cmp(two))
            }
            Guess::Nothing => None,
        }
    }

    /// Whatever is no condition. Its own step is paid for.
    fn other(&mut self, node: &'a Node) -> Outcome<Datum<'a>> {
        Ok(match node {
            Node::ContextField(_) | Node::BeforeField(_) | Node::EventField(_) | Node::Local(..) => {
                match self.read(node) {
                    Some(value) => Datum::from(value),
                    None => return Err(missing(node)),
                }
            }
            Node::Int(int) => Datum::Int(*int),
            Node::Arithmetic(operator, _, sides) => {
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
            Node::Before => Datum::Fields(self.scope.before.ok_or_else(|| missing(node))?),
            Node::Event => Datum::Fields(self.scope.event),
            Node::EventName => Datum::Text(self.scope.event_name),
            Node::Active => Datum::Paths(self.scope.active),
            Node::Now => Datum::Int(self.scope.now.as_millis()),
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

    fn equal(&mut self, guess: Guess, sides: &'a (Node, Node)) -> Outcome<bool> {
        if let Some(order) = self.short_order(guess, sides) {
            return Ok(order == Ordering::Equal);
        }
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
        match of {
            Node::Context => return Ok(self.scope.context.contains_key(name)),
            Node::Event => return Ok(self.scope.event.contains_key(name)),
            _ => {}
        }
        let whole = self.datum(of)?;
        match whole.kind() {
            Kinds::OBJECT => Ok(whole.field(name).is_some()),
            _ => Err(Failure::told(format!("{of} is {} and has no fields", whole.told()))),
        }
    }

    fn select(&mut self, node: &'a Node, of: &'a Node, name: &'a str) -> Outcome<Datum<'a>> {
        let whole = self.datum(of)?;
        // What lies deep in the context lies scattered in memory.
        self.fuel.spend(2)?;
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
    Failure::Missing(format!("{node} is missing").into())
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
