//! The doctor: what would go wrong, told before it does, each with its remedy.

mod here;
mod server;

use serde::Serialize;

use super::config::{Config, Place, Profile, VerifyServer};
use super::text;
use crate::rows::Effort;
use crate::store::local_path;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fine.
    Fine,
    /// It works, but could be better, or may not work some day.
    Warning,
    /// It will not work.
    Wrong,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: a profile, a source, a repository.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings {
    subject: String,
    /// All of it.
    pub list: Vec<Finding>,
}

impl Findings {
    fn about(&mut self, subject: impl Into<String>) {
        self.subject = subject.into();
    }

    fn add(&mut self, verdict: Verdict, text: impl Into<String>, remedy: Option<&str>) {
        let finding = Finding {
            subject: self.subject.clone(),
            verdict,
            text: text.into(),
            remedy: remedy.map(str::to_owned),
        };
        // Several profiles may have one source.
        if !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    fn fine(&mut self, text: impl Into<String>) {
        self.add(Verdict::Fine, text, None);
    }

    fn warn(&mut self, text: impl Into<String>, remedy: &str) {
        self.add(Verdict::Warning, text, Some(remedy));
    }

    fn wrong(&mut self, text: impl Into<String>, remedy: &str) {
        self.add(Verdict::Wrong, text, Some(remedy));
    }

    /// An error of others, which ends in a hint of its own.
    fn error(&mut self, error: impl ToString) {
        let text = error.to_string();
        match text.split_once("\nhint: ") {
            Some((text, hint)) => self.wrong(text, hint),
            None => self.add(Verdict::Wrong, text, None),
        }
    }

    /// The worst of them.
    pub fn worst(&self) -> Verdict {
        self.list
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Fine)
    }
}

/// Looks at everything that profiles rely on.
pub fn look(config: &Config, profiles: &[Profile]) -> Findings {
    let mut found = Findings::default();
    found.about("configuration");
    found.fine(format!("{} is right", config.path().display()));
    here::metrics(config, &mut found);
    for profile in profiles {
        found.about(format!("source {}", profile.source.name));
        let facts = server::source(profile, &mut found);
        place(&profile.repository, &mut found);
        if let Some(copy) = &profile.copy {
            place(&copy.to, &mut found);
        }
        if let Some(verify) = &profile.verify {
            found.about(format!("verification of {}", profile.name));
            if profile.repository.open().is_ok_and(|repo| !repo.can_read()) {
                found.wrong(
                    "the key of the repository does not read, so nothing can be restored with it",
                    "verify where a key that reads is at hand, and leave verify out of this profile",
                );
            }
            match &verify.server {
                VerifyServer::Source(source) => server::target(source, facts.as_ref(), &mut found),
                VerifyServer::Ephemeral => here::programs(facts.as_ref(), &mut found),
            }
        } else {
            found.about(format!("profile {}", profile.name));
            found.warn(
                "what it dumps is never restored to see whether it can be",
                "add [profiles.NAME.verify], or run pgtide verify now and then",
            );
        }
        found.about(format!("profile {}", profile.name));
        if profile.keep.is_none() {
            found.warn(
                "nothing is ever forgotten: the repository only grows",
                "add [profiles.NAME.keep]",
            );
        }
        match config.channels(&profile.name) {
            Ok(channels) if channels.is_empty() => found.warn(
                "nobody is told when it fails",
                "add [[notify.mail]] or another; a [[notify.ping]] also notices when nothing runs at all",
            ),
            Ok(channels) => {
                let names: Vec<&str> = channels.iter().map(|channel| channel.name()).collect();
                found.fine(format!("tells {}", names.join(", ")));
            }
            Err(error) => found.error(error),
        }
    }
    found
}

/// A repository: whether it can be read and written, and whether there is room.
fn place(place: &Place, found: &mut Findings) {
    found.about(format!("repository {}", place.name));
    let repo = match place.open() {
        Ok(repo) => repo,
        Err(error) => return found.error(error),
    };
    match repo.inventory() {
        Ok(inventory) => {
            let number = text::plural(inventory.list.len() as u64, "snapshot", "snapshots");
            found.fine(format!("{} answers, and has {number}", place.location));
        }
        Err(error) => found.error(error),
    }
    // A writer registers itself and goes again: what a dump does first.
    match repo.writer(Effort::Fast).and_then(|writer| writer.abort()) {
        Ok(()) => found.fine("can be written to"),
        Err(error) => found.error(error),
    }
    if !repo.is_encrypted() && local_path(&place.location).is_none() {
        found.warn(
            "is not encrypted, and somebody else's storage",
            "make one with pgtide init --encrypt, and pgtide copy what is there",
        );
    }
    if repo.is_encrypted() && repo.can_read() {
        found
            .fine("is encrypted, and this key reads it; a key that only writes would do for dumps");
    }
    here::room(&place.location, found);
}
