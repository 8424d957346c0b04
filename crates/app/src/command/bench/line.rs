//! What is printed: lines of figures under a head, and what several rounds of one measurement come to.

use std::time::Duration;

use serde::Serialize;

use crate::command::bench::process::Spent;

/// One measured line. A figure that does not apply is not there.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line {
    pub what: String,
    pub per_second: f64,
    /// What it is of each floor of the same run.
    pub floors: Vec<Ratio>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Of user and system: of the server where that is a process of its own, else of the whole benchmark.
    pub cpu_us_per_event: Option<f64>,
    /// Of a server that has nothing to do.
    pub cpu_ms_per_second: Option<f64>,
    /// The peak of the same process.
    pub memory_mb: Option<f64>,
    /// What the files have grown by for each event, when all is closed.
    pub disk_bytes_per_event: Option<f64>,
    /// Commits in one transaction, on average.
    pub group: Option<f64>,
    /// Events that were sent and not yet answered, on average over time.
    pub in_flight: Option<f64>,
    /// Requests to the allocator for each, where they are counted.
    pub allocations: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Ratio {
    pub to: &'static str,
    pub is: f64,
}

impl Line {
    pub fn rate(what: &str, per_second: f64) -> Self {
        Self { what: what.to_owned(), per_second, ..Self::default() }
    }

    #[must_use]
    pub fn beside(mut self, to: &'static str, floor: f64) -> Self {
        self.floors.push(Ratio { to, is: self.per_second / floor });
        self
    }

    pub fn print(&self) {
        let ratios: Vec<String> = self.floors.iter().map(|r| format!("{:.2} {}", r.is, r.to)).collect();
        let figures = [
            (self.p50_ms, 7, 2),
            (self.p99_ms, 7, 2),
            (self.cpu_us_per_event, 7, 1),
            (self.memory_mb, 6, 0),
            (self.disk_bytes_per_event, 7, 0),
            (self.group, 6, 1),
            (self.allocations, 6, 1),
        ];
        let figures = figures.map(|(figure, width, digits)| {
            let text = figure.map_or(String::new(), |figure| format!("{figure:.digits$}"));
            format!(" {text:>width$}")
        });
        // A rate of less than a hundred is a count of something rare.
        let digits = usize::from(self.per_second < 100.0);
        let (what, per_second) = (&self.what, self.per_second);
        say!("{what:53} {per_second:>10.digits$}  {:30}{}", ratios.join(", "), figures.concat());
    }
}

pub(super) fn print_titles() {
    say!(
        "{:53} {:>10}  {:30} {:>7} {:>7} {:>7} {:>6} {:>7} {:>6} {:>6}",
        "",
        "per second",
        "of the floors",
        "p50 ms",
        "p99 ms",
        "cpu us",
        "MB",
        "B/event",
        "group",
        "allocs"
    );
}

/// What was done in one go.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub events: usize,
    pub elapsed: Duration,
    /// Of an event, or of a transaction where nobody waits for a single one.
    pub latencies_us: Vec<u32>,
    /// Transactions.
    pub groups: Option<u64>,
    pub spent: Spent,
    /// Whether the latencies are those of events.
    pub is_awaited: bool,
}

impl Round {
    fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub fn group(&self) -> Option<f64> {
        self.groups.map(|groups| self.events as f64 / groups.max(1) as f64)
    }
}

/// The rounds of one measurement.
#[derive(Debug, Default)]
pub(super) struct Rounds(pub Vec<Round>);

impl Rounds {
    /// Of the round in the middle: the best would be luck, and the mean whatever else the machine did.
    pub fn per_second(&self) -> f64 {
        median(self.0.iter().map(Round::rate).collect())
    }

    pub fn events(&self) -> usize {
        self.0.iter().map(|round| round.events).sum()
    }

    pub fn line(&self, what: &str) -> Line {
        let mut latencies: Vec<u32> = self.0.iter().flat_map(|r| r.latencies_us.iter().copied()).collect();
        let waited: f64 = latencies.iter().map(|us| f64::from(*us) / 1e6).sum();
        let elapsed: f64 = self.0.iter().map(|round| round.elapsed.as_secs_f64()).sum();
        let is_awaited = self.0.iter().all(|round| round.is_awaited);
        let (p50_ms, p99_ms) = percentiles(&mut latencies);
        let events = self.events() as f64;
        let cpu: Option<Duration> = self.0.iter().map(|round| round.spent.cpu).sum();
        let groups: Option<u64> = self.0.iter().map(|round| round.groups).sum();
        Line {
            p50_ms,
            p99_ms,
            cpu_us_per_event: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / events.max(1.0)),
            memory_mb: self.0.iter().filter_map(|round| round.spent.peak_mb).reduce(f64::max),
            group: groups.map(|groups| events / groups.max(1) as f64),
            in_flight: is_awaited.then_some(waited / elapsed),
            ..Line::rate(what, self.per_second())
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The values at the middle and at the ninety-ninth percentile, in milliseconds.
pub(super) fn percentiles(latencies_us: &mut [u32]) -> (Option<f64>, Option<f64>) {
    latencies_us.sort_unstable();
    let at = |share: f64| {
        let index = (latencies_us.len() as f64 * share) as usize;
        latencies_us.get(index).map(|us| f64::from(*us) / 1000.0)
    };
    (at(0.50), at(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut shuffled: Vec<u32> = (0..1_000).map(|n| (n * 7) % 1_000 * 1_000).collect();
        assert_eq!(percentiles(&mut shuffled), (Some(500.0), Some(990.0)));
        assert_eq!(percentiles(&mut [7_000]), (Some(7.0), Some(7.0)));
        assert_eq!(percentiles(&mut []), (None, None));
    }

    #[test]
    fn rounds_come_to_the_median_rate_and_all_their_latencies() {
        let round = |events: usize, latency: u32| Round {
            events,
            elapsed: Duration::from_secs(1),
            latencies_us: vec![latency; events],
            groups: Some(2),
            spent: Spent { cpu: Some(Duration::from_millis(10)), peak_mb: Some(events as f64) },
            is_awaited: true,
        };
        let line = Rounds(vec![round(400, 1_000), round(10, 90_000), round(50, 2_000)]).line("it");
        assert_eq!(line.per_second, 50.0);
        assert_eq!((line.p50_ms, line.p99_ms), (Some(1.0), Some(90.0)));
        assert_eq!(line.memory_mb, Some(400.0));
        assert_eq!(line.group, Some(460.0 / 6.0));
        assert!((line.cpu_us_per_event.unwrap() - 30_000.0 / 460.0).abs() < 1e-6);
        assert!((line.in_flight.unwrap() - (0.4 + 0.9 + 0.1) / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_ratio_is_ours_of_the_floor() {
        let line = Line::rate("it", 80.0).beside("append-only", 100.0).beside("obvious", 10.0);
        let ratios: Vec<(&str, f64)> = line.floors.iter().map(|ratio| (ratio.to, ratio.is)).collect();
        assert_eq!(ratios, [("append-only", 0.8), ("obvious", 8.0)]);
    }
}
