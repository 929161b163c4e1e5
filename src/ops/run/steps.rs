//! The steps on databases and repositories.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::dump::cluster::{self, ClusterOptions, Members};
use crate::dump::{self, DumpError, DumpOptions};
use crate::ops::config::{Check, CopyStep, Databases, VerifyServer, VerifyStep};
use crate::ops::exit::Exit;
use crate::ops::retention::{self, Candidate, Group, Policy};
use crate::ops::text;
use crate::ops::verified::Summary;
use crate::repo::{
    CheckOptions, CheckPhase, CopyOptions, Level, PruneOptions, PrunePhase, ReadData, RepoError,
    Repository, SnapshotId,
};
use crate::rows::Effort;
use crate::schema::statements::RenderOptions;
use crate::verify::snapshot::{self, Query, Server, VerifyOptions};

use super::report::{Database, Step};
use super::{Broken, Done, Night, Run, watch};

/// Problems of a check that are named.
const NAMED: usize = 5;

/// What tonight's dump has stored.
pub struct Stored {
    /// The snapshots that stand for it: of a cluster the one of the whole.
    pub heads: Vec<SnapshotId>,
    /// What they are of, and what of it.
    groups: BTreeSet<Group>,
    /// The databases.
    databases: BTreeSet<String>,
}

impl Stored {
    /// What these snapshots are.
    pub fn of(
        repo: &Repository,
        heads: Vec<SnapshotId>,
        databases: &[Database],
    ) -> Result<Self, RepoError> {
        let all = Candidate::of(&repo.inventory()?).into_iter();
        let ours = all.filter(|candidate| heads.contains(&candidate.id));
        Ok(Self {
            groups: ours.map(|candidate| candidate.group).collect(),
            heads,
            databases: databases.iter().map(|one| one.database.clone()).collect(),
        })
    }

    /// Whether a snapshot is of a kind with them: of the same databases of the same server, and of the same part of them;
    /// or what an interrupted dump of the cluster has left.
    fn is_like(&self, candidate: &Candidate) -> bool {
        let group = &candidate.group;
        let left = || {
            candidate.run.is_some()
                && candidate.members.is_none()
                && self.databases.contains(&group.label)
                && self.groups.iter().any(|ours| ours.server == group.server)
        };
        self.groups.contains(group) || left()
    }
}

/// How the databases are dumped.
pub fn dump_options(night: &Night<'_>) -> Result<DumpOptions, Broken> {
    let profile = night.profile;
    Ok(DumpOptions {
        settings: profile.source.settings()?,
        jobs: profile.jobs,
        effort: profile.effort,
        pg_dump: profile.source.pg_dump.clone(),
        path: night.path.clone(),
        tags: profile.tags.clone(),
        lock_wait_timeout: profile.lock_wait_timeout,
        selection: profile.selection.clone(),
        role: profile.source.role.clone(),
        row_security: false,
        snapshot: None,
        part: profile.part.clone(),
        decompress: profile.decompress,
        statistics: profile.statistics,
        kindness: profile.kindness.clone(),
        cluster: None,
    })
}

