//! Checks on the packages' Cargo.toml files: which crate may know which, and the lints they share.
//!
//! Reads the few shapes of TOML that manifests use, not all of TOML. Invariant: a crate that the table of arrows
//! does not list is itself a violation, so that a new crate cannot slip past.

use std::path::Path;

use super::Violation;
use super::tree;

/// Table of which of our crates each crate may depend on. Development dependencies are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("app", &["engine", "store", "kernel"]),
    ("engine", &["store", "kernel"]),
    ("store", &["kernel"]),
    ("kernel", &[]),
    ("sim", &["engine", "store", "kernel"]),
    ("fleet", &["testbed"]),
    ("testbed", &[]),
    ("xtask", &["testbed"]),
];

/// What starts the name of a package that waits, or rolls dice: the kernel is a pure function.
const KERNEL_FORBIDDEN: &[&str] = &["tokio", "async", "futures", "rand", "fastrand", "getrandom"];

/// Dependencies among our crates follow the table of arrows.
pub fn check_arrows(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let manifests = tree::manifests(root);
    for (name, _) in ARROWS {
        if !manifests.iter().any(|(package, _)| package == name) {
            let path = if *name == "xtask" {
                "xtask/Cargo.toml".to_owned()
            } else {
                format!("crates/{name}/Cargo.toml")
            };
            violations.push(Violation::new(
                &path,
                1,
                "does not exist",
                "take the crate out of the table of arrows",
            ));
        }
    }
    for (name, path) in manifests {
        let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| *package == name) else {
            let remedy = "add it to the table of arrows in xtask/src/tidy/manifests.rs";
            violations.push(Violation::new(
                &path,
                1,
                format!("no arrow is known for the crate `{name}`"),
                remedy,
            ));
            continue;
        };
        for dependency in dependencies(&tree::read(root, &path)) {
            let ours = ARROWS.iter().any(|(package, _)| *package == dependency.package);
            if ours && !dependency.only_for_development && !allowed.contains(&dependency.package.as_str()) {
                let what = format!("`{name}` depends on `{}`", dependency.package);
                let remedy = match allowed {
                    [] => "it may depend on none of our crates: move what it needs into it".to_owned(),
                    _ => format!(
                        "it may depend on {} only: move what it needs further down",
                        allowed.join(", ")
                    ),
                };
                violations.push(Violation::new(&path, dependency.line, what, remedy));
            }
        }
    }
    violations
}

/// The kernel's dependencies, development ones included, neither wait nor roll dice.
pub fn check_kernel_manifest(root: &Path) -> Vec<Violation> {
    let path = "crates/kernel/Cargo.toml";
    let forbidden = |package: &str| KERNEL_FORBIDDEN.iter().any(|start| package.starts_with(start));
    dependencies(&tree::read(root, path))
        .into_iter()
        .filter(|dependency| forbidden(&dependency.package))
        .map(|dependency| {
            let what = format!("the kernel depends on `{}`", dependency.package);
            let remedy = "pass the time and the seed in as arguments, and leave waiting to the engine";
            Violation::new(path, dependency.line, what, remedy)
        })
        .collect()
}

/// The project's own commands and what they start servers with are built from the standard library alone.
pub fn check_own_commands(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, allowed) in [("crates/testbed/Cargo.toml", None), ("xtask/Cargo.toml", Some("testbed"))] {
        for dependency in dependencies(&tree::read(root, path)) {
            if Some(dependency.package.as_str()) != allowed {
                let what = format!("`{}` is not the standard library", dependency.package);
                let remedy = "do without, so that `cargo xtask` builds in seconds on a fresh machine";
                violations.push(Violation::new(path, dependency.line, what, remedy));
            }
        }
    }
    violations
}

