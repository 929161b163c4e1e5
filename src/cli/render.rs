//! Numbers, times and tables for people.

use std::io::{ErrorKind, Write};

pub use pgtide::ops::text::{bytes, count, first_line, plural, seconds};
use pgtide::repo::model::Source;
use pgtide::repo::{Protection, SnapshotId};

/// Writes a line to stdout. That nobody reads on, as in `pgtide show latest | head`, is no reason to stop; that it
/// cannot be written is.
pub fn line(text: std::fmt::Arguments<'_>) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        eprintln!("pgtide: could not write to stdout: {error}");
        std::process::exit(1);
    }
}

/// How many times as large: `3.4x`.
pub fn factor(large: u64, small: u64) -> String {
    match small {
        0 => "-".to_owned(),
        _ => format!("{:.1}x", large as f64 / small as f64),
    }
}

/// A time in the user's zone: `2026-11-20 04:23:11`.
pub fn time(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// How long a snapshot is protected: `until 2032-11-20 04:23:11`.
pub fn protection(protection: &Protection) -> String {
    match protection {
        Protection::Until(until) => format!("until {}", time(*until)),
        Protection::Forever => protection.to_string(),
    }
}

/// The server's version. Packagers add their own behind it.
pub fn version(source: &Source) -> &str {
    let mut words = source.server_version.split_whitespace();
    words.next().unwrap_or_default()
}

/// The shortened id that people copy.
pub fn short(id: &SnapshotId) -> String {
    id.to_string().chars().take(12).collect()
}

/// Prints columns aligned: text to the left, numbers to the right.
pub fn table(header: &[(&str, Align)], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([header[column].0.chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let line: Vec<String> = cells
            .iter()
            .zip(header)
            .zip(&widths)
            .map(|((cell, (_, align)), width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        outln!("{}", line.join("  ").trim_end());
    };
    print(header.iter().map(|(name, _)| *name).collect());
    for row in rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// To which side a column keeps.
#[derive(Debug, Clone, Copy)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// `3 tables, 2 hypertables with 60 chunks`.
pub fn counts(tables: u64, hypertables: u64, chunks: u64) -> String {
    let tables_text = plural(tables, "table", "tables");
    if hypertables == 0 {
        return tables_text;
    }
    let hypertables = format!(
        "{} with {}",
        plural(hypertables, "hypertable", "hypertables"),
        plural(chunks, "chunk", "chunks")
    );
    if tables == 0 {
        return hypertables;
    }
    format!("{tables_text}, {hypertables}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rendered_for_people() {
        assert_eq!(factor(12, 5), "2.4x");
        assert_eq!(factor(12, 0), "-");
        assert_eq!(counts(1, 0, 0), "1 table");
        assert_eq!(counts(3, 1, 60), "3 tables, 1 hypertable with 60 chunks");
        assert_eq!(counts(0, 2, 1), "2 hypertables with 1 chunk");
    }
}
