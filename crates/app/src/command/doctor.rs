//! `doctor`: what is wrong with a running server or with a store, and what to do about it.
//!
//! Asks and changes nothing, but for the one setting that the server's own probe leaves behind, and the steps of a schema
//! that opening a store takes.

use std::process::ExitCode;

use clap::Args;
use engine::health::FREE_BYTES_MIN;
use kernel::definition;
use kernel::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::{Durability, Records, Store};

use crate::command::client::ServerArgs;
use crate::command::{CommandResult, Failure};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look at this store instead, while no server has it: sqlite:PATH, postgres://…, redis://…
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Only ask whether the server is ready, which needs no key: for health checks
    #[arg(long, conflicts_with = "store")]
    ready: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Clocks of two machines that are kept right differ by less.
const CLOCKS_DIFFER_MAX_MS: i64 = 2_000;

const MAKE_ROOM: &str =
    "make room or shorten `retention`; while the disk is full, writes are refused and reads go on";
const LOAD_AGAIN: &str =
    "go back to the release that saved them, or activate a version that loads; their instances wait";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, PartialEq, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>, remedy: &str) -> Self {
        Self { what, verdict, detail: detail.into(), remedy: Some(remedy.to_owned()) }
    }
}

pub(crate) fn doctor(args: &DoctorArgs) -> CommandResult {
    let findings = match &args.store {
        _ if args.ready => vec![about_readiness(&args.server)?],
        Some(url) => of_store(&*store::open(url, Records::default()).map_err(Failure)?)?,
        None => of_server(&args.server)?,
    };
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if args.server.json {
        say!("{}", serde_json::to_string(&findings)?);
    } else {
        findings.iter().for_each(print);
    }
    Ok(if worst == Verdict::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(finding: &Finding) {
    let mark = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Error => "ERROR",
    };
    say!("{mark:>8}  {}: {}", finding.what, finding.detail);
    if let Some(remedy) = &finding.remedy {
        say!("{:>8}  -> {remedy}", "");
    }
}

fn about_readiness(server: &ServerArgs) -> Result<Finding, Failure> {
    Ok(match server.try_get("/readyz", &[])? {
        Ok(_) => Finding::ok("server", "ready"),
        Err(not) => {
            let detail = format!("not ready: {}", text(&not["store"]));
            Finding::new("server", Verdict::Error, detail, "see whether its store is up")
        }
    })
}

fn of_server(server: &ServerArgs) -> Result<Vec<Finding>, Failure> {
    let info = server.get("/v1/info", &[])?;
    let mut findings = vec![Finding::ok(
        "server",
        format!("statewright {}, up for {} s", text(&info["version"]), info["uptime_seconds"]),
    )];
    findings.extend(about_store(
        &format!(
            "{} {} at {}",
            text(&info["store"]["backend"]),
            text(&info["store"]["version"]),
            text(&info["store"]["location"])
        ),
        text(&info["store"]["durability"]),
        info["store"]["notes"].as_array().into_iter().flatten().map(text),
    ));
    findings.extend(about_clock(&info, Timestamp::from_millis(now_ms())));
    findings.extend(about_health(server)?);
    let figures = server.get_text("/metrics", &[])?;
    findings.push(about_quarantine(figure(&figures, "statewright_quarantined").unwrap_or_default()));
    findings.extend(about_outbox(&figures));
    let machines = info["machines"].as_array().map_or(0, Vec::len);
    findings.extend(about_condition(server)?);
    findings.push(match machines {
        0 => {
            Finding::new("machines", Verdict::Warning, "none", "give it a folder with --machines, or PUT one")
        }
        known => Finding::ok("machines", format!("{known} known")),
    });
    Ok(findings)
}

fn of_store(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let about = store.info();
    let what = format!("{} {} at {}", about.backend, about.version, about.location);
    let mut findings: Vec<Finding> =
        about_store(&what, about.durability.as_str(), about.notes.iter().map(String::as_str)).collect();
    let statistics = store.statistics()?;
    let open: u64 = statistics.open.values().sum();
    let closed: u64 = statistics.closed.values().sum();
    findings.push(Finding::ok("instances", format!("{open} open, {closed} closed")));
    findings.push(about_quarantine(statistics.quarantined));
    findings.extend(store.space().free_bytes.map(about_room));
    findings.extend(
        statistics.latest_change.map(|latest| about_latest(latest, Timestamp::from_millis(now_ms()))),
    );
    let definitions = store.definitions()?;
    let unfit = definitions.iter().filter(|stored| definition::load_own(&stored.source).0.is_none());
    let unfit: Vec<String> = unfit.map(|stored| format!("{} {}", stored.machine, stored.version)).collect();
    findings.push(match unfit.is_empty() {
        true => Finding::ok("definitions", format!("{} stored, all load", definitions.len())),
        false => Finding::new(
            "definitions",
            Verdict::Error,
            format!("this release does not accept {}", unfit.join(", ")),
            LOAD_AGAIN,
        ),
    });
    Ok(findings)
}

fn about_store<'a>(
    what: &str,
    durability: &'a str,
    notes: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = Finding> {
    let of_class = match durability == Durability::Durable.as_str() {
        true => Finding::ok("store", format!("{what} ({durability})")),
        false => Finding::new(
            "store",
            Verdict::Warning,
            format!("{what} ({durability}): what it acknowledges may be lost"),
            "see the notes, and the classes in docs/operations.md",
        ),
    };
    let notes = notes.map(|note| Finding {
        what: "store",
        verdict: Verdict::Warning,
        detail: note.to_owned(),
        remedy: None,
    });
    std::iter::once(of_class).chain(notes.collect::<Vec<_>>())
}

fn about_clock(info: &Value, here: Timestamp) -> Option<Finding> {
    if info["clock"] == "virtual" {
        return Some(Finding::ok("clock", "virtual, moved by hand"));
    }
    let there = Timestamp::parse(info["now"].as_str()?)?;
    let differ = (there.as_millis() - here.as_millis()).abs();
    Some(match differ <= CLOCKS_DIFFER_MAX_MS {
        true => Finding::ok("clock", format!("{differ} ms from the one here")),
        false => Finding::new(
            "clock",
            Verdict::Warning,
            format!("{:.1} s from the one here", differ as f64 / 1_000.0),
            "let a time service keep both right: timers fire by the server's",
        ),
    })
}

fn about_health(server: &ServerArgs) -> Result<Vec<Finding>, Failure> {
    let health = match server.try_get("/v1/health", &[])? {
        Ok(health) | Err(health) => health,
    };
    let checks = health["checks"].as_array().cloned().unwrap_or_default();
    if checks.is_empty() {
        let detail = health["detail"].as_str().unwrap_or("the probe gave no answer").to_owned();
        return Ok(vec![Finding::new("probe", Verdict::Error, detail, "give a key with --api-key")]);
    }
    let finding = |check: &Value| match check["problem"].as_str() {
        None => {
            let took = check["took_ms"].as_f64().unwrap_or_default();
            Finding::ok("probe", format!("{}, {took:.1} ms", text(&check["name"])))
        }
        Some(problem) => Finding::new(
            "probe",
            Verdict::Error,
            format!("{}: {problem}", text(&check["name"])),
            "see whether the store is up and has room; the server's log says what it met",
        ),
    };
    Ok(checks.iter().map(finding).collect())
}

/// What the server sees of itself, without being tried.
fn about_condition(server: &ServerArgs) -> Result<Vec<Finding>, Failure> {
    let ready = match server.try_get("/readyz", &[("verbose", "true".to_owned())])? {
        Ok(ready) | Err(ready) => ready,
    };
    let checks = ready["checks"].as_array().cloned().unwrap_or_default();
    Ok(checks.iter().filter_map(of_check).collect())
}

/// Of the store, the probe says more.
fn of_check(check: &Value) -> Option<Finding> {
    let (what, verdict, remedy) = match text(&check["name"]) {
        "timers" => (
            "timers",
            Verdict::Error,
            "`statewright ls --stuck` has those that are overdue, and the log what keeps them",
        ),
        "outbox" => (
            "outbox",
            Verdict::Warning,
            "the log says how attempts end; one endpoint may take half of all places",
        ),
        "disk" => ("disk", Verdict::Warning, MAKE_ROOM),
        "definitions" => ("definitions", Verdict::Error, LOAD_AGAIN),
        "migrations" => (
            "migrations",
            Verdict::Warning,
            "say under `migrations` where those states lead, and run `statewright migrate`; meanwhile they go on by their version",
        ),
        "instances" => (
            "instances",
            Verdict::Warning,
            "`statewright ls --stuck` has those of a tenant; docs/operations.md says what to do, by the reason",
        ),
        _ => return None,
    };
    Some(match check["problem"].as_str() {
        Some(problem) => Finding::new(what, verdict, problem, remedy),
        None => Finding::ok(what, text(&check["detail"])),
    })
}

fn about_room(free: u64) -> Finding {
    let told = format!("{} MiB free", free >> 20);
    match free < FREE_BYTES_MIN {
        true => Finding::new("disk", Verdict::Warning, told, MAKE_ROOM),
        false => Finding::ok("disk", told),
    }
}

/// What was saved last cannot be of a time to come.
fn about_latest(latest: Timestamp, here: Timestamp) -> Finding {
    let ahead = latest.as_millis() - here.as_millis();
    match ahead > CLOCKS_DIFFER_MAX_MS {
        true => Finding::new(
            "clock",
            Verdict::Warning,
            format!(
                "the last change was made {:.1} s in the future of the clock here",
                ahead as f64 / 1_000.0
            ),
            "let a time service keep it right, or go on with the virtual clock that it was made by: timers would fire late",
        ),
        false => Finding::ok("clock", "not behind the last change"),
    }
}

fn about_quarantine(quarantined: u64) -> Finding {
    match quarantined {
        0 => Finding::ok("quarantine", "no damaged record"),
        count => Finding::new(
            "quarantine",
            Verdict::Error,
            format!("{count} records are not what was saved, and are not served"),
            "find out what the disk has done, and restore a backup beside it to compare",
        ),
    }
}

fn about_outbox(figures: &str) -> Option<Finding> {
    let count = |status: &str| figure(figures, &format!("statewright_effects{{status=\"{status}\"}}"));
    let (dead, unknown) = (count("dead")?, count("unknown")?);
    Some(match dead + unknown {
        0 => Finding::ok("outbox", "nothing is undelivered"),
        _ => Finding::new(
            "outbox",
            Verdict::Warning,
            format!("{dead} effects are dead, of {unknown} nobody knows whether they arrived"),
            "`statewright dead-letters` shows them and tries them again",
        ),
    })
}

/// The value of a figure in OpenMetrics text.
fn figure(figures: &str, name: &str) -> Option<u64> {
    figures.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn now_ms() -> i64 {
    engine::Clock::System.now().as_millis()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use store::MemoryStore;

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_and_a_virtual_one_is_not() {
        let here = Timestamp::parse("2026-01-05T09:00:10Z").unwrap();
        let info = |now: &str, clock: &str| serde_json::json!({ "now": now, "clock": clock });
        for (now, clock, expected) in [
            ("2026-01-05T09:00:09Z", "system", Verdict::Ok),
            ("2026-01-05T09:00:07Z", "system", Verdict::Warning),
            ("2026-01-05T09:01:10Z", "system", Verdict::Warning),
            ("2030-01-05T09:01:10Z", "virtual", Verdict::Ok),
        ] {
            let finding = about_clock(&info(now, clock), here).unwrap();
            assert_eq!(finding.verdict, expected, "{now} {clock}: {finding:?}");
        }
    }

    #[test]
    fn what_a_server_sees_of_itself_is_told_with_a_remedy() {
        let check = |name: &str, problem: Option<&str>| {
            let found = of_check(&serde_json::json!({ "name": name, "problem": problem, "detail": "well" }));
            found.map(|finding| (finding.verdict, finding.detail, finding.remedy.is_some()))
        };
        assert_eq!(check("timers", Some("late")), Some((Verdict::Error, "late".to_owned(), true)));
        assert_eq!(check("disk", None), Some((Verdict::Ok, "well".to_owned(), false)));
        assert_eq!(check("store", None), None);
        assert_eq!(about_room(FREE_BYTES_MIN).verdict, Verdict::Ok);
        assert_eq!(about_room(FREE_BYTES_MIN - 1).verdict, Verdict::Warning);
    }

    #[test]
    fn a_store_that_was_written_in_the_future_is_told() {
        let at = |ms| Timestamp::from_millis(ms);
        assert_eq!(about_latest(at(5_000), at(3_000)).verdict, Verdict::Ok);
        let told = about_latest(at(63_000), at(3_000));
        assert_eq!(told.verdict, Verdict::Warning);
        assert!(told.detail.contains("60.0 s in the future"), "{told:?}");
    }

    #[test]
    fn figures_are_read_by_their_whole_names() {
        let figures = "statewright_quarantined_x 7\nstatewright_quarantined 2\n\
            statewright_effects{status=\"dead\"} 1\nstatewright_effects{status=\"unknown\"} 0\n";
        assert_eq!(figure(figures, "statewright_quarantined"), Some(2));
        let outbox = about_outbox(figures).unwrap();
        assert_eq!(outbox.verdict, Verdict::Warning);
        assert_eq!(outbox.detail, "1 effects are dead, of 0 nobody knows whether they arrived");
    }

    #[test]
    fn a_store_that_may_lose_something_is_a_warning_and_no_error() {
        let findings = of_store(&MemoryStore::new()).unwrap();
        let verdicts: Vec<_> = findings.iter().map(|finding| (finding.what, finding.verdict)).collect();
        assert_eq!(
            verdicts,
            [
                ("store", Verdict::Warning),
                ("instances", Verdict::Ok),
                ("quarantine", Verdict::Ok),
                ("definitions", Verdict::Ok)
            ]
        );
    }
}
