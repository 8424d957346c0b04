//! A table as a Parquet file: one optional column for each, compressed, so many rows to a group.

use std::io::Write;
use std::sync::Arc;

use kernel::time::Timestamp;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;
use serde_json::Value;

use crate::command::Failure;
use crate::command::export::cell;
use crate::export::{Kind, Table};

/// Rows that are held in memory.
const GROUP_ROWS: usize = 20_000;

pub(super) fn write(
    table: Table,
    rows: impl Iterator<Item = Result<Value, Failure>>,
    to: impl Write + Send,
) -> Result<(), Failure> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(to, schema(table)?, Arc::new(properties))?;
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let group = rows.by_ref().take(GROUP_ROWS).collect::<Result<Vec<Value>, Failure>>()?;
        let mut columns = writer.next_row_group()?;
        for (name, kind) in table.columns() {
            let cells: Vec<&Value> = group.iter().map(|row| &row[*name]).collect();
            match kind {
                Kind::Text | Kind::Json => {
                    put::<ByteArrayType>(&mut columns, &cells, |value| {
                        Some(ByteArray::from(cell(value).into_bytes()))
                    })?;
                }
                Kind::Integer => put::<Int64Type>(&mut columns, &cells, Value::as_i64)?,
                Kind::Boolean => put::<BoolType>(&mut columns, &cells, Value::as_bool)?,
                Kind::Time => put::<Int64Type>(&mut columns, &cells, |value| {
                    value.as_str().and_then(Timestamp::parse).map(Timestamp::as_millis)
                })?,
            }
        }
        columns.close()?;
    }
    writer.close()?;
    Ok(())
}

fn schema(table: Table) -> Result<Arc<Type>, Failure> {
    let columns = table.columns().iter().map(|(name, kind)| match kind {
        Kind::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
        Kind::Json => format!("OPTIONAL BYTE_ARRAY {name} (JSON);"),
        Kind::Integer => format!("OPTIONAL INT64 {name};"),
        Kind::Boolean => format!("OPTIONAL BOOLEAN {name};"),
        Kind::Time => format!("OPTIONAL INT64 {name} (TIMESTAMP(MILLIS,true));"),
    });
    let columns: Vec<String> = columns.collect();
    let message = format!("message {} {{ {} }}", table.name(), columns.join(" "));
    Ok(Arc::new(parse_message_type(&message)?))
}

/// The next column; what `of` makes nothing of is null.
fn put<T: DataType>(
    columns: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    cells: &[&Value],
    of: impl Fn(&Value) -> Option<T::T>,
) -> Result<(), Failure> {
    let values: Vec<Option<T::T>> =
        cells.iter().map(|value| if value.is_null() { None } else { of(value) }).collect();
    let is_there: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let Some(mut column) = columns.next_column()? else {
        return Err(Failure("the schema has fewer columns than the table".into()));
    };
    column.typed::<T>().write_batch(&values, Some(&is_there), None)?;
    Ok(column.close()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let row = |revision: u64| {
            json!({"session_id": "s", "revision": revision, "at": "2026-01-05T09:00:00.123Z", "from": "",
                "success": revision == 1, "text": "zażółć", "payload": {"a": [1]}})
        };
        let mut file = Vec::new();
        let rows = (0..GROUP_ROWS as u64 + 1).map(|revision| Ok(row(revision)));
        write(Table::Transitions, rows, &mut file).unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), GROUP_ROWS + 1);
        let told: Vec<String> =
            rows[1].get_column_iter().map(|(name, field)| format!("{name} {field}")).collect();
        for part in [
            "session_id \"s\"",
            "machine null",
            "revision 1",
            "at 2026-01-05 09:00:00.123 +00:00",
            "from \"\"",
            "success true",
            "text \"zażółć\"",
            "payload \"{\"a\":[1]}\"",
        ] {
            assert!(told.iter().any(|told| told == part), "{part} is not in {told:#?}");
        }
        assert_eq!(rows[2].get_column_iter().nth(8).unwrap().1.to_string(), "false");
    }

    #[test]
    fn a_table_without_rows_is_a_file_too() {
        for table in Table::ALL {
            let mut file = Vec::new();
            write(table, std::iter::empty(), &mut file).unwrap();
            let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
            let schema = reader.metadata().file_metadata().schema_descr();
            assert_eq!(schema.num_columns(), table.columns().len());
        }
    }
}
