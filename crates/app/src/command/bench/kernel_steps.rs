//! The kernel alone, in memory: the statechart step, a step with a guard, routing and deciding whole messages.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernel::chart::step::{Occurrence, Position, Stepper, Trail};
use kernel::decide::decide;
use kernel::definition;
use kernel::input::Fields;
use kernel::machine::Machine;
use kernel::time::Timestamp;

use crate::command::Failure;
use crate::command::bench::{Line, conversation};

const TIME: Duration = Duration::from_millis(700);
/// Steps between two looks at the clock.
const ROUND: usize = 10_000;

pub(super) fn measure(say: &mut impl FnMut(Line)) -> Result<(), Failure> {
    let flat = load(&flat_definition(""))?;
    say(Line::rate("kernel: step on a flat machine of 15 transitions", steps(&flat, &Fields::new())?));
    let guarded = load(&flat_definition("guard: 'event.n > 0', assign: { count: 'context.count + 1' }, "))?;
    let payload = Fields::from_iter([("n".to_owned(), 1.into())]);
    say(Line::rate("kernel: the same with a CEL guard and an assignment", steps(&guarded, &payload)?));
    say(Line::rate("kernel: route and decide a message", decisions()?));
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

fn steps(machine: &Machine, payload: &Fields) -> Result<f64, Failure> {
    let now = Timestamp::from_millis(0);
    let stepper = Stepper { chart: &machine.chart, fields: &machine.fields, now };
    let context = machine.initial_context(&Fields::new()).map_err(|problems| Failure(problems.join("; ")))?;
    let mut position = Position::new(context.into());
    let mut trail = Trail::default();
    let failed = |error| Failure(format!("the benchmark's own machine stopped: {error:?}"));
    stepper.start(&mut position, &mut trail).map_err(failed)?;
    let occurrence =
        |name: &'static str| Some(Occurrence { event: machine.chart.event(name)?, name, payload });
    let events: Vec<Occurrence<'_>> = ["next", "over", "back"].into_iter().filter_map(occurrence).collect();
    let started = Instant::now();
    let mut done = 0_usize;
    while started.elapsed() < TIME {
        for n in 0..ROUND {
            trail.taken.clear();
            stepper.take(&mut position, events[n % 3], &mut trail).map_err(failed)?;
            black_box(&position);
        }
        done += ROUND;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Whole conversations of six messages, each decided on what the one before left.
fn decisions() -> Result<f64, Failure> {
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
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
