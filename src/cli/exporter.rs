//! `pgtide exporter`

use std::net::SocketAddr;
use std::sync::Arc;

use pgtide::ops::metrics::Exporter;

use super::common::interrupt;
use super::profile::{ConfigArg, profiles};
use super::progress::Shown;
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Profiles [default: all]
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9787")]
    listen: SocketAddr,
}

pub fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let profiles = profiles(&config, &args.profiles)?;
    let shown = Arc::new(Shown::new(false, "done"));
    let interrupt = interrupt(&shown)?;
    let exporter =
        Exporter::bind(args.listen, profiles).map_err(|error| Failure::usage(error.to_string()))?;
    eprintln!("listening on http://{}/metrics", exporter.address()?);
    exporter.run(&interrupt)?;
    Ok(Exit::Done)
}
