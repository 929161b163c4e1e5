//! `pgtide snapshots`

use super::common::{Repo, print_json};
use super::render::{self, Align};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let snapshots = repo.snapshots()?;
    if args.json {
        let list: Vec<_> = snapshots
            .list
            .iter()
            .map(|(id, snapshot)| serde_json::json!({"id": id.to_string(), "snapshot": snapshot}))
            .collect();
        let damaged: Vec<String> = snapshots.damaged.iter().map(ToString::to_string).collect();
        print_json(&serde_json::json!({"snapshots": list, "damaged": damaged}))?;
    } else if snapshots.list.is_empty() && snapshots.damaged.is_empty() {
        outln!("no snapshots");
    } else {
        let rows: Vec<Vec<String>> = snapshots
            .list
            .iter()
            .map(|(id, s)| {
                vec![
                    render::short(id),
                    render::time(s.time),
                    format!("{}:{}", s.source.host, s.source.port),
                    s.label().to_owned(),
                    render::count(s.totals.rows),
                    render::bytes(s.totals.source_bytes),
                    render::bytes(s.totals.added_bytes),
                    render::seconds(s.totals.seconds),
                    s.tags.join(","),
                ]
            })
            .collect();
        render::table(
            &[
                ("ID", Align::Left),
                ("TIME", Align::Left),
                ("HOST", Align::Left),
                ("DATABASE", Align::Left),
                ("ROWS", Align::Right),
                ("SIZE", Align::Right),
                ("ADDED", Align::Right),
                ("TOOK", Align::Right),
                ("TAGS", Align::Left),
            ],
            &rows,
        );
        for damaged in &snapshots.damaged {
            eprintln!("error: {damaged}");
        }
    }
    if snapshots.damaged.is_empty() {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Failed)
    }
}
