//! Lowering: from CEL's syntax tree to nodes, once, when an expression is loaded.
//!
//! Owns what an expression may say: its names, its functions, how deep it may be, that comprehensions are not nested.
//! On the way it finds out what is read and of which type everything is. CEL's parser has already turned the macros
//! (`all`, `filter`, ...) into folds over an accumulator; the five shapes of these are recognised here.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, SelectExpr,
    operators,
};

use super::kind::{Kinds, Type};
use super::node::{Arithmetic, Comparison, Conversion, Fold, FoldStep, Guess, Node, Search};
use super::pattern::Pattern;
use super::{DEPTH_MAX, Names, Reads, typing};
use crate::definition::FieldKind;
use crate::diagnostic::nearest;

/// Beside these there are operators, `has` and the comprehensions.
pub(super) const FUNCTIONS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    "dyn",
];

/// What `type()` gives, by its names in CEL.
const TYPE_NAMES: [&str; 9] = ["bool", "int", "uint", "double", "string", "list", "map", "null_type", "type"];

type Lowered = Result<(Node, Type), String>;

pub(super) struct Lowering<'n> {
    names: &'n Names<'n>,
    pub reads: Reads,
    /// The variable of the comprehension that is being lowered.
    item: Option<(&'n str, Type)>,
    is_folding: bool,
    depth: usize,
}

impl<'n> Lowering<'n> {
    pub fn new(names: &'n Names<'n>) -> Self {
        Self { names, reads: Reads::default(), item: None, is_folding: false, depth: 0 }
    }

