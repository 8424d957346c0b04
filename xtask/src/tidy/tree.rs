//! The files that checks look at, and small trees to try checks on.
//!
//! Invariant: paths are relative to the root, with forward slashes, and sorted, so that reports are stable.

use std::fs;
use std::path::Path;

use super::rust_source::RustSource;

/// The Rust files under `crates/` and `xtask/`.
pub fn rust_files(root: &Path) -> Vec<RustSource> {
    let mut paths = files(root, "crates", &["rs"]);
    paths.extend(files(root, "xtask", &["rs"]));
    let mut sources: Vec<RustSource> =
        paths.into_iter().map(|path| RustSource::new(path.clone(), read(root, &path))).collect();
    let test_modules: Vec<String> = sources.iter().flat_map(RustSource::test_module_paths).collect();
    for source in &mut sources {
        let path = &source.path;
        // `a/tests` stands for a/tests.rs, a/tests/mod.rs and everything below.
        let belongs = |module: &String| {
            path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if is_test_path(path) || test_modules.iter().any(belongs) {
            source.mark_all_as_test();
        }
    }
    sources
}

/// The files under `directory` with one of `extensions`, sorted. A directory that does not exist has none.
pub fn files(root: &Path, directory: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = fs::read_dir(root.join(&directory)).into_iter().flatten().filter_map(Result::ok);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{directory}/{name}");
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                pending.push(path);
            } else if kind.is_file() && extensions.iter().any(|extension| has_extension(&name, extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The manifests of the workspace's packages as (package directory's name, path).
pub fn manifests(root: &Path) -> Vec<(String, String)> {
    let mut manifests: Vec<(String, String)> = files(root, "crates", &["toml"])
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
            Some((name.to_owned(), path.clone()))
        })
        .collect();
    if root.join("xtask/Cargo.toml").is_file() {
        manifests.push(("xtask".to_owned(), "xtask/Cargo.toml".to_owned()));
    }
    manifests
}

/// The text of a file that was just listed; empty where it has gone since.
pub fn read(root: &Path, path: &str) -> String {
    fs::read(root.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'))
}

/// Cargo's own places for code that only runs in tests.
fn is_test_path(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "benches")
}

#[cfg(test)]
pub mod sample {
    //! A throw-away repository for a check to find something in.

    use std::fs;
    use std::path::Path;

    use super::super::Violation;
    use crate::workspace::TemporaryDirectory;

    /// Writes `files` (path, text) into a fresh directory and hands its path to `look`.
    pub fn with_tree<T>(files: &[(&str, &str)], look: impl FnOnce(&Path) -> T) -> T {
        let directory = TemporaryDirectory::create("tidy").unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        look(directory.path())
    }

    /// Runs `check` on `files` and compares what it finds, as `path:line: what`, with `expected`.
    pub fn finds(check: fn(&Path) -> Vec<Violation>, files: &[(&str, &str)], expected: &[&str]) {
        let found: Vec<String> = with_tree(files, check)
            .iter()
            .map(|violation| format!("{}:{}: {}", violation.path, violation.line, violation.what))
            .collect();
        assert_eq!(found, expected);
    }
}

#[cfg(test)]
mod tests {
    use super::sample::with_tree;
    use super::*;

    #[test]
    fn files_are_found_at_any_depth_and_build_output_is_not() {
        let tree = [
            ("crates/a/src/b/c.rs", ""),
            ("crates/a/src/d.rs", ""),
            ("crates/a/target/e.rs", ""),
            ("crates/xrs", ""),
        ];
        let found = with_tree(&tree, |root| files(root, "crates", &["rs"]));
        assert_eq!(found, ["crates/a/src/b/c.rs", "crates/a/src/d.rs"]);
    }

    #[test]
    fn test_modules_in_their_own_files_count_as_tests() {
        let tree = [
            ("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod cases;\n"),
            ("crates/a/src/b.rs", "x\n#[cfg(test)]\nmod checks;\n"),
            ("crates/a/src/b/checks.rs", "x\n"),
            ("crates/a/src/cases.rs", "x\n"),
            ("crates/a/src/cases/deep.rs", "x\n"),
            ("crates/a/tests/whole.rs", "x\n"),
        ];
        let marked: Vec<String> = with_tree(&tree, rust_files)
            .into_iter()
            .filter(|source| source.is_test_line(1))
            .map(|source| source.path)
            .collect();
        assert_eq!(
            marked,
            [
                "crates/a/src/b/checks.rs",
                "crates/a/src/cases.rs",
                "crates/a/src/cases/deep.rs",
                "crates/a/tests/whole.rs",
            ]
        );
    }
}
