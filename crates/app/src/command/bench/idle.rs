//! A server that has nothing to do: what it keeps in memory, and how often it wakes up for nothing.

use std::time::Duration;

use crate::command::Failure;
use crate::command::bench::line::Line;
use crate::command::bench::server_process::ServerProcess;
use crate::command::bench::{Bench, Told};

/// For what a start leaves behind to be over.
const REST: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(5);

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let server = ServerProcess::start(&bench.folder("idle")?)?;
    let process = &server.process;
    std::thread::sleep(REST);
    let (wake_ups, cpu) = (process.wake_ups(), process.cpu_of_threads());
    std::thread::sleep(WATCHED);
    let wake_ups = process.wake_ups().zip(wake_ups).map_or(0, |(now, then)| now.saturating_sub(then));
    let cpu = process.cpu_of_threads().zip(cpu).map(|(now, then)| now.saturating_sub(then));
    let seconds = WATCHED.as_secs_f64();
    let cpu = cpu.map(|cpu| cpu.as_secs_f64() * 1e3 / seconds);
    let told_cpu = cpu.map_or(String::new(), |ms| format!(", with {ms:.2} ms of CPU"));
    let what = format!("idle: wake-ups a second{told_cpu}");
    let line = Line {
        memory_mb: process.resident_mb(),
        cpu_ms_per_second: cpu,
        ..Line::rate(&what, wake_ups as f64 / seconds)
    };
    told(line);
    server.end()
}
