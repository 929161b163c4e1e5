//! `pgtide list`

use std::io::{ErrorKind, Write};

use pgtide::repo::SnapshotId;
use pgtide::repo::model::Snapshot;
use pgtide::restore::{self, Chosen, Item, Mode};
use pgtide::schema::list::list_line;

use super::common::{Repo, Which, print_json};
use super::pick::Selection;
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    which: Which,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    // Last, as its heading holds for all options that follow.
    #[command(flatten)]
    selection: Selection,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let (id, snapshot) = args.which.find(&repo)?;
    let opened = restore::open(&repo, snapshot)?;
    let pick = args.selection.pick()?;
    let chosen = Chosen::new(&opened, &pick, Mode::default())?;
    for note in &chosen.notes {
        eprintln!("note: {note}");
    }
    let items = chosen.items(&opened, &pick);
    if args.json {
        let entries: Vec<_> = items
            .iter()
            .map(|item| &item.entry)
            .map(|e| {
                serde_json::json!({
                    "id": e.dump_id,
                    "kind": e.desc,
                    "schema": e.namespace.as_ref().map(|n| n.to_lossy()),
                    "name": e.tag.to_lossy(),
                    "owner": e.owner.to_lossy(),
                })
            })
            .collect();
        print_json(&serde_json::json!({"id": id.to_string(), "entries": entries}))?;
        return Ok(Exit::Done);
    }
    match print(&id, &opened.snapshot, &items) {
        // Whoever reads has seen enough, as in `pgtide list latest | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        printed => Ok(printed.map(|()| Exit::Done)?),
    }
}

fn print(id: &SnapshotId, snapshot: &Snapshot, items: &[Item<'_>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, ";\n; Snapshot {id}")?;
    writeln!(out, ";     taken at: {}", render::time(snapshot.time))?;
    writeln!(out, ";     dbname: {}", snapshot.label())?;
    writeln!(out, ";     selected: {}", items.len())?;
    writeln!(out, ";")?;
    for item in items {
        out.write_all(list_line(&item.entry).as_bytes())?;
        writeln!(out)?;
    }
    Ok(())
}
