//! Log lines on their way out: gathered in memory, and written a moment later, many at once.
//!
//! Whoever logs does not wait for a system call. What somebody may be waiting for, warnings and errors, is written
//! before logging it returns, with all that came before it; the rest within `PAUSE`. Lines keep their order and none is
//! dropped: who logs faster than lines can be written waits, as without this. A process that is killed takes the lines
//! of the last `PAUSE` with it, none of them a warning.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// As long as a line waits for others: too short to be noticed by who reads along.
const PAUSE: Duration = Duration::from_millis(50);

/// Beyond this, whoever logs writes. That is some hundred lines: enough for a system call each to be no cost.
const GATHERED_BYTES_MAX: usize = 64 * 1_024;

/// Lines that go to one place. Clones share them.
#[derive(Debug)]
pub(super) struct Lines<W>(Arc<Shared<W>>);

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<W> {
    gathered: Mutex<Vec<u8>>,
    /// Tells that something is gathered where nothing was.
    begun: Condvar,
    /// Locked before `gathered` by whoever takes lines out of there, so that they keep their order.
    out: Mutex<W>,
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Starts the thread that writes. Without one, and if asked for, each line is written at once.
    pub fn to(out: W, at_once: bool) -> LinesWriter<W> {
        let shared = Shared { gathered: Mutex::default(), begun: Condvar::new(), out: Mutex::new(out) };
        let lines = Self(Arc::new(shared));
        let theirs = lines.clone();
        let writes = move || loop {
            theirs.wait();
            std::thread::sleep(PAUSE);
            theirs.flush();
        };
        let is_written = !at_once && std::thread::Builder::new().name("log".into()).spawn(writes).is_ok();
        LinesWriter { lines, at_once: !is_written }
    }

    fn wait(&self) {
        let gathered = lock(&self.0.gathered);
        // Nobody is woken up while there is nothing to write.
        drop(self.0.begun.wait_while(gathered, |gathered| gathered.is_empty()));
    }
}

impl<W: Write> Lines<W> {
    /// Writes all that is gathered. Where the log goes nowhere there is nobody to tell.
    pub fn flush(&self) {
        let mut out = lock(&self.0.out);
        let gathered = mem::take(&mut *lock(&self.0.gathered));
        let _ = out.write_all(&gathered).and_then(|()| out.flush());
    }

    fn gather(&self, line: &[u8], at_once: bool) {
        let mut gathered = lock(&self.0.gathered);
        if gathered.is_empty() && !at_once {
            self.0.begun.notify_one();
        }
        gathered.extend_from_slice(line);
        if at_once || gathered.len() > GATHERED_BYTES_MAX {
            drop(gathered);
            self.flush();
        }
    }
}

/// Makes what lines are written with.
#[derive(Debug)]
pub(super) struct LinesWriter<W> {
    pub lines: Lines<W>,
    at_once: bool,
}

impl<'w, W: Write + 'w> MakeWriter<'w> for LinesWriter<W> {
    type Writer = LineWriter<'w, W>;

    fn make_writer(&'w self) -> LineWriter<'w, W> {
        LineWriter { lines: &self.lines, at_once: self.at_once }
    }

    fn make_writer_for(&'w self, about: &Metadata<'_>) -> LineWriter<'w, W> {
        LineWriter { lines: &self.lines, at_once: self.at_once || *about.level() <= Level::WARN }
    }
}

/// Takes one line, whole.
#[derive(Debug)]
pub(super) struct LineWriter<'w, W> {
    lines: &'w Lines<W>,
    at_once: bool,
}

impl<W: Write> Write for LineWriter<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.gather(line, self.at_once);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Each write by itself.
    struct Outlet(Sender<String>);

    impl Write for Outlet {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.send(String::from_utf8(bytes.to_vec()).unwrap()).map_err(io::Error::other)?;
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs a program, and says what was written while it ran; what comes later still comes.
    fn written_by(at_once: bool, program: impl FnOnce()) -> (Vec<String>, Receiver<String>) {
        let (sender, receiver) = channel();
        let writer = Lines::to(Outlet(sender), at_once);
        let layer = tracing_subscriber::fmt::layer().without_time().with_level(false).with_target(false);
        let layer = layer.with_ansi(false).with_writer(writer);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), program);
        (receiver.try_iter().collect(), receiver)
    }

    #[test]
    fn a_warning_is_out_at_once_with_all_that_came_before_it() {
        let (written, _) = written_by(false, || {
            tracing::info!("first");
            tracing::info!("second");
            tracing::warn!("third");
        });
        assert_eq!(written.concat(), "first\nsecond\nthird\n");
    }

    #[test]
    fn what_nobody_warns_of_comes_by_itself() {
        let (written, later) = written_by(false, || tracing::info!("only"));
        let come = written.into_iter().next().or_else(|| later.recv_timeout(Duration::from_secs(20)).ok());
        assert_eq!(come.as_deref(), Some("only\n"));
    }

    #[test]
    fn each_line_is_written_at_once_for_who_reads_along() {
        let (written, _) = written_by(true, || {
            tracing::info!("first");
            tracing::info!("second");
        });
        assert_eq!(written, ["first\n", "second\n"]);
    }

    #[test]
    fn memory_is_bounded_and_order_kept_whoever_writes() {
        let (written, later) =
            written_by(false, || (0..20_000).for_each(|number| tracing::info!("{number}")));
        let mut all = written.concat();
        let expected: String = (0..20_000).map(|number| format!("{number}\n")).collect();
        while all.len() < expected.len() {
            all.push_str(&later.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        assert!(all == expected);
        assert!(written.iter().all(|piece| piece.len() <= GATHERED_BYTES_MAX + 16));
    }
}
