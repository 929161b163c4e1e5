//! Tables in CSV, as COPY writes it.

use std::path::Path;

use crate::repo::model::{TableRecord, TableRole};
use crate::rows::text::{RowStyle, csv_header};

use super::output::{Output, new_directory, sync_directory};
use super::source::Source;
use super::{ExportError, tables};

/// Longest name of a file that every file system takes, less than that of its suffix.
const MOST_NAME: usize = 240;

/// Writes the tables that are picked; where none is named, the ordinary ones.
pub fn write(
    source: &Source<'_>,
    directory: Option<&Path>,
    names: &[String],
) -> Result<(), ExportError> {
    let all = source.tables()?;
    let chosen = |table: &&&TableRecord| table.role == TableRole::Plain || !names.is_empty();
    let chosen: Vec<&TableRecord> = all.iter().filter(chosen).copied().collect();
    let unused = |name: &&String| !chosen.iter().any(|t| t.name == **name);
    if let Some(name) = names.iter().find(unused) {
        return Err(ExportError::NoTable(name.clone()));
    }
    if directory.is_none() && chosen.len() > 1 {
        let names = chosen.iter().map(|t| format!("{}.{}", t.schema, t.name));
        return Err(ExportError::SeveralTables(names.collect()));
    }
    if directory.is_none() && chosen.is_empty() {
        return Err(ExportError::NoTable("what was asked for".to_owned()));
    }
    let printable = tables::all_printable(source, &chosen)?;
    if let Some(encoding) = source.encoding() {
        source.progress.note(&format!(
            "values are in {encoding}, as the database has them; names of columns are in UTF-8"
        ));
    }
    if let Some(directory) = directory {
        new_directory(directory)?;
    }
    for (table, types) in printable {
        let output = match directory {
            Some(directory) => Output::File(directory.join(file_name(&table.schema, &table.name))),
            None => Output::Stdout,
        };
        let mut sink = output.open()?;
        sink.write(&csv_header(table.columns.iter().map(|c| c.name.as_str())))?;
        tables::write_lines(source, table, &types, RowStyle::Csv, &mut |text| {
            sink.write(text)
        })?;
        sink.finish()?;
    }
    match directory {
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// The name of a table's file: `schema.table.csv`. Characters that are no letters, digits, `_` or `-` are written as `%`
/// and two digits for each byte, so that no two tables share a file; what is too long for a file ends in a hash.
fn file_name(schema: &str, table: &str) -> String {
    let mut name = format!("{}.{}", safe(schema), safe(table));
    if name.len() > MOST_NAME {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let end = (0..=MOST_NAME - 17)
            .rev()
            .find(|n| name.is_char_boundary(*n));
        name.truncate(end.unwrap_or(0));
        name.push('~');
        name.push_str(&hash[..16]);
    }
    name.push_str(".csv");
    name
}

fn safe(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_alphanumeric() || matches!(c, '_' | '-') {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_safe_and_differ() {
        assert_eq!(file_name("public", "t"), "public.t.csv");
        assert_eq!(
            file_name("Odd Schema", "a/b.c"),
            "Odd%20Schema.a%2Fb%2Ec.csv"
        );
        assert_eq!(file_name("a", "b.c"), "a.b%2Ec.csv");
        assert_eq!(file_name("a.b", "c"), "a%2Eb.c.csv");
        assert_eq!(file_name("ü", "日本"), "ü.日本.csv");
        let long = "/".repeat(63);
        let names = [file_name(&long, &long), file_name(&long, &long[1..])];
        assert!(names.iter().all(|name| name.len() <= MOST_NAME + 4));
        assert_ne!(names[0], names[1]);
    }
}
