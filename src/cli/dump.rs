//! `pgtide dump`

use std::sync::Arc;

use clap::ValueEnum;
use pgtide::dump::{self, DumpOptions};
use pgtide::ops::duration::Duration as KeepFor;
use pgtide::rows::Effort;

use super::common::{Connect, History, Reading, Repo, interrupt, print_json};
use super::progress::Shown;
use super::selection::Selected;
use super::{Exit, Outcome, cluster, protect, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Sessions that read in parallel [default: the cores, at most 4, at most a quarter of the server's free
    /// connections]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// How hard to compress
    #[arg(short = 'Z', long, value_name = "EFFORT", default_value = "default")]
    compress: Compress,
    /// Tag the snapshot (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Protect the snapshot from forget, for so long (--protect=7y) or until `pgtide protect --release`
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    protect: Option<Option<KeepFor>>,
    #[command(flatten)]
    cluster: cluster::DumpArgs,
    /// Become this role after connecting
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Read this snapshot, which another session has exported and keeps, instead of one of our own
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    part: History,
    /// Read the compressed rows of hypertables as rows, for a target that cannot take them compressed: without the TSL
    /// edition of TimescaleDB, or with another version of it (restore --portable)
    #[arg(long)]
    decompress: bool,
    /// Dump the planner's statistics, too: a restore to PostgreSQL 18 or later then has them without ANALYZE
    #[arg(long, overrides_with = "no_statistics")]
    statistics: bool,
    /// Dump no statistics, as is the default
    #[arg(long)]
    no_statistics: bool,
    /// Show no progress and no summary: print the snapshot's id only
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selected: Selected,
    // Last, as its heading holds for all options that follow.
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compress {
    /// Least CPU
    Fast,
    /// Small at little CPU
    Default,
    /// Smallest
    Best,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let options = DumpOptions {
        settings: args.connect.settings()?,
        jobs: args.jobs.map(usize::from),
        effort: match args.compress {
            Compress::Fast => Effort::Fast,
            Compress::Default => Effort::Default,
            Compress::Best => Effort::Best,
        },
        pg_dump: args.reading.pg_dump.clone(),
        path: std::env::var_os("PATH"),
        tags: args.tags.clone(),
        lock_wait_timeout: args.reading.lock_wait_timeout.0,
        selection: args.selected.selection()?,
        role: args.role.clone(),
        row_security: args.selected.row_security(),
        snapshot: args.snapshot.clone(),
        part: args.part.part(),
        decompress: args.decompress,
        statistics: args.statistics,
        kindness: args.reading.kindness(),
        cluster: None,
    };
    if let Some(wanted) = args.cluster.options()? {
        return cluster::dump(
            &repo,
            &options,
            &wanted,
            (args.quiet, args.json),
            args.protect,
        );
    }
    let shown = Arc::new(Shown::new(args.quiet || args.json, "read"));
    let interrupt = interrupt(&shown)?;
    let result = dump::run(&repo, &options, &interrupt, shown.as_ref());
    shown.finish();
    let report = result?;
    let snapshot = &report.snapshot;
    let protected = protect::dumped(&repo, report.id, args.protect);
    let exit = if report.skipped.is_empty() && protected.is_ok() {
        Exit::Done
    } else {
        Exit::Partly
    };
    if args.json {
        print_json(&serde_json::json!({
            "snapshot_id": report.id.to_string(),
            "snapshot": snapshot,
            "protected": protected.as_ref().ok(),
            "hypertables": report.counts.hypertables,
            "chunks": report.counts.chunks,
            "skipped": report.skipped,
        }))?;
        return Ok(exit);
    }
    for warning in &snapshot.warnings {
        eprintln!("note: {warning}");
    }
    if !args.quiet {
        let (totals, counts) = (&snapshot.totals, &report.counts);
        outln!(
            "dumped    {} from {}:{} (PostgreSQL {})",
            snapshot.source.database,
            snapshot.source.host,
            snapshot.source.port,
            render::version(&snapshot.source)
        );
        outln!(
            "read      {} rows of {}, {} in {} ({}/s)",
            render::count(totals.rows),
            render::counts(counts.tables, counts.hypertables, counts.chunks),
            render::bytes(totals.source_bytes),
            render::seconds(totals.seconds),
            render::bytes((totals.source_bytes as f64 / totals.seconds.max(0.001)) as u64),
        );
        outln!(
            "stored    {} in {}",
            render::bytes(totals.added_bytes),
            render::plural(totals.added_blocks, "new block", "new blocks"),
        );
        protect::say(protected.as_ref().ok());
    }
    outln!("{}", report.id);
    Ok(exit)
}
