//! What `pgtide dump` and `pgtide restore` do with whole clusters.

use std::sync::Arc;

use pgtide::dump::cluster::{ClusterOptions, Members};
use pgtide::dump::{self, DumpOptions};
use pgtide::ops::duration::Duration as KeepFor;
use pgtide::repo::{Repository, SnapshotId};
use pgtide::restore::cluster::{self, ClusterReport, ClusterRestore};
use pgtide::restore::{Failure as Failed, Opened, RestoreOptions};
use pgtide::schema::pattern::{self, Pattern};

use super::common::{interrupt, print_json};
use super::progress::Shown;
use super::{Exit, Failure, Outcome, protect, record, render};

/// What of a cluster to dump.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// Dump the whole cluster: roles, tablespaces, and every database with a snapshot of its own; --dbname is the one to
    /// connect to first [default: postgres]
    #[arg(long)]
    all_databases: bool,
    /// Dump roles and tablespaces only
    #[arg(long, alias = "globals-only", conflicts_with = "all_databases")]
    globals: bool,
    /// Leave out databases of this name. A pattern by psql's rules (repeatable)
    #[arg(long = "exclude-database", value_name = "PATTERN", value_parser = pattern::plain)]
    exclude_databases: Vec<Pattern>,
    /// Keep no passwords of roles
    #[arg(long)]
    no_role_passwords: bool,
    /// Command to run as pg_dumpall, which reads roles and tablespaces [default: found as pg_dump is]
    #[arg(
        long,
        value_name = "COMMAND",
        env = "PGTIDE_PG_DUMPALL",
        hide_env_values = true
    )]
    pg_dumpall: Option<String>,
}

impl DumpArgs {
    /// What to dump of a cluster; nothing where one database is meant.
    pub fn options(&self) -> Result<Option<ClusterOptions>, Failure> {
        if self.all_databases || self.globals {
            if self.globals && !self.exclude_databases.is_empty() {
                return Err(Failure::usage(
                    "--globals dumps no databases, so there is none to leave out\nhint: drop --exclude-database",
                ));
            }
            return Ok(Some(ClusterOptions {
                databases: match self.all_databases {
                    true => Members::All(self.exclude_databases.clone()),
                    false => Members::None,
                },
                role_passwords: !self.no_role_passwords,
                pg_dumpall: self.pg_dumpall.clone(),
                retries: Default::default(),
            }));
        }
        for (given, option) in [
            (!self.exclude_databases.is_empty(), "--exclude-database"),
            (self.no_role_passwords, "--no-role-passwords"),
        ] {
            if given {
                return Err(Failure::usage(format!(
                    "{option} is for whole clusters\nhint: add --all-databases"
                )));
            }
        }
        Ok(None)
    }
}

/// Dumps a cluster.
pub fn dump(
    repo: &Repository,
    options: &DumpOptions,
    cluster: &ClusterOptions,
    (quiet, json): (bool, bool),
    protect: Option<Option<KeepFor>>,
) -> Outcome {
    for (given, option) in [
        (!options.part.is_whole(), "--since and --until"),
        (options.snapshot.is_some(), "--snapshot"),
    ] {
        if given {
            return Err(Failure::usage(format!(
                "{option} is for one database\nhint: dump that database alone"
            )));
        }
    }
    let shown = Arc::new(Shown::new(quiet || json, "read"));
    let interrupt = interrupt(&shown)?;
    let result = dump::cluster::run(repo, options, cluster, &interrupt, shown.as_ref());
    shown.finish();
    let report = result?;
    let protected = protect::dumped(repo, report.id, protect);
    let exit = if report.skipped.is_empty() && report.failed.is_empty() && protected.is_ok() {
        Exit::Done
    } else {
        Exit::Partly
    };
    let snapshot = &report.snapshot;
    if json {
        let databases: Vec<_> = report
            .databases
            .iter()
            .map(|done| {
                serde_json::json!({
                    "database": done.snapshot.source.database,
                    "snapshot_id": done.id.to_string(),
                    "snapshot": done.snapshot,
                    "hypertables": done.counts.hypertables,
                    "chunks": done.counts.chunks,
                    "skipped": done.skipped,
                })
            })
            .collect();
        let failed: Vec<_> = report
            .failed
            .iter()
            .map(|(name, error)| serde_json::json!({"database": name, "error": error}))
            .collect();
        print_json(&serde_json::json!({
            "snapshot_id": report.id.to_string(),
            "snapshot": snapshot,
            "databases": databases,
            "failed": failed,
            "skipped": report.skipped,
            "protected": protected.as_ref().ok(),
        }))?;
        return Ok(exit);
    }
    for done in &report.databases {
        for warning in done
            .snapshot
            .warnings
            .iter()
            .filter(|w| !done.skipped.contains(w))
        {
            eprintln!("note: {}: {warning}", done.snapshot.source.database);
        }
    }
    for warning in &snapshot.warnings {
        eprintln!("note: {warning}");
    }
    if !quiet {
        let totals = &snapshot.totals;
        outln!(
            "dumped    {} with {} from {}:{} (PostgreSQL {})",
            render::plural(totals.entries, "statement", "statements") + " of roles and tablespaces",
            render::plural(report.databases.len() as u64, "database", "databases"),
            snapshot.source.host,
            snapshot.source.port,
            render::version(&snapshot.source),
        );
        for done in &report.databases {
            let (totals, counts) = (&done.snapshot.totals, &done.counts);
            outln!(
                "database  {} {}: {} rows of {}, {}",
                render::short(&done.id),
                done.snapshot.source.database,
                render::count(totals.rows),
                render::counts(counts.tables, counts.hypertables, counts.chunks),
                render::bytes(totals.source_bytes),
            );
        }
        outln!(
            "stored    {} in {}, in {}",
            render::bytes(totals.added_bytes),
            render::plural(totals.added_blocks, "new block", "new blocks"),
            render::seconds(totals.seconds),
        );
        protect::say(protected.as_ref().ok());
    }
    outln!("{}", report.id);
    Ok(exit)
}

