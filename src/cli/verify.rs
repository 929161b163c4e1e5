//! `pgtide verify`

use std::path::PathBuf;
use std::sync::Arc;

use pgtide::ops::units::{Percent, Wait};
use pgtide::repo::{Repository, RunRecord, SnapshotId};
use pgtide::verify::snapshot::{self, Query, Report, Server, Verified, VerifyOptions};

use super::common::{Bare, Connect, Repo, Which, interrupt, print_json};
use super::progress::Shown;
use super::{Exit, Failure, Outcome, compare, record, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    which: Which,
    /// Start a server for this, from the programs of PostgreSQL on this machine, or in that directory
    #[arg(
        long,
        value_name = "DIRECTORY",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["dbname", "host", "port", "restored"]
    )]
    ephemeral: Option<Option<PathBuf>>,
    /// Restore nothing: --dbname is a database that was restored from the snapshot, and is compared with it
    #[arg(long, conflicts_with_all = ["sample", "rto"])]
    restored: bool,
    /// The time in which everything must be restored, e.g. 30m; exits with 3 if it takes longer
    #[arg(long, value_name = "TIME")]
    rto: Option<Wait>,
    /// Restore definitions only, and look at so much of the blocks of rows, taken at random: for huge databases
    #[arg(long, value_name = "PERCENT", conflicts_with = "rto")]
    sample: Option<Percent>,
    /// A query on the restored database whose first value must be neither false, nor 0, nor nothing; or, as 'QUERY => ANSWER',
    /// that answer (repeatable)
    #[arg(long = "query", value_name = "QUERY", value_parser = query)]
    queries: Vec<Query>,
    /// Leave the scratch databases where they are
    #[arg(long, conflicts_with_all = ["ephemeral", "restored"])]
    keep: bool,
    /// Sessions that restore and compare in parallel [default: as for restore]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    #[command(flatten)]
    bare: Bare,
    /// Restore no privileges
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
    /// Wait this long for a table's lock before giving up
    #[arg(long, value_name = "TIME", default_value = "30s")]
    lock_wait_timeout: Wait,
    /// Command to run as pg_dump, which prints the restored definitions
    #[arg(
        long,
        value_name = "COMMAND",
        env = "PGTIDE_PG_DUMP",
        hide_env_values = true
    )]
    pg_dump: Option<String>,
    /// Show no progress, and only what differs
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    // Last, as its heading holds for all options that follow.
    #[command(flatten)]
    connect: Connect,
}

/// `QUERY`, or `QUERY => ANSWER`.
fn query(text: &str) -> Result<Query, String> {
    // In SQL the same sign is between a parameter and its value, which is in parentheses.
    let (sql, expect) = match text.rsplit_once(" => ") {
        Some((sql, answer)) if !answer.contains(')') => {
            (sql.trim(), Some(answer.trim().to_owned()))
        }
        _ => (text.trim(), None),
    };
    if sql.is_empty() {
        return Err("is empty: write it like 'SELECT count(*) > 0 FROM orders'".to_owned());
    }
    Ok(Query {
        database: None,
        sql: sql.to_owned(),
        expect,
    })
}

pub fn run(args: &Args) -> Outcome {
    let settings = || args.connect.settings().map(Box::new);
    let server = match (&args.ephemeral, args.restored) {
        (Some(programs), _) => Server::Ephemeral(programs.clone()),
        (None, true) if args.connect.dbname.is_none() => {
            return Err(Failure::usage(
                "no database to compare with the snapshot\nhint: name it with --dbname",
            ));
        }
        (None, true) => Server::Restored(settings()?),
        (None, false) if args.connect.dbname.is_none() && args.connect.host.is_none() => {
            return Err(Failure::usage(
                "no server to restore on\nhint: name one with --dbname, the database to connect to first (a scratch database is made beside it, and dropped), or start one with --ephemeral",
            ));
        }
        (None, false) => Server::There(settings()?),
    };
    let mut render = args.bare.render(Default::default());
    render.no_privileges = args.no_privileges;
    let options = VerifyOptions {
        server,
        jobs: args.jobs.map(usize::from),
        pg_dump: args.pg_dump.clone(),
        path: std::env::var_os("PATH"),
        lock_wait_timeout: args.lock_wait_timeout.0,
        render,
        sample: args.sample.map(|percent| percent.0.min(1.0)),
        queries: args.queries.clone(),
        rto: args.rto.map(|rto| rto.0),
        keep: args.keep,
    };
    let repo = args.repo.open()?;
    let (id, snapshot) = args.which.find(&repo)?;
    let shown = Arc::new(Shown::new(args.quiet || args.json, "done"));
    let interrupt = interrupt(&shown)?;
    let mut entry = RunRecord::begin("verify");
    entry.snapshots.push(id);
    let result = snapshot::run(&repo, id, &snapshot, &options, &interrupt, shown.as_ref());
    shown.finish();
    let exit = result.as_ref().map_or(Exit::Failed, verdict);
    remember(&repo, entry, exit, &result);
    let report = result?;
    if args.json {
        let mut document = serde_json::to_value(&report)?;
        document["snapshot_id"] = id.to_string().into();
        print_json(&document)?;
    } else {
        show(&id, &report, args.quiet);
    }
    Ok(exit)
}

