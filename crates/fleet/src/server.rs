//! The servers of a fleet: real processes over one store, each of which may be gone at any moment.
//!
//! Owns starting, killing and freezing them, and where each listens now. Invariant: no server outlives the fleet.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::random::Random;

/// What all servers of a fleet are started with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub binary: PathBuf,
    pub store: String,
    /// Where the settings, the definitions and the logs are.
    pub directory: PathBuf,
    /// `tenant=key`, as the servers are told.
    pub keys: String,
}

#[derive(Debug)]
struct Running {
    child: Child,
    url: String,
}

/// All servers; one that does not run has its place.
#[derive(Debug)]
pub(crate) struct Servers {
    launch: Launch,
    places: Vec<Mutex<Option<Running>>>,
}

impl Servers {
    /// Starts them one after the other. Those who start others have to live as long as these: see `command`.
    pub fn start(launch: Launch, count: usize) -> Result<Self, String> {
        let servers = Self { launch, places: (0..count).map(|_| Mutex::new(None)).collect() };
        for number in 0..count {
            servers.start_again(number)?;
        }
        Ok(servers)
    }

    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Where a server listens; none while it does not run.
    pub fn url(&self, number: usize) -> Option<String> {
        self.place(number).as_ref().map(|running| running.url.clone())
    }

    /// The numbers of those that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.count()).filter(|number| self.place(*number).is_some()).collect()
    }

    /// Some that run, different ones as far as there are so many, in any order.
    pub fn some(&self, count: usize, random: &mut Random) -> Vec<String> {
        let mut running = self.running();
        let mut chosen = Vec::new();
        while chosen.len() < count && !running.is_empty() {
            let number = running.swap_remove(random.below(running.len()));
            chosen.extend(self.url(number));
        }
        if let Some(first) = chosen.first().cloned() {
            chosen.resize(count, first);
        }
        chosen
    }

    pub fn start_again(&self, number: usize) -> Result<(), String> {
        let log = self.launch.directory.join(format!("server-{number}.log"));
        let failed = |what: &str| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(5)..].join("\n    ");
            format!("server {number} {what}\n    {last}")
        };
        let mut child = self.command(&log)?.spawn().map_err(|error| {
            format!("failed to start {}: {error}; build it first", self.launch.binary.display())
        })?;
        let mut first = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            let _ = stdout.read_line(&mut first);
            // Whatever it says besides is read, so that it never waits for us.
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        }
        let Some(at) = first.find("http://") else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed("does not start"));
        };
        *self.place(number) = Some(Running { child, url: first[at..].trim().to_owned() });
        Ok(())
    }

    /// kill -9, while others still talk to it.
    pub fn kill(&self, number: usize) {
        // Gone from the list only afterwards, as for a balancer that notices late.
        if let Some(running) = self.place(number).as_mut() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        *self.place(number) = None;
    }

    /// Freezes one: it is there and does not answer.
    pub fn pause(&self, number: usize) {
        self.signal(number, "STOP");
    }

    pub fn resume(&self, number: usize) {
        self.signal(number, "CONT");
    }

    /// Those that have ended by themselves, which none should.
    pub fn ended(&self) -> Vec<usize> {
        let ended = |number: &usize| {
            let mut place = self.place(*number);
            place.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(Some(_))))
        };
        (0..self.count()).filter(ended).collect()
    }

    fn signal(&self, number: usize, name: &str) {
        if let Some(running) = self.place(number).as_ref() {
            let process = running.child.id().to_string();
            let _ = Command::new("sh").args(["-c", "kill -s \"$@\"", "kill", name, &process]).status();
        }
    }

    /// Where there is `setpriv`, a server ends with the thread that has started it, also when that is killed.
    fn command(&self, log: &Path) -> Result<Command, String> {
        let Launch { binary, store, directory, keys } = &self.launch;
        let log = File::options().create(true).append(true).open(log);
        let log =
            log.map_err(|error| format!("failed to write a log in {}: {error}", directory.display()))?;
        let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(setpriv.map_or(binary.as_path(), Path::new));
        if setpriv.is_some() {
            command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "text", "--store", store])
            .arg("--machines")
            .arg(directory.join("machines"))
            .arg("--config")
            .arg(directory.join("statewright.toml"))
            .env("STATEWRIGHT_API_KEYS", keys)
            .env("STATEWRIGHT_LOG", "warn")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(command)
    }

    fn place(&self, number: usize) -> MutexGuard<'_, Option<Running>> {
        self.places[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.count()).for_each(|number| self.kill(number));
    }
}
