//! The order of the steps, and which of them keep others from being done.

use crate::dump::DumpOptions;
use crate::ops::text;
use crate::repo::{Outcome, Repository, RunRecord};

use super::past::Past;
use super::report::{Step, StepReport};
use super::{Broken, Done, Run, anomaly, hook_environment, hooks, preflight, steps};

impl Run<'_> {
    /// All steps but those that tell of the run. The repository, if it could be opened.
    pub(super) fn all(&mut self, record: &RunRecord) -> Option<Repository> {
        let profile = self.night.profile;
        let mut ready = None;
        let mut repo = None;
        self.step(Step::Preflight, |run| {
            let opened = profile.repository.open()?;
            repo = Some(opened.clone());
            let options = steps::dump_options(run.night)?;
            let past = Past::load(&opened, &profile.name)?;
            let late = anomaly::of_times(profile, &past, record.started);
            run.details.anomalies.extend(late);
            let found = preflight::look(run.night, &opened, &options, &past)?;
            for warning in found.warnings {
                run.odd(Step::Preflight, warning);
            }
            run.may_forget = !found.clock_wrong && !found.long_ago;
            ready = Some((opened, options, past));
            let wrong = found.clock_wrong.then(|| {
                "the clock of this host cannot be right: nothing is removed tonight".to_owned()
            });
            Ok(Done::but_for(wrong.as_slice(), found.summary))
        });
        if let Some(command) = &profile.hooks.before
            && self.choice.has(Step::Before)
            && ready.is_some()
        {
            self.step(Step::Before, |run| {
                let document = serde_json::json!({
                    "profile": profile.name,
                    "host": record.host,
                    "started": record.started,
                    "repository": profile.repository.location,
                });
                let document = document.to_string().into_bytes();
                let environment = hook_environment(profile, "begun");
                let timeout = profile.hooks.timeout;
                let said = hooks::run(
                    command,
                    &document,
                    &environment,
                    timeout,
                    run.night.interrupt,
                );
                said.map(Done::well).map_err(Broken::failed)
            });
        }
        let Some((opened, options, past)) = ready else {
            return repo;
        };
        let before = self.details.step(Step::Before);
        if before.is_some_and(|report| report.outcome != Some(Outcome::Done)) {
            self.skip(Step::Dump, "the command before failed");
            return repo;
        }
        self.work(&opened, &options, &past);
        repo
    }

    /// The steps on the databases and the repositories.
    fn work(&mut self, repo: &Repository, options: &DumpOptions, past: &Past) {
        let profile = self.night.profile;
        if self.choice.has(Step::Dump) {
            self.step(Step::Dump, |run| run.dump(repo, options));
            let odd = anomaly::of_databases(&self.details.databases, past, &profile.anomaly);
            for anomaly in odd {
                self.odd(Step::Dump, anomaly);
            }
        } else {
            self.take_last(repo, past);
        }
        let dumped = self.stored.is_some();
        let interrupted = self.night.interrupt.raised();
        let now = crate::clock::now();
        if let Some(verify) = profile
            .verify
            .as_ref()
            .filter(|_| self.choice.has(Step::Verify))
        {
            if !dumped || interrupted {
                self.skip(Step::Verify, "nothing was dumped");
            } else if !self.choice.only.contains(&Step::Verify)
                && !past.is_due(Step::Verify, verify.every, now)
            {
                self.skip(Step::Verify, "not due yet");
            } else {
                self.step(Step::Verify, |run| run.verify(repo, verify));
            }
        }
        if let Some(copy) = profile
            .copy
            .as_ref()
            .filter(|_| self.choice.has(Step::Copy))
        {
            match () {
                () if self.night.interrupt.raised() => self.skip(Step::Copy, "the run was stopped"),
                () if !dumped => self.skip(Step::Copy, "nothing was dumped"),
                () => self.step(Step::Copy, |run| run.copy(repo, copy)),
            }
        }
        let keep = profile.keep.as_ref();
        if let Some(policy) = keep.filter(|_| self.choice.has(Step::Forget)) {
            match self.why_not_forget() {
                Some(why) => self.skip(Step::Forget, why),
                None => {
                    self.step(Step::Forget, |run| {
                        let removed = run.forget(repo, policy)?;
                        run.details.forgotten = removed;
                        Ok(Done::well(format!(
                            "{} removed",
                            text::plural(removed, "snapshot", "snapshots")
                        )))
                    });
                }
            }
        }
        // Forgetting is what makes something free; alone it may be asked for as well.
        let forget = self.details.step(Step::Forget);
        let forgot = forget.is_some_and(|report| report.outcome == Some(Outcome::Done))
            || !self.choice.has(Step::Forget);
        if keep.is_some()
            && profile.prune
            && forgot
            && self.choice.has(Step::Prune)
            && !self.night.interrupt.raised()
        {
            self.step(Step::Prune, |run| run.prune(repo));
        }
        if let Some(check) = profile.check.filter(|_| self.choice.has(Step::Check)) {
            match () {
                () if self.night.interrupt.raised() => {
                    self.skip(Step::Check, "the run was stopped")
                }
                () if !self.choice.only.contains(&Step::Check)
                    && !past.is_due(Step::Check, check.every, now) =>
                {
                    self.skip(Step::Check, "not due yet");
                }
                () => self.step(Step::Check, |run| run.check(repo, check)),
            }
        }
    }

    /// What the last dump has stored, where none is asked for.
    fn take_last(&mut self, repo: &Repository, past: &Past) {
        let Some(last) = past.last_success() else {
            return;
        };
        let heads = last.details.heads.clone();
        match steps::Stored::of(repo, heads, &last.details.databases) {
            Ok(stored) => self.stored = Some(stored),
            Err(error) => self.night.progress.note(&error.to_string()),
        }
    }

    /// Why nothing is forgotten tonight: what is old may be all that there is.
    pub(super) fn why_not_forget(&self) -> Option<&'static str> {
        let verify = self.details.step(Step::Verify);
        let dump = self.details.step(Step::Dump);
        let failed = |report: Option<&StepReport>| {
            report.is_some_and(|report| report.outcome == Some(Outcome::Failed))
        };
        match () {
            () if !self.may_forget => {
                Some("the clock may not be right, so nothing is known to be old")
            }
            () if self.night.interrupt.raised() => Some("the run was stopped"),
            () if self.stored.is_none() || failed(dump) => Some("nothing was dumped"),
            () if dump.is_some() && !self.details.is_dumped() => {
                Some("not every database was dumped")
            }
            () if failed(verify) => Some("the verification failed"),
            () => None,
        }
    }
}
