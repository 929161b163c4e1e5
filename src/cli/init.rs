//! `pgtide init`

use pgtide::repo::Repository;

use super::common::{Repo, print_json};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let repo = Repository::init(args.repo.store()?)?;
    if args.json {
        print_json(&serde_json::json!({
            "repository": repo.id().to_string(),
            "location": repo.location(),
        }))?;
    } else {
        outln!("created repository {} at {}", repo.id(), repo.location());
    }
    Ok(Exit::Done)
}
