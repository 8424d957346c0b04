//! The files of folders: which are definitions and which stories, and which of several versions is which.
//!
//! What is in them is for `kernel::definition` and `engine::story` to say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kernel::id::MachineName;
use kernel::machine::Machine;

use crate::command::Failure;

/// The definitions in a folder, by name: `*.yaml`, `*.yml` and `*.json`, without stories.
pub(crate) fn definition_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(documents(dir)?.into_iter().filter(|path| !is_story_file(path)).collect())
}

/// The story files in a folder, by name.
pub(crate) fn story_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(documents(dir)?.into_iter().filter(|path| is_story_file(path)).collect())
}

pub(crate) fn is_story_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".stories."))
}

/// The files with stories of a machine, as they are called: `NAME.stories.yaml`, or with something more in between.
pub(crate) fn stories_named(dir: &Path, machine: &str) -> Vec<PathBuf> {
    let is_of = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(machine).is_some_and(|rest| rest.starts_with('.'))
    };
    story_files(dir).unwrap_or_default().into_iter().filter(is_of).collect()
}

/// Where the stories of a definition stand.
pub(crate) fn stories_of(definition: &Path) -> PathBuf {
    definition.with_extension("stories.yaml")
}

fn documents(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "; create it, or name another with --machines DIR",
            _ => "",
        };
        Failure(format!("failed to read the folder {}: {error}{remedy}", dir.display()))
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(OsStr::to_str);
        if extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn read_source(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure(format!("failed to read {}: {error}", path.display())))
}

/// Which file has which version of which machine.
#[derive(Debug, Default)]
pub(crate) struct Versions(BTreeMap<(MachineName, u32), PathBuf>);

impl Versions {
    /// # Errors
    /// Another file has this version of this machine: nobody could say which of the two is meant.
    pub fn add(&mut self, machine: &Machine, path: &Path) -> Result<(), String> {
        let (name, version) = (&machine.name, machine.version);
        if let Some(other) = self.0.get(&(name.clone(), version)) {
            let (other, path) = (other.display(), path.display());
            return Err(format!("{other} and {path} both have version {version} of the machine `{name}`"));
        }
        self.0.insert((name.clone(), version), path.to_owned());
        Ok(())
    }
}

/// What to do about two files of one version.
pub(crate) const SAME_VERSION_HELP: &str = "raise the version in the newer one, or take one of them away";
