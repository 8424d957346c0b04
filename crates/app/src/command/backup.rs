//! `backup`, `restore` and `verify`: all of a store in one file, a store made of one, and what is in one.
//!
//! Owns where the file comes from and goes to. A file is there once all of it was written, read again and found whole.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use engine::Clock;
use serde_json::json;
use store::archive::{self, Contents, Counts, Passphrase, Problem, Reader, Sealing, Waiting};
use store::{KeyedStore, MasterKey, Vault};

use crate::command::client::ServerArgs;
use crate::command::{CommandResult, Failure};
use crate::encryption::{master_keys, open_store};

/// Between two words about how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
const COPIED_AT_ONCE: usize = 64 * 1024;
const PASSPHRASE: &str = "STATEWRIGHT_BACKUP_PASSPHRASE";

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Read this store itself, which no server may have if it is an SQLite file
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// What the server wants of whoever takes a backup: `backup_key` of its settings
    #[arg(long, value_name = "KEY", env = "STATEWRIGHT_BACKUP_KEY", hide_env_values = true)]
    backup_key: Option<String>,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    file: PathBuf,
    /// The store to fill, which has to be empty and without a server: sqlite:PATH, postgres://…, redis://…
    #[arg(long, value_name = "URL")]
    store: String,
    /// What becomes of replies that were waiting to be sent
    #[arg(long, default_value = "send")]
    effects: Effects,
    #[command(flatten)]
    keys: Keys,
    /// What came of it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    file: PathBuf,
    #[command(flatten)]
    keys: Keys,
    /// What is in it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Effects {
    /// They are sent, though they may have been since
    Send,
    /// They wait among the dead letters until somebody has them sent
    Hold,
}

/// What a file, and what is secret in it, is opened with.
#[derive(Debug, Args)]
struct Keys {
    /// File with a passphrase that all of the backup is encrypted with; or set STATEWRIGHT_BACKUP_PASSPHRASE
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Settings file with the encryption keys of the store [default: statewright.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Keys {
    fn passphrase(&self) -> Result<Option<Passphrase>, Failure> {
        let text = match &self.passphrase_file {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|error| Failure(format!("failed to read {}: {error}", path.display())))?)
            }
            None => std::env::var(PASSPHRASE).ok().filter(|text| !text.is_empty()),
        };
        text.map(|text| Passphrase::new(&text)).transpose().map_err(Failure)
    }

    /// The master keys of the settings, else the one that `dev` has made beside the store.
    fn masters(&self, store: Option<&str>) -> Result<Vec<MasterKey>, Failure> {
        master_keys(self.config.as_deref(), store).map_err(Failure)
    }
}

