//! `bench`: what the kernel, the engine and HTTP do, beside bare floors, all in one run on one machine.
//!
//! Absolute figures on a shared machine are weather; the ratios between lines of one run are what to compare. So what
//! is compared takes turns, and of several rounds the one in the middle counts.

mod access;
mod backends;
mod clients;
mod conversation;
mod counting;
mod decided;
mod floor;
mod flows;
mod growth;
mod host;
mod hot;
mod idle;
mod kernel_steps;
mod line;
mod over_http;
mod peers;
mod process;
mod replay;
mod server_process;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::command::bench::host::Host;
use crate::command::bench::line::{Line, print_titles};
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Seconds for each durable measurement, in all of its rounds, and for each of its floors
    #[arg(long, default_value = "6")]
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
    /// Only the groups whose name holds the word, of kernel, flows, engine, counting, hot, http, access, idle, replay, postgres and redis,
    /// and of those that run only when they are asked for: growth (which fills a file first), and peers (which installs a program
    /// of somebody else's in Python); may be given several times
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// For growth: the share that is generated of 10 million closed and 1 million live instances
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = share)]
    growth: f64,
    #[arg(long)]
    json: bool,
}

/// Whoever wants to know a line that was measured.
type Told<'a> = &'a mut dyn FnMut(Line);

/// What every group needs.
#[derive(Debug)]
struct Bench {
    scratch: PathBuf,
    time: Duration,
    postgres: Option<String>,
    redis: Option<String>,
    /// How much of all that may grow is generated.
    growth: f64,
}

impl Bench {
    /// A new folder on the disk that is measured.
    fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.scratch.join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }
}

/// Lines that are looked at together.
struct Group {
    name: &'static str,
    measure: fn(&Bench, Told<'_>) -> Result<(), Failure>,
    needs: Need,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Postgres,
    Redis,
    /// To be asked for by name.
    Asking,
    /// To be asked for by name, and PostgreSQL.
    AskingAndPostgres,
}

impl Need {
    fn is_asking(self) -> bool {
        matches!(self, Self::Asking | Self::AskingAndPostgres)
    }
}

/// The value of `--growth`.
fn share(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|share| *share > 0.0 && *share <= 10.0);
    found.ok_or_else(|| "a share is a number above 0 and at most 10, such as 0.01".to_owned())
}

const GROUPS: [Group; 13] = [
    Group { name: "kernel", measure: kernel_steps::measure, needs: Need::Nothing },
    Group { name: "flows", measure: flows::measure, needs: Need::Nothing },
    Group { name: "engine", measure: conversation::measure, needs: Need::Nothing },
    Group { name: "counting", measure: counting::measure, needs: Need::Nothing },
    Group { name: "hot", measure: hot::measure, needs: Need::Nothing },
    Group { name: "http", measure: over_http::measure, needs: Need::Nothing },
    Group { name: "access", measure: access::measure, needs: Need::Nothing },
    Group { name: "idle", measure: idle::measure, needs: Need::Nothing },
    Group { name: "replay", measure: replay::measure, needs: Need::Nothing },
    Group { name: "postgres", measure: backends::measure_postgres, needs: Need::Postgres },
    Group { name: "redis", measure: backends::measure_redis, needs: Need::Redis },
    Group { name: "growth", measure: growth::measure, needs: Need::Asking },
    Group { name: "peers", measure: peers::measure, needs: Need::AskingAndPostgres },
];

pub(crate) fn bench(args: &BenchArgs) -> CommandResult {
    if cfg!(debug_assertions) {
        eprintln!("statewright: this is a debug build; its figures mean nothing (use `cargo xtask bench`)");
    }
    let groups = chosen(args)?;
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new().prefix("statewright-bench").tempdir_in(base)?;
    let bench = Bench {
        scratch: scratch.path().to_owned(),
        time: Duration::from_secs(args.seconds.max(1)),
        postgres: args.postgres.clone(),
        redis: args.redis.clone(),
        growth: args.growth,
    };
    let host = Host::of(scratch.path());
    let mut lines = Vec::new();
    if !args.json {
        host.print();
        print_titles();
    }
    let mut told = |line: Line| {
        if !args.json {
            line.print();
        }
        lines.push(line);
    };
    for group in groups {
        (group.measure)(&bench, &mut told)?;
    }
    if args.json {
        say!("{}", serde_json::json!({ "machine": host, "lines": lines }));
    }
    Ok(ExitCode::SUCCESS)
}

/// All that can be measured, or what was asked for.
fn chosen(args: &BenchArgs) -> Result<Vec<&'static Group>, Failure> {
    let holds = |group: &Group, word: &String| group.name.contains(word.as_str());
    if let Some(unknown) = args.only.iter().find(|word| !GROUPS.iter().any(|group| holds(group, word))) {
        let names = GROUPS.map(|group| group.name).join(", ");
        return Err(Failure(format!("no group's name holds `{unknown}`; the groups are {names}")));
    }
    let is_there = |group: &Group| match group.needs {
        Need::Nothing | Need::Asking => true,
        Need::Postgres | Need::AskingAndPostgres => args.postgres.is_some(),
        Need::Redis => args.redis.is_some(),
    };
    let mut groups = Vec::new();
    for group in &GROUPS {
        let is_asked = args.only.iter().any(|word| holds(group, word));
        if is_asked && !is_there(group) {
            let name = group.name;
            return Err(Failure(format!("{name} needs a server: run `cargo xtask bench`, or give its URL")));
        }
        if is_asked || (args.only.is_empty() && !group.needs.is_asking() && is_there(group)) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// What the files of a folder hold. A file that goes away meanwhile counts for nothing.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    bytes.sum()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_asked_for_is_measured_and_nothing_else() {
        let all = "kernel flows engine counting hot http access idle replay postgres redis";
        for (only, postgres, redis, expected) in [
            ("", true, true, Ok(all)),
            ("", false, false, Ok("kernel flows engine counting hot http access idle replay")),
            ("hot engine", false, false, Ok("engine hot")),
            ("pe", true, false, Ok("peers")),
            ("growth", false, false, Ok("growth")),
            ("red", true, true, Ok("redis")),
            ("red", true, false, Err("redis needs a server")),
            ("peers", false, true, Err("peers needs a server")),
            ("engine motor", true, true, Err("no group's name holds `motor`; the groups are kernel, ")),
        ] {
            let url = |is_there: bool| is_there.then(String::new);
            let args = BenchArgs {
                seconds: 1,
                dir: None,
                postgres: url(postgres),
                redis: url(redis),
                only: only.split_whitespace().map(str::to_owned).collect(),
                growth: 0.01,
                json: false,
            };
            let found =
                chosen(&args).map(|groups| groups.iter().map(|g| g.name).collect::<Vec<_>>().join(" "));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{only}"),
                (Err(Failure(found)), Err(expected)) => assert!(found.contains(expected), "{only}: {found}"),
                (found, _) => panic!("{only}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_share_is_of_something() {
        for (text, expected) in
            [("0.01", Some(0.01)), ("1", Some(1.0)), ("0", None), ("NaN", None), ("-1", None), ("all", None)]
        {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_folder_holds_what_its_folders_hold() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("one"), [0; 1_000]).unwrap();
        std::fs::write(folder.path().join("in/two"), [0; 234]).unwrap();
        assert_eq!(disk_bytes(folder.path()), 1_234);
    }
}
