//! `pgtide clone`

use std::sync::Arc;

use pgtide::clone::{self, CloneOptions};
use pgtide::dump::DumpOptions;
use pgtide::restore::{Pick, RestoreOptions};
use pgtide::rows::Effort;

use super::common::{History, Reading, interrupt, print_json, settings_of};
use super::progress::Shown;
use super::selection::Selected;
use super::{Exit, Failure, Outcome, render, restore};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The database to read: a name, a connection string or a URI
    #[arg(long, value_name = "CONNINFO")]
    source: String,
    /// The database to write: a name, a connection string or a URI
    #[arg(long, value_name = "CONNINFO")]
    target: String,
    /// Sessions at each side that work in parallel [default: the cores, at most 4, at most a quarter of the servers' free
    /// connections]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Create the target database, with encoding and locale of the source's
    #[arg(short = 'C', long, conflicts_with = "resume")]
    create: bool,
    /// First drop at the target what is to be cloned; with --create, the whole database
    #[arg(long, alias = "clean")]
    drop_existing: bool,
    /// Go on with a clone that did not end
    #[arg(long, conflicts_with = "drop_existing")]
    resume: bool,
    /// Go on even if that takes a new MVCC snapshot of the source: tables that are complete stay as they are
    #[arg(long, requires = "resume")]
    not_consistent: bool,
    /// Read this snapshot, which another session has exported and keeps, instead of one of our own
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    part: History,
    /// Read the compressed rows of hypertables as rows, for a target that cannot take them compressed
    #[arg(long)]
    decompress: bool,
    /// Make hypertables anew with the TimescaleDB that the target has, whatever its version
    #[arg(long)]
    portable: bool,
    /// Clone the planner's statistics, which a target of PostgreSQL 18 or later takes, instead of ANALYZE
    #[arg(long)]
    statistics: bool,
    /// Do not ANALYZE at the end
    #[arg(long)]
    no_analyze: bool,
    /// Go on after an error; list them all and exit with 3
    #[arg(long)]
    continue_on_error: bool,
    /// Do not ask before dropping something
    #[arg(short, long)]
    yes: bool,
    /// Show no progress and no summary
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
    let jobs = args.jobs.map(usize::from);
    let options = CloneOptions {
        source: DumpOptions {
            settings: settings_of(&args.source)?,
            jobs,
            effort: Effort::Fast,
            pg_dump: args.reading.pg_dump.clone(),
            path: std::env::var_os("PATH"),
            tags: Vec::new(),
            lock_wait_timeout: args.reading.lock_wait_timeout.0,
            selection: args.selected.selection()?,
            role: None,
            row_security: args.selected.row_security(),
            snapshot: args.snapshot.clone(),
            part: args.part.part(),
            decompress: args.decompress,
            statistics: args.statistics,
            kindness: args.reading.kindness(),
            cluster: None,
        },
        target: RestoreOptions {
            settings: settings_of(&args.target)?,
            jobs,
            create: false,
            properties: false,
            clean: args.drop_existing,
            pick: Pick::default(),
            portable: args.portable,
            render: args.selected.render(),
            statistics: args.statistics,
            role: None,
            row_security: false,
            disable_triggers: false,
            analyze: !args.no_analyze,
            continue_on_error: args.continue_on_error,
            no_jobs: false,
        },
        create: args.create,
        resume: args.resume,
        not_consistent: args.not_consistent,
    };
    if args.drop_existing && !args.yes {
        confirm(&options)?;
    }
    let shown = Arc::new(Shown::new(args.quiet || args.json, "copied"));
    let interrupt = interrupt(&shown)?;
    let result = clone::run(&options, &interrupt, shown.as_ref());
    shown.finish();
    let report = result?;
    let (source, target) = (&report.snapshot.source, &report.target);
    if args.json {
        let mut document = restore::report_json(target);
        document["source"] = serde_json::to_value(source)?;
        document["snapshot_time"] = report.snapshot.time.to_string().into();
        document["skipped"] = report.skipped.clone().into();
        document["resumed"] = report.resumed.map(|time| time.to_string()).into();
        print_json(&document)?;
    } else {
        for failure in &target.failures {
            eprintln!("error: {failure}");
        }
        if !args.quiet {
            outln!(
                "cloned    {} from {}:{} (PostgreSQL {}) as of {}",
                source.database,
                source.host,
                source.port,
                render::version(source),
                render::time(report.resumed.unwrap_or(report.snapshot.time)),
            );
            outln!(
                "into      {} at {}:{} in {}",
                target.database,
                options.target.settings.host_name(),
                options.target.settings.port(),
                render::seconds(target.seconds)
            );
            restore::outln_loaded(target, "copied");
        }
    }
    let complete = target.failures.is_empty() && target.left_out.is_empty();
    if complete && report.skipped.is_empty() {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Partly)
    }
}

/// Asks whether what is there may be dropped.
fn confirm(options: &CloneOptions) -> Result<(), Failure> {
    let (source, target) = (&options.source.settings, &options.target.settings);
    let what = match options.create {
        true => "the whole",
        false => "all that is to be cloned from",
    };
    restore::ask(&format!(
        "This drops {what} database {} at {}:{},\nand clones {} at {}:{} into it.",
        target.dbname(),
        target.host_name(),
        target.port(),
        source.dbname(),
        source.host_name(),
        source.port(),
    ))
}