    pub fn lower(&mut self, tree: &'n IdedExpr) -> Lowered {
        if self.depth >= DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels; split it over several fields"));
        }
        self.depth += 1;
        let lowered = self.lower_here(tree)?;
        self.depth -= 1;
        Ok(lowered)
    }

    fn lower_here(&mut self, tree: &'n IdedExpr) -> Lowered {
        match &tree.expr {
            Expr::Unspecified => Err("it says nothing".into()),
            Expr::Literal(literal) => lower_literal(literal),
            Expr::Ident(name) => self.lower_name(name),
            Expr::Select(select) => self.lower_select(select),
            Expr::Call(call) => self.lower_call(call),
            Expr::List(list) => {
                let mut nodes = Vec::with_capacity(list.elements.len());
                let mut items = Kinds::NONE;
                for element in &list.elements {
                    let (node, of) = self.lower(element)?;
                    nodes.push(node);
                    items = items.or(of.kinds);
                }
                Ok((Node::List(nodes), Type::list_of(items)))
            }
            Expr::Map(map) => self.lower_map(&map.entries),
            Expr::Struct(made) => Err(format!(
                "there is no type `{}` to make; an object is written {{'name': value}}",
                made.type_name
            )),
            Expr::Comprehension(fold) => self.lower_fold(fold),
        }
    }

    fn lower_map(&mut self, entries: &'n [IdedEntryExpr]) -> Lowered {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("an object is written {'name': value}".into());
            };
            let (key, of) = self.lower(&entry.key)?;
            if !of.kinds.may_be(Kinds::TEXT.or(Kinds::BOOLEAN).or(Kinds::INTEGER).or(Kinds::UNSIGNED)) {
                return Err(format!("{of} cannot be a key; take text, a whole number or a boolean"));
            }
            let (value, _) = self.lower(&entry.value)?;
            nodes.push((key, value));
        }
        Ok((Node::Map(nodes), Type::of(Kinds::OBJECT)))
    }

    /// Inner names hide outer ones: the variable of a comprehension, those of the caller, then the roots.
    fn lower_name(&mut self, name: &str) -> Lowered {
        if let Some((_, of)) = self.item.filter(|(item, _)| *item == name) {
            return Ok((Node::Item(name.into()), of));
        }
        if let Some(slot) = self.names.locals.iter().rposition(|(local, _)| local == name) {
            self.reads.locals = true;
            return Ok((Node::Local(slot, name.into()), self.names.locals[slot].1));
        }
        Ok(match name {
            "context" => {
                self.reads.context.whole = true;
                (Node::Context, Type::of(Kinds::OBJECT))
            }
            "before" if self.names.before => {
                self.reads.before.whole = true;
                (Node::Before, Type::of(Kinds::OBJECT))
            }
            "event" => {
                self.reads.event.whole = true;
                (Node::Event, Type::of(Kinds::OBJECT))
            }
            "event_name" => {
                self.reads.event_name = true;
                (Node::EventName, Type::TEXT)
            }
            "active" => {
                self.reads.active = true;
                (Node::Active, Type::list_of(Kinds::TEXT))
            }
            "now" => {
                self.reads.now = true;
                (Node::Now, Type::INTEGER)
            }
            _ => match TYPE_NAMES.iter().find(|known| **known == name) {
                Some(known) => (Node::Type(known), Type::of(Kinds::TYPE)),
                None => return Err(self.unknown(name)),
            },
        })
    }

    fn unknown(&self, name: &str) -> String {
        let locals: String = self.names.locals.iter().map(|(local, _)| format!("{local}, ")).collect();
        let before = if self.names.before { "before, " } else { "" };
        format!(
            "`{name}` is unknown; an expression sees {locals}{before}context, event, event_name, active and now \
             (a text is written in quotes)"
        )
    }

    fn is_hidden(&self, root: &str) -> bool {
        self.item.is_some_and(|(item, _)| item == root)
            || self.names.locals.iter().any(|(name, _)| name == root)
    }

    fn lower_select(&mut self, select: &'n SelectExpr) -> Lowered {
        let field = &*select.field;
        let root = match &select.operand.expr {
            Expr::Ident(root) if !self.is_hidden(root) => &**root,
            _ => "",
        };
        let (read, whole) = match root {
            "context" => (&mut self.reads.context, Node::Context),
            "before" if self.names.before => (&mut self.reads.before, Node::Before),
            "event" => (&mut self.reads.event, Node::Event),
            _ => {
                let (of, whole) = self.lower(&select.operand)?;
                let given = typing::selection(&of, whole, field)?;
                let parts = Box::new((of, field.into()));
                return Ok(match select.test {
                    true => (Node::Has(parts), Type::BOOLEAN),
                    false => (Node::Select(parts), given),
                });
            }
        };
        read.names.insert(field.to_owned());
        if select.test {
            return Ok((Node::Has(Box::new((whole, field.into()))), Type::BOOLEAN));
        }
        Ok(match root {
            "context" => (Node::ContextField(field.into()), self.names.field(field)),
            "before" => (Node::BeforeField(field.into()), self.names.field(field)),
            _ => (Node::EventField(field.into()), Type::ANY),
        })
    }

    /// A field of type `number` is calculated with as a fraction, whatever is written in it: 10 and 10.0 are one number in
    /// JSON, and must not be divided in two ways. What is only passed on stays what it is.
    fn as_operand(&self, (node, given): (Node, Type)) -> (Node, Type) {
        let as_operand = |node: Node| self.as_operand((node, given)).0;
        match node {
            Node::ContextField(ref name) | Node::BeforeField(ref name) if self.is_number(name) => {
                let kinds = given.kinds.without(Kinds::INTEGER);
                (Node::Convert(Conversion::Fraction, Box::new(node)), Type::of(kinds))
            }
            Node::If(of) => {
                let (test, one, two) = *of;
                (Node::If(Box::new((test, as_operand(one), as_operand(two)))), given)
            }
            Node::Negate(of) => (Node::Negate(Box::new(as_operand(*of))), given),
            other => (other, given),
        }
    }

    fn is_number(&self, field: &str) -> bool {
        let field = self.names.context.iter().find(|f| f.name.value == field);
        field.is_some_and(|field| field.kind == FieldKind::Number)
    }

    fn lower_call(&mut self, call: &'n CallExpr) -> Lowered {
        // `a.f(b)` and `f(a, b)` are the same, except that a function may be there in one of the two forms only.
        let is_method = call.target.is_some();
        let parts: Vec<&'n IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let name = &*call.func_name;
        match parts[..] {
            [one] => {
                if let Some(lowered) = self.lower_unary(name, one, is_method) {
                    return lowered;
                }
            }
            [one, two] => {
                if let Some(lowered) = self.lower_binary(name, one, two, is_method) {
                    return lowered;
                }
            }
            [condition, yes, no] if name == operators::CONDITIONAL => {
                return self.lower_if(condition, yes, no);
            }
            _ => {}
        }
        Err(misused(name, is_method))
    }

    fn lower_if(&mut self, condition: &'n IdedExpr, yes: &'n IdedExpr, no: &'n IdedExpr) -> Lowered {
        let (condition, of) = self.lower(condition)?;
        typing::condition("? :", of)?;
        let ((yes, one), (no, two)) = (self.lower(yes)?, self.lower(no)?);
        Ok((Node::If(Box::new((condition, yes, no))), one.or(two)))
    }

    fn lower_unary(&mut self, name: &str, of: &'n IdedExpr, is_method: bool) -> Option<Lowered> {
        let conversion =
            match name {
                operators::LOGICAL_NOT => {
                    return Some(self.lower(of).and_then(|(node, given)| {
                        typing::condition("!", given)?;
                        Ok((Node::Not(Box::new(node)), Type::BOOLEAN))
                    }));
                }
                operators::NEGATE => {
                    return Some(self.lower(of).and_then(|(node, given)| {
                        Ok((Node::Negate(Box::new(node)), typing::negation(given)?))
                    }));
                }
                "size" => Conversion::Size,
                _ if is_method => return None,
                "int" => Conversion::Int,
                "uint" => Conversion::UInt,
                "double" => Conversion::Double,
                "string" => Conversion::String,
                "bool" => Conversion::Bool,
                "type" => Conversion::Type,
                "dyn" => Conversion::Dyn,
                _ => return None,
            };
        Some(self.lower(of).and_then(|(node, given)| {
            Ok((Node::Convert(conversion, Box::new(node)), typing::conversion(conversion, given)?))
        }))
    }

    fn lower_binary(
        &mut self,
        name: &str,
        one: &'n IdedExpr,
        two: &'n IdedExpr,
        is_method: bool,
    ) -> Option<Lowered> {
        if name == "matches" {
            return Some(self.lower_matches(one, two));
        }
        let search = match name {
            "contains" => Some(Search::Contains),
            "startsWith" => Some(Search::StartsWith),
            "endsWith" => Some(Search::EndsWith),
            _ => None,
        };
        let operator = Operator::named(name);
        if operator.is_none() && (search.is_none() || !is_method) {
            return None;
        }
        let sides = self.lower(one).and_then(|one| Ok((one, self.lower(two)?)));
        Some(sides.and_then(|((one, of_one), (two, of_two))| {
            if let Some(search) = search {
                typing::search(search, of_one, of_two)?;
                return Ok((Node::Search(search, Box::new((one, two))), Type::BOOLEAN));
            }
            let Some(operator) = operator else { return Err(misused(name, is_method)) };
            let (mut one, mut two) = ((one, of_one), (two, of_two));
            if matches!(operator, Operator::Arithmetic(of) if of != Arithmetic::Remainder) {
                (one, two) = (self.as_operand(one), self.as_operand(two));
            }
            operator.lowered(one, two)
        }))
    }

    fn lower_matches(&mut self, text: &'n IdedExpr, pattern: &'n IdedExpr) -> Lowered {
        let (text, of) = self.lower(text)?;
        typing::matching(of)?;
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err(
                "the pattern of matches() must be written out as a text, so that it can be checked".into()
            );
        };
        let pattern = Pattern::compile(pattern.inner())?;
        Ok((Node::Matches(Box::new((text, pattern))), Type::BOOLEAN))
    }

    fn lower_fold(&mut self, fold: &'n ComprehensionExpr) -> Lowered {
        if self.is_folding {
            return Err("comprehensions (all, exists, map, filter) may not be nested".into());
        }
        // What is gone through may have been filtered: that is done once, before the rounds begin.
        let (range, of) = self.lower(&fold.iter_range)?;
        self.is_folding = true;
        self.item = Some((&fold.iter_var, typing::iteration(&range, of)?));
        let (step, given) = self.lower_step(fold)?;
        self.item = None;
        self.is_folding = false;
        Ok((Node::Fold(Box::new(Fold { range, step })), given))
    }

    fn lower_step(&mut self, fold: &'n ComprehensionExpr) -> Result<(FoldStep, Type), String> {
        let shape = Shape::of(fold).ok_or("this form of comprehension is not known here")?;
        Ok(match shape {
            Shape::All(test) => (FoldStep::All(self.lower_test("all", test)?), Type::BOOLEAN),
            Shape::Exists(test) => (FoldStep::Exists(self.lower_test("exists", test)?), Type::BOOLEAN),
            Shape::ExistsOne(test) => {
                (FoldStep::ExistsOne(self.lower_test("exists_one", test)?), Type::BOOLEAN)
            }
            Shape::Collect(condition, item) => {
                let condition = condition.map(|test| self.lower_test("filter", test)).transpose()?;
                let (item, of) = self.lower(item)?;
                (FoldStep::Collect { condition, item }, Type::list_of(of.kinds))
            }
        })
    }

    fn lower_test(&mut self, operator: &str, test: &'n IdedExpr) -> Result<Node, String> {
        let (test, of) = self.lower(test)?;
        typing::condition(operator, of)?;
        Ok(test)
    }
}

