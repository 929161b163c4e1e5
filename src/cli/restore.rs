//! `pgtide restore`

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use pgtide::repo::model::Snapshot;
use pgtide::repo::{Repository, SnapshotId};
use pgtide::restore::cluster::ClusterOptions;
use pgtide::restore::{self, Opened, Problems, RestoreOptions, RestoreReport};

use super::cluster::{self, Manner};
use super::common::{Bare, Connect, Repo, Which, interrupt, print_json};
use super::pick::Selection;
use super::progress::Shown;
use super::{Exit, Failure, Outcome, record, render, timing};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    which: Which,
    /// Of a cluster only roles and tablespaces
    #[arg(long, alias = "globals-only")]
    globals: bool,
    /// Of a cluster only this database, as if its own snapshot was named
    #[arg(long, value_name = "NAME", conflicts_with = "globals")]
    database: Option<String>,
    /// Give roles no passwords
    #[arg(long)]
    no_role_passwords: bool,
    /// Sessions that load and build in parallel [default: the cores, at most 4, at most a quarter of the server's free
    /// connections]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Create the database as it was at the source; --dbname is the one to connect to first
    #[arg(short = 'C', long)]
    create: bool,
    /// First drop what is to be restored; with --create, the whole database
    #[arg(short, long, conflicts_with = "data_only")]
    clean: bool,
    /// As --clean does anyway: what is not there is no error
    #[arg(long, requires = "clean")]
    if_exists: bool,
    /// Make hypertables anew with the TimescaleDB that the target has, whatever its version, and load their rows through
    /// them; what cannot be carried is listed before anything starts
    #[arg(long)]
    portable: bool,
    #[command(flatten)]
    bare: Bare,
    /// SET ROLE to this role in all sessions
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// With --data-only, load each table with its triggers disabled, foreign keys among them; needs a superuser
    #[arg(long)]
    disable_triggers: bool,
    /// Let policies hide rows from the role instead of failing
    #[arg(long)]
    enable_row_security: bool,
    /// Do not ANALYZE at the end
    #[arg(long)]
    no_analyze: bool,
    /// Collect statistics anew at the end, even where the snapshot has those of the source
    #[arg(long)]
    no_statistics: bool,
    /// Go on after an error; list them all and exit with 3
    #[arg(long)]
    continue_on_error: bool,
    /// Stop at the first error, which is what happens anyway
    #[arg(short, long, conflicts_with = "continue_on_error")]
    exit_on_error: bool,
    /// Print what would be done and what stands against it; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before destroying something
    #[arg(short, long)]
    yes: bool,
    /// Show no progress and no summary
    #[arg(short, long)]
    quiet: bool,
    /// Print at the end where the time went: the chain of tasks that determined the end, the kinds of work, the workers
    #[arg(short, long, conflicts_with_all = ["quiet", "json"])]
    verbose: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    // Last, as their headings hold for all options that follow.
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    connect: Connect,
}

