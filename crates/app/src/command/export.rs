//! `export`: tables of a running server for analysis, as JSON lines, CSV or Parquet.

mod parquet;

use std::fs::File;
use std::io::{BufRead, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::command::client::ServerArgs;
use crate::command::{CommandResult, Failure};
use crate::export::Table;

/// Between two words about how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// sessions, flows, transitions, clarifications or phases
    #[arg(value_parser = Table::parse)]
    table: Table,
    /// Only what belongs to one machine or flow
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Only what happened from then on, such as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happened before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// [default: by the end of the file's name, else jsonl]
    #[arg(long)]
    format: Option<Format>,
    /// Write into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
    Parquet,
}

impl Format {
    fn of(args: &ExportArgs) -> Self {
        let end = args.output.as_deref().and_then(Path::extension).and_then(|end| end.to_str());
        let of_end = end.and_then(|end| Self::from_str(end, true).ok());
        args.format.or(of_end).unwrap_or(Self::Jsonl)
    }
}

pub(crate) fn export(args: &ExportArgs) -> CommandResult {
    let format = Format::of(args);
    if format == Format::Parquet && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure("Parquet is nothing to read in a terminal; name a file with -o".into()));
    }
    let mut query = Vec::new();
    for (name, value) in [("machine", &args.machine), ("since", &args.since), ("until", &args.until)] {
        query.extend(value.iter().map(|value| (name, value.clone())));
    }
    let lines = args.server.get_lines(&format!("/v1/export/{}", args.table.name()), &query)?;
    let Some(path) = &args.output else {
        write(args.table, format, lines, BufWriter::new(std::io::stdout()))?;
        return Ok(ExitCode::SUCCESS);
    };
    if path.is_file() && !args.force {
        let name = path.display();
        return Err(Failure(format!("{name} is there already; choose another name, or add --force")));
    }
    // Under another name until all of it is there: a part of a table looks like a table.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error| Failure(format!("failed to write {}: {error}", path.display()));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let rows = write(args.table, format, lines, BufWriter::new(file.as_file_mut()))?;
    readable_by_others(file.as_file()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    eprintln!("{rows} rows of {} in {}", args.table.name(), path.display());
    Ok(ExitCode::SUCCESS)
}

/// As a file is that somebody makes without further ado.
fn readable_by_others(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(())
}

/// Writes every row that comes, and says how many there were.
fn write(table: Table, format: Format, lines: impl BufRead, to: impl Write + Send) -> Result<u64, Failure> {
    let mut progress = Progress::new();
    match format {
        Format::Jsonl => write_lines(lines, to, &mut progress)?,
        Format::Csv => write_csv(table, lines, to, &mut progress)?,
        Format::Parquet => parquet::write(table, Rows::new(lines, &mut progress), to)?,
    }
    progress.end();
    Ok(progress.rows)
}

fn write_lines(lines: impl BufRead, mut to: impl Write, progress: &mut Progress) -> Result<(), Failure> {
    for line in lines.lines() {
        writeln!(to, "{}", line.map_err(broken_off)?)?;
        progress.step();
    }
    Ok(to.flush()?)
}

fn write_csv(
    table: Table,
    lines: impl BufRead,
    to: impl Write,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(table.columns().iter().map(|(name, _)| name))?;
    for row in Rows::new(lines, progress) {
        let row = row?;
        writer.write_record(table.columns().iter().map(|(name, _)| cell(&row[*name])))?;
    }
    Ok(writer.flush()?)
}

/// Null is empty; what is neither text nor a number is JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn broken_off(error: std::io::Error) -> Failure {
    Failure(format!("the server broke off, so this is not all of it: {error}; its log says more"))
}

/// The rows that come, each as it is read.
struct Rows<'p, R> {
    lines: std::io::Lines<R>,
    progress: &'p mut Progress,
}

impl<'p, R: BufRead> Rows<'p, R> {
    fn new(lines: R, progress: &'p mut Progress) -> Self {
        Self { lines: lines.lines(), progress }
    }
}

impl<R: BufRead> Iterator for Rows<'_, R> {
    type Item = Result<Value, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        self.progress.step();
        let row = line.map_err(broken_off).and_then(|line| {
            let row: Map<String, Value> = serde_json::from_str(&line)?;
            Ok(Value::Object(row))
        });
        Some(row)
    }
}

/// How many rows have come, said on a terminal.
struct Progress {
    rows: u64,
    began: Instant,
    said: Instant,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        let is_shown = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        Self { rows: 0, began: Instant::now(), said: Instant::now(), is_shown }
    }

    fn step(&mut self) {
        self.rows += 1;
        if self.is_shown && self.rows.is_multiple_of(64) && self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            let rate = self.rows as f64 / self.began.elapsed().as_secs_f64();
            eprint!("\r{} rows, {rate:.0} a second\u{1b}[K", self.rows);
        }
    }

    fn end(&self) {
        if self.is_shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn csv_quotes_what_it_has_to_and_leaves_null_empty() {
        let row = r#"{"flow_id":"a,\"b\"","flow":null,"phase":"x\ny","place":3,"state":"open","since":null,"attempts":0,"retries":0,"error":null,"kind":null,"worker":null}"#;
        let mut told = Vec::new();
        write(Table::Phases, Format::Csv, row.as_bytes(), &mut told).unwrap();
        assert_eq!(
            String::from_utf8(told).unwrap(),
            "flow_id,flow,phase,place,state,since,attempts,retries,error,kind,worker\n\
             \"a,\"\"b\"\"\",,\"x\ny\",3,open,,0,0,,,\n"
        );
    }
}