fn verdict(report: &Report) -> Exit {
    let incomplete = |one: &Verified| !one.differences.not_compared.is_empty();
    match () {
        () if !report.equal => Exit::Difference,
        () if !report.in_time || report.databases.iter().any(incomplete) => Exit::Partly,
        () => Exit::Done,
    }
}

fn remember(
    repo: &Repository,
    mut entry: RunRecord,
    exit: Exit,
    result: &Result<Report, snapshot::VerifyError>,
) {
    match result {
        Ok(report) => {
            entry.target = Some(report.server.clone());
            entry.details = serde_json::to_value(pgtide::ops::verified::Summary::from(report))
                .unwrap_or_default();
        }
        Err(error) => entry.error = Some(error.to_string()),
    }
    record::keep(repo, entry, exit);
}

fn show(id: &SnapshotId, report: &Report, quiet: bool) {
    for one in &report.databases {
        let name = &one.database;
        for note in &one.differences.notes {
            eprintln!("note: {name}: {note}");
        }
        for what in &one.differences.not_compared {
            eprintln!("not compared: {name}: {what}");
        }
        if !quiet {
            outln!(
                "{:<9} {name}: {} rows of {} compared{}",
                if one.equal { "equal" } else { "DIFFERENT" },
                render::count(one.rows),
                render::plural(one.differences.tables.len() as u64, "table", "tables"),
                restored(one)
            );
        }
        if let Some(sampled) = &one.sampled {
            if !quiet {
                outln!(
                    "sampled   {} of {} blocks, {}",
                    render::count(sampled.blocks),
                    render::count(sampled.of_blocks),
                    render::bytes(sampled.bytes)
                );
            }
            sampled
                .damaged
                .iter()
                .for_each(|line| outln!("damaged   {line}"));
        }
        if let Some(failed) = &one.failed {
            outln!("not restored whole: {}", failed.replace('\n', "\n  "));
        }
        compare::show_schema(&one.differences.schema);
        compare::show_tables(&one.differences.tables);
        compare::show_sequences(&one.differences.sequences);
        for answer in one.answers.iter().filter(|answer| !quiet || !answer.right) {
            let got = match (&answer.error, &answer.answer) {
                (Some(error), _) => error.clone(),
                (None, Some(answer)) => answer.clone(),
                (None, None) => "nothing".to_owned(),
            };
            let expected = answer.expected.iter().filter(|_| !answer.right);
            let expected: String = expected.map(|e| format!(", expected {e}")).collect();
            let word = if answer.right { "right" } else { "WRONG" };
            outln!("{word:<9} {} is {got}{expected}", answer.sql);
        }
    }
    if !quiet {
        if report.restore_seconds > 0.0 {
            let rto = report.rto_seconds.map(|rto| {
                let word = if report.in_time {
                    "within"
                } else {
                    "MORE THAN"
                };
                format!(", {word} the {} it may take", render::seconds(rto))
            });
            outln!(
                "recovery  {} on {} (PostgreSQL {}){}",
                render::seconds(report.restore_seconds),
                report.server,
                report
                    .server_version
                    .split_whitespace()
                    .next()
                    .unwrap_or_default(),
                rto.unwrap_or_default()
            );
        }
        outln!(
            "{} {}",
            if report.equal {
                "verified "
            } else {
                "not verified:"
            },
            render::short(id)
        );
    }
}

fn restored(one: &Verified) -> String {
    match one.restore_seconds {
        0.0 => String::new(),
        seconds => format!(
            "; {} restored in {}",
            render::bytes(one.bytes),
            render::seconds(seconds)
        ),
    }
}
