//! Overlay files: which definition beside them each is over, what the two come to, and how that is shown.

use std::path::{Path, PathBuf};

use kernel::definition;
use kernel::definition::overlay::{Header, Part, combine, load_over};
use kernel::diagnostic::{Diagnostic, nearest};
use kernel::id::TenantId;
use kernel::machine::Machine;

use crate::command::Failure;
use crate::command::machine_files::{definition_files, read_source};

/// A file that is an overlay.
#[derive(Debug)]
pub(crate) struct OverlayFile {
    pub path: PathBuf,
    pub text: String,
    /// The name of what it changes.
    pub base: String,
    pub tenant: Option<TenantId>,
}

/// A definition that overlays are over.
#[derive(Debug)]
pub(crate) struct BaseFile {
    pub path: PathBuf,
    pub machine: Machine,
    pub diagnostics: Vec<Diagnostic>,
}

impl OverlayFile {
    /// `None` for a file that is a definition itself, or that nothing can be read of.
    pub fn of(path: &Path, source: &str) -> Option<Self> {
        let Header { base, tenant } = Header::read(source)?;
        Some(Self { path: path.to_owned(), text: source.to_owned(), base, tenant })
    }

    /// The definition of its name in its folder, of several versions the highest.
    ///
    /// # Errors
    /// When there is none that loads; the error names the nearest.
    pub fn base_beside(&self) -> Result<BaseFile, Failure> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found: Option<BaseFile> = None;
        let mut known = Vec::new();
        for path in definition_files(folder.unwrap_or(Path::new(".")))? {
            let source = read_source(&path)?;
            let (Some(machine), diagnostics) = definition::load(&source) else { continue };
            known.push(machine.name.to_string());
            let higher = found.as_ref().is_none_or(|found| found.machine.version < machine.version);
            if machine.name.as_str() == self.base && !machine.is_customised() && higher {
                found = Some(BaseFile { path, machine, diagnostics });
            }
        }
        found.ok_or_else(|| {
            let help = nearest(&self.base, known.iter().map(String::as_str));
            Failure(format!(
                "no definition of `{}` that loads is beside {}; {help}",
                self.base,
                self.path.display()
            ))
        })
    }

    /// # Errors
    /// When there is no base, or the two do not fit: the diagnostics have been shown then.
    pub fn check_over(&self, base_path: &Path, base: Option<&Machine>) -> Result<(), Failure> {
        let path = self.path.display();
        let Some(base) = base else {
            return Err(Failure(format!(
                "{path} is an overlay of `{}`, and there is no such machine",
                self.base
            )));
        };
        let (machine, diagnostics) = load_over(&base.source, &self.text);
        diagnostics.iter().for_each(|each| eprintln!("{}\n", self.render(each, base_path, base)));
        let problem = || Failure(format!("{path} does not fit `{}`; mend it or move it away", self.base));
        machine.map(drop).ok_or_else(problem)
    }

    /// A diagnostic with the lines of the file that it is about.
    pub fn render(&self, diagnostic: &Diagnostic, base_path: &Path, base: &Machine) -> String {
        match diagnostic.part {
            Some(Part::Base) => diagnostic.render(&base_path.display().to_string(), &base.source),
            _ => diagnostic.render(&self.path.display().to_string(), &self.text),
        }
    }
}

/// The text of a definition; of an overlay's file, that of what it comes to.
pub(crate) fn read_definition(path: &Path) -> Result<String, Failure> {
    let source = read_source(path)?;
    match OverlayFile::of(path, &source) {
        Some(overlay) => Ok(combine(&overlay.base_beside()?.machine.source, &source)),
        None => Ok(source),
    }
}