pub(crate) fn backup(args: &BackupArgs) -> CommandResult {
    let passphrase = args.keys.passphrase()?;
    if args.output == Path::new("-") {
        write(args, passphrase.as_ref(), std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let Saved { contents, bytes } = save(args, passphrase.as_ref())?;
    let (path, seconds) = (&args.output, began.elapsed().as_secs_f64());
    if args.server.json {
        say!("{}", json!({ "file": path, "bytes": bytes, "seconds": seconds, "contents": contents }));
        return Ok(ExitCode::SUCCESS);
    }
    let megabytes = bytes as f64 / 1e6;
    say!("{} in {seconds:.1} s", told(&contents.trailer.counts));
    say!("{} has {megabytes:.1} MB and is whole", path.display());
    remarks(&contents).iter().for_each(|remark| say!("{remark}"));
    Ok(ExitCode::SUCCESS)
}

/// A backup of a server before something is done to what it has; says what was written.
pub(super) fn before(path: &Path, key: Option<&str>, server: &ServerArgs) -> Result<String, Failure> {
    let args = BackupArgs {
        output: path.to_owned(),
        force: false,
        store: None,
        backup_key: key.map(str::to_owned),
        keys: Keys { passphrase_file: None, config: None },
        server: server.clone(),
    };
    let Saved { contents, .. } = save(&args, args.keys.passphrase()?.as_ref())?;
    Ok(format!("{} has {}", path.display(), told(&contents.trailer.counts)))
}

/// A file that was written and read again.
struct Saved {
    contents: Contents,
    bytes: u64,
}

fn save(args: &BackupArgs, passphrase: Option<&Passphrase>) -> Result<Saved, Failure> {
    let path = &args.output;
    if path.is_file() && !args.force {
        let name = path.display();
        return Err(Failure(format!("{name} is there already; choose another name, or add --force")));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error| Failure(format!("failed to write {}: {error}", path.display()));
    // Under another name, and for its owner only, until all of it is there.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    write(args, passphrase, BufWriter::new(file.as_file_mut()))?;
    file.as_file().sync_all().map_err(failed)?;
    let contents = read_again(file.path(), passphrase)
        .map_err(|problem| Failure(format!("what was written cannot be read again: {problem}")))?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let bytes = path.metadata().map_err(failed)?.len();
    Ok(Saved { contents, bytes })
}

/// Writes an archive to its end, encrypted if there is a passphrase.
fn write(args: &BackupArgs, passphrase: Option<&Passphrase>, to: impl Write) -> Result<(), Failure> {
    match passphrase {
        None => write_plain(args, to)?.flush()?,
        Some(passphrase) => write_plain(args, Sealing::new(to, passphrase)?)?.finish()?.flush()?,
    }
    Ok(())
}

fn write_plain<W: Write>(args: &BackupArgs, mut to: W) -> Result<W, Failure> {
    let mut progress = Progress::new("written");
    if let Some(url) = &args.store {
        let store = open_store(url, args.keys.masters(Some(url))?).map_err(Failure)?;
        let (to, _) = archive::write(&store, Clock::System.now(), to, &mut |counts| {
            progress.counted(counts);
            ControlFlow::Continue(())
        })?;
        progress.end();
        return Ok(to);
    }
    let mut from = args.server.get_stream("/v1/backup", args.backup_key.as_deref())?;
    let mut chunk = vec![0; COPIED_AT_ONCE];
    loop {
        let read = from.read(&mut chunk).map_err(|error| {
            Failure(format!("the server broke off, and there is no backup: {error}; its log says more"))
        })?;
        if read == 0 {
            progress.end();
            return Ok(to);
        }
        to.write_all(&chunk[..read])?;
        progress.copied(read);
    }
}

/// Without keys: whoever takes a backup need not be able to read it.
fn read_again(path: &Path, passphrase: Option<&Passphrase>) -> Result<Contents, Problem> {
    let from: Box<dyn BufRead> = Box::new(BufReader::new(File::open(path)?));
    let mut reader = Reader::open(archive::opened(from, passphrase)?, Arc::new(Vault::default()))?;
    archive::check(&mut reader, false, &mut |_| {})
}

pub(crate) fn verify(args: &VerifyArgs) -> CommandResult {
    let passphrase = args.keys.passphrase()?;
    let vault = Arc::new(Vault::new(args.keys.masters(None)?).map_err(Failure)?);
    let contents = check(&args.file, passphrase.as_ref(), vault, false)?;
    if args.json {
        say!("{}", serde_json::to_string(&contents)?);
        return Ok(ExitCode::SUCCESS);
    }
    let header = &contents.header;
    say!("a backup of {}, by statewright {} from {}", header.created_at, header.program, header.backend);
    say!("{}: every checksum fits, and every record can be read", told(&contents.trailer.counts));
    for (tenant, counts) in &contents.tenants {
        say!("  {tenant}: {}", told(counts));
    }
    remarks(&contents).iter().for_each(|remark| say!("{remark}"));
    if contents.locked > 0 {
        say!(
            "{} instances have secrets that there is no encryption key to here: of these, the checksums fit",
            contents.locked
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(args: &RestoreArgs) -> CommandResult {
    let (passphrase, masters) = (args.keys.passphrase()?, args.keys.masters(Some(&args.store))?);
    if args.store.starts_with("memory:") {
        return Err(Failure("what is restored into memory is gone with this command".into()));
    }
    let vault = Arc::new(Vault::new(masters.clone()).map_err(Failure)?);
    // Nothing is written before all of it was read.
    check(&args.file, passphrase.as_ref(), vault, true)?;
    let store = open_store(&args.store, masters).map_err(Failure)?;
    if let Some(what) = archive::what_is_there(&*store)? {
        return Err(Failure(format!(
            "the store {} is not empty: it has {what}; a backup is restored into a store that has nothing, under another \
             name, and nothing was changed",
            store::Store::info(&*store).location
        )));
    }
    let began = Instant::now();
    let restored = fill(args, passphrase.as_ref(), &store).map_err(|problem| {
        Failure(format!(
            "failed to restore all of {}: {problem}; what is in the store is a part: delete it, and begin again",
            args.file.display()
        ))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let contents = &restored.contents;
    if args.json {
        say!("{}", json!({ "seconds": seconds, "held": restored.held, "contents": contents }));
        return Ok(ExitCode::SUCCESS);
    }
    say!("{} in {seconds:.1} s", told(&contents.trailer.counts));
    remarks(contents).iter().for_each(|remark| say!("{remark}"));
    meaning(contents, restored.held).iter().for_each(|line| say!("{line}"));
    Ok(ExitCode::SUCCESS)
}

fn fill(
    args: &RestoreArgs,
    passphrase: Option<&Passphrase>,
    store: &KeyedStore,
) -> Result<archive::Restored, Problem> {
    let from: Box<dyn BufRead> = Box::new(BufReader::new(File::open(&args.file)?));
    let mut reader = Reader::open(archive::opened(from, passphrase)?, Arc::clone(store.vault()))?;
    let waiting = match args.effects {
        Effects::Send => Waiting::Send,
        Effects::Hold => Waiting::Hold,
    };
    let mut progress = Progress::new("restored");
    let restored = archive::restore(&mut reader, store, waiting, Clock::System.now(), &mut |counts| {
        progress.counted(counts);
    });
    progress.end();
    restored
}

/// All of a file, read.
fn check(
    path: &Path,
    passphrase: Option<&Passphrase>,
    vault: Arc<Vault>,
    must_open: bool,
) -> Result<Contents, Failure> {
    let named = |problem: Problem| Failure(format!("{}: {problem}", path.display()));
    let file = File::open(path).map_err(|error| named(error.into()))?;
    let from: Box<dyn BufRead> = Box::new(BufReader::new(file));
    let opened = archive::opened(from, passphrase).map_err(named)?;
    let mut reader = Reader::open(opened, vault).map_err(named)?;
    let mut progress = Progress::new("read");
    let contents = archive::check(&mut reader, must_open, &mut |counts| progress.counted(counts));
    progress.end();
    contents.map_err(named)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn told(counts: &Counts) -> String {
    let Counts { definitions, settings, instances, entries, clarifications, phases, effects } = counts;
    let all = [
        (*instances, "instances"),
        (*entries, "log entries"),
        (*clarifications, "clarifications"),
        (*phases, "phases"),
        (*effects, "effects"),
        (*definitions, "definitions"),
        (*settings, "settings"),
    ];
    let there = all.iter().filter(|(count, what)| *count > 0 || *what == "instances");
    there.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// What whoever relies on an archive should know of it.
fn remarks(contents: &Contents) -> Vec<String> {
    let mut remarks = Vec::new();
    if contents.trailer.corrupt > 0 {
        remarks.push(format!(
            "{} records of the store are not in it, because they are damaged; `statewright doctor` says more",
            contents.trailer.corrupt
        ));
    }
    if !contents.trailer.at_one_moment {
        remarks.push(
            "each instance is as it was at one moment, but no two need be of the same: others may have written while it was read"
                .to_owned(),
        );
    }
    remarks
}

/// What a restore means for what goes on.
fn meaning(contents: &Contents, held: u64) -> Vec<String> {
    let mut lines = vec![format!(
        "it is {} again: what was taken after that is forgotten, and a message or webhook that comes again is taken as new",
        contents.header.created_at
    )];
    if contents.pending > held {
        lines.push(format!(
            "{} effects were waiting then and go out when a server is started, though they may have been sent since",
            contents.pending - held
        ));
    }
    if held > 0 {
        lines.push(format!(
            "{held} replies were waiting then and are held back: `statewright dead-letters` lists them and has them sent"
        ));
    }
    lines
}

/// How far it has come, said on a terminal.
struct Progress {
    /// What is being done with all of it.
    what: &'static str,
    bytes: u64,
    began: Instant,
    said: Instant,
    is_shown: bool,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        let now = Instant::now();
        let is_shown = std::io::stderr().is_terminal();
        Self { what, bytes: 0, began: now, said: now, is_shown }
    }

    fn counted(&mut self, counts: &Counts) {
        let elapsed = self.began.elapsed().as_secs_f64();
        let instances = counts.instances;
        let rate = counts.records() as f64 / elapsed.max(1e-3);
        self.say(|what| format!("{instances} instances {what}, {rate:.0} records a second"));
    }

    fn copied(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let (bytes, rate) = (self.bytes, self.bytes as f64 / self.began.elapsed().as_secs_f64().max(1e-3));
        self.say(|what| format!("{} {what}, {} a second", size(bytes), size(rate as u64)));
    }

    fn say(&mut self, told: impl FnOnce(&str) -> String) {
        if self.is_shown && self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            eprint!("\r{}\u{1b}[K", told(self.what));
        }
    }

    fn end(&self) {
        if self.is_shown {
            eprint!("\r\u{1b}[K");
        }
    }
}
