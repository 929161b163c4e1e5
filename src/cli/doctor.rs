//! `pgtide doctor`

use pgtide::ops::doctor::{self, Verdict};

use super::common::print_json;
use super::profile::{ConfigArg, profiles};
use super::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Profiles [default: all]
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// Only what is not fine
    #[arg(short, long)]
    quiet: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let found = doctor::look(&config, &profiles(&config, &args.profiles)?);
    let worst = found.worst();
    if args.json {
        print_json(&serde_json::json!({"verdict": worst, "findings": found.list}))?;
    } else {
        let mut subject = "";
        for finding in &found.list {
            if args.quiet && finding.verdict == Verdict::Fine {
                continue;
            }
            if finding.subject != subject {
                subject = &finding.subject;
                outln!("{subject}");
            }
            let word = match finding.verdict {
                Verdict::Fine => "ok",
                Verdict::Warning => "WARNING",
                Verdict::Wrong => "WRONG",
            };
            outln!(
                "  {word:<8} {}",
                finding.text.replace('\n', "\n           ")
            );
            if let Some(remedy) = &finding.remedy {
                outln!("           -> {}", remedy.replace('\n', "\n              "));
            }
        }
        let number = |verdict| {
            found
                .list
                .iter()
                .filter(|finding| finding.verdict == verdict)
                .count()
        };
        outln!(
            "{} ok, {} to think of, {} wrong",
            number(Verdict::Fine),
            number(Verdict::Warning),
            number(Verdict::Wrong)
        );
    }
    Ok(match worst {
        Verdict::Fine => Exit::Done,
        Verdict::Warning => Exit::Partly,
        Verdict::Wrong => Exit::Failed,
    })
}
