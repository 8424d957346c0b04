//! Records in a file: JSON lines, or a CSV whose first line names the columns.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{Found, Mark, Reader};
use crate::command::Failure;
use crate::command::import::Format;

/// How far a file that grows was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    inode: u64,
    bytes: u64,
    /// Lines that were begun.
    lines: u64,
    /// The last of them has no end yet.
    is_open: bool,
}

/// With a place, JSON lines are read from there on, and a last line that is not written to its end is left for another
/// time.
pub(super) fn open(
    path: &Path,
    format: Option<Format>,
    since: Option<Place>,
) -> Result<(Box<dyn Reader>, u64), Failure> {
    let failed = |error| Failure(format!("failed to read {}: {error}", path.display()));
    let end = path.extension().and_then(|end| end.to_str());
    let of_end = end.and_then(|end| Format::from_str(end, true).ok());
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let bytes = metadata.len();
    let reader: Box<dyn Reader> = match format.or(of_end).unwrap_or(Format::Jsonl) {
        Format::Jsonl => {
            // Another file of the same name, or one that was begun anew.
            let is_same = |place: &Place| place.inode == metadata.ino() && place.bytes <= bytes;
            let fresh = Place { inode: metadata.ino(), ..Place::default() };
            let place = since.filter(is_same).unwrap_or(fresh);
            file.seek(SeekFrom::Start(place.bytes)).map_err(failed)?;
            Box::new(Lines { file: BufReader::new(file), place, grows: since.is_some() })
        }
        // A line with too few or too many cells is one that is rejected, and no end of the file.
        Format::Csv => Box::new(Cells(csv::ReaderBuilder::new().flexible(true).from_reader(file))),
    };
    Ok((reader, bytes))
}

struct Lines {
    file: BufReader<File>,
    place: Place,
    grows: bool,
}

impl Lines {
    fn passed(&mut self, bytes: &[u8]) {
        self.place.lines += u64::from(!self.place.is_open);
        self.place.bytes += bytes.len() as u64;
        self.place.is_open = !bytes.ends_with(b"\n");
    }
}

impl Reader for Lines {
    /// Blank lines are passed over.
    fn next(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            let mut bytes = Vec::new();
            if self.file.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                self.passed(&bytes);
                continue;
            }
            let record = match serde_json::from_slice::<Value>(&bytes) {
                Ok(record @ Value::Object(_)) => Ok(record),
                // Half an object is none.
                _ if self.grows && !bytes.ends_with(b"\n") => return Ok(None),
                Ok(_) => Err("the line is JSON, and no object".to_owned()),
                Err(error) => Err(format!("the line is no JSON: {error}")),
            };
            self.passed(&bytes);
            let raw = String::from_utf8_lossy(&bytes);
            return Ok(Some(found(self.place.lines, record, raw.trim_end(), bytes.len())));
        }
    }

    fn mark(&self) -> Mark {
        Mark { file: self.grows.then_some(self.place), ..Mark::default() }
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
    Found { number, place: format!("line {number}"), record, raw, weight: bytes as u64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// What of a file is new since a place, as `line:n`, and the place for the next time.
    fn read(path: &Path, since: Place) -> (String, Place) {
        let (mut reader, _) = open(path, None, Some(since)).unwrap();
        let mut told = Vec::new();
        while let Some(found) = reader.next().unwrap() {
            told.push(match found.record {
                Ok(record) => format!("{}:{}", found.number, record["n"]),
                Err(_) => format!("{}:?", found.number),
            });
        }
        (told.join(" "), reader.mark().file.unwrap())
    }

    #[test]
    fn what_a_file_has_grown_by_is_read_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.jsonl");
        let (mut written, mut place) = (String::new(), Place::default());
        for (more, expected) in [
            ("{\"n\":1}\n\n{\"n\":2}\n", "1:1 3:2"),
            ("", ""),
            ("{\"n\":", ""),
            ("3}\nno\n", "4:3 5:?"),
            // It is whole, and only its end is to come.
            ("{\"n\":4}", "6:4"),
            ("\n{\"n\":5}\n", "7:5"),
        ] {
            written += more;
            std::fs::write(&path, &written).unwrap();
            let (told, next) = read(&path, place);
            assert_eq!(told, expected, "{more:?}");
            place = next;
        }
        // A file that is begun anew, and another under its name.
        std::fs::write(&path, "{\"n\":6}\n").unwrap();
        assert_eq!(read(&path, place).0, "1:6");
        let other = directory.path().join("other");
        std::fs::write(&other, written + "{\"n\":7}\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(read(&path, place).0, "1:1 3:2 4:3 5:? 6:4 7:5 8:7");
    }
}
