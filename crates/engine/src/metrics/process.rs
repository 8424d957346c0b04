//! What the process takes, as Linux tells under /proc, under the names that all exporters have. Elsewhere it is zero.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Registering, as_gauge};
use crate::Clock;

/// What Linux counts processor time in for whoever asks, whatever its own clock: USER_HZ, 100 on all that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct ProcessMetrics {
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    files: Gauge,
    threads: Gauge,
}

impl ProcessMetrics {
    pub fn new(r: &mut Registering, backend: &'static str) -> Self {
        let build: Family<[(&'static str, &'static str); 2], Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("backend", backend)]).set(1);
        r.add("statewright_build_info", build);
        let began: Gauge<f64, AtomicU64> = r.add("process_start_time", Gauge::default());
        began.set(Clock::System.now().as_millis() as f64 / 1_000.0);
        Self {
            cpu: r.add("process_cpu", Counter::default()),
            memory: r.add("process_resident_memory", Gauge::default()),
            files: r.add("process_open_fds", Gauge::default()),
            threads: r.add("process_threads", Gauge::default()),
        }
    }

    pub fn set_now(&self) {
        let own = Path::new("/proc/self");
        let read = |name: &str| fs::read_to_string(own.join(name)).unwrap_or_default();
        let (status, stat) = (read("status"), read("stat"));
        let spent = cpu_seconds(&stat).unwrap_or_default();
        // Two who ask at once may have read them in another order.
        self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
        self.memory.set(as_gauge(number(&status, "VmRSS").unwrap_or_default() * 1_024));
        self.threads.set(as_gauge(number(&status, "Threads").unwrap_or_default()));
        self.files.set(as_gauge(fs::read_dir(own.join("fd")).map_or(0, |files| files.count() as u64)));
    }
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system: the 14th and 15th of `stat`, of which the second may have anything in it, in parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_read_whatever_the_program_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
        let status = "Name:\tVmRSS\nVmRSS:\t   2048 kB\nThreads:\t4\n";
        assert_eq!((number(status, "VmRSS"), number(status, "Threads")), (Some(2_048), Some(4)));
    }
}
