//! The tasks of a restore: what is loaded, what follows from it, and what it all costs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::Name;
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::foreign_key;
use crate::schema::graph::{Graph, Pass};
use crate::schema::unique::{self, IndexFirst};

use super::cost::{self, Kind, Size};
use super::existing::Order;
use super::load::{LoadError, SharedLoad};
use super::rows::RowSource;
use super::schedule::Task;
use super::sizes::{Builds, Sizes, object};
use super::work::{self, Work};

/// Below this payload no table is loaded by many sessions.
const SHARE_BYTES: u64 = 256 << 20;
/// Above this cost the index of a primary key or unique constraint is built by itself: one more transaction is nothing to
/// it.
const INDEX_FIRST: u64 = cost::CHEAP;
/// From this server version on NOT NULL is a constraint, which a table may have from its parents alone. A primary key that
/// takes over an index makes it the table's own, one that builds its index does not.
const NOT_NULL_INHERITED: i32 = 180_000;

/// Tasks and what each one does, index by index.
#[derive(Default)]
pub struct Plan {
    /// For the schedule.
    pub tasks: Vec<Task>,
    /// For the sessions.
    pub work: Vec<Work>,
}

impl Plan {
    /// Adds a task that says that all rows were loaded, as soon as they were.
    pub fn push_release(&mut self) {
        let loads = self.work.iter().enumerate().filter(|(_, work)| {
            matches!(
                work,
                Work::Load(_) | Work::LoadShared(..) | Work::LargeObjectPages(..)
            )
        });
        let task = Task {
            urgent: true,
            alone: true,
            after: loads.map(|(n, _)| n).collect(),
            ..Task::default()
        };
        self.push(task, Work::Release);
    }

    /// Adds a task; its number.
    pub fn push(&mut self, task: Task, work: Work) -> usize {
        let alone = task.alone || work.commits();
        self.tasks.push(Task { alone, ..task });
        self.work.push(work);
        self.tasks.len() - 1
    }
}

/// What is restored.
pub struct Selection<'a> {
    /// All entries of the snapshot.
    pub entries: &'a [TocEntry],
    /// Which of them are restored.
    pub entry: &'a dyn Fn(usize) -> bool,
    /// All tables of the snapshot.
    pub tables: &'a [TableRecord],
    /// Which of them are loaded.
    pub table: &'a dyn Fn(usize) -> bool,
    /// The order of the entries.
    pub graph: &'a Graph,
    /// Entries before the rows that one session restores while others load: tables, and what belongs to them.
    pub late: &'a [usize],
    /// Foreign keys that are added without being validated.
    pub unchecked: &'a HashSet<usize>,
    /// Whether a table is created, so that nothing is checked while its rows arrive.
    pub created: &'a dyn Fn(&TableRecord) -> bool,
    /// The order of loads into tables that exist.
    pub order: &'a Order,
    /// The neighbouring pieces of a table that are to be loaded, of so many.
    pub missing: &'a dyn Fn(&Name, usize) -> Vec<Range<usize>>,
    /// Whether an earlier run may have done some of it, and which work it has done.
    pub resumed: bool,
    /// See [`resumed`](Self::resumed).
    pub done: &'a dyn Fn(&Work) -> bool,
    /// Version of the target's server.
    pub version: i32,
    /// Whether constraints of tables may take over indexes: hypertables that are at work allow it not.
    pub takes_over: bool,
}

