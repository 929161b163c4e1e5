//! The rows of a table: as lines of text, or in binary as they came.

use crate::repo::model::TableRecord;
use crate::restore::load;
use crate::rows::Format;
use crate::rows::text::{self, RowStyle, TextRows, TextType};
use crate::schema::ident;

use super::ExportError;
use super::source::Source;

/// The server takes no line of text above 1 GiB, and text may have twice the bytes of what it stands for.
const MOST_BYTES: u64 = 1 << 29;

/// How the rows of a table are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As lines, of values of these types.
    Text(Vec<TextType>),
    /// As binary COPY.
    Binary,
}

/// Columns of a table whose values cannot be printed, as people read them.
fn unprintable(source: &Source<'_>, table: &TableRecord) -> Vec<String> {
    let columns = table.columns.iter();
    let unknown = columns.filter(|c| source.types.find(&c.type_name).is_none());
    unknown
        .map(|c| {
            format!(
                "{}.{}.{}: {}",
                table.schema, table.name, c.name, c.type_name
            )
        })
        .collect()
}

/// The types of a table's columns; nothing if one of them cannot be printed.
fn printable(source: &Source<'_>, table: &TableRecord) -> Option<Vec<TextType>> {
    let columns = table.columns.iter();
    if table.format == Format::Text {
        return Some(columns.map(|_| TextType::Text).collect());
    }
    columns.map(|c| source.types.find(&c.type_name)).collect()
}

/// How all tables are printed. An error names every column that cannot be.
pub fn all_printable<'t>(
    source: &Source<'_>,
    tables: &[&'t TableRecord],
) -> Result<Vec<(&'t TableRecord, Vec<TextType>)>, ExportError> {
    let (mut found, mut columns) = (Vec::new(), Vec::new());
    for table in tables {
        match printable(source, table) {
            Some(types) => found.push((*table, types)),
            None => columns.extend(unprintable(source, table)),
        }
    }
    if columns.is_empty() {
        return Ok(found);
    }
    let described = |table: &TableRecord| table.role == crate::repo::model::TableRole::Types;
    Err(ExportError::Unprintable {
        columns,
        hint: if source.opened.tables.iter().any(described) {
            ""
        } else {
            "snapshots of older versions of pgtide do not say what types are made of, take a new one; "
        },
    })
}

/// How a table is written where binary is possible: as text if that can be printed and loaded.
pub fn form(source: &Source<'_>, table: &TableRecord) -> Result<Form, ExportError> {
    let Some(types) = printable(source, table) else {
        source.progress.note(&format!(
            "the rows of {}.{} are written in binary, which pg_restore only takes when it is connected to a database: {}",
            table.schema,
            table.name,
            unprintable(source, table).join(", ")
        ));
        return Ok(Form::Binary);
    };
    if table.format == Format::Binary && largest_row(source, table)? > MOST_BYTES {
        source.progress.note(&format!(
            "the rows of {}.{} are written in binary, which pg_restore only takes when it is connected to a database: one is too large for the server to read as text",
            table.schema, table.name
        ));
        return Ok(Form::Binary);
    }
    Ok(Form::Text(types))
}

/// Says that rows are too large for the server to load them as text.
pub fn warn_of_large_rows(source: &Source<'_>, table: &TableRecord) -> Result<(), ExportError> {
    if table.format == Format::Binary && largest_row(source, table)? > MOST_BYTES {
        source.progress.note(&format!(
            "{}.{} has a row that the server may refuse to load as text, which must be below 1 GiB; --format directory has it in binary",
            table.schema, table.name
        ));
    }
    Ok(())
}

/// Bytes of the largest row, as far as it is above a block's.
fn largest_row(source: &Source<'_>, table: &TableRecord) -> Result<u64, ExportError> {
    if table.payload_bytes <= MOST_BYTES {
        return Ok(0);
    }
    let (mut largest, mut row) = (0, 0);
    for block in load::blocks(&source.opened.reader, table)? {
        if block.format == Format::Part {
            row += u64::from(block.payload_len);
            largest = largest.max(row);
        }
        if block.format != Format::Part || block.digest.rows > 0 {
            row = 0;
        }
    }
    Ok(largest)
}

/// The statement that loads the rows, as `pg_dump` writes it, with a line end.
pub fn copy_statement(source: &Source<'_>, table: &TableRecord, form: &Form) -> Vec<u8> {
    let (schema, name) = match &table.load_through {
        Some((schema, name)) => (schema, name),
        None => (&table.schema, &table.name),
    };
    let mut out = b"COPY ".to_vec();
    ident::push_qualified(
        &mut out,
        Some(&schema.as_str().into()),
        &name.as_str().into(),
    );
    out.push(b' ');
    for (n, column) in table.columns.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"(" } else { b", " });
        ident::push_ident(&mut out, &column.name.as_str().into());
    }
    if !table.columns.is_empty() {
        out.push(b')');
    }
    out.extend_from_slice(b" FROM stdin");
    let mut options = Vec::new();
    if *form == Form::Binary {
        options.push("FORMAT binary".to_owned());
    }
    // The statement itself is in the encoding of the entries.
    if let Some(encoding) = source.encoding() {
        options.push(format!("ENCODING '{encoding}'"));
    }
    if !options.is_empty() {
        out.extend_from_slice(format!(" WITH ({})", options.join(", ")).as_bytes());
    }
    out.extend_from_slice(b";\n");
    out
}

/// Whether the statement depends on `lc_monetary`.
pub fn has_money(types: &[TextType]) -> bool {
    types.iter().any(text::has_money)
}

/// Writes all rows of a table as lines.
pub fn write_lines(
    source: &Source<'_>,
    table: &TableRecord,
    types: &[TextType],
    style: RowStyle,
    write: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut rows = TextRows::new(types, table.format, style);
    each(source, table, &mut |block, payload| {
        rows.block(payload, block.format == Format::Part, write)
    })
    .and_then(|()| Ok(rows.finish()?))
    .map_err(|error| named(error, table))?;
    if let Some(written) = rows.rows()
        && written != table.digest.rows
    {
        return Err(ExportError::Count {
            table: format!("{}.{}", table.schema, table.name),
            written,
            expected: table.digest.rows,
        });
    }
    source.wrote(table.digest.rows);
    Ok(())
}

/// Writes all rows of a table as binary COPY: a signature, flags, the length of what the header has besides; rows; the
/// end (<https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>).
pub fn write_binary(
    source: &Source<'_>,
    table: &TableRecord,
    write: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    write(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")?;
    each(source, table, &mut |_, payload| write(payload))?;
    write(&[0xff, 0xff])?;
    source.wrote(table.digest.rows);
    Ok(())
}

/// Hands on the blocks of a table.
pub fn each(
    source: &Source<'_>,
    table: &TableRecord,
    take: &mut load::TakeBlock<'_, ExportError>,
) -> Result<(), ExportError> {
    let reader = &source.opened.reader;
    load::each(
        reader,
        &load::blocks(reader, table)?,
        &mut |block, payload| {
            source.check()?;
            source.progress.bytes(payload.len() as u64);
            take(block, payload)
        },
    )
}

fn named(error: ExportError, of: &TableRecord) -> ExportError {
    match error {
        ExportError::Value { source, .. } => ExportError::Value {
            table: format!("{}.{}", of.schema, of.name),
            source,
        },
        other => other,
    }
}
