//! `pgtide config`

use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pgtide::ops::config::{self, Config, Starter};

use super::common::print_json;
use super::profile::ConfigArg;
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a configuration to start with, from a few questions or options
    Init(Init),
    /// Look at the configuration, and say by line and column what is wrong with it
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// Print the result as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of the configuration, for editors
    Schema,
}

#[derive(Debug, clap::Args)]
struct Init {
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to connect to the server: a connection string or a URI, without a password
    #[arg(long, value_name = "CONNINFO")]
    source: Option<String>,
    /// A database to dump (repeatable) [default: all, with roles and tablespaces]
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// The repository
    #[arg(long, value_name = "REPO", env = "PGTIDE_REPO", hide_env_values = true)]
    repo: Option<String>,
    /// The file that has the repository's password, if it is encrypted
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// The address that is told by mail when a run fails
    #[arg(long, value_name = "ADDRESS")]
    mail: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Init(args) => init(args),
        Command::Check { config, json } => check(config, *json),
        Command::Schema => {
            print_json(&config::json_schema())?;
            Ok(Exit::Done)
        }
    }
}

fn check(arg: &ConfigArg, json: bool) -> Outcome {
    let path = arg.path()?;
    let problems = match Config::load(&path) {
        Ok(config) => config.problems(),
        Err(config::ConfigError::Wrong { problems, .. }) => problems,
        Err(error) => return Err(error.into()),
    };
    if json {
        let problems: Vec<_> = (problems.iter())
            .map(|p| serde_json::json!({"line": p.line, "column": p.column, "message": p.message}))
            .collect();
        print_json(&serde_json::json!({"config": path, "problems": problems}))?;
    } else if problems.is_empty() {
        let config = Config::load(&path)?;
        let profiles: Vec<&str> = config.profiles().collect();
        outln!(
            "{} is right; profiles: {}",
            path.display(),
            profiles.join(", ")
        );
    } else {
        for problem in &problems {
            outln!("{}: {problem}", path.display());
        }
    }
    Ok(match problems.is_empty() {
        true => Exit::Done,
        false => Exit::Usage,
    })
}

fn init(args: &Init) -> Outcome {
    let path = match &args.config {
        Some(path) => path.clone(),
        None => own_place()?,
    };
    if path.exists() {
        return Err(Failure::usage(format!(
            "{} exists already\nhint: change it by hand, or name another with --config",
            path.display()
        )));
    }
    let asks = std::io::stdin().is_terminal() && args.source.is_none() && args.repo.is_none();
    let mut starter = Starter {
        connection: args.source.clone().unwrap_or_default(),
        databases: args.databases.clone(),
        repository: args.repo.clone().unwrap_or_default(),
        password_file: args.password_file.clone(),
        mail: args.mail.clone(),
    };
    if asks {
        questions(&mut starter)?;
    }
    for (given, what, option) in [
        (
            &starter.connection,
            "server",
            "--source 'host=db1 user=backup'",
        ),
        (&starter.repository, "repository", "--repo /srv/pgtide"),
    ] {
        if given.is_empty() {
            return Err(Failure::usage(format!(
                "no {what} is named\nhint: give {option}"
            )));
        }
    }
    let text = config::starter(&starter);
    // What was given may be no connection, or have a password in it.
    let problems = Config::parse(&path, text.clone())?.problems();
    if let Some(problem) = problems.first() {
        return Err(Failure::usage(format!(
            "nothing was written: {}",
            problem.message
        )));
    }
    write(&path, &text)?;
    outln!("wrote {}", path.display());
    let encrypt = match &starter.password_file {
        Some(file) => format!(" --encrypt --repo-password-file {file}"),
        None => String::new(),
    };
    outln!(
        "next: pgtide init --repo {}{encrypt} (once), pgtide doctor, pgtide run nightly",
        starter.repository
    );
    Ok(Exit::Done)
}

/// The user's own place, or that of the whole machine for root.
fn own_place() -> Result<PathBuf, Failure> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = set("PGTIDE_CONFIG") {
        return Ok(path);
    }
    if nix::unistd::Uid::effective().is_root() {
        return Ok("/etc/pgtide/pgtide.toml".into());
    }
    let own = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    own.map(|place| place.join("pgtide/pgtide.toml"))
        .ok_or_else(|| Failure::usage("HOME is not set\nhint: name the file with --config"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "\nhint: name a file that you may write with --config",
            _ => "",
        };
        Failure::usage(format!("{}: {error}{hint}", path.display()))
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

fn questions(starter: &mut Starter) -> Result<(), Failure> {
    starter.connection = ask(
        "The server (a connection string without a password)",
        "host=/var/run/postgresql user=postgres",
    )?;
    let databases = ask("Databases, separated by commas", "all")?;
    if databases != "all" {
        let names = databases
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        starter.databases = names.map(str::to_owned).collect();
    }
    starter.repository = ask(
        "The repository (a directory, s3://BUCKET/PREFIX, ...)",
        "/var/lib/pgtide/repository",
    )?;
    let file = ask(
        "The file with the repository's password, if it is encrypted",
        "none",
    )?;
    starter.password_file = (file != "none").then_some(file);
    let mail = ask("The mail address that is told of failures", "none")?;
    starter.mail = (mail != "none").then_some(mail);
    Ok(())
}

fn ask(question: &str, usual: &str) -> Result<String, Failure> {
    eprint!("{question} [{usual}]: ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { usual } else { answer }.to_owned())
}
