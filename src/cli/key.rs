//! `pgtide key`

use clap::{Subcommand, ValueEnum};
use pgtide::repo::{Kdf, NewKey, Role};

use super::common::{Repo, print_json};
use super::password::NewPassword;
use super::render::{self, Align};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a key: another password for the repository
    Add(Add),
    /// List the keys
    List(List),
    /// Remove a key
    Remove(Remove),
    /// Change the password of the key that the repository is opened with
    Change(Change),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    repo: Repo,
    /// What the key is good for: read opens everything; write dumps and maintains, but cannot restore
    #[arg(long, value_enum, default_value = "read")]
    role: RoleArg,
    /// What to call it
    #[arg(long, value_name = "LABEL", default_value = "")]
    label: String,
    #[command(flatten)]
    password: NewPassword,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    repo: Repo,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    repo: Repo,
    /// The key's id, or at least 4 digits of it
    #[arg(value_name = "ID")]
    id: String,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Change {
    #[command(flatten)]
    repo: Repo,
    #[command(flatten)]
    password: NewPassword,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    Read,
    Write,
}

pub fn run(args: &Args) -> Outcome {
    match &args.action {
        Action::Add(args) => add(args),
        Action::List(args) => list(args),
        Action::Remove(args) => remove(args),
        Action::Change(args) => change(args),
    }
}

fn add(args: &Add) -> Outcome {
    let repo = args.repo.open()?;
    let role = match args.role {
        RoleArg::Read => Role::Read,
        RoleArg::Write => Role::Write,
    };
    let id = repo.add_key(&NewKey {
        role,
        label: &args.label,
        password: &args.password.choose()?,
        kdf: Kdf::default(),
    })?;
    if args.json {
        print_json(&serde_json::json!({"id": id.to_string(), "role": role}))?;
    } else {
        outln!("added {role} key {}", render::short(&id));
    }
    Ok(Exit::Done)
}

fn list(args: &List) -> Outcome {
    let keys = args.repo.open()?.keys()?;
    if args.json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "id": key.id.to_string(),
                    "role": key.role,
                    "label": key.about.as_ref().map(|about| &about.label),
                    "created": key.about.as_ref().map(|about| about.created),
                    "host": key.about.as_ref().map(|about| &about.host),
                    "current": key.current,
                })
            })
            .collect();
        print_json(&serde_json::json!({"keys": keys}))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let (created, host, label) = match &key.about {
                Some(about) => (
                    render::time(about.created),
                    about.host.clone(),
                    about.label.clone(),
                ),
                None => (String::new(), String::new(), "(not made with a key)".into()),
            };
            vec![
                format!(
                    "{}{}",
                    render::short(&key.id),
                    if key.current { " *" } else { "" }
                ),
                key.role.to_string(),
                created,
                host,
                label,
            ]
        })
        .collect();
    let header = ["ID", "ROLE", "CREATED", "HOST", "LABEL"];
    render::table(&header.map(|name| (name, Align::Left)), &rows);
    outln!("\n* is the key that the repository was opened with");
    Ok(Exit::Done)
}

fn remove(args: &Remove) -> Outcome {
    let id = args.repo.open()?.remove_key(&args.id)?;
    if args.json {
        print_json(&serde_json::json!({"id": id.to_string()}))?;
    } else {
        outln!("removed key {}", render::short(&id));
    }
    Ok(Exit::Done)
}

fn change(args: &Change) -> Outcome {
    let mut repo = args.repo.open()?;
    let id = repo.change_key(&args.password.choose()?, Kdf::default())?;
    if args.json {
        print_json(&serde_json::json!({"id": id.to_string()}))?;
    } else {
        outln!("changed: the key is {} now", render::short(&id));
    }
    Ok(Exit::Done)
}
