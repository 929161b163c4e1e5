//! What of a clone is done: kept at the target, in the transactions that do it, so that a run that was killed is taken up
//! where it ended.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::pg::archive::TocEntry;
use crate::pg::catalog::{Name, qualified, quote_ident, quote_literal};
use crate::pg::{Connection, Error};

/// The schema at the target that holds the journal as long as the clone is not complete.
pub const SCHEMA: &str = "pgtide_clone";

/// All rows were loaded, and all large objects are there.
pub const ROWS: &str = "all rows";
/// What the rows of a table begin with.
const ROWS_OF: &str = "rows ";
/// TimescaleDB's catalog was loaded.
pub const HYPERTABLES: &str = "hypertables";

/// What a clone is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The source's database, and where it is, for people.
    pub source: String,
    /// The id of the exported snapshot that was read, if somebody else keeps it.
    pub snapshot: Option<String>,
    /// The time of the MVCC snapshot.
    pub time: jiff::Timestamp,
    /// A digest of what was chosen, and how it is restored.
    pub options: String,
    /// A digest of all definitions.
    pub schema: String,
}

/// The journal of a clone.
#[derive(Debug, Clone)]
pub struct Journal {
    /// What the clone is of.
    pub subject: Subject,
    done: HashSet<String>,
    /// Of tables that many sessions load, by what their rows are called: the runs that were loaded, and of how many pieces.
    runs: HashMap<String, Vec<(Range<usize>, usize)>>,
    resumed: bool,
    /// The snapshot is another one than that of the runs before.
    pub moved: bool,
}

impl Journal {
    /// The journal of a clone that begins.
    pub fn new(subject: Subject) -> Self {
        Self {
            subject,
            done: HashSet::new(),
            runs: HashMap::new(),
            resumed: false,
            moved: false,
        }
    }

    /// The journal that the target has, if it has one.
    pub fn find(conn: &mut Connection) -> Result<Option<Self>, Error> {
        let there = conn.query(&format!(
            "SELECT pg_catalog.to_regclass('{SCHEMA}.run') IS NOT NULL"
        ))?;
        if !matches!(there.first(), Some(row) if row.get_bool(0)?) {
            return Ok(None);
        }
        let rows = conn.query(&format!(
            "SELECT source, snapshot, time, options, schema FROM {SCHEMA}.run"
        ))?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let time = row.text(2)?;
        let subject = Subject {
            source: row.text(0)?.to_owned(),
            snapshot: row.get(1).map(str::to_owned),
            time: time
                .parse()
                .map_err(|error| Error::Protocol(format!("{SCHEMA}.run: {time}: {error}")))?,
            options: row.text(3)?.to_owned(),
            schema: row.text(4)?.to_owned(),
        };
        let rows = conn.query(&format!("SELECT task FROM {SCHEMA}.done"))?;
        let mut journal = Self::new(subject);
        journal.resumed = true;
        for row in &rows {
            journal.add(row.text(0)?);
        }
        Ok(Some(journal))
    }

    /// Adds what an earlier run has noted.
    fn add(&mut self, task: &str) {
        match parse_run(task) {
            Some((rows, run)) => self.runs.entry(rows.to_owned()).or_default().push(run),
            None => {
                self.done.insert(task.to_owned());
            }
        }
    }

    /// Whether an earlier run began it.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Creates the journal at the target, in place of one that is not taken up.
    pub fn begin(&self, conn: &mut Connection) -> Result<(), Error> {
        let subject = &self.subject;
        if self.resumed {
            return Ok(());
        }
        let snapshot = match &subject.snapshot {
            Some(id) => quote_literal(id),
            None => "NULL".to_owned(),
        };
        conn.execute(&format!(
            "BEGIN; CREATE SCHEMA IF NOT EXISTS {SCHEMA}; DROP TABLE IF EXISTS {SCHEMA}.run, {SCHEMA}.done;
             CREATE TABLE {SCHEMA}.run (source text NOT NULL, snapshot text, time text NOT NULL, options text NOT NULL, schema text NOT NULL);
             CREATE TABLE {SCHEMA}.done (task text NOT NULL);
             INSERT INTO {SCHEMA}.run VALUES ({}, {snapshot}, {}, {}, {}); COMMIT",
            quote_literal(&subject.source),
            quote_literal(&subject.time.to_string()),
            quote_literal(&subject.options),
            quote_literal(&subject.schema),
        ))
    }

    /// Whether this was done by an earlier run.
    pub fn has(&self, task: &str) -> bool {
        self.done.contains(task)
    }

    /// Whether all rows of a table were loaded.
    pub fn has_rows(&self, name: &Name) -> bool {
        let rows = rows(name);
        self.has(&rows) || {
            let runs = self.runs.get(&rows).map_or(&[][..], Vec::as_slice);
            let of = runs.iter().map(|(_, of)| *of).max();
            of.is_some_and(|of| gaps(0..of, runs.iter().map(|(run, _)| run.clone())).is_empty())
        }
    }

    /// The neighbouring pieces of a table that are still to be loaded, of so many.
    pub fn missing(&self, name: &Name, of: usize) -> Vec<Range<usize>> {
        let runs = self.runs.get(&rows(name)).into_iter().flatten();
        let runs = runs.filter(|(_, all)| *all == of);
        gaps(0..of, runs.map(|(run, _)| run.clone()))
    }

    /// Whether a table has rows that must go before it is loaded: some of those of another snapshot, or of other
    /// pieces than these.
    pub fn must_be_emptied(&self, name: &Name, pieces: usize) -> bool {
        let mut runs = self.runs.get(&rows(name)).into_iter().flatten();
        let fits = |(_, of): &(_, usize)| !self.moved && *of == pieces;
        !runs.all(fits) && !self.has_rows(name)
    }

