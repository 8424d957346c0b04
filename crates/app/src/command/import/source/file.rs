//! Records in a file: JSON lines, or a CSV whose first line names the columns.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{Found, Reader};
use crate::command::Failure;
use crate::command::import::Format;

pub(super) fn open(path: &Path, format: Option<Format>) -> Result<(Box<dyn Reader>, u64), Failure> {
    let failed = |error| Failure(format!("failed to read {}: {error}", path.display()));
    let end = path.extension().and_then(|end| end.to_str());
    let of_end = end.and_then(|end| Format::from_str(end, true).ok());
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let reader: Box<dyn Reader> = match format.or(of_end).unwrap_or(Format::Jsonl) {
        Format::Jsonl => Box::new(Lines { file: BufReader::new(file), number: 0 }),
        // A line with too few or too many cells is one that is rejected, and no end of the file.
        Format::Csv => Box::new(Cells(csv::ReaderBuilder::new().flexible(true).from_reader(file))),
    };
    Ok((reader, bytes))
}

struct Lines {
    file: BufReader<File>,
    number: u64,
}

impl Reader for Lines {
    /// Blank lines are passed over.
    fn next(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            let mut bytes = Vec::new();
            if self.file.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let record = match serde_json::from_slice::<Value>(&bytes) {
                Ok(record @ Value::Object(_)) => Ok(record),
                Ok(_) => Err("the line is JSON, and no object".to_owned()),
                Err(error) => Err(format!("the line is no JSON: {error}")),
            };
            let raw = String::from_utf8_lossy(&bytes);
            return Ok(Some(found(self.number, record, raw.trim_end(), bytes.len())));
        }
    }
}

struct Cells(csv::Reader<File>);

impl Reader for Cells {
    /// An object of texts, by the names of the columns.
    fn next(&mut self) -> Result<Option<Found>, Failure> {
        let names = self.0.headers()?.clone();
        let mut row = csv::ByteRecord::new();
        if !self.0.read_byte_record(&mut row)? {
            return Ok(None);
        }
        let number = row.position().map_or(0, csv::Position::line);
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
        Ok(Some(found(number, record, &raw, bytes)))
    }
}

fn found(number: u64, record: Result<Value, String>, raw: &str, bytes: usize) -> Found {
    let raw = record.is_err().then(|| raw.to_owned());
    Found { number, place: format!("line {number}"), record, raw, bytes, weight: bytes as u64 }
}
