//! Rows of a parquet file, only the columns that are asked for.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use crate::Error;

/// Gives every row to `take`, counted from 1, until that says no.
pub(super) fn rows(
    path: &Path,
    columns: &[String],
    take: &mut dyn FnMut(usize, Result<Value, String>) -> bool,
) -> Result<(), Error> {
    let damaged = |error: ParquetError| Error::Parse {
        path: path.to_owned(),
        what: "a parquet file",
        reason: error.to_string(),
    };
    let file = File::open(path).map_err(Error::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    let known: Vec<&str> = schema
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    if let Some(missing) = columns.iter().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        return Err(Error::Parse {
            path: path.to_owned(),
            what: "rows",
            reason: format!("there is no column `{missing}`; there are {known}"),
        });
    }
    let fields = schema.get_fields().iter();
    let wanted = fields.filter(|field| columns.iter().any(|name| name == field.name()));
    let mut projection =
        Type::group_type_builder(schema.name()).with_fields(wanted.map(Arc::clone).collect());
    // The projection must be like the schema, whose root carries a repetition or does not.
    let root = schema.get_basic_info();
    if root.has_repetition() {
        projection = projection.with_repetition(root.repetition());
    }
    let projection = projection.build().map_err(damaged)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(damaged)?;
    for (index, row) in rows.enumerate() {
        // A damaged page is not a flaw of one row: nothing after it can be trusted.
        let row = row.map_err(damaged)?;
        if !take(index + 1, Ok(object(&row))) {
            break;
        }
    }
    Ok(())
}

fn object(row: &Row) -> Value {
    let fields = row.get_column_iter();
    Value::Object(
        fields
            .map(|(name, field)| (name.clone(), value(field)))
            .collect::<Map<_, _>>(),
    )
}

/// A field as JSON. Kinds of which no text is made (dates, bytes, maps) are shown as the reader
/// prints them, in a list, so that they are refused as "not text or a number".
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => Value::String(text.clone()),
        Field::Bool(flag) => Value::Bool(*flag),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => Value::Array(vec![other.to_string().into()]),
    }
}