/// The workspace forbids unsafe code and every package inherits its lints.
pub fn check_lints(root: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let workspace = tree::read(root, "Cargo.toml");
    let forbids = entries(&workspace).iter().any(|entry| {
        entry.section == "workspace.lints.rust" && entry.key == "unsafe_code" && entry.value == "\"forbid\""
    });
    if !forbids {
        let remedy = "write unsafe_code = \"forbid\" under [workspace.lints.rust]";
        violations.push(Violation::new("Cargo.toml", 1, "the workspace does not forbid unsafe code", remedy));
    }
    for (name, path) in tree::manifests(root) {
        let manifest = tree::read(root, &path);
        let inherits = entries(&manifest).iter().any(|entry| {
            let whole_key = if entry.section.is_empty() {
                entry.key.clone()
            } else {
                format!("{}.{}", entry.section, entry.key)
            };
            whole_key == "lints.workspace" && entry.value == "true"
        });
        if !inherits {
            let what = format!("`{name}` does not inherit the workspace's lints");
            violations.push(Violation::new(&path, 1, what, "write workspace = true under [lints]"));
        }
    }
    violations
}

#[derive(Debug)]
struct Dependency {
    line: usize,
    /// The package's own name where the manifest renames it.
    package: String,
    only_for_development: bool,
}

fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    for entry in entries(manifest) {
        // `[dependencies]`, `[target.'cfg(unix)'.dependencies]`, or `[dependencies.name]` with its own keys.
        let parts: Vec<&str> = entry.section.rsplit('.').collect();
        let is_kind = |part: &&str| part.ends_with("dependencies");
        let (kind, key, named_by_section) = match parts.as_slice() {
            [kind, rest @ ..] if is_kind(kind) && rest != ["workspace"] => (*kind, entry.key.as_str(), false),
            [name, kind, rest @ ..] if is_kind(kind) && rest != ["workspace"] => (*kind, *name, true),
            _ => continue,
        };
        let name = key.split('.').next().unwrap_or(key).trim_matches('"');
        let value =
            if named_by_section { format!("{} = {}", entry.key, entry.value) } else { entry.value.clone() };
        let renamed = renamed_package(&value);
        found.push(Dependency {
            line: entry.line,
            package: renamed.unwrap_or(name).to_owned(),
            only_for_development: kind == "dev-dependencies",
        });
    }
    found
}

/// The name in `{ package = "name" }`.
fn renamed_package(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()
}

#[derive(Debug)]
struct Entry {
    line: usize,
    section: String,
    key: String,
    value: String,
}

