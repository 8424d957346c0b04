//! The kernel alone, in memory: the statechart step on charts of growing difficulty, beside the bare tables of the
//! same machine; routing and deciding whole messages.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use kernel::chart::step::{Occurrence, Position, Stepper, Trail};
use kernel::decide::decide;
use kernel::definition;
use kernel::input::{Fields, Input};
use kernel::machine::Machine;
use kernel::time::Timestamp;

use crate::command::Failure;
use crate::command::bench::line::Line;
use crate::command::bench::{Bench, Told, allocations, conversation};

const TIME: Duration = Duration::from_millis(700);
/// Steps between two looks at the clock.
const ROUND: usize = 10_000;
const EVENTS: [&str; 3] = ["next", "over", "back"];

pub(super) fn measure(_: &Bench, say: Told<'_>) -> Result<(), Failure> {
    let flat = load(&flat_definition(""))?;
    let floor = bare_tables(&flat)?;
    let mut tell = |what: &str, machine: &Machine, payload: &Fields| {
        let line = steps(what, machine, payload)?;
        say(line.beside("bare tables", floor));
        Ok::<(), Failure>(())
    };
    tell("kernel: step on a flat machine of 15 transitions", &flat, &Fields::new())?;
    let guarded =
        "guard: 'event.n > 0 && context.count < 1000000000', assign: { count: 'context.count + 1' }, ";
    let payload = Fields::from_iter([("n".to_owned(), 1.into())]);
    tell("kernel: the same with a CEL guard and an assignment", &load(&flat_definition(guarded))?, &payload)?;
    tell("kernel: step on three levels with two regions", &load(DEEP)?, &Fields::new())?;
    say(Line::rate("  floor: bare interned tables of the flat machine", floor));
    say(decisions()?);
    say(routed()?);
    Ok(())
}

fn load(source: &str) -> Result<Machine, Failure> {
    let (machine, diagnostics) = definition::load(source);
    machine.ok_or_else(|| Failure(format!("the benchmark's own machine is wrong: {diagnostics:?}")))
}

/// A ring of five states with three events each.
fn flat_definition(extra: &str) -> String {
    let mut source =
        "machine: ring\ncontext: { count: { type: integer } }\ninitial: s0\nafter: { 2h: s0 }\nstates:\n"
            .to_owned();
    for n in 0..5 {
        let (next, over, back) = ((n + 1) % 5, (n + 2) % 5, (n + 4) % 5);
        source.push_str(&format!(
            "  s{n}: {{ on: {{ next: {{ {extra}target: s{next} }}, over: {{ {extra}target: s{over} }}, back: {{ {extra}target: s{back} }} }} }}\n"
        ));
    }
    source
}

/// A parallel state with two regions of three levels: `next` moves both within their innermost level, `over` takes the
/// left one across two levels, `back` leaves the whole and enters it anew.
const DEEP: &str = "
machine: deep
initial: both
states:
  both:
    type: parallel
    on: { back: again }
    states:
      left:
        initial: one
        states:
          one:
            initial: a
            states: { a: { on: { next: b } }, b: { on: { next: a } } }
            on: { over: two.d }
          two:
            initial: c
            states: { c: { on: { next: d } }, d: { on: { next: c } } }
            on: { over: one }
      right:
        initial: one
        states:
          one:
            initial: a
            states: { a: { on: { next: b } }, b: { on: { next: a } } }
  again:
    type: parallel
    on: { back: both }
    states:
      left:
        initial: one
        states:
          one: { initial: a, states: { a: { on: { next: b, over: b } }, b: { on: { next: a, over: a } } } }
      right:
        initial: one
        states:
          one: { initial: a, states: { a: { on: { next: b } }, b: { on: { next: a } } } }
";

fn steps(what: &str, machine: &Machine, payload: &Fields) -> Result<Line, Failure> {
    let now = Timestamp::from_millis(0);
    let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now };
    let context = machine.initial_context(&Fields::new()).map_err(|problems| Failure(problems.join("; ")))?;
    let mut position = Position::new(context.into());
    let mut trail = Trail::default();
    let failed = |error| Failure(format!("the benchmark's own machine stopped: {error:?}"));
    stepper.start(&mut position, &mut trail).map_err(failed)?;
    let occurrence =
        |name: &'static str| Some(Occurrence { event: machine.chart.event(name)?, name, payload });
    let events: Vec<Occurrence<'_>> = EVENTS.into_iter().filter_map(occurrence).collect();
    let mut round = || {
        for n in 0..ROUND {
            trail.taken.clear();
            stepper.take(&mut position, events[n % 3], &mut trail).map_err(failed)?;
            black_box(&position);
        }
        Ok::<(), Failure>(())
    };
    round()?;
    let mut result = Ok(());
    let counted = allocations(|| result = round());
    result?;
    let started = Instant::now();
    let mut done = 0_usize;
    while started.elapsed() < TIME {
        round()?;
        done += ROUND;
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    Ok(Line { allocations: counted.map(|count| count / ROUND as f64), ..Line::rate(what, rate) })
}

