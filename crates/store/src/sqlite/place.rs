//! Where the file lies: whether it may be used, by whom, and whether it is still there.
//!
//! Owns everything about the file but its contents. A server has two locks of the operating system, which gives them
//! back however the process ends: one on a file beside it, under the name that is left when all links are followed, and
//! one on the file itself, so that neither a second name (a hard link) nor a lock file that was deleted lets another in.

use std::ffi::OsString;
use std::fs::{File, Metadata, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Durability;
use crate::sqlite::OpenError;
use crate::sqlite::mount::{self, Kind, Mount};

/// What a SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Links that lead to links are followed so often, as the operating system does.
const LINKS_MAX: usize = 40;

/// The file while it is ours.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute and without links.
    pub path: PathBuf,
    /// As whoever opened it calls it.
    pub name: String,
    pub durability: Durability,
    pub notes: Vec<String>,
    /// Which file its log is, once there is one: its device and its number there.
    log: OnceLock<(u64, u64)>,
    /// With the lock. Closing it would also give back SQLite's own locks, so that it has to outlive every connection.
    file: File,
    _lock: File,
}

impl Place {
    /// Finds out whether the file can be used, creates it if it is not there, and keeps everybody else out.
    pub fn take(path: &Path, network_allowed: bool) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let path = resolved(path, LINKS_MAX)?;
        let mount = path.parent().and_then(mount::of);
        let (durability, notes) = judged(&path, mount.as_ref(), network_allowed)?;
        let found = std::fs::metadata(&path).ok();
        if let Some(found) = &found {
            check_kind(&path, found)?;
        }
        check_beside(&path, found.as_ref())?;
        let lock = take_lock(&path)?;
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.map_err(|error| cannot("open for writing", &path, &error))?;
        // On the network, a lock of this kind may be one of the kind that SQLite itself needs.
        let is_networked = mount.as_ref().is_some_and(|mount| mount.kind == Kind::Network);
        if !is_networked && let Err(error) = lock_file(&file, &path) {
            // SQLite may have this file open in this very process, and closing it here would give back those locks.
            std::mem::forget(file);
            return Err(error);
        }
        let place = Self { path, name, durability, notes, log: OnceLock::new(), file, _lock: lock };
        place.check_header()?;
        Ok(place)
    }

    /// That it is empty or a database, before SQLite touches it.
    fn check_header(&self) -> Result<(), OpenError> {
        let shown = self.path.display();
        let length = self.file.metadata().map_err(|error| cannot("read", &self.path, &error))?.len();
        let mut header = [0; 100];
        if length == 0 {
            return Ok(());
        }
        if length < header.len() as u64 {
            return Err(no_database(&self.path, "it is too short for one"));
        }
        self.file.read_exact_at(&mut header, 0).map_err(|error| cannot("read", &self.path, &error))?;
        if header[..16] != *MAGIC {
            return Err(no_database(&self.path, "it does not begin like one"));
        }
        if self.log_bytes() > 0 {
            // The rest may have been torn in a loss of power, and the log has it whole.
            return Ok(());
        }
        let page = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        if !page.is_power_of_two() || page < 512 || header[21..24] != [64, 32, 32] {
            return Err(OpenError::Unusable(format!("the header of {shown} is damaged; {RESTORE}")));
        }
        if length % page != 0 {
            let detail = format!(
                "{shown} has {length} bytes, which is no whole number of pages: it was cut off; {RESTORE}"
            );
            return Err(OpenError::Unusable(detail));
        }
        Ok(())
    }

    /// Remembers which file the log is. To be called when there is a connection that keeps it from being deleted.
    pub fn note_log(&self) {
        if let Ok(found) = std::fs::metadata(self.log_path()) {
            let _ = self.log.set(identity(&found));
        }
    }

    /// What is wrong, if the file or its log is no longer what has its name. What is written to a file without a name is
    /// gone with the process.
    pub fn is_gone(&self) -> Option<String> {
        let ours = self.file.metadata().ok().map(|found| identity(&found));
        let is_there = |path: &Path, ours| std::fs::metadata(path).ok().map(|found| identity(&found)) == ours;
        let log = self.log_path();
        let gone = match () {
            () if !is_there(&self.path, ours) => &self.path,
            () if self.log.get().is_some() && !is_there(&log, self.log.get().copied()) => &log,
            () => return None,
        };
        let shown = gone.display();
        Some(format!(
            "{shown} was moved, replaced or deleted under the running server; put it back, or start again"
        ))
    }

    pub fn log_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// How long the log beside the file is.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log_path()).map_or(0, |found| found.len())
    }

    /// What whoever runs the server may still write there.
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len())
    }
}

/// What to do about a file that is not what it was.
pub(super) const RESTORE: &str = "put a copy from before in its place, or save what can be read with \
    `sqlite3 FILE .recover`";

