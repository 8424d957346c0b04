//! A server's own directory, with a guardian that outlives us: a shell that waits for the end of its input, which
//! comes when we end, however we end. It then ends the server and removes the directory.
//!
//! The kernel's parent-death signal would be the other way; it comes when the *thread* that started the server ends,
//! which is the end of every test, and it removes nothing.

use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// `$1` is the directory and `$2` the signal that ends the server at once. Each line of input says which processes
/// there are from now on, the server itself first. What is paused hears no signal, hence CONT.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
running=
while read -r line; do running=$line; done
if [ -n "$running" ]; then
    server=${running%% *}
    kill -s CONT $running
    kill -s "$2" "$server"
    waited=0
    while kill -s 0 "$server" && [ "$waited" -lt 50 ]; do sleep 0.1; waited=$((waited + 1)); done
    kill -s KILL $running
fi
rm -rf "$1"
"#;

/// A directory that is removed when the value goes, and when the process does.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    guardian: Child,
    guardian_input: Mutex<Option<ChildStdin>>,
}

impl Directory {
    /// Makes a directory that only its owner may read. `end_signal` is what the guardian sends the server.
    pub fn create(parent: &Path, purpose: &str, end_signal: &str) -> Result<Self, Error> {
        static ORDINAL: AtomicU32 = AtomicU32::new(0);
        let path = loop {
            let ordinal = ORDINAL.fetch_add(1, Ordering::Relaxed);
            // Short: the name of a Unix socket has about a hundred characters.
            let path = parent.join(format!("statewright-{purpose}-{}-{ordinal}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Error::new(format!(
                        "failed to make the directory {}: {error}",
                        path.display()
                    )));
                }
            }
        };
        let spawned = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&path)
            .arg(end_signal)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends our group, as Ctrl-C does, is when the guardian is needed.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(mut guardian) => {
                let guardian_input = Mutex::new(guardian.stdin.take());
                Ok(Self { path, guardian, guardian_input })
            }
            Err(error) => {
                let _ = std::fs::remove_dir(&path);
                Err(Error::new(format!("failed to start sh: {error}")))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the guardian which processes it would have to end, the server itself first.
    pub fn answer_for(&self, processes: &[u32]) {
        let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
        let mut input = self.guardian_input.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = input.as_mut() {
            // A guardian that somebody killed is missed only if we are killed too.
            let _ = writeln!(input, "{}", processes.join(" "));
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.guardian_input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.guardian.wait();
    }
}