pub fn run(args: &Args) -> Outcome {
    let repo = args.repo.open()?;
    let (id, snapshot) = which(args, &repo)?;
    let whole_cluster = snapshot.databases().is_some();
    if args.connect.dbname.is_none() && !args.create && !whole_cluster {
        return Err(Failure::usage(
            "no target database\nhint: name it with --dbname, or have it created as it was at the source with --create",
        ));
    }
    if args.disable_triggers && !args.selection.data_only() {
        eprintln!(
            "pgtide: --disable-triggers has no effect without --data-only, as tables get their triggers after their rows"
        );
    }
    let options = RestoreOptions {
        settings: args.connect.settings()?,
        jobs: args.jobs.map(usize::from),
        create: args.create,
        properties: false,
        clean: args.clean,
        pick: args.selection.pick()?,
        portable: args.portable,
        render: args.bare.render(args.selection.skip()),
        statistics: !args.no_statistics,
        role: args.role.clone(),
        row_security: args.enable_row_security,
        disable_triggers: args.disable_triggers,
        analyze: !args.no_analyze,
        continue_on_error: args.continue_on_error,
        no_jobs: false,
    };
    let mut opened = restore::open(&repo, snapshot)?;
    if whole_cluster {
        let wanted = ClusterOptions {
            databases: !args.globals,
            role_passwords: !args.no_role_passwords,
        };
        let manner = Manner {
            dry_run: args.dry_run,
            yes: args.yes,
            quiet: args.quiet,
            json: args.json,
        };
        return cluster::restore(&id, &repo, &opened, &options, wanted, manner);
    }
    if args.portable {
        opened = opened.portable();
    }
    if args.dry_run {
        return dry_run(args, &id, &opened, &options);
    }
    if args.clean && !args.yes {
        confirm(&id, &opened, &options)?;
    }
    let shown = Arc::new(Shown::new(args.quiet || args.json, "loaded"));
    let interrupt = interrupt(&shown)?;
    let entry = record::restore(id, &options);
    let result = restore::run(&opened, &options, &interrupt, shown.as_ref());
    shown.finish();
    let exit = match &result {
        Ok(report) if report.failures.is_empty() && report.left_out.is_empty() => Exit::Done,
        Ok(_) => Exit::Partly,
        Err(_) => Exit::Failed,
    };
    let (database, error) = match &result {
        Ok(report) => (Some(report.database.as_str()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    record::restored(&repo, entry, database, exit, error);
    let report = result?;
    if args.json {
        let mut document = report_json(&report);
        document["snapshot_id"] = id.to_string().into();
        print_json(&document)?;
    } else {
        for failure in &report.failures {
            eprintln!("error: {failure}");
        }
        if !args.quiet {
            outln!(
                "restored  {} into {} in {}",
                render::short(&id),
                report.database,
                render::seconds(report.seconds)
            );
            outln_loaded(&report, "loaded");
        }
        if args.verbose {
            timing::print(&report.timing);
        }
    }
    Ok(exit)
}

/// The line that says how much was loaded, by that name.
pub fn outln_loaded(report: &RestoreReport, done: &str) {
    outln!(
        "{done:<9} {} rows of {}, {} ({}/s); {}",
        render::count(report.rows),
        render::counts(
            report.counts.tables,
            report.counts.hypertables,
            report.counts.chunks
        ),
        render::bytes(report.payload_bytes),
        render::bytes((report.payload_bytes as f64 / report.seconds.max(0.001)) as u64),
        render::plural(report.entries, "schema entry", "schema entries"),
    );
}

/// What a restore did, as JSON.
pub fn report_json(report: &RestoreReport) -> serde_json::Value {
    let failures: Vec<_> = report.failures.iter().map(failure_json).collect();
    serde_json::json!({
        "database": report.database,
        "entries": report.entries,
        "tables": report.counts.tables,
        "hypertables": report.counts.hypertables,
        "chunks": report.counts.chunks,
        "rows": report.rows,
        "payload_bytes": report.payload_bytes,
        "seconds": report.seconds,
        "timing": timing::json(&report.timing),
        "left_out": report.left_out,
        "failures": failures,
    })
}

/// What could not be restored, as JSON.
pub fn failure_json(failure: &restore::Failure) -> serde_json::Value {
    serde_json::json!({
        "object": failure.object,
        "statement": failure.statement,
        "error": failure.error,
    })
}

/// The snapshot that is named, or that of one of its databases. What is for one database only is refused for a cluster.
fn which(args: &Args, repo: &Repository) -> Result<(SnapshotId, Snapshot), Failure> {
    let (id, snapshot) = args.which.find(repo)?;
    let Some(members) = snapshot.databases() else {
        let option = match (&args.database, args.globals, args.no_role_passwords) {
            (Some(_), _, _) => "--database",
            (_, true, _) => "--globals",
            (_, _, true) => "--no-role-passwords",
            _ => return Ok((id, snapshot)),
        };
        return Err(Failure::usage(format!(
            "{option} is for snapshots of clusters, and {} is one of the database {}",
            render::short(&id),
            snapshot.source.database
        )));
    };
    if let Some(name) = &args.database {
        let Some(member) = members.iter().find(|member| member.database == *name) else {
            let names: Vec<&str> = members.iter().map(|m| m.database.as_str()).collect();
            return Err(Failure::usage(format!(
                "the snapshot {} has no database {name:?}\nhint: it has {}",
                render::short(&id),
                names.join(", ")
            )));
        };
        return Ok(repo.find(&member.snapshot.to_string())?);
    }
    let given = if args.selection.is_given()? {
        Some("what selects (--table, --schema and their like)")
    } else {
        args.portable.then_some("--portable")
    };
    match given {
        Some(option) => Err(Failure::usage(format!(
            "{option} is for one database, and {} is of a whole cluster\nhint: name the database with --database",
            render::short(&id)
        ))),
        None => Ok((id, snapshot)),
    }
}

fn dry_run(args: &Args, id: &SnapshotId, opened: &Opened, options: &RestoreOptions) -> Outcome {
    let (outline, problems) = restore::rehearse(opened, options)?;
    if args.json {
        print_json(&serde_json::json!({
            "snapshot_id": id.to_string(),
            "entries": outline.entries,
            "tables": outline.counts.tables,
            "hypertables": outline.counts.hypertables,
            "chunks": outline.counts.chunks,
            "rows": outline.rows,
            "payload_bytes": outline.payload_bytes,
            "notes": outline.notes,
            "left_out": outline.left_out,
            "problems": problems.to_string().lines().collect::<Vec<_>>(),
        }))?;
    } else {
        outln!("snapshot  {id}");
        outln!(
            "would restore {}:",
            render::plural(outline.entries, "schema entry", "schema entries")
        );
        for (kind, number) in &outline.kinds {
            outln!("  {:>9}  {kind}", render::count(*number));
        }
        outln!(
            "would load {} rows of {}, {}{}",
            render::count(outline.rows),
            render::counts(
                outline.counts.tables,
                outline.counts.hypertables,
                outline.counts.chunks
            ),
            render::bytes(outline.payload_bytes),
            if outline.tables.is_empty() {
                ""
            } else {
                ", the largest first:"
            }
        );
        for item in outline.tables.iter().take(10) {
            outln!(
                "  {:>9}  {} ({} rows)",
                render::bytes(item.payload_bytes),
                item.name,
                render::count(item.rows)
            );
        }
        for note in &outline.notes {
            outln!("note: {note}");
        }
        for name in &outline.left_out {
            outln!("not carried: {name}");
        }
    }
    rehearsed(&problems, args.json)
}

/// How a dry run ends: with what stands against it, which is part of the document where that is wanted.
pub fn rehearsed(problems: &Problems, json: bool) -> Outcome {
    if problems.is_empty() {
        return Ok(Exit::Done);
    }
    if !json {
        outln!("but it would be refused:\n{problems}");
    }
    Ok(Exit::Failed)
}

/// Asks whether what is there may be dropped.
fn confirm(id: &SnapshotId, opened: &Opened, options: &RestoreOptions) -> Result<(), Failure> {
    let source = &opened.snapshot.source;
    let target = if options.create {
        &source.database
    } else {
        options.settings.dbname()
    };
    let what = if options.create {
        format!("the whole database {target}")
    } else {
        format!("all that is to be restored from database {target}")
    };
    let question = format!(
        "This drops {what} at {}:{},\nand restores snapshot {} of {} at {}:{}, taken {}, {}.",
        options.settings.host_name(),
        options.settings.port(),
        render::short(id),
        source.database,
        source.host,
        source.port,
        render::time(opened.snapshot.time),
        render::bytes(opened.snapshot.totals.source_bytes),
    );
    ask(&question)
}

/// Asks on a terminal; elsewhere it needs --yes.
pub fn ask(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{question}\nhint: there is no terminal to ask on; add --yes if that is what you want"
        )));
    }
    eprint!("{question}\nGo on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("nothing was touched"))
    }
}
