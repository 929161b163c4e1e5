//! `pgtide export`

use std::path::PathBuf;
use std::sync::Arc;

use pgtide::export::{self, Output, Target};
use pgtide::pg::{ConnectionArgs, Settings};
use pgtide::restore::{self, RestoreOptions};

use super::common::{Bare, Repo, Which, interrupt};
use super::pick::Selection;
use super::progress::Shown;
use super::{Exit, Failure, Outcome, render};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A script that psql runs, as pg_dump writes it
    Sql,
    /// A directory that pg_restore restores, with -j too
    Directory,
    /// Tables in CSV, with a line of names
    Csv,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    which: Which,
    /// What to write
    #[arg(short = 'F', long, value_enum, default_value = "sql")]
    format: Format,
    /// Where to write: a file for sql [default: stdout], a new directory for directory, a new directory with a file for
    /// each table for csv [default: stdout, for one table]
    #[arg(
        short,
        long,
        value_name = "PATH",
        required_if_eq("format", "directory")
    )]
    file: Option<PathBuf>,
    /// sql: begin with the creation of the database; an archive has that anyway, for pg_restore --create
    #[arg(short = 'C', long)]
    create: bool,
    #[command(flatten)]
    bare: Bare,
    /// Show no progress and no summary
    #[arg(short, long)]
    quiet: bool,
    // Last, as its heading holds for all options that follow.
    #[command(flatten)]
    selection: Selection,
}

pub fn run(args: &Args) -> Outcome {
    if args.create && args.format != Format::Sql {
        return Err(Failure::usage(
            "--create is for --format sql\nhint: an archive always says how the database is created; give pg_restore --create",
        ));
    }
    let target = match args.format {
        Format::Sql => Target::Sql(args.file.clone().map_or(Output::Stdout, Output::File)),
        Format::Directory => Target::Directory(args.file.clone().unwrap_or_default()),
        Format::Csv => Target::Csv {
            directory: args.file.clone(),
        },
    };
    let repo = args.repo.open()?;
    let (id, snapshot) = args.which.find(&repo)?;
    if snapshot.databases().is_some() {
        return Err(Failure::usage(format!(
            "{} is a snapshot of a whole cluster\nhint: export its databases one by one: latest:DATABASE",
            render::short(&id)
        )));
    }
    let opened = restore::open(&repo, snapshot)?;
    let shown = Arc::new(Shown::new(args.quiet, "exported"));
    let interrupt = interrupt(&shown)?;
    let result = export::run(
        &opened,
        &selection(args)?,
        &target,
        &interrupt,
        shown.as_ref(),
    );
    shown.finish();
    let report = result?;
    if !args.quiet {
        // Stdout may have the export.
        eprintln!(
            "exported  {} rows of {} from {}",
            render::count(report.rows),
            render::plural(report.tables, "table", "tables"),
            render::short(&id)
        );
    }
    Ok(Exit::Done)
}

/// What is chosen, as a restore would choose it. No server is asked, whatever the environment says of one.
fn selection(args: &Args) -> Result<RestoreOptions, Failure> {
    Ok(RestoreOptions {
        settings: Settings::resolve(ConnectionArgs::default(), &|_| None)?,
        jobs: None,
        create: args.create,
        properties: false,
        clean: false,
        pick: args.selection.pick()?,
        portable: false,
        render: args.bare.render(args.selection.skip()),
        statistics: false,
        role: None,
        row_security: false,
        disable_triggers: false,
        analyze: false,
        continue_on_error: false,
        no_jobs: false,
    })
}