/// How the restore of a cluster is shown and asked for.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Only what would be done.
    pub dry_run: bool,
    /// No question.
    pub yes: bool,
    /// No progress and no summary.
    pub quiet: bool,
    /// One document.
    pub json: bool,
}

/// Restores a cluster.
pub fn restore(
    id: &SnapshotId,
    repo: &Repository,
    opened: &Opened,
    options: &RestoreOptions,
    cluster: cluster::ClusterOptions,
    manner: Manner,
) -> Outcome {
    let restore = ClusterRestore {
        repo,
        opened,
        options,
        cluster,
    };
    if manner.dry_run {
        return dry_run(id, &restore, manner.json);
    }
    if options.clean && !restore.members().is_empty() && !manner.yes {
        let source = &opened.snapshot.source;
        let members = restore.members().iter();
        let names: Vec<&str> = members.map(|m| m.database.as_str()).collect();
        super::restore::ask(&format!(
            "This drops the databases {} at {}:{} (of postgres and template1 only what is to be restored),\nand restores snapshot {} of the cluster at {}:{}, taken {}, {}.",
            names.join(", "),
            options.settings.host_name(),
            options.settings.port(),
            render::short(id),
            source.host,
            source.port,
            render::time(opened.snapshot.time),
            render::bytes(opened.snapshot.totals.source_bytes),
        ))?;
    }
    let shown = Arc::new(Shown::new(manner.quiet || manner.json, "loaded"));
    let interrupt = interrupt(&shown)?;
    let entry = record::restore(*id, options);
    let result = restore.run(&interrupt, shown.as_ref());
    shown.finish();
    let (exit, error) = match &result {
        Ok(report) if failures(report).next().is_none() && !left_out(report) => (Exit::Done, None),
        Ok(_) => (Exit::Partly, None),
        Err(error) => (Exit::Failed, Some(error.to_string())),
    };
    record::restored(repo, entry, None, exit, error);
    let report = result?;
    if manner.json {
        let databases: Vec<_> = report
            .databases
            .iter()
            .map(super::restore::report_json)
            .collect();
        let failures: Vec<_> = report
            .failures
            .iter()
            .map(super::restore::failure_json)
            .collect();
        print_json(&serde_json::json!({
            "snapshot_id": id.to_string(),
            "entries": report.entries,
            "existing": report.existing,
            "databases": databases,
            "seconds": report.seconds,
            "failures": failures,
        }))?;
    } else {
        for failure in failures(&report) {
            eprintln!("error: {failure}");
        }
        if !manner.quiet {
            if !report.existing.is_empty() {
                outln!("existed   {}", report.existing.join(", "));
            }
            outln!(
                "restored  {} of {}: {} of roles and tablespaces, {} in {}",
                render::short(id),
                opened.snapshot.label(),
                render::plural(report.entries, "statement", "statements"),
                render::plural(report.databases.len() as u64, "database", "databases"),
                render::seconds(report.seconds)
            );
            for done in &report.databases {
                outln!(
                    "database  {}: {} rows of {}, {}",
                    done.database,
                    render::count(done.rows),
                    render::counts(
                        done.counts.tables,
                        done.counts.hypertables,
                        done.counts.chunks
                    ),
                    render::plural(done.entries, "schema entry", "schema entries"),
                );
            }
        }
    }
    Ok(exit)
}

/// What could not be restored, of what the databases share and of themselves.
fn failures(report: &ClusterReport) -> impl Iterator<Item = &Failed> {
    let of_databases = report.databases.iter().flat_map(|done| &done.failures);
    report.failures.iter().chain(of_databases)
}

/// Whether something could not come along.
fn left_out(report: &ClusterReport) -> bool {
    report
        .databases
        .iter()
        .any(|done| !done.left_out.is_empty())
}

fn dry_run(id: &SnapshotId, restore: &ClusterRestore<'_>, json: bool) -> Outcome {
    let problems = restore.problems()?;
    let entries = restore.entries().count() as u64;
    if json {
        let databases: Vec<_> = restore
            .members()
            .iter()
            .map(|member| serde_json::json!({"database": member.database, "snapshot_id": member.snapshot.to_string()}))
            .collect();
        print_json(&serde_json::json!({
            "snapshot_id": id.to_string(),
            "entries": entries,
            "databases": databases,
            "problems": problems.to_string().lines().collect::<Vec<_>>(),
        }))?;
    } else {
        outln!("snapshot  {id}");
        outln!(
            "would run {} of roles and tablespaces",
            render::plural(entries, "statement", "statements")
        );
        for member in restore.members() {
            outln!(
                "would restore database {} from {}",
                member.database,
                render::short(&member.snapshot)
            );
        }
    }
    super::restore::rehearsed(&problems, json)
}
