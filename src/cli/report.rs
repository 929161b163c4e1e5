//! `pgtide report`

use std::io::Write;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use pgtide::ops::report;
use pgtide::ops::state::State;

use super::profile::{ConfigArg, profiles};
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Profiles [default: all]
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// The file to write; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "pgtide-report.html")]
    output: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let looked: Vec<_> = profiles(&config, &args.profiles)?
        .iter()
        .map(|profile| {
            let state = State::of(profile);
            (
                profile.name.clone(),
                state.map_err(|error| error.to_string()),
            )
        })
        .collect();
    let host = pgtide::repo::host_name();
    let page = report::page(&looked, &host, &TimeZone::system())
        .map_err(|error| Failure::usage(format!("the report could not be made: {error}")))?;
    if args.output.as_os_str() == "-" {
        std::io::stdout().write_all(page.as_bytes())?;
        return Ok(Exit::Done);
    }
    std::fs::write(&args.output, page)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.output.display())))?;
    outln!("wrote {}", args.output.display());
    Ok(Exit::Done)
}
