//! The whole server over HTTP on loopback, a process of its own, beside the floors.

use std::path::Path;
use std::time::Duration;

use crate::command::Failure;
use crate::command::bench::clients::Clients;
use crate::command::bench::floor::Floors;
use crate::command::bench::line::Round;
use crate::command::bench::process::{Meter, Process};
use crate::command::bench::server_process::ServerProcess;
use crate::command::bench::{Bench, Told, disk_bytes};

const CLIENTS: [usize; 3] = [32, 64, 256];

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    for count in CLIENTS {
        let folder = bench.folder(&format!("http-{count}"))?;
        let before = prepare(&folder)?;
        let floors = Floors::open(&bench.scratch, &format!("http-{count}"), count)?;
        let server = ServerProcess::start(&folder)?;
        let mut clients = Clients::of(server.address, count)?;
        let turns = floors.by_turns(bench.time, |time| round(&mut clients, &server.process, time))?;
        server.end()?;
        turns.tell(&format!("http: durable messages, {count} clients"), &folder, before, told);
    }
    Ok(())
}

/// What a server's folder takes before the first message.
pub(super) fn prepare(folder: &Path) -> Result<u64, Failure> {
    ServerProcess::start(folder)?.end()?;
    Ok(disk_bytes(folder))
}

/// What the server has used for it, and how many transactions it says that it made of it.
pub(super) fn round(clients: &mut Clients, server: &Process, time: Duration) -> Result<Round, Failure> {
    let before = batches(clients)?;
    let meter = Meter::start(server);
    let round = clients.round(time)?;
    let spent = meter.spent();
    let groups = batches(clients)?.zip(before).map(|(now, then)| now.saturating_sub(then));
    Ok(Round { groups, spent, ..round })
}

fn batches(clients: &Clients) -> Result<Option<u64>, Failure> {
    let metrics = clients.get("/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("statewright_batches_total "));
    Ok(value.and_then(|value| value.trim().parse().ok()))
}