/// What a step on a flat machine cannot do without: a name becomes a number, and a number in a table the next state.
fn bare_tables(machine: &Machine) -> Result<f64, Failure> {
    let chart = &machine.chart;
    let numbers: HashMap<&str, usize> = EVENTS.into_iter().zip(0..).collect();
    let mut table = vec![0_usize; chart.states.len() * EVENTS.len()];
    for transition in &chart.transitions {
        let target = transition.targets.first().ok_or(Failure("a transition without a target".into()))?;
        if let Some(number) = numbers.get(&*transition.event) {
            table[usize::from(transition.source.0) * EVENTS.len() + number] = usize::from(target.0);
        }
    }
    let mut state = 1;
    let started = Instant::now();
    let mut done = 0_usize;
    while started.elapsed() < TIME {
        for n in 0..ROUND {
            let number = numbers[black_box(EVENTS[n % 3])];
            state = black_box(table[state * EVENTS.len() + number]);
        }
        done += ROUND;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Whole conversations of six messages, each decided on what the one before left.
fn decisions() -> Result<Line, Failure> {
    let machine = conversation::machine()?;
    let now = Timestamp::from_millis(0);
    let started = Instant::now();
    let mut done = 0_usize;
    while started.elapsed() < TIME {
        let mut before = None;
        for turn in 0..conversation::TURNS {
            let input = conversation::input(done, turn)?;
            let commit = decide(&machine, before.as_ref(), &input, now).map_err(|refusal| {
                Failure(format!("the benchmark's own message was refused: {refusal:?}"))
            })?;
            before = commit.after;
        }
        done += conversation::TURNS;
    }
    Ok(Line::rate("kernel: route and decide a message", done as f64 / started.elapsed().as_secs_f64()))
}

const INTENTS: usize = 50;

/// A conversation of one state and fifty intents, each with phrases and keywords in two languages.
fn fifty_intents() -> String {
    let mut source =
        "machine: desk\ninitial: open\nafter: { 2h: shut }\nstates:\n  open:\n    on:\n".to_owned();
    for n in 0..INTENTS {
        source.push_str(&format!("      e{n}: {{ reply: noted }}\n"));
    }
    source.push_str("  shut: { type: final }\nconversation:\n  locales: [en, fr]\n  replies: { noted: { en: Noted., fr: Noté. } }\n  intents:\n");
    for n in 0..INTENTS {
        let (one, two) = (syllables(n), syllables(n + INTENTS));
        source.push_str(&format!(
            "    i{n}: {{ priority: P{}, event: e{n}, phrases: {{ en: [open {one}, show me {one}], fr: [ouvrir {one}, voir {one}] }}, keywords: {{ en: [{one}, {two}], fr: [{one}er, {two}er] }} }}\n",
            1 + n % 3
        ));
    }
    source
}

/// A word of its own for each number, of seven to nine letters.
fn syllables(number: usize) -> String {
    const PARTS: [&str; 12] = ["ba", "co", "di", "fen", "gu", "har", "jo", "kel", "lim", "mo", "nar", "pos"];
    format!("{}{}{}", PARTS[number % 12], PARTS[(number / 12 + 5) % 12], PARTS[(number * 7 + 3) % 12])
}

/// Messages to a session that is open: phrases, keywords in a sentence, misspelt words and words that mean nothing, in
/// two languages.
fn routed() -> Result<Line, Failure> {
    let machine = load(&fifty_intents())?;
    let now = Timestamp::from_millis(0);
    let texts: Vec<String> = (0..INTENTS)
        .map(|n| match n % 5 {
            0 => format!("Open {}", syllables(n)),
            1 => format!("voir {} !", syllables(n)),
            2 => format!("could you please look at the {} for me", syllables(n)),
            3 => format!("le {}er de la maison", syllables(n)),
            _ => format!("what about {}x then", syllables(n)),
        })
        .collect();
    let inputs: Vec<Input> =
        texts.iter().map(|text| conversation::input_of("desk", 0, text)).collect::<Result<_, _>>()?;
    let mut before = None;
    let mut round = |inputs: &[Input]| {
        for input in inputs {
            let commit = decide(&machine, before.as_ref(), input, now).map_err(|refusal| {
                Failure(format!("the benchmark's own message was refused: {refusal:?}"))
            })?;
            before = commit.after;
        }
        Ok::<(), Failure>(())
    };
    round(&inputs)?;
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < TIME {
        round(&inputs)?;
        done += inputs.len();
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    Ok(Line::rate("kernel: the same among fifty intents in two languages", rate))
}
