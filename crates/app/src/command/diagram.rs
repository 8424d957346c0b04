//! `diagram`: a definition as a picture, or in a notation that other tools draw.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kernel::chart::StateIndex;
use kernel::definition;
use kernel::diagnostic::nearest;
use kernel::diagram::layout::layout;
use kernel::diagram::{Diagram, Overlay, dot, mermaid, svg};
use kernel::flow::{Flow, PhaseIndex};
use kernel::machine::Machine;

use crate::command::overlay_files::read_definition;
use crate::command::{CommandResult, Failure, output};

#[derive(Debug, Args)]
pub(crate) struct DiagramArgs {
    /// The definition to draw
    file: PathBuf,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there also if its name is not that of a diagram
    #[arg(long, requires = "output")]
    force: bool,
    /// The notation [default: what the extension of --output says, else mermaid]
    #[arg(long)]
    format: Option<Format>,
    /// States to mark as active, by their paths; of a flow, phases
    #[arg(long = "state", value_name = "PATH", value_delimiter = ',')]
    states: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
    Svg,
}

pub(crate) fn diagram(args: &DiagramArgs) -> CommandResult {
    let format = format_of(args)?;
    if let Some(path) = &args.output {
        // A diagram is drawn anew each time; anything else may be a definition.
        output::may_write(path, &args.file, args.force || notation(path).is_some())?;
    }
    let source = read_definition(&args.file)?;
    let (machine, diagnostics) = definition::load(&source);
    let Some(machine) = machine else {
        for diagnostic in &diagnostics {
            eprintln!("{}\n", diagnostic.render(&args.file.display().to_string(), &source));
        }
        return Ok(ExitCode::FAILURE);
    };
    let diagram = match &machine.flow {
        Some(flow) => Diagram::of_flow(&machine, flow, &active_phases(flow, &args.states)?),
        None => Diagram::of(&machine, &active_states(&machine, &args.states)?),
    };
    let text = match format {
        Format::Mermaid => mermaid(&diagram),
        Format::Dot => dot(&diagram),
        Format::Svg => {
            let active = args.states.iter().cloned().collect();
            svg(&diagram, &layout(&diagram), &Overlay { active, ..Overlay::default() })
        }
    };
    match &args.output {
        Some(path) => output::write(path, &text)?,
        None => say!("{}", text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

fn format_of(args: &DiagramArgs) -> Result<Format, Failure> {
    let Some(path) = &args.output else {
        return Ok(args.format.unwrap_or(Format::Mermaid));
    };
    let extension = extension(path);
    if matches!(extension.as_str(), "png" | "pdf") {
        return Err(Failure(rendered(path, &extension)));
    }
    args.format.or(notation(path)).ok_or_else(|| {
        Failure(format!(
            "{} does not say which notation; end it with .svg, .mmd or .dot, or add --format",
            path.display()
        ))
    })
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// The notation that files of this name have.
fn notation(path: &Path) -> Option<Format> {
    match extension(path).as_str() {
        "mmd" | "mermaid" => Some(Format::Mermaid),
        "dot" | "gv" => Some(Format::Dot),
        "svg" => Some(Format::Svg),
        _ => None,
    }
}

fn rendered(path: &Path, extension: &str) -> String {
    let source = path.with_extension("dot").display().to_string();
    format!(
        "{} would be a picture of dots, and only .svg, .mmd and .dot are written: write {source}, then \
         `dot -T{extension} {source} -o {}`",
        path.display(),
        path.display()
    )
}

fn active_states(machine: &Machine, paths: &[String]) -> Result<Vec<StateIndex>, Failure> {
    let chart = &machine.chart;
    let find = |path: &String| {
        let known = chart.states.iter().skip(1).map(|state| &*state.path);
        let found = chart.by_path(path).filter(|_| !path.is_empty());
        found.ok_or_else(|| Failure(format!("`{path}` is no state; {}", nearest(path, known))))
    };
    paths.iter().map(find).collect()
}

fn active_phases(flow: &Flow, names: &[String]) -> Result<Vec<PhaseIndex>, Failure> {
    let known = || flow.phases.iter().map(|phase| &*phase.name);
    let unknown = |name: &String| Failure(format!("`{name}` is no phase; {}", nearest(name, known())));
    names.iter().map(|name| flow.by_name(name).ok_or_else(|| unknown(name))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn written_to(output: &str, format: Option<Format>) -> Result<Format, String> {
        let output = Some(PathBuf::from(output)).filter(|path| !path.as_os_str().is_empty());
        let args =
            DiagramArgs { file: "machine.yaml".into(), output, format, force: false, states: Vec::new() };
        format_of(&args).map_err(|Failure(message)| message)
    }

    #[test]
    fn the_extension_says_the_notation_unless_the_format_does() {
        let dot = Some(Format::Dot);
        for (output, format, expected) in [
            ("", None, Format::Mermaid),
            ("", dot, Format::Dot),
            ("a.mmd", None, Format::Mermaid),
            ("a.DOT", None, Format::Dot),
            ("a.gv", None, Format::Dot),
            ("a.svg", None, Format::Svg),
            ("a.txt", dot, Format::Dot),
        ] {
            assert_eq!(written_to(output, format), Ok(expected), "{output} {format:?}");
        }
    }

    #[test]
    fn only_diagrams_are_written_over_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let definition = "machine: m\ninitial: a\nstates: { a: {} }\n";
        for name in ["m.yaml", "m.mmd", "m.GV", "other.yaml", "input.dot"] {
            std::fs::write(at(name), definition).unwrap();
        }
        for (file, output, force, written) in [
            ("m.yaml", "m.mmd", false, true),
            ("m.yaml", "m.GV", false, true),
            ("m.yaml", "other.yaml", false, false),
            ("m.yaml", "other.yaml", true, true),
            ("m.yaml", "m.yaml", true, false),
            ("input.dot", "input.dot", true, false),
        ] {
            let (file, output) = (at(file), at(output));
            let args = DiagramArgs {
                file,
                output: Some(output.clone()),
                force,
                format: Some(Format::Dot),
                states: Vec::new(),
            };
            assert_eq!(diagram(&args).is_ok(), written, "{args:?}");
            assert_eq!(std::fs::read_to_string(output).unwrap() == definition, !written, "{args:?}");
        }
    }

    #[test]
    fn of_a_flow_phases_are_marked() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("f.yaml"), "flow: f\nphases: { import: {}, mapping: { needs: import } }\n")
            .unwrap();
        let drawn = |phase: &str| {
            let output = Some(at("f.dot"));
            let (format, states) = (None, vec![phase.to_owned()]);
            diagram(&DiagramArgs { file: at("f.yaml"), output, force: false, format, states })
        };
        drawn("mapping").unwrap();
        let text = std::fs::read_to_string(at("f.dot")).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("penwidth")).count(), 1, "{text}");
        let Failure(told) = drawn("maping").unwrap_err();
        assert!(told.contains("no phase") && told.contains("`mapping`"), "{told}");
    }

    #[test]
    fn a_picture_is_refused_with_the_way_to_one() {
        let told = written_to("a.png", Some(Format::Dot)).unwrap_err();
        assert!(told.contains("`dot -Tpng a.dot -o a.png`"), "{told}");
        assert!(written_to("a.txt", None).unwrap_err().contains("--format"));
    }
}