/// Loads and everything of the main pass that follows them.
pub fn main(
    selection: &Selection<'_>,
    rows: &dyn RowSource,
    jobs: usize,
) -> Result<Plan, LoadError> {
    let mut plan = Plan::default();
    let ids = table_ids(selection.entries);
    let sizes = Sizes::of(selection, &ids);
    let builds = Builds::of(selection, &sizes);
    // Primary keys of these stay one step.
    let heirs = if selection.version >= NOT_NULL_INHERITED {
        heirs(selection.entries)
    } else {
        HashSet::new()
    };
    // Loads by the table they fill; rows that are loaded through a root may land in any of its partitions.
    let mut loads: HashMap<i32, Vec<usize>> = HashMap::new();
    let mut through: HashMap<&Name, Vec<(i32, Vec<usize>)>> = HashMap::new();
    let total = builds.total + sizes.loads;
    let mut created = create_late(&mut plan, selection);
    let mut loads_of: HashMap<usize, Vec<usize>> = HashMap::new();

    for (n, table) in selection.tables.iter().enumerate() {
        if table.role != TableRole::Plain || !(selection.table)(n) {
            continue;
        }
        let object = object(&ids, n, table);
        let mut numbers = created.remove(&object).unwrap_or_default();
        if table.digest.rows > 0 {
            let load = Load {
                table: n,
                object,
                after: numbers.clone(),
                // Rows and the longest index on them come one after the other, whoever else works. What comes near may
                // dominate, too: costs are estimates, and sharing in vain costs less than waiting in vain.
                dominates: (Kind::Rows.cost(Size::of(table)) + builds.longest(object)) / 3 * 4
                    > total / jobs.max(1) as u64,
            };
            let pushed = push_loads(&mut plan, selection, rows, load, jobs)?;
            numbers.extend(&pushed);
            loads_of.insert(n, pushed);
        }
        if let Some(root) = &table.load_through {
            through.entry(root).or_default().push((object, numbers));
        } else {
            loads.insert(object, numbers);
        }
    }
    for (root, members) in through {
        let all = plan.push(
            Task {
                after: members
                    .iter()
                    .flat_map(|(_, loads)| loads)
                    .copied()
                    .collect(),
                ..Task::default()
            },
            Work::Statements(format!("rows through {}.{}", root.0, root.1), Vec::new()),
        );
        // A root may be a table itself, as one of an extension is; its indexes are those of all rows.
        if let Some(root) = ids.get(&(root.0.as_str(), root.1.as_str())) {
            loads.entry(*root).or_default().push(all);
        }
        for (object, _) in members {
            loads.insert(object, vec![all]);
        }
    }
    loads.extend(created);
    put_in_order(&mut plan, selection.order, &loads_of);
    let barrier = plan.push(
        Task {
            after: (0..plan.tasks.len()).collect(),
            ..Task::default()
        },
        Work::Statements("all rows".to_owned(), Vec::new()),
    );

    // The last task of each graph task, for those that depend on it.
    let mut last: Vec<Option<usize>> = Vec::with_capacity(selection.graph.tasks.len());
    for task in &selection.graph.tasks {
        if task.pass != Pass::Main || !(selection.entry)(task.entry) {
            last.push(None);
            continue;
        }
        let entry = &selection.entries[task.entry];
        let mut after: Vec<usize> = task.deps.iter().filter_map(|&dep| last[dep]).collect();
        for id in &task.after_loads {
            after.extend(loads.get(id).into_iter().flatten());
        }
        if !early(&entry.desc) {
            after.push(barrier);
        }
        after.sort_unstable();
        after.dedup();
        let kind = Kind::of(entry);
        let scheduled = Task {
            kind,
            cost: kind.cost(sizes.all(&task.after_loads)),
            after,
            exclusive: task.locks.clone(),
            shared: task.after_loads.clone(),
            ..Task::default()
        };
        let name = work::entry_name(entry);
        let number = if selection.unchecked.contains(&task.entry) {
            plan.push(scheduled, Work::Statements(name, vec![not_valid(entry)]))
        } else if let Some((add, validate)) = not_valid_first(entry) {
            let added = plan.push(
                Task {
                    cost: 0,
                    ..scheduled.clone()
                },
                Work::Statements(name.clone(), vec![add]),
            );
            // Validation locks the referencing table against DDL only, so that others that refer to the same table
            // are validated at the same time. It reads that table.
            let own = foreign_key::tables(entry).map(|(own, _)| own);
            let own = own.and_then(|(schema, name)| ids.get(&(&*schema, &*name)).copied());
            let own: Vec<i32> = own.into_iter().collect();
            plan.push(
                Task {
                    cost: kind.cost(sizes.all(&own)),
                    after: vec![added],
                    exclusive: own,
                    ..scheduled
                },
                Work::Statements(name, vec![validate]),
            )
        } else if let [table] = task.after_loads[..]
            && let worthwhile = worth_a_build(scheduled.cost, &builds, table)
            && (worthwhile || selection.resumed)
            && sizes.own.contains(&table)
            && let Some((create, add)) =
                index_first(selection, (task.entry, heirs.contains(&table)), worthwhile)
        {
            let built = plan.push(
                Task {
                    exclusive: Vec::new(),
                    ..scheduled.clone()
                },
                create,
            );
            plan.push(
                Task {
                    kind: Kind::Constraint,
                    cost: 0,
                    after: vec![built],
                    ..scheduled
                },
                Work::Statements(name, vec![add]),
            )
        } else {
            plan.push(scheduled, Work::Entry(task.entry))
        };
        last.push(Some(number));
    }
    Ok(plan)
}

