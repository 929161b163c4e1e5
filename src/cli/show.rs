//! `pgtide show`

use pgtide::restore;

use super::common::{Repo, Which, print_json};
use super::render::{self, Align};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    which: Which,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let (id, snapshot) = args.which.find(&repo)?;
    let opened = restore::open(&repo, snapshot)?;
    let snapshot = &opened.snapshot;
    if args.json {
        let tables: Vec<_> = opened
            .tables
            .iter()
            .map(|t| {
                serde_json::json!({
                    "schema": t.schema,
                    "name": t.name,
                    "rows": t.digest.rows,
                    "digest": t.digest.to_string(),
                    "source_bytes": t.source_bytes,
                    "payload_bytes": t.payload_bytes,
                    "columns": t.columns.iter().map(|c| serde_json::json!({"name": c.name, "type": c.type_name})).collect::<Vec<_>>(),
                })
            })
            .collect();
        print_json(&serde_json::json!({
            "id": id.to_string(),
            "snapshot": snapshot,
            "tables": tables,
        }))?;
        return Ok(Exit::Done);
    }
    let source = &snapshot.source;
    let totals = &snapshot.totals;
    outln!("snapshot    {id}");
    outln!("time        {}", render::time(snapshot.time));
    outln!(
        "source      {} at {}:{}{}, PostgreSQL {}, {}",
        source.database,
        source.host,
        source.port,
        if source.standby { " (standby)" } else { "" },
        source.server_version,
        source.encoding
    );
    for extension in &source.extensions {
        outln!("extension   {} {}", extension.name, extension.version);
    }
    if !snapshot.tags.is_empty() {
        outln!("tags        {}", snapshot.tags.join(", "));
    }
    outln!(
        "content     {} rows of {}, {}, {}",
        render::count(totals.rows),
        render::plural(totals.tables, "table", "tables"),
        render::bytes(totals.source_bytes),
        render::plural(totals.entries, "schema entry", "schema entries"),
    );
    outln!(
        "added       {} in {}",
        render::bytes(totals.added_bytes),
        render::plural(totals.added_blocks, "block", "blocks"),
    );
    outln!(
        "took        {} (locks {}, rows {})",
        render::seconds(totals.seconds),
        render::seconds(totals.lock_seconds),
        render::seconds(totals.read_seconds)
    );
    for warning in &snapshot.warnings {
        outln!("note        {warning}");
    }
    outln!("");
    let rows: Vec<Vec<String>> = opened
        .tables
        .iter()
        .map(|t| {
            vec![
                format!("{}.{}", t.schema, t.name),
                render::count(t.digest.rows),
                render::bytes(t.source_bytes),
                render::bytes(t.payload_bytes),
            ]
        })
        .collect();
    render::table(
        &[
            ("TABLE", Align::Left),
            ("ROWS", Align::Right),
            ("SIZE", Align::Right),
            ("PAYLOAD", Align::Right),
        ],
        &rows,
    );
    Ok(Exit::Done)
}
