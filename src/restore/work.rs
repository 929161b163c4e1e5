//! What the tasks of a restore are, and what all sessions that do them share.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::Name;
use crate::progress::Progress;
use crate::repo::Reader;
use crate::repo::model::TableRecord;
use crate::schema::statements::RenderOptions;

use super::journal::{self, Journal};
use super::load::SharedLoad;
use super::rows::RowSource;
use super::{large_objects, statistics};

/// What a task does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Restores an entry.
    Entry(usize),
    /// Restores an entry that the snapshot does not have: the index that a constraint takes over.
    Index(Box<TocEntry>),
    /// Runs statements that belong together: their name, and themselves.
    Statements(String, Vec<SqlText>),
    /// Loads a table in one session.
    Load(usize),
    /// Takes part in the loading of a table by many sessions.
    LoadShared(usize, Arc<SharedLoad>),
    /// Creates a part of the large objects.
    LargeObjects(large_objects::Part),
    /// Takes part in the writing of large objects' pages by many sessions.
    LargeObjectPages(usize, Arc<SharedLoad>),
    /// Restores a part of the statistics.
    Statistics(statistics::Part),
    /// Says that all rows were loaded.
    Release,
}

impl Work {
    /// Whether it takes transactions of its own.
    pub fn commits(&self) -> bool {
        match self {
            Work::Entry(_)
            | Work::Index(_)
            | Work::Statements(..)
            | Work::Load(_)
            | Work::Release => false,
            Work::LoadShared(..)
            | Work::LargeObjects(_)
            | Work::LargeObjectPages(..)
            | Work::Statistics(_) => true,
        }
    }
}

/// Nothing more is done: a failure was noted, or the user asked to stop.
pub struct Halt;

/// Something that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The object.
    pub object: String,
    /// The statement, shortened.
    pub statement: String,
    /// What the server or the repository said.
    pub error: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.error)?;
        if !self.statement.is_empty() {
            write!(f, "\n  statement: {}", self.statement)?;
        }
        Ok(())
    }
}

/// What all sessions of a restore share.
pub struct Shared<'a> {
    /// The repository.
    pub reader: &'a Reader,
    /// The rows of the tables.
    pub rows: &'a dyn RowSource,
    /// What earlier runs have done, where what is done is noted.
    pub journal: Option<&'a Journal>,
    /// The entries of the snapshot.
    pub entries: &'a [TocEntry],
    /// The tables of the snapshot.
    pub tables: &'a [TableRecord],
    /// Whether a table was created by this restore: only then may it be emptied.
    pub created: &'a (dyn Fn(&TableRecord) -> bool + Sync),
    /// The partition root that a table's rows are loaded through, if they are.
    pub root: &'a (dyn for<'t> Fn(&'t TableRecord) -> Option<&'t Name> + Sync),
    /// The encoding of the rows, where it is not the UTF-8 of everything else.
    pub encoding: Option<&'a str>,
    /// Bytes of a page of a large object at the source.
    pub page: u32,
    /// Whether large objects are missing that could not be created.
    pub objects_missing: AtomicBool,
    /// What is left out of statements.
    pub render: RenderOptions,
    /// The role that restores, if it is not the one that connects.
    pub role: Option<&'a str>,
    /// Triggers of tables that exist do not fire while rows are loaded.
    pub disable_triggers: bool,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// What chunks are called, by their tables ...
    pub labels: HashMap<Name, String>,
    /// ... and by the dump ids of these.
    pub label_ids: HashMap<i32, String>,
    /// What went wrong so far.
    pub failures: Mutex<Vec<Failure>>,
    /// Whether to go on after a failure.
    pub continue_on_error: bool,
}