/// The `key = value` lines of a manifest with the section each is in. Values over several lines count as their
/// first line, which is enough for a dependency's name.
fn entries(manifest: &str) -> Vec<Entry> {
    let mut section = String::new();
    let mut entries = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = without_comment(line).trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = header.trim_matches(['[', ']', ' ']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.split('.').map(str::trim).collect::<Vec<_>>().join(".");
            entries.push(Entry {
                line: index + 1,
                section: section.clone(),
                key,
                value: value.trim().to_owned(),
            });
        }
    }
    entries
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tree::sample::finds;
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    /// A tree with every crate, in which `changed` has the manifest `text`.
    fn crates<'a>(changed: &str, text: &'a str) -> Vec<(&'a str, &'a str)> {
        [
            "crates/app/Cargo.toml",
            "crates/engine/Cargo.toml",
            "crates/fleet/Cargo.toml",
            "crates/kernel/Cargo.toml",
            "crates/sim/Cargo.toml",
            "crates/store/Cargo.toml",
            "crates/testbed/Cargo.toml",
            "xtask/Cargo.toml",
        ]
        .into_iter()
        .map(|path| (path, if path == changed { text } else { LINTS }))
        .collect()
    }

    fn finds_in(changed: &str, text: &str, expected: &[&str]) {
        finds(check_arrows, &crates(changed, text), expected);
    }

    #[test]
    fn upward_arrows_are_found_however_they_are_written() {
        let found = ["crates/store/Cargo.toml:2: `store` depends on `engine`"];
        finds_in("crates/store/Cargo.toml", "[dependencies]\nengine.workspace = true\n", &found);
        finds_in("crates/store/Cargo.toml", "[dependencies]\nengine = { path = \"../engine\" }\n", &found);
        finds_in(
            "crates/store/Cargo.toml",
            "[dependencies]\nx = { package = \"engine\", path = \"y\" }\n",
            &found,
        );
        finds_in("crates/store/Cargo.toml", "[dependencies.engine]\nworkspace = true\n", &found);
        finds_in("crates/store/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nengine = \"1\"\n", &found);
        finds_in("crates/store/Cargo.toml", "[build-dependencies]\nengine = \"1\"\n", &found);
        finds_in(
            "xtask/Cargo.toml",
            "[dependencies]\nkernel = \"1\"\n",
            &["xtask/Cargo.toml:2: `xtask` depends on `kernel`"],
        );
    }

    #[test]
    fn downward_arrows_and_development_dependencies_are_free() {
        finds_in(
            "crates/store/Cargo.toml",
            "[dependencies]\nkernel.workspace = true # engine = 1\nrusqlite = \"1\"\n",
            &[],
        );
        finds_in("crates/engine/Cargo.toml", "[dev-dependencies]\nsim.workspace = true\n", &[]);
    }

    #[test]
    fn only_xtask_campaigns_and_tests_use_the_testbed() {
        finds_in("xtask/Cargo.toml", "[dependencies]\ntestbed.workspace = true\n", &[]);
        finds_in("crates/fleet/Cargo.toml", "[dependencies]\ntestbed.workspace = true\n", &[]);
        finds_in("crates/store/Cargo.toml", "[dev-dependencies]\ntestbed.workspace = true\n", &[]);
        finds_in(
            "crates/app/Cargo.toml",
            "[dependencies]\ntestbed.workspace = true\n",
            &["crates/app/Cargo.toml:2: `app` depends on `testbed`"],
        );
    }

    #[test]
    fn dependencies_of_the_projects_own_commands_are_found() {
        let check = |changed: &str, text: &str, expected: &[&str]| {
            finds(check_own_commands, &crates(changed, text), expected);
        };
        check("xtask/Cargo.toml", "[dependencies]\ntestbed.workspace = true\n", &[]);
        check(
            "xtask/Cargo.toml",
            "[dev-dependencies]\ntempfile = \"3\"\n",
            &["xtask/Cargo.toml:2: `tempfile` is not the standard library"],
        );
        check(
            "crates/testbed/Cargo.toml",
            "[dependencies]\nredis = \"1\"\n",
            &["crates/testbed/Cargo.toml:2: `redis` is not the standard library"],
        );
    }

    #[test]
    fn unknown_and_missing_crates_are_found() {
        let mut tree = crates("", "");
        tree.push(("crates/extra/Cargo.toml", LINTS));
        tree.remove(0);
        finds(
            check_arrows,
            &tree,
            &[
                "crates/app/Cargo.toml:1: does not exist",
                "crates/extra/Cargo.toml:1: no arrow is known for the crate `extra`",
            ],
        );
    }

    #[test]
    fn async_and_random_dependencies_of_the_kernel_are_found() {
        let text = "[dependencies]\nserde = \"1\"\ntokio = \"1\"\n[dev-dependencies]\nx = { package = \"rand_core\" }\n";
        finds(
            check_kernel_manifest,
            &crates("crates/kernel/Cargo.toml", text),
            &[
                "crates/kernel/Cargo.toml:3: the kernel depends on `tokio`",
                "crates/kernel/Cargo.toml:5: the kernel depends on `rand_core`",
            ],
        );
    }

    #[test]
    fn missing_lints_are_found() {
        let mut tree = crates("crates/sim/Cargo.toml", "[lints.rust]\nworkspace = false\n");
        tree.push(("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\"\n"));
        finds(
            check_lints,
            &tree,
            &[
                "Cargo.toml:1: the workspace does not forbid unsafe code",
                "crates/sim/Cargo.toml:1: `sim` does not inherit the workspace's lints",
            ],
        );
    }

    #[test]
    fn lints_may_be_inherited_by_a_dotted_key() {
        let mut tree = crates("crates/sim/Cargo.toml", "lints.workspace = true\n");
        tree.push(("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
        finds(check_lints, &tree, &[]);
    }
}
