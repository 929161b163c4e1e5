//! The tasks of a restore: what is loaded, what follows from it, and what it all costs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::pg::archive::{SqlText, TocEntry};
use crate::pg::catalog::Name;
use crate::repo::model::{TableRecord, TableRole};
use crate::schema::foreign_key;
use crate::schema::graph::{Graph, Pass};

use super::exec::{self, Work};
use super::existing::Order;
use super::load::{LoadError, SharedLoad};
use super::rows::RowSource;
use super::schedule::Task;

/// Below this payload no table is loaded by many sessions.
const SHARE_BYTES: u64 = 256 << 20;
/// Tasks up to this cost are done together in one transaction.
pub const CHEAP_BYTES: u64 = 4 << 20;
// See `push_loads`.
const _: () = assert!(SHARE_BYTES > CHEAP_BYTES);

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
            cost: u64::MAX,
            after: loads.map(|(n, _)| n).collect(),
            ..Task::default()
        };
        self.push(task, Work::Release);
    }

    /// Adds a task; its number.
    pub fn push(&mut self, task: Task, work: Work) -> usize {
        self.tasks.push(task);
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
}

/// Loads and everything of the main pass that follows them.
pub fn main(
    selection: &Selection<'_>,
    rows: &dyn RowSource,
    jobs: usize,
) -> Result<Plan, LoadError> {
    let mut plan = Plan::default();
    let ids = table_ids(selection.entries);
    let mut payload: HashMap<i32, u64> = HashMap::new();
    // Loads by the table they fill; rows that are loaded through a root may land in any of its partitions.
    let mut loads: HashMap<i32, Vec<usize>> = HashMap::new();
    let mut through: HashMap<&Name, Vec<Member>> = HashMap::new();
    let total: u64 = selection.tables.iter().map(|t| t.payload_bytes).sum();
    let mut created = create_late(&mut plan, selection);
    let mut loads_of: HashMap<usize, Vec<usize>> = HashMap::new();

    for (n, table) in selection.tables.iter().enumerate() {
        if table.role != TableRole::Plain || !(selection.table)(n) {
            continue;
        }
        let id = ids
            .get(&(table.schema.as_str(), table.name.as_str()))
            .copied();
        // A table whose definition is not restored is one that exists at the target.
        let object = id.unwrap_or(-1 - i32::try_from(n).unwrap_or(i32::MAX - 1));
        payload.insert(object, table.payload_bytes);
        let mut numbers = created.remove(&object).unwrap_or_default();
        if table.digest.rows > 0 {
            let load = Load {
                table: n,
                object,
                after: numbers.clone(),
            };
            let pushed = push_loads(&mut plan, selection, rows, load, total, jobs)?;
            numbers.extend(&pushed);
            loads_of.insert(n, pushed);
        }
        if let Some(root) = &table.load_through {
            let of_root = through.entry(root).or_default();
            of_root.push((object, None));
            of_root.extend(numbers.iter().map(|&number| (object, Some(number))));
        } else {
            loads.insert(object, numbers);
        }
    }
    for (root, members) in through {
        let all: Vec<usize> = members.iter().filter_map(|(_, load)| *load).collect();
        // A root may be a table itself, as one of an extension is; its indexes are those of all rows.
        if let Some(root) = ids.get(&(root.0.as_str(), root.1.as_str())) {
            let bytes = members.iter().filter(|(_, load)| load.is_some());
            let bytes = bytes.filter_map(|(object, _)| payload.get(object)).sum();
            payload.insert(*root, bytes);
            loads.entry(*root).or_default().extend(&all);
        }
        for (object, _) in members {
            loads.insert(object, all.clone());
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
        let bytes: u64 = task
            .after_loads
            .iter()
            .map(|id| payload.get(id).copied().unwrap_or(0))
            .sum();
        let scheduled = Task {
            cost: cost(entry, bytes),
            after,
            exclusive: task.locks.clone(),
            shared: task.after_loads.clone(),
            elsewhere: false,
        };
        let name = exec::entry_name(entry);
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
            // are validated at the same time.
            let own = foreign_key::tables(entry).map(|(own, _)| own);
            let own = own.and_then(|(schema, name)| ids.get(&(&*schema, &*name)).copied());
            let own: Vec<i32> = own.into_iter().collect();
            plan.push(
                Task {
                    after: vec![added],
                    exclusive: own,
                    ..scheduled
                },
                Work::Statements(name, vec![validate]),
            )
        } else {
            plan.push(scheduled, Work::Entry(task.entry))
        };
        last.push(Some(number));
    }
    Ok(plan)
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
}

/// The tasks that load one table.
fn push_loads(
    plan: &mut Plan,
    selection: &Selection<'_>,
    rows: &dyn RowSource,
    load: Load,
    total: u64,
    jobs: usize,
) -> Result<Vec<usize>, LoadError> {
    let n = load.table;
    let table = &selection.tables[n];
    let task = Task {
        cost: table.payload_bytes,
        after: load.after,
        shared: vec![load.object],
        ..Task::default()
    };
    // One session per table freezes its rows; a table that would keep one session busy after all others have
    // finished is better loaded by all. Rows that must find each other have to come in one COPY.
    let dominates = table.payload_bytes > total / jobs.max(1) as u64;
    if jobs < 2 || table.payload_bytes < SHARE_BYTES || !dominates || !(selection.created)(table) {
        return Ok(vec![plan.push(task, Work::Load(n))]);
    }
    let pieces = rows.pieces(n)?;
    let wanted = (selection.missing)(&table.key(), pieces.len());
    let runs = Arc::new(SharedLoad::new(pieces, &wanted, jobs));
    // Each at the cost of the whole table, so that none is cheap: in a batch that is rolled back, the runs that were
    // taken already would not be given out again, and their rows would be missing.
    Ok((0..jobs)
        .map(|_| plan.push(task.clone(), Work::LoadShared(n, Arc::clone(&runs))))
        .collect())
}

/// A partition that is loaded through its root, and one of the tasks that load it.
type Member = (i32, Option<usize>);

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

/// What an entry costs, in bytes of payload: how index builds of the usual kinds compare with each other.
fn cost(entry: &TocEntry, bytes: u64) -> u64 {
    let defn = entry.defn.to_lossy();
    match entry.desc.as_str() {
        "INDEX" if defn.contains(" USING gin ") => bytes * 4,
        "INDEX" if defn.contains(" USING gist ") || defn.contains(" USING spgist ") => bytes * 3,
        "INDEX" if defn.contains(" USING brin ") => bytes / 8,
        "INDEX" | "CONSTRAINT" => bytes,
        "FK CONSTRAINT" | "CHECK CONSTRAINT" => bytes / 2,
        _ => 0,
    }
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
            missing: &|_, of| vec![0..of],
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
                    assert!(task.cost > CHEAP_BYTES, "-j {jobs}");
                }
            }
            assert_eq!(shares, jobs);
        }
    }
}