impl Run<'_> {
    /// Dumps all databases.
    pub(super) fn dump(
        &mut self,
        repo: &Repository,
        options: &DumpOptions,
    ) -> Result<Done, Broken> {
        let profile = self.night.profile;
        let members = match &profile.databases {
            Databases::All(exclude) => Members::All(exclude.clone()),
            Databases::Named(names) => Members::Named(names.clone()),
            Databases::Connected => Members::Named(vec![options.settings.dbname().to_owned()]),
        };
        let done = match profile.globals {
            true => self.dump_cluster(repo, options, members)?,
            false => self.dump_each(repo, options, members)?,
        };
        let heads = self.details.heads.clone();
        if let Some(term) = profile.protect.filter(|_| !heads.is_empty()) {
            let until = term.after(crate::clock::now(), &TimeZone::system());
            repo.protect(&heads, Some(until))?;
        }
        if !heads.is_empty() {
            self.stored = Some(Stored::of(repo, heads, &self.details.databases)?);
        }
        Ok(done)
    }

    /// Roles, tablespaces and databases, in a snapshot of the whole.
    fn dump_cluster(
        &mut self,
        repo: &Repository,
        options: &DumpOptions,
        databases: Members,
    ) -> Result<Done, Broken> {
        let profile = self.night.profile;
        let wanted = ClusterOptions {
            databases,
            role_passwords: profile.role_passwords,
            pg_dumpall: profile.source.pg_dumpall.clone(),
            retries: (profile.retries, profile.retry_wait),
        };
        let progress = watch(self.night, Step::Dump);
        let report = self.night.again(Step::Dump, || {
            cluster::run(repo, options, &wanted, self.night.interrupt, &progress)
        })?;
        self.details.databases = report.databases.iter().map(Database::from).collect();
        let failed = report.failed.iter();
        let failed = failed.map(|(name, error)| Database::failed(name.clone(), error.clone()));
        self.details.databases.extend(failed);
        self.details.heads = vec![report.id];
        Ok(self.dumped(&report.skipped))
    }

    /// Databases, each in a snapshot of its own. One that fails does not keep the others from being dumped.
    fn dump_each(
        &mut self,
        repo: &Repository,
        options: &DumpOptions,
        members: Members,
    ) -> Result<Done, Broken> {
        let names = match members {
            Members::Named(names) => names,
            members => {
                let mut conn = cluster::connect(options)?.1;
                cluster::names(&mut conn, &members, &mut Vec::new())?
            }
        };
        let progress = watch(self.night, Step::Dump);
        let mut first = None;
        for name in names {
            let options = DumpOptions {
                settings: options.settings.with_dbname(&name),
                ..options.clone()
            };
            let attempt = || dump::run(repo, &options, self.night.interrupt, &progress);
            match self.night.again(Step::Dump, attempt) {
                Ok(report) => {
                    self.details.databases.push(Database::from(&report));
                    self.details.heads.push(report.id);
                }
                Err(error) => {
                    let failed = Database::failed(name.clone(), error.to_string());
                    self.details.databases.push(failed);
                    // What concerns the repository, or the run, concerns all of them.
                    let all = matches!(error, DumpError::Repo(_)) || self.night.interrupt.raised();
                    first.get_or_insert(error);
                    if all {
                        break;
                    }
                }
            }
        }
        match first {
            Some(error) if self.details.heads.is_empty() => Err(error.into()),
            _ => Ok(self.dumped(&[])),
        }
    }

    /// How the dump ended.
    fn dumped(&self, skipped: &[String]) -> Done {
        let databases = &self.details.databases;
        let there = databases.iter().filter(|one| one.snapshot.is_some());
        let sum = |of: fn(&Database) -> u64| there.clone().map(of).sum::<u64>();
        let mut wrong: Vec<String> = (databases.iter())
            .filter_map(|one| {
                Some(format!(
                    "{} was not dumped: {}",
                    one.database,
                    one.error.as_ref()?
                ))
            })
            .collect();
        let own = databases.iter().flat_map(|one| {
            let skipped = one.skipped.iter();
            skipped.map(|text| format!("{}: {text}", one.database))
        });
        let left_out: BTreeSet<String> = own.chain(skipped.iter().cloned()).collect();
        wrong.extend(left_out);
        let summary = format!(
            "{}, {} rows, {} read, {} added",
            text::plural(there.clone().count() as u64, "database", "databases"),
            text::count(sum(|one| one.rows)),
            text::bytes(sum(|one| one.source_bytes)),
            text::bytes(sum(|one| one.added_bytes)),
        );
        Done::but_for(&wrong, summary)
    }

    /// Restores what was dumped, and compares it.
    pub(super) fn verify(&mut self, repo: &Repository, step: &VerifyStep) -> Result<Done, Broken> {
        let heads = self.stored.iter().flat_map(|stored| stored.heads.clone());
        let heads: Vec<SnapshotId> = heads.collect();
        let profile = self.night.profile;
        let pg_dump = match &step.server {
            VerifyServer::Source(source) => source.pg_dump.clone(),
            VerifyServer::Ephemeral => profile.source.pg_dump.clone(),
        };
        let options = VerifyOptions {
            server: match &step.server {
                VerifyServer::Source(source) => Server::There(Box::new(source.settings()?)),
                VerifyServer::Ephemeral => Server::Ephemeral(None),
            },
            jobs: step.jobs,
            pg_dump,
            path: self.night.path.clone(),
            lock_wait_timeout: profile.lock_wait_timeout,
            render: RenderOptions::default(),
            sample: step.sample,
            queries: (step.queries.iter())
                .map(|query| Query {
                    database: query.database.as_ref().map(|name| name.0.clone()),
                    sql: query.sql.0.clone(),
                    expect: query.expect.as_ref().map(|expected| expected.0.clone()),
                })
                .collect(),
            rto: step.rto,
            keep: false,
        };
        let progress = watch(self.night, Step::Verify);
        let mut all: Option<Summary> = None;
        for id in heads {
            let (id, snapshot) = repo.find(&id.to_string())?;
            let interrupt = self.night.interrupt;
            let report = snapshot::run(repo, id, &snapshot, &options, interrupt, &progress)
                .map_err(Broken::from_error)?;
            let one = Summary::from(&report);
            match &mut all {
                None => all = Some(one),
                Some(all) => all.add(one),
            }
        }
        let Some(found) = all else {
            return Ok(Done::well("nothing to verify"));
        };
        let wrong: Vec<String> = (found.databases.iter())
            .filter(|one| !one.equal)
            .map(|one| format!("{}:\n  {}", one.database, one.wrong.join("\n  ")))
            .collect();
        let done = Done {
            exit: match (found.equal, found.in_time && found.not_compared.is_empty()) {
                (false, _) => Exit::Difference,
                (true, false) => Exit::Partly,
                (true, true) => Exit::Done,
            },
            summary: found.line(),
            error: match (wrong.is_empty(), found.not_compared.is_empty()) {
                (false, _) => Some(format!(
                    "what was restored is not what the snapshot says\n{}",
                    wrong.join("\n")
                )),
                (true, false) => Some(format!(
                    "not all was compared\n{}",
                    found.not_compared.join("\n")
                )),
                (true, true) => (!found.in_time).then(|| found.line()),
            },
        };
        self.details.verified = Some(found);
        Ok(done)
    }

    /// Removes what is not to stay of the snapshots that tonight's are of a kind with. Their number.
    pub(super) fn forget(&self, repo: &Repository, policy: &Policy) -> Result<u64, Broken> {
        let inventory = repo.inventory()?;
        let now = crate::clock::now();
        let candidates = Candidate::of(&inventory);
        let wanted = |candidate: &Candidate| self.is_of_kind(candidate);
        let plans = retention::plan(policy, &candidates, wanted, now, &TimeZone::system());
        let goes: Vec<SnapshotId> = (plans.into_iter())
            .flat_map(|plan| plan.verdicts)
            .filter(|verdict| verdict.reasons.is_empty())
            .map(|verdict| verdict.id)
            .collect();
        Ok(repo.forget(&goes)?.len() as u64)
    }

    /// Whether a snapshot is one of this profile: of a kind with tonight's, with its tags and no others.
    fn is_of_kind(&self, candidate: &Candidate) -> bool {
        let tags = |tags: &[String]| tags.iter().cloned().collect::<BTreeSet<_>>();
        tags(&self.night.profile.tags) == tags(&candidate.tags)
            && (self.stored.iter()).any(|stored| stored.is_like(candidate))
    }

    /// Frees what nothing needs.
    pub(super) fn prune(&self, repo: &Repository) -> Result<Done, Broken> {
        let report = repo.prune(PruneOptions::default(), &|at| {
            let text = match at.phase {
                PrunePhase::Snapshots => format!("snapshot {} of {}", at.done, at.total),
                PrunePhase::Repack => format!(
                    "{} of {} written anew",
                    text::bytes(at.done),
                    text::bytes(at.total)
                ),
                PrunePhase::Sessions => format!(
                    "waiting for other sessions, {} of at most {} s",
                    at.done, at.total
                ),
                PrunePhase::Delete => format!("pack {} of {} deleted", at.done, at.total),
            };
            self.night.progress.task(0, Some(&text));
        })?;
        for note in &report.notes {
            self.night.log.add(Level::Info, Step::Prune, &**note);
        }
        let mut summary = format!("{} freed", text::bytes(report.deleted.bytes));
        if report.waiting.packs > 0 {
            summary += &format!(
                ", {} wait for other sessions to end",
                text::bytes(report.waiting.bytes)
            );
        }
        Ok(Done::well(summary))
    }

    /// Checks the repository.
    pub(super) fn check(&self, repo: &Repository, check: Check) -> Result<Done, Broken> {
        let read_data = match check.percent {
            None => ReadData::None,
            Some(percent) if percent >= 100.0 => ReadData::All,
            Some(percent) => ReadData::Percent(percent),
        };
        let report = repo.check(CheckOptions { read_data }, &|at| {
            let text = match at.phase {
                CheckPhase::Index => format!("index object {} of {}", at.done, at.total),
                CheckPhase::Packs => format!(
                    "{} of {} of packs",
                    text::bytes(at.done),
                    text::bytes(at.total)
                ),
                CheckPhase::Snapshots => format!("snapshot {} of {}", at.done, at.total),
            };
            self.night.progress.task(0, Some(&text));
        })?;
        let problems = &report.problems;
        let mut wrong: Vec<String> = problems
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        if problems.len() > NAMED {
            wrong.push(format!("and {} more", problems.len() - NAMED));
        }
        Ok(Done {
            exit: if wrong.is_empty() {
                Exit::Done
            } else {
                Exit::Difference
            },
            summary: format!(
                "{}, {} of {} read, {}",
                text::plural(report.snapshots, "snapshot", "snapshots"),
                text::bytes(report.read_bytes),
                text::bytes(report.bytes),
                match problems.len() as u64 {
                    0 => "no damage".to_owned(),
                    n => text::plural(n, "problem", "problems"),
                }
            ),
            error: (!wrong.is_empty()).then(|| {
                format!(
                    "the repository is damaged\n{}\nhint: pgtide repair mends what can be mended",
                    wrong.join("\n")
                )
            }),
        })
    }

    /// Copies what the second repository does not have yet, and removes there what is not to stay.
    pub(super) fn copy(&mut self, repo: &Repository, step: &CopyStep) -> Result<Done, Broken> {
        let target = step.to.open()?;
        let there = target.inventory()?;
        // What the second repository has forgotten is not brought back; what it never had is.
        let mut newest: BTreeMap<Group, Timestamp> = BTreeMap::new();
        for candidate in Candidate::of(&there) {
            let newest = newest.entry(candidate.group).or_insert(candidate.time);
            *newest = candidate.time.max(*newest);
        }
        let ours = Candidate::of(&repo.inventory()?).into_iter();
        let mut ids: BTreeSet<SnapshotId> = ours
            .filter(|candidate| self.is_of_kind(candidate))
            .filter(|candidate| {
                newest
                    .get(&candidate.group)
                    .is_none_or(|newest| candidate.time > *newest)
            })
            .map(|candidate| candidate.id)
            .collect();
        let tonight = self.stored.iter().flat_map(|stored| &stored.heads);
        ids.extend(tonight);
        let ids = Vec::from_iter(ids);
        let options = CopyOptions {
            jobs: self
                .night
                .profile
                .jobs
                .unwrap_or_else(crate::repo::default_jobs),
            effort: Effort::Default,
        };
        let progress = watch(self.night, Step::Copy);
        let report = repo.copy_to(&target, &ids, &options, self.night.interrupt, &progress)?;
        let copied = report.copied.iter().filter_map(|copied| copied.stored);
        let (mut number, mut bytes) = (0, 0);
        for stored in copied {
            number += 1;
            bytes += stored.new_bytes;
        }
        self.details.copied = number;
        let mut summary = format!(
            "{}, {} added to {}",
            text::plural(number, "snapshot", "snapshots"),
            text::bytes(bytes),
            step.to.location
        );
        let failed: Vec<String> = (report.failed.iter())
            .map(|(id, error)| format!("{id:.12} was not copied: {error}"))
            .collect();
        if let Some(policy) = &step.keep
            && failed.is_empty()
            && self.why_not_forget().is_none()
        {
            let removed = self.forget(&target, policy)?;
            summary += &format!(", {} removed", text::plural(removed, "old one", "old ones"));
            if self.night.profile.prune {
                target.prune(PruneOptions::default(), &|_| ())?;
            }
        }
        Ok(Done::but_for(&failed, summary))
    }
}
