//! `pgtide init`

use pgtide::repo::{InitOptions, Kdf, NewKey, Repository, Role};

use super::common::{Repo, print_json, store};
use super::password::FromPassword;
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Encrypt all that is stored; whoever loses the password loses the data
    #[arg(long)]
    encrypt: bool,
    /// What to call the first key
    #[arg(long, value_name = "LABEL", requires = "encrypt", default_value = "")]
    label: String,
    /// Share the keys of that repository, so that blocks can be copied between the two as they are
    #[arg(long, value_name = "REPO")]
    keys_from: Option<String>,
    /// A setting of its store, as --repo-option is for the new one (repeatable)
    #[arg(long, value_name = "KEY=VALUE", requires = "keys_from")]
    from_option: Vec<String>,
    #[command(flatten)]
    from_password: FromPassword,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let place = args.repo.store()?;
    let from = match &args.keys_from {
        None => None,
        Some(from) => Some(Repository::open_with(
            store(from, &args.from_option)?,
            || args.from_password.get(from),
        )?),
    };
    let password = match args.encrypt {
        true => Some(args.repo.password.choose(&place.location())?),
        false if args.repo.password.is_given() => {
            return Err(Failure::usage(
                "a password is given for a repository that is not encrypted; add --encrypt, or leave it out",
            ));
        }
        false => None,
    };
    let repo = Repository::init_with(
        place,
        &InitOptions {
            key: password.as_ref().map(|password| NewKey {
                role: Role::Read,
                label: &args.label,
                password,
                kdf: Kdf::default(),
            }),
            keys_from: from.as_ref(),
        },
    )?;
    if args.json {
        print_json(&serde_json::json!({
            "repository": repo.id().to_string(),
            "location": repo.location(),
            "encrypted": repo.is_encrypted(),
        }))?;
        return Ok(Exit::Done);
    }
    let kind = if args.encrypt { "encrypted " } else { "" };
    outln!(
        "created {kind}repository {} at {}",
        repo.id(),
        repo.location()
    );
    if args.encrypt {
        outln!("keep the password in a safe place: without it nothing can be restored, by nobody");
    }
    Ok(Exit::Done)
}
