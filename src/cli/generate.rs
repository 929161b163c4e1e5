//! `pgtide generate`: what is made of the command line itself.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the completions for a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the man pages, one for each command
    Man {
        /// The directory to write them into
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

pub fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "pgtide",
                &mut std::io::stdout(),
            );
        }
        Command::Man { directory } => {
            std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
                .map_err(|error| Failure::usage(format!("{}: {error}", directory.display())))?;
        }
    }
    Ok(Exit::Done)
}
