//! `bench`: what the kernel, the engine and HTTP do, beside a bare floor, all in one run on one machine.
//!
//! Absolute figures on a shared machine are weather; the ratios between lines of one run are what to compare.

mod backends;
mod conversation;
mod floor;
mod flows;
mod kernel_steps;
mod over_http;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Seconds for each durable measurement
    #[arg(long, default_value = "4")]
    seconds: u64,
    /// Folder on the disk to measure [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A PostgreSQL to measure, in a database of its own that is dropped afterwards
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_TEST_POSTGRES", hide_env_values = true)]
    postgres: Option<String>,
    /// A Redis to measure; what is written goes afterwards
    #[arg(long, value_name = "URL", env = "STATEWRIGHT_TEST_REDIS", hide_env_values = true)]
    redis: Option<String>,
    /// Only what runs in memory
    #[arg(long)]
    memory: bool,
    /// Only the stores on servers
    #[arg(long, conflicts_with = "memory")]
    servers: bool,
    #[arg(long)]
    json: bool,
}

/// One measured line.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub what: String,
    pub per_second: f64,
    /// Of the floor in the same group size, if there is one.
    pub of_floor: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Commits in one batch, on average.
    pub group: Option<f64>,
    /// Requests to the allocator for each, where they are counted.
    pub allocations: Option<f64>,
}

impl Line {
    fn rate(what: &str, per_second: f64) -> Self {
        Self {
            what: what.to_owned(),
            per_second,
            of_floor: None,
            p50_ms: None,
            p99_ms: None,
            group: None,
            allocations: None,
        }
    }
}

pub(crate) fn bench(args: &BenchArgs) -> CommandResult {
    if cfg!(debug_assertions) {
        eprintln!("statewright: this is a debug build; its figures mean nothing (use `cargo xtask bench`)");
    }
    let time = Duration::from_secs(args.seconds.max(1));
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new().prefix("statewright-bench").tempdir_in(base)?;
    let mut lines = Vec::new();
    let mut told = |line: Line| {
        if !args.json {
            print_line(&line);
        }
        lines.push(line);
    };
    if !args.json {
        say!(
            "{:58} {:>12} {:>9} {:>8} {:>8} {:>6} {:>7}",
            "",
            "per second",
            "of floor",
            "p50 ms",
            "p99 ms",
            "group",
            "allocs"
        );
    }
    if !args.servers {
        kernel_steps::measure(&mut told)?;
        flows::measure(&mut told)?;
        if !args.memory {
            measure_durable(scratch.path(), time, &mut told)?;
            flows::measure_durable(scratch.path(), time, &mut told)?;
        }
    }
    if let Some(url) = args.postgres.as_ref().filter(|_| !args.memory) {
        backends::measure_postgres(url, time, &mut told)?;
    }
    if let Some(url) = args.redis.as_ref().filter(|_| !args.memory) {
        backends::measure_redis(url, time, &mut told)?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&lines)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The engine and the server over a disk, each beside bare inserts of the rows that it wrote.
fn measure_durable(scratch: &Path, time: Duration, told: &mut impl FnMut(Line)) -> Result<(), Failure> {
    let mut rows = None;
    for in_flight in [1, 32, 256] {
        let path = scratch.join(format!("engine-{in_flight}.db"));
        let mut line = conversation::measure(conversation::sqlite(&path)?, in_flight, time)?;
        let group = line.group.unwrap_or(1.0).round().max(1.0) as usize;
        let sample = floor::Rows::read(&path)?;
        let floor = floor::measure(&sample, &scratch.join(format!("floor-{in_flight}.db")), group, time)?;
        line.of_floor = Some(line.per_second / floor);
        told(line);
        told(Line {
            group: Some(group as f64),
            ..Line::rate("  floor: bare inserts of the same rows", floor)
        });
        rows.get_or_insert(sample);
    }
    let http = over_http::measure(conversation::sqlite(&scratch.join("http.db"))?, 32, time)?;
    let group = http.group.unwrap_or(1.0).round().max(1.0) as usize;
    let Some(rows) = rows else {
        return Err(Failure("nothing was measured".into()));
    };
    let floor = floor::measure(&rows, &scratch.join("floor-http.db"), group, time)?;
    told(Line { of_floor: Some(http.per_second / floor), ..http });
    told(Line { group: Some(group as f64), ..Line::rate("  floor: bare inserts of the same rows", floor) });
    Ok(())
}

fn print_line(line: &Line) {
    let optional =
        |value: Option<f64>, digits: usize| value.map_or(String::new(), |v| format!("{v:.digits$}"));
    say!(
        "{:58} {:>12.0} {:>9} {:>8} {:>8} {:>6} {:>7}",
        line.what,
        line.per_second,
        optional(line.of_floor, 2),
        optional(line.p50_ms, 2),
        optional(line.p99_ms, 2),
        optional(line.group, 1),
        optional(line.allocations, 1)
    );
}

/// Requests to the allocator that `run` makes, where the program was built to count them.
#[cfg(feature = "count-allocations")]
pub(crate) fn allocations(run: impl FnOnce()) -> Option<f64> {
    Some(allocation_counter::measure(run).count_total as f64)
}

#[cfg(not(feature = "count-allocations"))]
pub(crate) fn allocations(run: impl FnOnce()) -> Option<f64> {
    run();
    None
}

/// The values at the middle and at the ninety-ninth percentile, in milliseconds.
pub(crate) fn percentiles(latencies_us: &mut [u32]) -> (Option<f64>, Option<f64>) {
    latencies_us.sort_unstable();
    let at = |share: f64| {
        let index = (latencies_us.len() as f64 * share) as usize;
        latencies_us.get(index).map(|us| f64::from(*us) / 1000.0)
    };
    (at(0.50), at(0.99))
}
