//! `pgtide repair`

use pgtide::repo::{RepairOptions, Repository};

use super::check::{Shown, hurt_json, problems_json, tables};
use super::common::{Repo, print_json};
use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Read every byte first; without it, what a check found damaged and what shows without reading is mended
    #[arg(long)]
    read_data: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let store = args.repo.store()?;
    let restored = Repository::restore_config(&store)?;
    let repo = args.repo.open()?;
    let shown = Shown::new(args.quiet || args.json);
    let options = RepairOptions {
        read_data: args.read_data,
        ..RepairOptions::default()
    };
    let report = repo.repair(options, &|progress| shown.show(progress));
    shown.finish();
    let mut report = report?;
    if restored {
        report
            .done
            .insert(0, "config: put back from its copy".into());
    }
    if args.json {
        print_json(&serde_json::json!({
            "found": problems_json(&report.found),
            "done": report.done,
            "hurt": hurt_json(&report.hurt),
            "lost": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "left": problems_json(&report.left),
        }))?;
    } else {
        for problem in &report.found {
            outln!("found     {problem}");
        }
        for line in &report.done {
            outln!("done      {line}");
        }
        for id in &report.lost {
            outln!("lost      snapshot {id}");
        }
        for (id, hurt) in &report.hurt {
            outln!(
                "hurt      snapshot {} lacks {}",
                render::short(id),
                tables(hurt)
            );
        }
        for problem in &report.left {
            outln!("left      {problem}");
        }
        outln!(
            "{}",
            match (report.done.is_empty(), report.left.is_empty()) {
                (true, true) => "there was nothing to mend",
                (_, false) => "not all of it could be mended",
                (false, true) if report.hurt.is_empty() && report.lost.is_empty() =>
                    "mended: nothing is lost",
                (false, true) => "mended; the next dump stores again what its database still has",
            }
        );
    }
    Ok(
        match (
            report.left.is_empty(),
            report.hurt.is_empty() && report.lost.is_empty(),
        ) {
            (false, _) => Exit::Difference,
            (true, false) => Exit::Partly,
            (true, true) => Exit::Done,
        },
    )
}
