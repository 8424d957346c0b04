//! Where things are: the repository's root, the built binaries, cargo itself, and directories to throw away.
//!
//! Owns no policy. Invariant: every path it returns is absolute.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// Which build of the `statewright` binary is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Debug,
    Release,
}

impl Profile {
    /// `--fast` gives up the release build, which takes minutes.
    pub fn chosen(fast: bool) -> Self {
        if fast { Self::Debug } else { Self::Release }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }

    /// The arguments with which cargo builds it.
    pub fn build_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &["build"],
            Self::Release => &["build", "--release"],
        }
    }
}

/// The repository's root. Cargo says at run time where this package lies, so that a binary built in one checkout
/// and run in another through a shared target directory looks at the right one.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Where the built binaries of `profile` lie.
pub fn binary_directory(root: &Path, profile: Profile) -> PathBuf {
    // A relative directory is cargo's to resolve, and every cargo here runs in the root.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(target).join(profile.directory())
}

/// The built `statewright` binary of `profile`.
pub fn binary(root: &Path, profile: Profile) -> PathBuf {
    binary_directory(root, profile).join(format!("statewright{}", env::consts::EXE_SUFFIX))
}

/// The cargo that started this command, at the root.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// A directory that is removed when the value goes.
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    /// Errors are those of the file system's `mkdir`.
    pub fn create(purpose: &str) -> io::Result<Self> {
        static ORDINAL: AtomicU32 = AtomicU32::new(0);
        let ordinal = ORDINAL.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("statewright-{purpose}-{}-{ordinal}", process::id()));
        // What a killed process with the same number left behind would otherwise be taken for ours.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Nothing to do about a failure: the system clears its temporary directory itself.
        let _ = fs::remove_dir_all(&self.path);
    }
}
