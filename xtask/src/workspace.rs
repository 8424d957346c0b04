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

/// Where all that is built lies, and the tools that are got for it.
pub fn target(root: &Path) -> PathBuf {
    // A relative directory is cargo's to resolve, and every cargo here runs in the root.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(target)
}

/// Where the built binaries of `profile` lie.
pub fn binary_directory(root: &Path, profile: Profile) -> PathBuf {
    target(root).join(profile.directory())
}

/// The built `statewright` binary of `profile`.
pub fn binary(root: &Path, profile: Profile) -> PathBuf {
    binary_directory(root, profile).join(format!("statewright{}", env::consts::EXE_SUFFIX))
}

/// The cargo that started this command, at the root.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    forget_package(&mut command);
    command
}

/// Takes out of a command's environment what cargo says there of the package that it runs: us. Build scripts look at
/// the same names, and what they have built under others would be built again, by turns with and without us.
pub fn forget_package(command: &mut Command) {
    let names = env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    }) {
        command.env_remove(name);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_which_package_we_are() {
        let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        let told = env::vars().filter(|(name, _)| own(name)).count();
        assert!(told > 0, "cargo tells its tests");
        let command = cargo(Path::new("/"));
        let removed = command.get_envs().filter(|(_, value)| value.is_none()).count();
        assert_eq!(removed, told);
    }
}
