//! The file that a command writes its result into, with `-o`.
//!
//! Owns what may be replaced there. A definition is somebody's work, and a slip in a command line must not cost it.

use std::path::Path;

use crate::command::Failure;

/// Whether a result of `input` may be written into `output`: never into the input itself, and into another file that
/// is there only if that was asked for.
///
/// # Errors
/// Says what stands in the way, and what to do about it.
pub(crate) fn may_write(output: &Path, input: &Path, replace: bool) -> Result<(), Failure> {
    let same =
        matches!((output.canonicalize(), input.canonicalize()), (Ok(output), Ok(input)) if output == input);
    let name = output.display();
    if same {
        return Err(Failure(format!("{name} is the input itself; choose another name for the result")));
    }
    // A pipe or a terminal has nothing to lose.
    if output.is_file() && !replace {
        return Err(Failure(format!("{name} is there already; choose another name, or add --force")));
    }
    Ok(())
}

pub(crate) fn write(output: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(output, text)
        .map_err(|error| Failure(format!("failed to write {}: {error}", output.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_is_there_is_replaced_only_when_asked_and_the_input_never() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["input", "other"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(at("input"), at("link")).unwrap();
        for (output, replace, refused) in [
            ("new", false, None),
            ("other", false, Some("--force")),
            ("other", true, None),
            ("input", true, Some("the input itself")),
            ("folder/../input", true, Some("the input itself")),
            ("link", true, Some("the input itself")),
        ] {
            let told = may_write(&at(output), &at("input"), replace).err().map(|Failure(told)| told);
            assert_eq!(told.is_some(), refused.is_some(), "{output} {replace}: {told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()), "{output} {replace}");
        }
    }
}