impl Shared<'_> {
    /// What a task is called.
    pub fn name(&self, work: &Work) -> String {
        match work {
            Work::Entry(n) => entry_name(&self.entries[*n]),
            Work::Index(entry) => entry_name(entry),
            Work::Statements(name, _) => name.clone(),
            Work::Load(n) | Work::LoadShared(n, _) => {
                let table = &self.tables[*n];
                format!("rows of {}.{}", table.schema, table.name)
            }
            Work::LargeObjects(_) => "large objects".to_owned(),
            Work::LargeObjectPages(..) => "pages of large objects".to_owned(),
            Work::Statistics(_) => "statistics".to_owned(),
            Work::Release => "all rows".to_owned(),
        }
    }

    /// What a task is called for people who watch: chunks by their hypertable and range.
    pub fn shown(&self, work: &Work) -> String {
        match work {
            Work::Load(n) | Work::LoadShared(n, _) => {
                let table = &self.tables[*n];
                let name = table.key();
                match self.labels.get(&name) {
                    Some(label) => format!("rows of {label}"),
                    None => self.name(work),
                }
            }
            Work::Entry(n) => {
                let entry = &self.entries[*n];
                let mut of = entry.dependencies.iter();
                match of.find_map(|id| self.label_ids.get(id)) {
                    Some(label) => format!("{} of {label}", entry.desc.to_lowercase()),
                    None => self.name(work),
                }
            }
            _ => self.name(work),
        }
    }

    /// What is noted when the work is done, if it is done in one transaction.
    fn task(&self, work: &Work) -> Option<String> {
        match work {
            Work::Entry(n) => Some(journal::entry(&self.entries[*n])),
            Work::Index(entry) => Some(journal::statements(
                &entry_name(entry),
                std::iter::once(entry.defn.as_bytes()),
            )),
            Work::Statements(_, statements) if statements.is_empty() => None,
            Work::Statements(name, statements) => Some(journal::statements(
                name,
                statements.iter().map(SqlText::as_bytes),
            )),
            Work::Load(n) => Some(journal::rows(&self.tables[*n].key())),
            // What failed and was left out is not there.
            Work::Release if self.has_failed() => None,
            Work::Release => Some(journal::ROWS.to_owned()),
            Work::LoadShared(..)
            | Work::LargeObjects(_)
            | Work::LargeObjectPages(..)
            | Work::Statistics(_) => None,
        }
    }

    /// Whether an earlier run has done it.
    pub fn is_done(&self, work: &Work) -> bool {
        self.journal.is_some_and(|journal| match work {
            Work::Load(n) | Work::LoadShared(n, _) => journal.has_rows(&self.tables[*n].key()),
            Work::LargeObjects(_) | Work::LargeObjectPages(..) => journal.has(journal::ROWS),
            // The source is told again.
            Work::Release => false,
            _ => self.task(work).is_some_and(|task| journal.has(&task)),
        })
    }

    /// The statement that notes what a transaction has done, if it is to be noted.
    pub fn note(&self, batch: &[&Work]) -> Option<String> {
        self.journal?;
        let tasks: Vec<String> = batch.iter().filter_map(|work| self.task(work)).collect();
        (!tasks.is_empty()).then(|| journal::note(&tasks))
    }

    fn has_failed(&self) -> bool {
        let failures = self.failures.lock();
        !failures.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Notes a failure; whether to go on.
    pub fn failed(&self, failure: Failure) -> bool {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failure);
        self.continue_on_error
    }
}

/// How an entry is called: what it is, and its name.
pub fn entry_name(entry: &TocEntry) -> String {
    let namespace = entry
        .namespace
        .as_ref()
        .filter(|n| !n.is_empty())
        .map(|n| format!("{}.", n.to_lossy()));
    format!(
        "{} {}{}",
        entry.desc,
        namespace.unwrap_or_default(),
        entry.tag.to_lossy()
    )
}

/// A statement on one line, cut where it gets long.
pub fn shorten(statement: &[u8]) -> String {
    const SHOWN: usize = 400;
    let text = String::from_utf8_lossy(statement);
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > SHOWN {
        line = line.chars().take(SHOWN).collect();
        line.push_str(" ...");
    }
    line
}