/// The tables that have columns of others, by their dump ids.
fn heirs(entries: &[TocEntry]) -> HashSet<i32> {
    let inherits =
        |entry: &&TocEntry| entry.desc == "TABLE" && entry.defn.to_lossy().contains("\nINHERITS (");
    let heirs = entries.iter().filter(inherits);
    heirs.map(|entry| entry.dump_id).collect()
}

/// Whether the index of a constraint is better built by itself: it takes a while, and others of the table can be built
/// meanwhile.
fn worth_a_build(cost: u64, builds: &Builds, table: i32) -> bool {
    cost > INDEX_FIRST && builds.is_one_of_many(table)
}

/// The index of a primary key or unique constraint, and the statement that makes the constraint of it; nothing where that
/// is not possible, or not worthwhile. What an earlier run has begun goes on as it was begun.
fn index_first(
    selection: &Selection<'_>,
    (entry, heir): (usize, bool),
    worthwhile: bool,
) -> Option<(Work, SqlText)> {
    if !selection.takes_over || (selection.done)(&Work::Entry(entry)) {
        return None;
    }
    let IndexFirst {
        create,
        add,
        primary,
    } = unique::index_first(&selection.entries[entry])?;
    if primary && heir {
        return None;
    }
    let create = Work::Index(Box::new(TocEntry {
        defn: create,
        ..selection.entries[entry].clone()
    }));
    (worthwhile || (selection.done)(&create)).then_some((create, add))
}

/// Loads into tables that exist wait for the rows that theirs refer to.
fn put_in_order(plan: &mut Plan, order: &Order, loads: &HashMap<usize, Vec<usize>>) {
    let loads_of = |group: usize| -> Vec<usize> {
        let tables = order.groups[group].iter();
        tables
            .filter_map(|table| loads.get(table))
            .flatten()
            .copied()
            .collect()
    };
    let mut loaded: HashMap<usize, usize> = HashMap::new();
    for &(own, other) in &order.pairs {
        let loaded = *loaded.entry(other).or_insert_with(|| {
            let task = Task {
                after: loads_of(other),
                ..Task::default()
            };
            plan.push(
                task,
                Work::Statements("rows of a table".to_owned(), Vec::new()),
            )
        });
        for load in loads_of(own) {
            plan.tasks[load].after.push(loaded);
        }
    }
}

