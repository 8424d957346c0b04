//! The file that records come from, record by record, with the line that each is on.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use crate::command::Failure;
use crate::command::import::Format;

pub(super) struct Source {
    reader: Reader,
    bytes: u64,
}

enum Reader {
    Lines { file: BufReader<File>, number: u64 },
    Table(Box<csv::Reader<File>>),
}

/// A record, or why the line is none.
#[derive(Debug)]
pub(super) struct Found {
    /// From 1.
    pub line: u64,
    pub record: Result<Value, String>,
    /// The line as it is, where it is no record.
    pub raw: Option<String>,
    /// What it takes in the file.
    pub bytes: usize,
}

impl Source {
    pub fn open(path: &Path, format: Format) -> Result<Self, Failure> {
        let failed = |error| Failure(format!("failed to read {}: {error}", super::shown(path)));
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let reader = match format {
            Format::Jsonl => Reader::Lines { file: BufReader::new(file), number: 0 },
            // A line with too few or too many cells is one that is rejected, and no end of the file.
            Format::Csv => {
                Reader::Table(Box::new(csv::ReaderBuilder::new().flexible(true).from_reader(file)))
            }
        };
        Ok(Self { reader, bytes })
    }

    /// What the file has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next records, so many or of so many bytes; none at the end.
    pub fn some(&mut self, records: usize, bytes: usize) -> Result<Vec<Found>, Failure> {
        let (mut some, mut sum) = (Vec::new(), 0);
        while some.len() < records && sum < bytes {
            let next = match &mut self.reader {
                Reader::Lines { file, number } => next_line(file, number)?,
                Reader::Table(table) => next_row(table)?,
            };
            let Some(found) = next else { break };
            sum += found.bytes;
            some.push(found);
        }
        Ok(some)
    }
}

/// The next line that is not blank.
fn next_line(file: &mut BufReader<File>, number: &mut u64) -> Result<Option<Found>, Failure> {
    loop {
        let mut bytes = Vec::new();
        if file.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record = match serde_json::from_slice::<Value>(&bytes) {
            Ok(record @ Value::Object(_)) => Ok(record),
            Ok(_) => Err("the line is JSON, and no object".to_owned()),
            Err(error) => Err(format!("the line is no JSON: {error}")),
        };
        let raw = record.is_err().then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned());
        return Ok(Some(Found { line: *number, record, raw, bytes: bytes.len() }));
    }
}

/// The next row as an object of texts, by the names of the columns.
fn next_row(table: &mut csv::Reader<File>) -> Result<Option<Found>, Failure> {
    let names = table.headers()?.clone();
    let mut row = csv::ByteRecord::new();
    if !table.read_byte_record(&mut row)? {
        return Ok(None);
    }
    let line = row.position().map_or(0, csv::Position::line);
    let bytes = row.as_slice().len() + row.len();
    let raw = String::from_utf8_lossy(row.as_slice()).into_owned();
    let record = match csv::StringRecord::from_byte_record(row) {
        Err(_) => Err("the line is not in UTF-8".to_owned()),
        Ok(row) if row.len() != names.len() => {
            Err(format!("the line has {} cells, and there are {} columns", row.len(), names.len()))
        }
        Ok(row) => {
            let cells = names.iter().zip(&row).map(|(name, cell)| (name.to_owned(), Value::from(cell)));
            Ok(Value::Object(cells.collect::<Map<String, Value>>()))
        }
    };
    let raw = record.is_err().then_some(raw);
    Ok(Some(Found { line, record, raw, bytes }))
}