fn lower_literal(literal: &LiteralValue) -> Lowered {
    Ok(match literal {
        LiteralValue::Boolean(b) => (Node::Bool(*b.inner()), Type::BOOLEAN),
        LiteralValue::Int(int) => (Node::Int(*int.inner()), Type::INTEGER),
        LiteralValue::UInt(unsigned) => (Node::UInt(*unsigned.inner()), Type::of(Kinds::UNSIGNED)),
        LiteralValue::Double(double) => (Node::Double(*double.inner()), Type::of(Kinds::FRACTION)),
        LiteralValue::String(text) => (Node::Text(text.inner().into()), Type::TEXT),
        LiteralValue::Null => (Node::Null, Type::of(Kinds::NULL)),
        LiteralValue::Bytes(_) => return Err("there are no bytes in JSON; write a text".into()),
    })
}

/// What is said of a call that fits no function.
fn misused(name: &str, is_method: bool) -> String {
    if !FUNCTIONS.contains(&name) {
        return format!("there is no function `{name}`; {}", nearest(name, FUNCTIONS.into_iter()));
    }
    match name {
        "contains" | "startsWith" | "endsWith" | "matches" => {
            format!("`{name}` takes one text to look for and is written text.{name}('...')")
        }
        "size" => "`size` takes one value and is written size(value)".into(),
        _ if is_method => format!("`{name}` is written {name}(value)"),
        _ => format!("`{name}` takes one value"),
    }
}

