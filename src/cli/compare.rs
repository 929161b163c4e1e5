//! `pgtide compare`

use std::sync::Arc;

use pgtide::verify::compare::{
    self, Change, CompareOptions, Comparison, Differing, EntryDifference, SequenceDifference,
    SequenceState, Side, TableComparison,
};

use super::common::{History, Reading, interrupt, print_json, settings_of};
use super::progress::Shown;
use super::selection::Selected;
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The one database: a name, a connection string or a URI
    #[arg(long, value_name = "CONNINFO")]
    source: String,
    /// The other database: a name, a connection string or a URI
    #[arg(long, value_name = "CONNINFO")]
    target: String,
    /// Show the rows that differ, of each table so many (20), by primary key; long values are shortened
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "20",
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    rows: Option<u16>,
    /// Sessions that read in parallel at each side [default: the cores, at most 4, at most a quarter of the server's free
    /// connections]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    part: History,
    /// Show no progress and no summary: the differences and the verdict only
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    // Last, as its heading holds for all options that follow.
    #[command(flatten)]
    selected: Selected,
}

pub fn run(args: &Args) -> Outcome {
    let options = CompareOptions {
        sides: [settings_of(&args.source)?, settings_of(&args.target)?],
        jobs: args.jobs.map(usize::from),
        pg_dump: args.reading.pg_dump.clone(),
        path: std::env::var_os("PATH"),
        lock_wait_timeout: args.reading.lock_wait_timeout.0,
        selection: args.selected.selection()?,
        part: args.part.part(),
        kindness: args.reading.kindness(),
        row_security: args.selected.row_security(),
        rows: args.rows.map(usize::from),
    };
    let shown = Arc::new(Shown::new(args.quiet || args.json, "read"));
    let interrupt = interrupt(&shown)?;
    let result = compare::run(&options, &interrupt, shown.as_ref());
    shown.finish();
    let comparison = result?;
    if args.json {
        print_json(&serde_json::to_value(&comparison)?)?;
    } else {
        show(&comparison, args.quiet);
    }
    Ok(
        match (comparison.equal, comparison.not_compared.is_empty()) {
            (false, _) => Exit::Difference,
            (true, false) => Exit::Partly,
            (true, true) => Exit::Done,
        },
    )
}

fn show(comparison: &Comparison, quiet: bool) {
    for note in &comparison.notes {
        eprintln!("note: {note}");
    }
    for what in &comparison.not_compared {
        eprintln!("not compared: {what}");
    }
    if !quiet {
        show_sides(comparison);
    }
    show_schema(&comparison.schema);
    show_tables(&comparison.tables);
    show_sequences(&comparison.sequences);
    show_verdict(comparison, quiet);
}

fn show_sides(comparison: &Comparison) {
    let Comparison { source, target, .. } = comparison;
    for (name, side) in [("source", source), ("target", target)] {
        outln!(
            "{name}    {} at {}:{} (PostgreSQL {}), as of {}",
            side.database,
            side.host,
            side.port,
            side.server_version
                .split_whitespace()
                .next()
                .unwrap_or_default(),
            render::time(side.time)
        );
    }
    let both = |of: fn(&Side) -> u64| {
        let (a, b) = (render::count(of(source)), render::count(of(target)));
        if a == b { a } else { format!("{a} | {b}") }
    };
    let bytes = source.bytes + target.bytes;
    outln!(
        "compared  {} definitions, {} sequences, {} rows of {}",
        both(|side| side.objects),
        both(|side| side.sequences),
        both(|side| side.rows),
        render::counts(
            source.tables.max(target.tables),
            source.hypertables.max(target.hypertables),
            source.chunks.max(target.chunks)
        ),
    );
    outln!(
        "read      {} in {} ({}/s, {} rows/s)",
        render::bytes(bytes),
        render::seconds(comparison.read_seconds),
        render::bytes((bytes as f64 / comparison.read_seconds.max(0.001)) as u64),
        render::count(
            ((source.rows + target.rows) as f64 / comparison.read_seconds.max(0.001)) as u64
        ),
    );
}

/// `-` is only at the source, `+` only at the target, `M` is not the same.
fn sign(change: Change) -> &'static str {
    match change {
        Change::OnlySource => "-",
        Change::OnlyTarget => "+",
        Change::Different => "M",
    }
}

/// The definitions that differ.
pub fn show_schema(differences: &[EntryDifference]) {
    if !differences.is_empty() {
        outln!("\ndefinitions");
    }
    for entry in differences {
        let schema = entry.schema.iter().filter(|schema| !schema.is_empty());
        let schema: String = schema.map(|schema| format!("{schema}.")).collect();
        let line = entry.line.map(|line| format!(", line {line}"));
        outln!(
            "{} {} {schema}{}{}",
            sign(entry.change),
            entry.kind,
            entry.name,
            line.unwrap_or_default()
        );
        for (sign, line) in [("-", &entry.source), ("+", &entry.target)] {
            if let Some(line) = line {
                outln!("    {sign} {}", line.trim());
            }
        }
    }
}

