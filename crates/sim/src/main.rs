//! `cargo run --release -p sim -- [--from N] [--seeds N] [--steps N]`: a campaign of simulations.
#![allow(clippy::print_stdout, reason = "a campaign reports on standard output")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut settings = [("--from", 0_u64), ("--seeds", 1_000), ("--steps", 500)];
    for pair in arguments.chunks(2) {
        let known = settings.iter_mut().find(|(name, _)| *name == pair[0]);
        match (known, pair.get(1).and_then(|value| value.parse().ok())) {
            (Some((_, slot)), Some(value)) => *slot = value,
            _ => {
                eprintln!(
                    "sim: `{}` is not understood; it takes --from N, --seeds N and --steps N",
                    pair.join(" ")
                );
                return ExitCode::from(2);
            }
        }
    }
    let [(_, from), (_, seeds), (_, steps)] = settings;
    let mut total = sim::Report::default();
    for seed in from..from + seeds {
        match sim::run(seed, steps as usize) {
            Ok(report) => {
                total.messages += report.messages;
                total.repeats += report.repeats;
                total.crashes += report.crashes;
                total.timers_fired += report.timers_fired;
                total.effects += report.effects;
                total.arrivals += report.arrivals;
                total.actions += report.actions;
                total.flows += report.flows;
                total.versions += report.versions;
                total.migrated += report.migrated;
            }
            Err(failure) => {
                println!("seed {}, step {}: {}", failure.seed, failure.step, failure.what);
                return ExitCode::FAILURE;
            }
        }
        if (seed + 1 - from).is_multiple_of(100) {
            println!("{} of {seeds} seeds", seed + 1 - from);
        }
    }
    println!(
        "{seeds} seeds held: {} messages, {} repeats, {} crashes, {} timers, {} effects, {} arrivals, {} actions on {} flows, {} sessions taken to {} versions",
        total.messages,
        total.repeats,
        total.crashes,
        total.timers_fired,
        total.effects,
        total.arrivals,
        total.actions,
        total.flows,
        total.migrated,
        total.versions
    );
    ExitCode::SUCCESS
}