#[derive(Clone, Copy)]
enum Operator {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    And,
    Or,
    Equal,
    Unequal,
    In,
    Index,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            operators::ADD => Self::Arithmetic(Arithmetic::Add),
            operators::SUBSTRACT => Self::Arithmetic(Arithmetic::Subtract),
            operators::MULTIPLY => Self::Arithmetic(Arithmetic::Multiply),
            operators::DIVIDE => Self::Arithmetic(Arithmetic::Divide),
            operators::MODULO => Self::Arithmetic(Arithmetic::Remainder),
            operators::LESS => Self::Comparison(Comparison::Less),
            operators::LESS_EQUALS => Self::Comparison(Comparison::LessOrEqual),
            operators::GREATER => Self::Comparison(Comparison::Greater),
            operators::GREATER_EQUALS => Self::Comparison(Comparison::GreaterOrEqual),
            operators::LOGICAL_AND => Self::And,
            operators::LOGICAL_OR => Self::Or,
            operators::EQUALS => Self::Equal,
            operators::NOT_EQUALS => Self::Unequal,
            operators::IN => Self::In,
            operators::INDEX => Self::Index,
            _ => return None,
        })
    }

    fn lowered(self, (one, of_one): (Node, Type), (two, of_two): (Node, Type)) -> Lowered {
        let given = match self {
            Self::Arithmetic(operator) => typing::arithmetic(operator, of_one, of_two)?,
            Self::Index => typing::indexing(&one, of_one, of_two)?,
            _ => Type::BOOLEAN,
        };
        match self {
            Self::Comparison(operator) => typing::order(operator, of_one, of_two)?,
            Self::And => typing::condition("&&", of_one).and_then(|()| typing::condition("&&", of_two))?,
            Self::Or => typing::condition("||", of_one).and_then(|()| typing::condition("||", of_two))?,
            Self::Equal => typing::equality("==", of_one, of_two)?,
            Self::Unequal => typing::equality("!=", of_one, of_two)?,
            Self::In => typing::membership(of_one, of_two)?,
            Self::Arithmetic(_) | Self::Index => {}
        }
        let guess = match [of_one, of_two].map(|side| side.kinds.without(Kinds::NULL)) {
            sides if sides.contains(&Kinds::INTEGER) => Guess::Whole,
            sides if sides.contains(&Kinds::TEXT) => Guess::Text,
            _ => Guess::Nothing,
        };
        let sides = Box::new((one, two));
        let node = match self {
            Self::Arithmetic(operator) => Node::Arithmetic(operator, guess, sides),
            Self::Comparison(operator) => Node::Compare(operator, guess, sides),
            Self::And => Node::And(sides),
            Self::Or => Node::Or(sides),
            Self::Equal => Node::Equal(guess, sides),
            Self::Unequal => Node::Unequal(guess, sides),
            Self::In => Node::In(sides),
            Self::Index => Node::Index(sides),
        };
        Ok((node, given))
    }
}

