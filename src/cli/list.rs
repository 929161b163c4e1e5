//! `pgtide list`

use std::io::{ErrorKind, Write};

use pgtide::repo::SnapshotId;
use pgtide::restore::{self, Opened};
use pgtide::schema::list::list_line;

use super::common::{Repo, Which, print_json};
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
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let (id, snapshot) = args.which.find(&repo)?;
    let opened = restore::open(&repo, snapshot)?;
    if args.json {
        let entries: Vec<_> = opened
            .entries
            .iter()
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
    match print(&id, &opened) {
        // Whoever reads has seen enough, as in `pgtide list latest | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        printed => Ok(printed.map(|()| Exit::Done)?),
    }
}

fn print(id: &SnapshotId, opened: &Opened) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, ";\n; Snapshot {id}")?;
    writeln!(
        out,
        ";     taken at: {}",
        render::time(opened.snapshot.time)
    )?;
    writeln!(out, ";     dbname: {}", opened.snapshot.label())?;
    writeln!(out, ";     TOC Entries: {}", opened.entries.len())?;
    writeln!(out, ";")?;
    for entry in &opened.entries {
        out.write_all(list_line(entry).as_bytes())?;
        writeln!(out)?;
    }
    Ok(())
}