    /// Empties a table and forgets what was loaded into it.
    pub fn forget_rows(&mut self, conn: &mut Connection, name: &Name) -> Result<(), Error> {
        let rows = rows(name);
        conn.execute(&format!(
            "BEGIN; TRUNCATE TABLE ONLY {}; DELETE FROM {SCHEMA}.done WHERE pg_catalog.starts_with(task, {}); COMMIT",
            qualified(&name.0, &name.1),
            quote_literal(&format!("{rows} "))
        ))?;
        self.runs.remove(&rows);
        Ok(())
    }
}

/// The statement that notes what the transaction has done.
pub fn note(tasks: &[String]) -> String {
    let values: Vec<String> = tasks
        .iter()
        .map(|task| format!("({})", quote_literal(task)))
        .collect();
    format!("INSERT INTO {SCHEMA}.done VALUES {}", values.join(", "))
}

/// Takes the journal away: the clone is complete.
pub fn end(conn: &mut Connection) -> Result<(), Error> {
    conn.execute(&format!(
        "DROP TABLE IF EXISTS {SCHEMA}.run, {SCHEMA}.done; DROP SCHEMA IF EXISTS {SCHEMA}"
    ))
}

/// All rows of a table.
pub fn rows((schema, name): &Name) -> String {
    format!("{ROWS_OF}{}.{}", quote_ident(schema), quote_ident(name))
}

/// Some neighbouring pieces of a table, of so many.
pub fn run(name: &Name, run: &Range<usize>, of: usize) -> String {
    format!("{} {}-{}/{of}", rows(name), run.start, run.end)
}

/// What [`run`] has written: what the table's rows are called, the run, and of how many pieces. The name is quoted, so its
/// end is never taken for a run.
fn parse_run(task: &str) -> Option<(&str, (Range<usize>, usize))> {
    let (rows, run) = task.rsplit_once(' ')?;
    let (range, of) = run.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let rows = rows.starts_with(ROWS_OF).then_some(rows)?;
    Some((
        rows,
        (from.parse().ok()?..to.parse().ok()?, of.parse().ok()?),
    ))
}

/// An entry: its name, and a digest of what it says.
pub fn entry(entry: &TocEntry) -> String {
    let mut hasher = blake3::Hasher::new();
    add_entry(&mut hasher, entry);
    format!("{} {}", super::entry_name(entry), digest(&hasher))
}

/// Statements, by their name and a digest.
pub fn statements<'s>(name: &str, statements: impl Iterator<Item = &'s [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for statement in statements {
        add(&mut hasher, statement);
    }
    format!("{name} {}", digest(&hasher))
}

/// A digest of all entries, in whatever order they are.
pub fn schema(entries: &[TocEntry]) -> String {
    let mut each: Vec<String> = entries.iter().map(entry).collect();
    each.sort();
    let mut hasher = blake3::Hasher::new();
    for name in &each {
        add(&mut hasher, name.as_bytes());
    }
    digest(&hasher)
}

fn add_entry(hasher: &mut blake3::Hasher, entry: &TocEntry) {
    let optional = |text: &Option<crate::pg::archive::SqlText>| {
        text.as_ref().map_or(Vec::new(), |t| t.as_bytes().to_vec())
    };
    add(hasher, entry.defn.as_bytes());
    add(hasher, entry.owner.as_bytes());
    add(hasher, &optional(&entry.tablespace));
    add(hasher, &optional(&entry.tableam));
}

/// With its length, so that two fields are never taken for two others.
fn add(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn digest(hasher: &blake3::Hasher) -> String {
    let hash = hasher.finalize();
    hash.to_hex()[..32].to_owned()
}

/// What of a range no part covers.
fn gaps(all: Range<usize>, parts: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = parts.collect();
    parts.sort_by_key(|part| part.start);
    let mut gaps = Vec::new();
    let mut next = all.start;
    for part in parts {
        if part.start > next {
            gaps.push(next..part.start.min(all.end));
        }
        next = next.max(part.end);
    }
    if next < all.end {
        gaps.push(next..all.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(tasks: &[String]) -> Journal {
        let mut journal = Journal::new(Subject {
            source: String::new(),
            snapshot: None,
            time: jiff::Timestamp::UNIX_EPOCH,
            options: String::new(),
            schema: String::new(),
        });
        tasks.iter().for_each(|task| journal.add(task));
        journal
    }

    #[test]
    fn what_of_a_table_is_missing_is_what_no_run_has_loaded() {
        let name = ("s".to_owned(), "odd table 1-2/3".to_owned());
        let tasks = [run(&name, &(0..4), 10), run(&name, &(6..7), 10)];
        let part = journal(&tasks);
        assert_eq!(part.missing(&name, 10), [4..6, 7..10]);
        assert!(!part.must_be_emptied(&name, 10) && !part.has_rows(&name));
        assert!(part.must_be_emptied(&name, 11), "of other segments");
        let mut moved = part.clone();
        moved.moved = true;
        assert!(moved.must_be_emptied(&name, 10));
        let other = ("s".to_owned(), "odd table".to_owned());
        assert!(!moved.must_be_emptied(&other, 10));
        let whole = journal(
            &[
                &tasks[..],
                &[run(&name, &(4..6), 10), run(&name, &(7..10), 10)],
            ]
            .concat(),
        );
        assert!(whole.has_rows(&name) && whole.missing(&name, 10).is_empty());
        assert!(journal(&[rows(&name)]).has_rows(&name));
    }
}