fn no_database(path: &Path, why: &str) -> OpenError {
    let shown = path.display();
    OpenError::Unusable(format!("{shown} is not a database: {why}; name another file, or move this one away"))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The path with all links followed, whether or not the file is there yet.
fn resolved(path: &Path, links_left: usize) -> Result<PathBuf, OpenError> {
    match std::fs::canonicalize(path) {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("find", path, &error)),
        Err(_) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(target) = std::fs::read_link(path)
        && links_left > 0
    {
        return resolved(&parent.join(target), links_left - 1);
    }
    let Some(name) = path.file_name() else {
        return Err(OpenError::Unusable(format!("{} names no file", path.display())));
    };
    match std::fs::canonicalize(parent) {
        Ok(parent) if parent.is_dir() => Ok(parent.join(name)),
        Ok(parent) => Err(OpenError::Unusable(format!("{} is no directory", parent.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let shown = parent.display();
            Err(OpenError::Unusable(format!(
                "the directory {shown} does not exist; create it, or name another place"
            )))
        }
        Err(error) => Err(cannot("find", parent, &error)),
    }
}

/// What an acknowledgement is worth there, and what to know about it.
pub(super) fn judged(
    path: &Path,
    mount: Option<&Mount>,
    network_allowed: bool,
) -> Result<(Durability, Vec<String>), OpenError> {
    let Some(Mount { kind, name }) = mount else {
        return Ok((Durability::Durable, vec!["the kind of its file system is not known".to_owned()]));
    };
    Ok(match kind {
        Kind::Local => (Durability::Durable, Vec::new()),
        Kind::Layered => {
            let note = format!(
                "it is in a container's own layer ({name}) and goes with the container; mount a volume"
            );
            (Durability::Durable, vec![note])
        }
        Kind::Volatile => {
            let note = format!("its file system is in memory ({name}); everything is gone with the power");
            (Durability::Volatile, vec![note])
        }
        Kind::Passed => {
            let note = format!(
                "its file system ({name}) is passed through a program; what a flush is worth there is not known"
            );
            (Durability::BoundedLoss, vec![note])
        }
        Kind::Network if network_allowed => {
            let note = format!(
                "it is on a network file system ({name}), as `network=allow` has it; a second server on another machine \
                 may not be noticed, and what a flush is worth there is not known"
            );
            (Durability::BoundedLoss, vec![note])
        }
        Kind::Network => {
            let file = path.display().to_string();
            return Err(OpenError::Network { file, kind: name.clone() });
        }
    })
}

fn check_kind(path: &Path, found: &Metadata) -> Result<(), OpenError> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() || kind.is_socket() => "a pipe or socket",
        () => "a device",
    };
    Err(OpenError::Unusable(format!("{} is {what}; name a file", path.display())))
}

/// SQLite throws the log of a file away that is empty or not there, and with it perhaps all there is.
fn check_beside(path: &Path, found: Option<&Metadata>) -> Result<(), OpenError> {
    let log = beside(path, "-wal");
    let is_left = std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if !is_left || found.is_some_and(|found| found.len() > 0) {
        return Ok(());
    }
    let what = if found.is_some() { "is empty" } else { "is missing" };
    Err(OpenError::Unusable(format!(
        "{} {what}, but its log {} is there: bring the file back, or move the log away to begin anew",
        path.display(),
        log.display()
    )))
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let lock = beside(path, ".lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&lock)
        .map_err(|error| cannot("write", &lock, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path, Some(&file), "lock")),
        Err(TryLockError::Error(error)) => return Err(cannot("lock", &lock, &error)),
    }
    // For whoever is refused; a disk that is full takes away no more than the number.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn lock_file(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use(path, None, "file")),
        Err(TryLockError::Error(error)) => Err(cannot("lock", path, &error)),
    }
}

/// `lock` has the number of the process that has it.
fn in_use(path: &Path, lock: Option<&File>, what: &'static str) -> OpenError {
    let mut bytes = [0; 20];
    let length = lock.and_then(|lock| lock.read_at(&mut bytes, 0).ok()).unwrap_or_default();
    let pid = std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.trim().parse().ok());
    let lock = if what == "lock" { beside(path, ".lock") } else { path.to_owned() };
    OpenError::InUse { lock: lock.display().to_string(), pid }
}

/// What failed, for whom, and what to do about it.
fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> OpenError {
    let shown = path.display();
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{}; the server has to write the file and create others beside it", whose(path))
        }
        ErrorKind::ReadOnlyFilesystem => {
            "the file system is mounted for reading only; the server has to write".to_owned()
        }
        ErrorKind::StorageFull => "make room".to_owned(),
        _ => "see to that first".to_owned(),
    };
    OpenError::Unusable(format!("cannot {verb} {shown}: {error}: {remedy}"))
}

/// Who asks, and whose the file or its directory is.
fn whose(path: &Path) -> String {
    // A process owns what the system tells of it.
    let us = std::fs::metadata("/proc/self")
        .map_or("this user".to_owned(), |found| format!("user {}", found.uid()));
    let owned = [Some(path), path.parent()].into_iter().flatten().find_map(|path| {
        let found = std::fs::metadata(path).ok()?;
        let mode = found.mode() & 0o7777;
        Some(format!("{} belongs to user {} with mode {mode:o}", path.display(), found.uid()))
    });
    match owned {
        Some(owned) => format!("this is {us}, and {owned}"),
        None => format!("this is {us}"),
    }
}
