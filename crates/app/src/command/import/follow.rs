//! `import --follow`: what is new or changed in the other system comes too, round by round, until somebody ends it.
//!
//! A round that fails is told, and the next one begins where it began.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::time::Delay;
use serde_json::json;

use crate::command::import::account::{Account, Counts};
use crate::command::import::memory::Memory;
use crate::command::import::source::{Mark, Scope, Source};
use crate::command::import::{Task, locked};
use crate::command::serve::stop_signal;
use crate::command::{CommandResult, Failure};

/// Rounds that fail one after the other before it is given up: with five seconds between them, a quarter of an hour.
const FAILURES_MAX: usize = 180;

/// What is to be done about the cut-over, for whoever has ended it.
const NEXT: [&str; 4] = [
    "To cut over:",
    "  1. stop what writes into the other system",
    "  2. run the same import once without --follow: it reads everything, and says what was rejected",
    "  3. send people here; `import --undo` withdraws what has not gone on here, should they have to go back",
];

struct Following<'a> {
    task: &'a Task<'a>,
    memory: Mutex<Memory>,
    account: Mutex<Account>,
    mark: Mark,
}

pub(super) fn follow(task: &Task<'_>) -> CommandResult {
    let args = task.args;
    let (is_over, ended) = stop()?;
    let memory = Mutex::new(Memory::default());
    let mark = Mark::default();
    let scope = Scope { args, column: task.mapping.follow.as_deref(), since: Some(&mark) };
    let mut first = Some(Source::open(scope)?);
    let total = first.as_ref().map_or(0, |source| source.total);
    let account = Mutex::new(Account::new(args.rejects.as_deref(), total)?);
    let mut following = Following { task, memory, account, mark };
    let (mut failures, mut came) = (0, Instant::now());
    loop {
        let before = locked(&following.account).counts();
        let failed = following.round(first.take(), &is_over)?;
        let now = locked(&following.account).counts();
        following.tell(now, before);
        if now != before {
            came = Instant::now();
        }
        failures = if failed.is_some() { failures + 1 } else { 0 };
        if let Some(Failure(problem)) = failed {
            if failures == FAILURES_MAX {
                locked(&following.account).stop(Failure(problem));
                break;
            }
            eprintln!("statewright: {problem}; trying again in {}", args.every);
        }
        let is_idle = |patience: Delay| failures == 0 && came.elapsed() >= duration(patience);
        if args.until_idle.is_some_and(is_idle) || is_over.load(Ordering::Relaxed) {
            break;
        }
        if !matches!(ended.recv_timeout(duration(args.every)), Err(RecvTimeoutError::Timeout)) {
            break;
        }
    }
    let account = following.account.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ended = account.end(false, args.server.json);
    if !args.server.json {
        NEXT.iter().for_each(|line| say!("{line}"));
    }
    ended
}

impl Following<'_> {
    /// Brings in what says something else than in the round before. The inner failure is one of this round only.
    fn round(&mut self, first: Option<Source>, is_over: &AtomicBool) -> Result<Option<Failure>, Failure> {
        let is_first = first.is_some();
        let scope = Scope {
            args: self.task.args,
            column: self.task.mapping.follow.as_deref(),
            since: Some(&self.mark),
        };
        let mut source = match first.map_or_else(|| Source::open(scope), Ok) {
            Ok(source) => source,
            Err(failure) => return Ok(Some(failure)),
        };
        locked(&self.memory).begin_round();
        self.task.pass(&mut source, Some(&self.memory), &self.account, is_over);
        let failed = locked(&self.account).take_stopped();
        let is_whole = failed.is_none() && !is_over.load(Ordering::Relaxed);
        let vanished = locked(&self.memory).end_round(is_whole && source.is_all);
        let mut account = locked(&self.account);
        account.vanished(vanished);
        account.rest()?;
        match failed {
            // Whoever has just begun is to know at once.
            Some(failure) if is_first => Err(failure),
            failed => {
                if is_whole {
                    self.mark = source.mark();
                }
                Ok(failed)
            }
        }
    }

    fn tell(&self, now: Counts, before: Counts) {
        let Some(news) = now.news(before) else { return };
        let at = engine::Clock::System.now();
        match self.task.args.server.json {
            true => {
                let mut told = now.since(before).report();
                told["at"] = json!(at);
                say!("{told}");
            }
            false => say!("{at}  {news}"),
        }
    }
}

fn duration(delay: Delay) -> Duration {
    Duration::from_millis(delay.as_millis().max(0).unsigned_abs())
}

/// Whether somebody wants it to end, and what wakes whoever waits then. Whoever wants it twice does not wait for what is
/// under way.
fn stop() -> Result<(Arc<AtomicBool>, Receiver<()>), Failure> {
    let (sender, receiver) = channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_over);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = move || {
        runtime.block_on(stop_signal());
        told.store(true, Ordering::Relaxed);
        // Nobody may be waiting.
        let _ = sender.send(());
        runtime.block_on(stop_signal());
        std::process::exit(130);
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen)?;
    Ok((is_over, receiver))
}