/// A task for each late entry, done elsewhere and in their order; by the dump id of the table that they belong to.
fn create_late(plan: &mut Plan, selection: &Selection<'_>) -> HashMap<i32, Vec<usize>> {
    let mut created: HashMap<i32, Vec<usize>> = HashMap::new();
    let mut table_of: HashMap<i32, i32> = HashMap::new();
    for &n in selection.late {
        let entry = &selection.entries[n];
        let task = Task {
            kind: Kind::PreData,
            elsewhere: true,
            ..Task::default()
        };
        let number = plan.push(task, Work::Entry(n));
        let owners = entry.dependencies.iter().filter_map(|id| table_of.get(id));
        let owner = owners.copied().next();
        let table = match owner {
            Some(table) if entry.desc != "TABLE" => table,
            _ => entry.dump_id,
        };
        table_of.insert(entry.dump_id, table);
        created.entry(table).or_default().push(number);
    }
    created
}

/// A table to load.
struct Load {
    /// Its number among the tables of the snapshot.
    table: usize,
    /// What it is locked by.
    object: i32,
    /// What must be done before.
    after: Vec<usize>,
    /// Whether it would keep one session busy after all others have finished.
    dominates: bool,
}

/// The tasks that load one table.
fn push_loads(
    plan: &mut Plan,
    selection: &Selection<'_>,
    rows: &dyn RowSource,
    load: Load,
    jobs: usize,
) -> Result<Vec<usize>, LoadError> {
    let n = load.table;
    let table = &selection.tables[n];
    let task = Task {
        kind: Kind::Rows,
        cost: Kind::Rows.cost(Size::of(table)),
        after: load.after,
        shared: vec![load.object],
        ..Task::default()
    };
    // One session per table freezes its rows; a table that would keep one session busy after all others have
    // finished is better loaded by all. Rows that must find each other have to come in one COPY.
    let shares = jobs > 1 && load.dominates && table.payload_bytes >= SHARE_BYTES;
    if !shares || !(selection.created)(table) {
        return Ok(vec![plan.push(task, Work::Load(n))]);
    }
    let pieces = rows.pieces(n)?;
    let wanted = (selection.missing)(&table.key(), pieces.len());
    let runs = Arc::new(SharedLoad::new(pieces, &wanted, jobs));
    let task = Task {
        cost: task.cost / jobs as u64,
        ..task
    };
    Ok((0..jobs)
        .map(|_| plan.push(task.clone(), Work::LoadShared(n, Arc::clone(&runs))))
        .collect())
}

/// Dump ids of the tables by their names.
pub fn table_ids(entries: &[TocEntry]) -> HashMap<(&str, &str), i32> {
    entries
        .iter()
        .filter(|e| e.desc == "TABLE")
        .filter_map(|e| {
            let schema = e.namespace.as_ref()?.to_str()?;
            Some(((schema, e.tag.to_str()?), e.dump_id))
        })
        .collect()
}

/// Whether the entry needs its own tables' rows only; everything else waits until all rows are loaded.
fn early(desc: &str) -> bool {
    matches!(
        desc,
        "INDEX" | "CONSTRAINT" | "INDEX ATTACH" | "STATISTICS" | "COMMENT"
    )
}

/// A foreign key as two statements: added NOT VALID, which takes a moment, then validated, under locks that let others
/// of the same referenced table be validated too. Nothing where the server does not allow it (a partitioned table, for
/// which `pg_dump` does not say ONLY) or where the constraint is not validated at the source either.
pub fn not_valid_first(entry: &TocEntry) -> Option<(SqlText, SqlText)> {
    if entry.desc != "FK CONSTRAINT" || is_unchecked(entry) || is_of_partitioned(entry) {
        return None;
    }
    let drop = entry.drop_stmt.to_str()?;
    let (table, name) = drop.rsplit_once(" DROP CONSTRAINT ")?;
    Some((
        not_valid(entry),
        SqlText::from(format!("{table} VALIDATE CONSTRAINT {name}")),
    ))
}

/// Whether the constraint is not validated at the source either.
pub fn is_unchecked(entry: &TocEntry) -> bool {
    let defn = statement(entry);
    defn.ends_with(b"NOT VALID") || defn.ends_with(b"NOT ENFORCED")
}

/// Whether the foreign key is one of a partitioned table.
pub fn is_of_partitioned(entry: &TocEntry) -> bool {
    !entry.defn.as_bytes().starts_with(b"ALTER TABLE ONLY ")
}

