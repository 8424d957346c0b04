//! The past decided again: every log of a file, beside deciding on the same inputs for the first time and saving nothing.

use std::time::Instant;

use engine::replay::{INSTANCES_MAX, ReplayStore, replay_all};
use kernel::id::TenantId;

use crate::command::Failure;
use crate::command::bench::conversation::{engine, machine, sqlite};
use crate::command::bench::growth::{Size, generate, talk};
use crate::command::bench::line::{Round, Rounds};
use crate::command::bench::process::Meter;
use crate::command::bench::{Bench, Told};

/// Of eleven million conversations: 44,000, of 252,000 messages.
const SHARE: f64 = 0.004;
const ROUNDS: usize = 3;

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let folder = bench.folder("replay")?;
    let size = Size::of(SHARE);
    generate(&folder, size)?;
    let (machine, engine) = (machine()?, engine(sqlite(&folder)?)?);
    let [mut replayed, mut decided] = [(); 2].map(|()| Rounds::default());
    for _ in 0..ROUNDS {
        decided.0.push(round(|| {
            let mut events = 0;
            talk(&machine, 0..size.people(), |group| {
                events += group.len();
                true
            })?;
            Ok(events)
        })?);
        replayed.0.push(round(|| {
            let tenant = TenantId::default_tenant();
            let mut asked = ReplayStore { machine: None, limit: INSTANCES_MAX, cursor: None };
            let mut events = 0;
            loop {
                let report = replay_all(&engine, &tenant, &asked)?;
                if report.same < report.instances {
                    return Err(Failure(format!(
                        "it does not come out the same: {:?}",
                        report.found.first()
                    )));
                }
                events += report.entries;
                asked.cursor = report.next_cursor;
                if asked.cursor.is_none() {
                    return Ok(events);
                }
            }
        })?);
    }
    let floor = decided.per_second();
    told(replayed.line("replay: logs of a file decided again").beside("decided once", floor));
    told(decided.line("  floor: decided once, on one thread"));
    Ok(())
}

fn round(run: impl FnOnce() -> Result<usize, Failure>) -> Result<Round, Failure> {
    let (meter, started) = (Meter::start_own(), Instant::now());
    let events = run()?;
    let (elapsed, spent) = (started.elapsed(), meter.spent());
    Ok(Round { events, elapsed, latencies_us: Vec::new(), groups: None, spent, is_awaited: true })
}
