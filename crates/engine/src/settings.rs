//! The engine's limits, each with its reason.

use std::time::Duration;

use kernel::snapshot::StuckBy;
use kernel::time::{Delay, Timestamp};

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Inputs in one batch. 64 is as good as 1,024 for a disk, and keeps the wait short.
    pub batch_inputs_max: usize,
    /// Instances whose timers are fired between two batches of inputs, so that a backlog of them starves nobody.
    pub batch_timers_max: usize,
    /// Inputs waiting for the shard; at ten thousand commits a second this is a second's work.
    pub queue_inputs_max: usize,
    /// Decisions on a revision that was no longer current, before the input is given back: several servers may be after
    /// one session, and each time one of them wins.
    pub attempts_max: u32,
    /// What hot instances and recent receipts may take in memory, as it is estimated: some eight thousand conversations.
    pub cached_bytes_max: usize,
    /// How long a claimed timer is left to whoever claimed it.
    pub claim_lease: Delay,
    /// What waits for somebody with no way out by time, and has not changed for so long, is listed as stuck.
    pub silent_after: Delay,
    /// A timer that is late by more than this does not fire: nothing takes longer that goes well.
    pub overdue_after: Delay,
    /// Deliveries under way at one time; each may hold a thread while it waits for its answer.
    pub deliveries_max: usize,
    /// How long a claimed effect is left to whoever claimed it: longer than any request may take.
    pub delivery_lease: Delay,
    /// How long what is under way may take to end when the server stops, in the machine's own time.
    pub farewell_max: Duration,
    /// How long log entries and their receipts are kept. Providers redeliver for seven days; eight is the least.
    pub retention: Delay,
    /// How often expired records are cleaned up.
    pub clean_up_every: Delay,
    /// Records deleted at one go.
    pub clean_up_max: usize,
    /// Whether the log has a line for each commit.
    pub logs_commits: bool,
}

impl Settings {
    /// What counts as stuck at a moment.
    pub fn stuck_by(&self, now: Timestamp) -> StuckBy {
        let before = |delay: Delay| Timestamp::from_millis(now.as_millis() - delay.as_millis());
        StuckBy { overdue_since: before(self.overdue_after), silent_since: before(self.silent_after) }
    }

    /// Of an engine over a store that nothing is kept of: what it commits has not happened.
    pub fn of_rehearsal() -> Self {
        Self { logs_commits: false, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_inputs_max: 1_024,
            batch_timers_max: 64,
            queue_inputs_max: 10_000,
            attempts_max: 32,
            cached_bytes_max: 16 << 20,
            claim_lease: Delay::from_secs(30),
            silent_after: Delay::from_secs(86_400),
            overdue_after: Delay::from_secs(60),
            deliveries_max: 64,
            delivery_lease: Delay::from_secs(90),
            farewell_max: Duration::from_secs(5),
            retention: Delay::from_secs(30 * 86_400),
            clean_up_every: Delay::from_secs(60),
            clean_up_max: 1_000,
            logs_commits: true,
        }
    }
}
