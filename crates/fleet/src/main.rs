//! `cargo xtask fleet`: a campaign with several servers over one database.
#![allow(clippy::print_stdout, reason = "a campaign reports on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fleet::{Chaos, Plan, StoreChoice, built_binary};

/// Several servers over one database, under load, with things dying
#[derive(Debug, Parser)]
#[command(name = "cargo xtask fleet")]
struct Arguments {
    /// sqlite, memory, postgres, redis, redis-cluster, redis-cluster-with-replicas (private ones), or the URL of somebody's
    #[arg(long, default_value = "postgres", value_parser = StoreChoice::parse)]
    store: StoreChoice,
    /// 1 for sqlite and memory, else 3
    #[arg(long)]
    servers: Option<usize>,
    #[arg(long, default_value_t = 32)]
    users: usize,
    /// How long messages are said
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Any of kill, stop, database, master
    #[arg(long, value_delimiter = ',', default_value = "kill", value_parser = Chaos::parse)]
    chaos: Vec<Chaos>,
    /// Seconds between two harms, on average
    #[arg(long, default_value_t = 3)]
    every: u64,
    /// Seconds for which what a server has claimed is left to it
    #[arg(long, default_value_t = 5)]
    lease: u64,
    /// Ids that are said again to every server after the end, at most
    #[arg(long, default_value_t = 20_000)]
    repeats: usize,
    /// The server, if it is not the one beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The report as one line of JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether all that was promised was kept.
fn run(arguments: Arguments) -> Result<bool, String> {
    let binary = arguments.binary.map_or_else(built_binary, Ok)?;
    let alone = [StoreChoice::Sqlite, StoreChoice::Memory].contains(&arguments.store);
    let servers = arguments.servers.unwrap_or(if alone { 1 } else { 3 });
    let plan = Plan {
        servers,
        users: arguments.users,
        lasts: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
        chaos: arguments.chaos,
        chaos_every: Duration::from_secs(arguments.every),
        lease: Duration::from_secs(arguments.lease),
        repeats_max: arguments.repeats,
        ..Plan::new(binary, arguments.store)
    };
    let report = fleet::run(&plan, &mut |line| eprintln!("{line}"))?;
    match arguments.json {
        true => println!("{}", report.to_json()),
        false => println!("{report}"),
    }
    Ok(report.violations.is_empty())
}
