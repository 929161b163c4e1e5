//! `pgtide show`

use pgtide::restore;
use pgtide::timescale::contents;

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
        let labels = opened.model.labels();
        let tables: Vec<_> = opened
            .tables
            .iter()
            .map(|t| {
                serde_json::json!({
                    "schema": t.schema,
                    "name": t.name,
                    "chunk": labels.get(&t.key()),
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
    let counts = opened.counts();
    outln!("snapshot    {id}");
    outln!("time        {}", render::time(snapshot.time));
    outln!(
        "source      {} at {}:{}{}, PostgreSQL {}, {}",
        snapshot.label(),
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
        render::counts(counts.tables, counts.hypertables, counts.chunks),
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
    if opened.has_statistics() {
        outln!("statistics  yes");
    }
    for warning in &snapshot.warnings {
        outln!("note        {warning}");
    }
    outln!("");
    if let Some(members) = snapshot.databases() {
        let rows: Vec<Vec<String>> = members
            .iter()
            .map(|m| vec![m.database.clone(), m.snapshot.to_string()])
            .collect();
        render::table(
            &[("DATABASE", Align::Left), ("SNAPSHOT", Align::Left)],
            &rows,
        );
        return Ok(Exit::Done);
    }
    let items = contents::items(&opened.model, opened.tables.iter());
    let hypertables = items.iter().any(|item| item.chunks.is_some());
    let compressed = items.iter().any(|item| item.compressed > 0);
    let mut header = vec![("TABLE", Align::Left)];
    if hypertables {
        header.push(("CHUNKS", Align::Right));
    }
    if compressed {
        header.push(("COMPRESSED", Align::Right));
    }
    header.extend(["ROWS", "SIZE", "PAYLOAD"].map(|name| (name, Align::Right)));
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let mut row = vec![item.name.clone()];
            if hypertables {
                row.push(item.chunks.map(render::count).unwrap_or_default());
            }
            if compressed {
                let number = item.chunks.map(|_| render::count(item.compressed));
                row.push(number.unwrap_or_default());
            }
            row.push(render::count(item.rows));
            row.push(render::bytes(item.source_bytes));
            row.push(render::bytes(item.payload_bytes));
            row
        })
        .collect();
    render::table(&header, &rows);
    if compressed {
        outln!("\nROWS are those outside compressed chunks; SIZE and PAYLOAD are of all.");
    }
    Ok(Exit::Done)
}