/// A macro again, by what the parser made of it: how each item changes the accumulator, whose name nobody can write.
enum Shape<'n> {
    All(&'n IdedExpr),
    Exists(&'n IdedExpr),
    ExistsOne(&'n IdedExpr),
    Collect(Option<&'n IdedExpr>, &'n IdedExpr),
}

impl<'n> Shape<'n> {
    fn of(fold: &'n ComprehensionExpr) -> Option<Self> {
        if fold.iter_var2.is_some() {
            return None;
        }
        let is_accumulator = |e: &IdedExpr| matches!(&e.expr, Expr::Ident(name) if *name == fold.accu_var);
        let Expr::Call(step) = &fold.loop_step.expr else { return None };
        match (&*step.func_name, &step.args[..]) {
            (operators::LOGICAL_AND, [accumulator, test]) if is_accumulator(accumulator) => {
                Some(Self::All(test))
            }
            (operators::LOGICAL_OR, [accumulator, test]) if is_accumulator(accumulator) => {
                Some(Self::Exists(test))
            }
            (operators::ADD, [accumulator, _]) if is_accumulator(accumulator) => {
                Some(Self::Collect(None, appended(step)?))
            }
            (operators::CONDITIONAL, [condition, then, otherwise]) if is_accumulator(otherwise) => {
                let Expr::Call(then) = &then.expr else { return None };
                match &fold.accu_init.expr {
                    Expr::Literal(LiteralValue::Int(_)) => Some(Self::ExistsOne(condition)),
                    Expr::List(_) => Some(Self::Collect(Some(condition), appended(then)?)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The item of `accumulator + [item]`.
fn appended(call: &CallExpr) -> Option<&IdedExpr> {
    let [_, list] = &call.args[..] else { return None };
    let Expr::List(list) = &list.expr else { return None };
    let [item] = &list.elements[..] else { return None };
    (call.func_name == operators::ADD).then_some(item)
}