/// The tables whose rows differ.
pub fn show_tables(tables: &[TableComparison]) {
    let differing: Vec<&TableComparison> = tables.iter().filter(|t| !t.equal).collect();
    if !differing.is_empty() {
        outln!("\nrows");
    }
    let width = differing.iter().map(|t| t.name.chars().count()).max();
    let width = width.unwrap_or(0);
    for table in differing {
        let rows = |number: u64| render::plural(number, "row", "rows");
        let (sign, rows) = match (&table.source, &table.target) {
            (Some(a), Some(b)) if a.rows == b.rows => ("M", rows(a.rows)),
            (Some(a), Some(b)) => (
                "M",
                format!("{} | {} rows", render::count(a.rows), render::count(b.rows)),
            ),
            (Some(a), None) => ("-", rows(a.rows)),
            (None, Some(b)) => ("+", rows(b.rows)),
            (None, None) => ("M", String::new()),
        };
        outln!("{sign} {:<width$}  {rows}", table.name);
        for column in &table.columns {
            outln!("    column {column}");
        }
        if let Some(differing) = &table.rows {
            show_rows(differing);
        }
    }
}

fn show_rows(differing: &Differing) {
    for row in &differing.rows {
        let sign = if row.side == compare::SIDES[0] {
            "-"
        } else {
            "+"
        };
        let values = row.values.iter();
        let values: Vec<String> = values
            .map(|(column, value)| format!("{column} = {}", literal(value.as_deref())))
            .collect();
        let times = match row.times {
            1 => String::new(),
            times => format!("  ({} times)", render::count(times)),
        };
        outln!("    {sign} {}{times}", values.join(", "));
    }
    if !differing.complete {
        let what = if differing.key.is_empty() {
            "rows"
        } else {
            "keys"
        };
        outln!(
            "    and more: {} or more {what} differ",
            render::count(differing.at_least)
        );
    }
}

/// A value so that NULL, nothing and the word can be told apart.
fn literal(value: Option<&str>) -> String {
    let Some(value) = value else {
        return "NULL".to_owned();
    };
    let plain = |c: char| c.is_alphanumeric() || "_.:+-".contains(c);
    if !value.is_empty() && value != "NULL" && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut quoted = String::from("'");
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            c if c.is_control() => quoted.extend(c.escape_default()),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// The sequences that differ.
pub fn show_sequences(sequences: &[SequenceDifference]) {
    if !sequences.is_empty() {
        outln!("\nsequences");
    }
    let state = |state: Option<SequenceState>| match state {
        Some(SequenceState {
            last_value,
            is_called: true,
        }) => last_value.to_string(),
        Some(SequenceState { last_value, .. }) => format!("{last_value}, not yet given"),
        None => "not there".to_owned(),
    };
    for sequence in sequences {
        outln!(
            "M {}: {} | {}",
            sequence.sequence,
            state(sequence.source),
            state(sequence.target)
        );
    }
}

fn show_verdict(comparison: &Comparison, quiet: bool) {
    if !quiet || !comparison.equal {
        outln!("");
    }
    let but = match comparison.not_compared.len() {
        0 => String::new(),
        n => format!("; {} not compared", render::count(n as u64)),
    };
    if comparison.equal {
        outln!("equal{but}");
        return;
    }
    let tables = comparison.tables.iter().filter(|t| !t.equal).count();
    let counts = [
        (comparison.schema.len(), "definition", "definitions"),
        (tables, "table", "tables"),
        (comparison.sequences.len(), "sequence", "sequences"),
    ];
    let counts = counts.iter().filter(|(number, ..)| *number > 0);
    let counts: Vec<String> = counts
        .map(|(number, one, many)| render::plural(*number as u64, one, many))
        .collect();
    if !quiet {
        let apart = comparison
            .source
            .time
            .duration_until(comparison.target.time);
        outln!(
            "Each side was read in one snapshot of its own, {} apart: what was written in between, or to one side only, differs.",
            render::seconds(apart.as_secs_f64().abs())
        );
    }
    outln!("different: {}{but}", counts.join(", "));
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn null_nothing_and_the_word_can_be_told_apart() {
        assert_eq!(literal(None), "NULL");
        assert_eq!(literal(Some("NULL")), "'NULL'");
        assert_eq!(literal(Some("")), "''");
        assert_eq!(literal(Some("it's\n")), "'it''s\\n'");
        assert_eq!(literal(Some("2025-01-01")), "2025-01-01");
    }
}