/// The statement that adds the foreign key without validating it.
pub fn not_valid(entry: &TocEntry) -> SqlText {
    let mut statement = statement(entry).to_vec();
    statement.extend_from_slice(b" NOT VALID;");
    statement.into()
}

/// The one statement of a foreign key, without its end.
fn statement(entry: &TocEntry) -> &[u8] {
    let defn = entry.defn.as_bytes().trim_ascii_end();
    defn.strip_suffix(b";").unwrap_or(defn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::archive::Section;
    use crate::restore::rows::Stored;

    fn foreign_key(defn: &str) -> TocEntry {
        TocEntry {
            dump_id: 1,
            tableoid: 2606,
            oid: 1,
            tag: "child child_parent_fkey".into(),
            desc: "FK CONSTRAINT".to_owned(),
            section: Section::PostData,
            defn: defn.into(),
            drop_stmt: "ALTER TABLE ONLY public.child DROP CONSTRAINT child_parent_fkey;".into(),
            namespace: Some("public".into()),
            owner: "o".into(),
            ..TocEntry::default()
        }
    }

    #[test]
    fn a_foreign_key_is_added_first_and_validated_then() {
        let entry = foreign_key(
            "ALTER TABLE ONLY public.child\n    ADD CONSTRAINT child_parent_fkey FOREIGN KEY (p) REFERENCES public.parent(id);\n",
        );
        let (add, validate) = not_valid_first(&entry).unwrap();
        assert!(
            add.to_lossy()
                .ends_with("REFERENCES public.parent(id) NOT VALID;")
        );
        assert_eq!(
            validate.to_lossy(),
            "ALTER TABLE ONLY public.child VALIDATE CONSTRAINT child_parent_fkey;"
        );
    }

    #[test]
    fn foreign_keys_of_partitioned_tables_and_unvalidated_ones_stay_as_they_are() {
        for defn in [
            "ALTER TABLE public.child\n    ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES public.parent(id);\n",
            "ALTER TABLE ONLY public.child\n    ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES public.parent(id) NOT VALID;\n",
        ] {
            assert_eq!(not_valid_first(&foreign_key(defn)), None);
        }
    }

    #[test]
    fn a_share_in_a_table_is_never_done_in_one_transaction_with_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::LocalStore::new(dir.path());
        let repo = crate::repo::Repository::init(Arc::new(store)).unwrap();
        let table = TableRecord {
            schema: "public".to_owned(),
            name: "large".to_owned(),
            role: TableRole::Plain,
            columns: Vec::new(),
            format: crate::rows::Format::Binary,
            load_through: None,
            segment_pages: 256,
            source_bytes: SHARE_BYTES,
            payload_bytes: SHARE_BYTES,
            digest: crate::rows::RowDigest { rows: 1, sum: 1 },
            manifest: Vec::new(),
        };
        let selection = Selection {
            entries: &[],
            entry: &|_| true,
            tables: &[table],
            table: &|_| true,
            graph: &Graph::default(),
            late: &[],
            unchecked: &HashSet::new(),
            created: &|_| true,
            order: &Order::default(),
            missing: &|_, of| std::iter::once(0..of).collect(),
            version: 170_000,
            takes_over: true,
            resumed: false,
            done: &|_| false,
        };
        let reader = repo.reader().unwrap();
        let rows = Stored {
            reader: &reader,
            tables: selection.tables,
            progress: &crate::progress::Silent,
        };
        for jobs in [2, 64, 256] {
            let plan = main(&selection, &rows, jobs).unwrap();
            let mut shares = 0;
            for (task, work) in plan.tasks.iter().zip(&plan.work) {
                if matches!(work, Work::LoadShared(..)) {
                    shares += 1;
                    assert!(task.alone, "-j {jobs}");
                }
            }
            assert_eq!(shares, jobs);
        }
    }
}
