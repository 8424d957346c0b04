//! What a process has used, as Linux tells under /proc: processor time, memory, and how often its threads woke up.
//!
//! Elsewhere nothing is known, and the figures stay empty.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the kernel counts processor time in, whatever its own clock: USER_HZ, which is 100 on all that we run on.
const TICK: Duration = Duration::from_millis(10);

/// A process under /proc, or several that are one program.
#[derive(Clone, Debug)]
pub(super) struct Process(Vec<PathBuf>);

/// What was used between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub cpu: Option<Duration>,
    pub peak_mb: Option<f64>,
}

/// A process from a moment on.
#[derive(Debug)]
pub(super) struct Meter {
    process: Process,
    cpu: Option<Duration>,
}

impl Meter {
    pub fn start(process: &Process) -> Self {
        Self { process: process.clone(), cpu: process.cpu() }
    }

    /// Of the benchmark itself; its peak of memory is forgotten, so that lines do not inherit it.
    pub fn start_own() -> Self {
        // What cannot be forgotten is reported too high, never too low.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self::start(&Process(vec![PathBuf::from("/proc/self")]))
    }

    pub fn spent(&self) -> Spent {
        let cpu = self.process.cpu().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        Spent { cpu, peak_mb: self.process.peak_mb() }
    }
}

impl Process {
    pub fn of(id: u32) -> Self {
        Self(vec![Path::new("/proc").join(id.to_string())])
    }

    /// With those that it has started itself and that are there now.
    pub fn with_children(id: u32) -> Self {
        let Self(mut all) = Self::of(id);
        let children = std::fs::read_to_string(all[0].join(format!("task/{id}/children")));
        let children = children.unwrap_or_default();
        all.extend(children.split_whitespace().map(|child| Path::new("/proc").join(child)));
        Self(all)
    }

    /// User and system, of all its threads, ended ones too.
    pub fn cpu(&self) -> Option<Duration> {
        let of = |process: &PathBuf| cpu_in_stat(&std::fs::read_to_string(process.join("stat")).ok()?);
        self.0.iter().map(of).sum()
    }

    /// The same to the nanosecond, but only of threads that still run.
    pub fn cpu_of_threads(&self) -> Option<Duration> {
        self.threads("schedstat", |text| text.split_whitespace().next()?.parse().ok())
            .map(Duration::from_nanos)
    }

    /// The most that was in memory at a time.
    pub fn peak_mb(&self) -> Option<f64> {
        self.status("VmHWM")
    }

    pub fn resident_mb(&self) -> Option<f64> {
        self.status("VmRSS")
    }

    fn status(&self, name: &str) -> Option<f64> {
        let of = |process: &PathBuf| {
            let text = std::fs::read_to_string(process.join("status")).ok()?;
            Some(number_in_status(&text, name)? as f64 * 1_024.0 / 1e6)
        };
        self.0.iter().map(of).sum()
    }

    /// How often its threads have waited for something, and so were woken up.
    pub fn wake_ups(&self) -> Option<u64> {
        self.threads("status", |text| number_in_status(text, "voluntary_ctxt_switches"))
    }

    fn threads(&self, file: &str, read: impl Fn(&str) -> Option<u64>) -> Option<u64> {
        let of = |process: &PathBuf| {
            let threads = std::fs::read_dir(process.join("task")).ok()?;
            // A thread that ends meanwhile counts for nothing.
            let texts = threads.flatten().filter_map(|t| std::fs::read_to_string(t.path().join(file)).ok());
            Some(texts.filter_map(|text| read(&text)).sum::<u64>())
        };
        self.0.iter().map(of).sum()
    }
}

/// The name of the program stands in brackets and may have anything in it, brackets and spaces too.
fn cpu_in_stat(text: &str) -> Option<Duration> {
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace().skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(TICK * user.checked_add(system)?)
}

fn number_in_status(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name_of_a_program() {
        let rest = "S 1 2 3 0 -1 4194304 2834 6524 15 2 140 11 5 0 20 0 1 0 5481738 16961536";
        for (name, expected) in
            [("42 (statewright) ", Some(1_510)), ("42 (a) b) (c d) ", Some(1_510)), ("42 statewright ", None)]
        {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(cpu_in_stat(&format!("{name}{rest}")), expected, "{name}");
        }
        assert_eq!(cpu_in_stat("42 (short) S 1 2"), None);
    }

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let text =
            "Name:\tx\nVmHWM:\t   54640 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t1280\n";
        for (name, expected) in [
            ("VmHWM", Some(54_640)),
            ("voluntary_ctxt_switches", Some(1_280)),
            ("Vm", None),
            ("Name", None),
            ("VmRSS", None),
        ] {
            assert_eq!(number_in_status(text, name), expected, "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_threads() {
        let process = Process::of(std::process::id());
        assert!(process.resident_mb().unwrap() > 0.5);
        assert!(process.peak_mb().unwrap() >= process.resident_mb().unwrap() * 0.5);
        assert!(process.cpu().is_some() && process.wake_ups().is_some());
    }
}
