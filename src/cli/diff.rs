//! `pgtide diff`

use pgtide::ops::diff::{self, Change, Difference};
use pgtide::restore;

use super::common::{Repo, print_json};
use super::render;
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// The first snapshot: an id, a unique prefix of one, latest, or latest:DATABASE
    #[arg(value_name = "A")]
    before: String,
    /// The second snapshot
    #[arg(value_name = "B")]
    after: String,
    /// Exit with 20 if there are differences
    #[arg(long)]
    exit_code: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let ((a_id, a), (b_id, b)) = (repo.find(&args.before)?, repo.find(&args.after)?);
    let (a, b) = (restore::open(&repo, a)?, restore::open(&repo, b)?);
    let difference = diff::compare(&repo, &a, &b)?;
    if args.json {
        print_json(&serde_json::json!({
            "before": a_id,
            "after": b_id,
            "equal": difference.is_empty(),
            "difference": difference,
        }))?;
    } else {
        for (sign, id, snapshot) in [("-", &a_id, &a.snapshot), ("+", &b_id, &b.snapshot)] {
            outln!(
                "{sign} {} {} of {} at {}:{}",
                render::short(id),
                render::time(snapshot.time),
                snapshot.label(),
                snapshot.source.host,
                snapshot.source.port
            );
        }
        show(&difference);
    }
    if args.exit_code && !difference.is_empty() {
        Ok(Exit::Difference)
    } else {
        Ok(Exit::Done)
    }
}

fn show(difference: &Difference) {
    if difference.is_empty() {
        outln!("no difference");
        return;
    }
    let tables = [
        ("+", &difference.tables_added),
        ("-", &difference.tables_removed),
    ];
    if !difference.tables_changed.is_empty() || tables.iter().any(|(_, list)| !list.is_empty()) {
        outln!("\ntables");
    }
    for (sign, tables) in tables {
        for table in tables {
            outln!(
                "{sign} {}: {}, {}",
                table.table,
                render::plural(table.rows, "row", "rows"),
                render::bytes(table.payload_bytes)
            );
        }
    }
    for table in &difference.tables_changed {
        let rows = match table.rows_before == table.rows_after {
            true => render::plural(table.rows_after, "row", "rows"),
            false => format!(
                "{} -> {} rows",
                render::count(table.rows_before),
                render::count(table.rows_after)
            ),
        };
        let blocks = match &table.blocks {
            None => "blocks of another size".to_owned(),
            Some(blocks) => format!(
                "blocks: {} changed, {} added, {} removed",
                render::count(blocks.changed),
                render::count(blocks.added),
                render::count(blocks.removed)
            ),
        };
        outln!("M {}: {rows}; {blocks}", table.table);
        for column in &table.columns_added {
            outln!("    + column {column}");
        }
        for column in &table.columns_removed {
            outln!("    - column {column}");
        }
        for (column, before, after) in &table.columns_changed {
            outln!("    M column {column}: {before} -> {after}");
        }
    }
    if !difference.sequences.is_empty() {
        outln!("\nsequences");
    }
    for sequence in &difference.sequences {
        match (sequence.before, sequence.after) {
            (Some(before), Some(after)) => outln!("M {}: {before} -> {after}", sequence.sequence),
            (Some(before), None) => outln!("- {}: {before}", sequence.sequence),
            (None, after) => outln!("+ {}: {}", sequence.sequence, after.unwrap_or_default()),
        }
    }
    if !difference.schema.is_empty() {
        outln!("\nschema");
    }
    for entry in &difference.schema {
        let sign = match entry.change {
            Change::Added => "+",
            Change::Removed => "-",
            Change::Changed => "M",
        };
        let schema = entry.schema.as_ref().map(|schema| format!("{schema}."));
        outln!(
            "{sign} {} {}{}",
            entry.kind,
            schema.unwrap_or_default(),
            entry.name
        );
        for line in entry.diff.lines() {
            outln!("    {line}");
        }
    }
}
