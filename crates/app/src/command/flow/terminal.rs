//! The terminal on standard output: whether there is one, whether it wants colour, how large it is now.
//!
//! Asking it needs a system call that safe Rust has no name for, so the standard tool is asked, and then the environment.

use std::fs::File;
use std::io::IsTerminal;
use std::process::{Command, Stdio};

/// What a terminal has of which nothing is known.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// Whether standard output is a terminal on which lines can be drawn anew.
pub(super) fn can_redraw() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub(in crate::command) fn wants_colour() -> bool {
    can_redraw() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// Columns and rows.
pub(super) fn size() -> (usize, usize) {
    let variable = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|size| *size > 0);
    asked().unwrap_or_else(|| (variable("COLUMNS").unwrap_or(COLUMNS), variable("LINES").unwrap_or(ROWS)))
}

fn asked() -> Option<(usize, usize)> {
    let terminal = File::open("/dev/tty").ok()?;
    let asked = Command::new("stty").arg("size").stdin(terminal).stderr(Stdio::null()).output().ok()?;
    size_of(&String::from_utf8(asked.stdout).ok()?)
}

/// Rows and columns, as `stty size` says them; it says zero of what it does not know.
fn size_of(told: &str) -> Option<(usize, usize)> {
    let (rows, columns) = told.trim().split_once(' ')?;
    let (rows, columns) = (rows.parse().ok()?, columns.parse().ok()?);
    (rows > 0 && columns > 0).then_some((columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_not_known_is_none() {
        for (told, size) in [("24 80\n", Some((80, 24))), ("0 0\n", None), ("", None), ("x y", None)] {
            assert_eq!(size_of(told), size, "{told:?}");
        }
    }
}
