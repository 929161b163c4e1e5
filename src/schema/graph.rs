//! The order of a restore: what runs first and one by one, and what may run beside what.
//!
//! `pg_dump` has sorted the entries so that a serial restore works. A parallel one follows the dependencies instead,
//! with the rules that `pg_restore -j` has found to be needed, and a few that it lacks.

use std::collections::{BTreeSet, HashMap};

use crate::pg::archive::{Section, TocEntry};

use super::statements::{is_data, is_database, is_setting};

/// Passes of a restore; one begins when the one before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// Objects and rows.
    Main,
    /// Privileges: what is revoked may be needed to restore.
    Privileges,
    /// What must see all the rest: refreshes, which run as the view's owner.
    Refreshes,
    /// What must not see a restore: event triggers. A refresh would be the first thing to fire them.
    Last,
}

/// An entry that is restored after the serial part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Index of the entry.
    pub entry: usize,
    /// Its pass.
    pub pass: Pass,
    /// Indexes of the tasks that must be done before; always lower than the task's own.
    pub deps: Vec<usize>,
    /// Dump ids of the tables whose rows must be there before, in ascending order. Tables without rows of their own,
    /// as partitioned ones, may be among them.
    pub after_loads: Vec<i32>,
    /// Dump ids of the tables it locks against everybody else, in ascending order.
    pub locks: Vec<i32>,
}

/// What there is to do, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Indexes of the entries that make and describe the database itself; restored only when it is to be created.
    pub database: Vec<usize>,
    /// Indexes of the entries that come before any row, in the order of a serial restore.
    pub pre: Vec<usize>,
    /// The rest, in an order that is also valid for a serial restore within each pass.
    pub tasks: Vec<Task>,
}

impl Graph {
    /// Orders the entries of an archive. Entries with data, and the archive's settings, take no part.
    pub fn build(entries: &[TocEntry]) -> Graph {
        let by_id: HashMap<i32, usize> = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.dump_id, index))
            .collect();
        let family = Family::of(entries, &by_id);
        let mut graph = Graph::default();
        let mut task_of = HashMap::new();
        let mut past_pre_data = false;
        // The tasks that make triggers, by the tables that get them.
        let mut makers: HashMap<i32, Vec<usize>> = HashMap::new();
        for index in switches_last(entries) {
            let entry = &entries[index];
            if is_setting(entry) || is_data(entry) {
                continue;
            }
            if is_database(entry) {
                graph.database.push(index);
                continue;
            }
            // What has no section belongs to the entry before it. Once something was put off, that may be
            // something that does not exist yet.
            let pass = pass(entry);
            past_pre_data |= entry.section == Section::PostData;
            let early = match entry.section {
                Section::PreData => true,
                Section::None => !past_pre_data,
                Section::Data | Section::PostData => false,
            };
            // Some functions and views need what comes after the rows, as a key that they group by.
            let put_off = entry.desc != "TABLE"
                && entry.dependencies.iter().any(|id| {
                    let task = by_id.get(id).and_then(|before| task_of.get(before));
                    task.is_some_and(|task: &usize| graph.tasks[*task].pass == Pass::Main)
                });
            if early && pass == Pass::Main && !put_off {
                graph.pre.push(index);
                continue;
            }
            let mut deps = BTreeSet::new();
            let mut tables = BTreeSet::new();
            for id in &entry.dependencies {
                let Some(&before) = by_id.get(id) else {
                    // Not in the archive, so nothing to wait for.
                    continue;
                };
                if let Some(task) = task_of.get(&before) {
                    deps.insert(*task);
                }
                if entry.section == Section::PostData && entries[before].desc == "TABLE" {
                    tables.insert(*id);
                }
            }
            if reaches_descendants(entry) {
                family.add_descendants(&mut tables);
            }
            // An index is built under a lock that other builds on the table share. Everything else is a kind of ALTER
            // TABLE.
            let exclusive = entry.desc != "INDEX";
            let after_loads: Vec<i32> = tables.into_iter().collect();
            if switches_trigger(entry) {
                let made = after_loads.iter().filter_map(|table| makers.get(table));
                deps.extend(made.flatten());
            } else if entry.desc == "TRIGGER" {
                for table in &after_loads {
                    makers.entry(*table).or_default().push(graph.tasks.len());
                }
            }
            task_of.insert(index, graph.tasks.len());
            graph.tasks.push(Task {
                entry: index,
                pass,
                deps: deps.into_iter().collect(),
                locks: if exclusive {
                    after_loads.clone()
                } else {
                    Vec::new()
                },
                after_loads,
            });
        }
        graph
    }
}

/// The numbers of the entries, with those at the end that switch a partition's trigger on or off, and what depends on
/// these. The trigger comes with that of the partitioned table, which `pg_dump` makes them wait for only where that one
/// is the very parent; it sorts by names.
fn switches_last(entries: &[TocEntry]) -> Vec<usize> {
    let switches = entries.iter().filter(|entry| switches_trigger(entry));
    let switches: BTreeSet<i32> = switches.map(|entry| entry.dump_id).collect();
    let late = |entry: &TocEntry| {
        let mut ids = entry.dependencies.iter().chain([&entry.dump_id]);
        ids.any(|id| switches.contains(id))
    };
    let (last, mut order): (Vec<usize>, Vec<usize>) =
        (0..entries.len()).partition(|&n| !switches.is_empty() && late(&entries[n]));
    order.extend(last);
    order
}

fn switches_trigger(entry: &TocEntry) -> bool {
    let defn = entry.defn.as_bytes().trim_ascii_start();
    entry.desc == "TRIGGER" && defn.starts_with(b"ALTER TABLE ")
}

fn pass(entry: &TocEntry) -> Pass {
    match entry.desc.as_str() {
        "ACL" | "DEFAULT ACL" => Pass::Privileges,
        "EVENT TRIGGER" => Pass::Last,
        "MATERIALIZED VIEW DATA" => Pass::Refreshes,
        "COMMENT" | "SECURITY LABEL" if entry.tag.as_bytes().starts_with(b"EVENT TRIGGER ") => {
            Pass::Last
        }
        "STATISTICS DATA" if entry.section == Section::PostData => Pass::Refreshes,
        _ => Pass::Main,
    }
}

/// Whether restoring the entry also changes the partitions and children of its tables. A trigger that is made on a
/// partitioned table before its partitions are loaded would fire for every row, and `pg_dump` records no dependency on
/// the partitions.
fn reaches_descendants(entry: &TocEntry) -> bool {
    match entry.desc.as_str() {
        "TRIGGER" | "FK CONSTRAINT" => true,
        "CONSTRAINT" | "CHECK CONSTRAINT" => {
            !entry.defn.as_bytes().starts_with(b"ALTER TABLE ONLY ")
        }
        _ => false,
    }
}

/// Which table is a partition or a child of which.
struct Family {
    children: HashMap<i32, Vec<i32>>,
}

impl Family {
    fn of(entries: &[TocEntry], by_id: &HashMap<i32, usize>) -> Family {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for entry in entries {
            let tables = entry
                .dependencies
                .iter()
                .filter_map(|id| by_id.get(id))
                .map(|index| &entries[*index]);
            let tables: Vec<&TocEntry> = tables.filter(|table| table.desc == "TABLE").collect();
            let child = match entry.desc.as_str() {
                // A table depends on those it inherits from, and now and then on one whose row type it uses; to take
                // that one for a parent costs some waiting.
                "TABLE" => Some(entry),
                "TABLE ATTACH" => tables
                    .iter()
                    .find(|table| table.tag == entry.tag && table.namespace == entry.namespace)
                    .copied(),
                _ => None,
            };
            let Some(child) = child.map(|child| child.dump_id) else {
                continue;
            };
            for parent in tables
                .iter()
                .map(|table| table.dump_id)
                .filter(|parent| *parent != child)
            {
                children.entry(parent).or_default().push(child);
            }
        }
        Family { children }
    }

    fn add_descendants(&self, tables: &mut BTreeSet<i32>) {
        let mut open: Vec<i32> = tables.iter().copied().collect();
        while let Some(table) = open.pop() {
            for child in self.children.get(&table).into_iter().flatten() {
                if tables.insert(*child) {
                    open.push(*child);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::archive::SqlText;

    fn entry(
        dump_id: i32,
        desc: &str,
        tag: &str,
        section: Section,
        dependencies: &[i32],
    ) -> TocEntry {
        TocEntry {
            dump_id,
            oid: 0,
            tag: tag.into(),
            desc: desc.into(),
            section,
            defn: SqlText::default(),
            drop_stmt: SqlText::default(),
            copy_stmt: SqlText::default(),
            owner: SqlText::default(),
            dependencies: dependencies.to_vec(),
            ..TocEntry::default()
        }
    }

    use Section::{None as Nowhere, PostData, PreData};

    #[test]
    fn passes_and_the_serial_part() {
        let entries = [
            entry(90, "ENCODING", "ENCODING", PreData, &[]),
            entry(91, "DATABASE", "d", PreData, &[]),
            entry(92, "COMMENT", "DATABASE d", Nowhere, &[91]),
            entry(1, "TABLE", "a", PreData, &[80]),
            entry(2, "COMMENT", "TABLE a", Nowhere, &[1]),
            entry(3, "ACL", "TABLE a", Nowhere, &[1]),
            entry(4, "VIEW", "v", PreData, &[1]),
            entry(5, "TABLE DATA", "a", Section::Data, &[1]),
            entry(6, "INDEX", "i", PostData, &[1]),
            entry(7, "COMMENT", "INDEX i", Nowhere, &[6]),
            entry(8, "EVENT TRIGGER", "e", PostData, &[]),
            entry(9, "COMMENT", "EVENT TRIGGER e", Nowhere, &[8]),
            entry(10, "MATERIALIZED VIEW DATA", "m", PostData, &[77]),
            entry(11, "MATERIALIZED VIEW DATA", "m2", PostData, &[10]),
        ];
        let graph = Graph::build(&entries);
        assert_eq!(graph.database, [1, 2]);
        assert_eq!(graph.pre, [3, 4, 6]);
        let tasks: Vec<_> = graph
            .tasks
            .iter()
            .map(|task| (entries[task.entry].dump_id, task.pass))
            .collect();
        let expected = [
            (3, Pass::Privileges),
            (6, Pass::Main),
            (7, Pass::Main),
            (8, Pass::Last),
            (9, Pass::Last),
            (10, Pass::Refreshes),
            (11, Pass::Refreshes),
        ];
        assert_eq!(tasks, expected);
        assert_eq!(
            (&graph.tasks[1].after_loads[..], &graph.tasks[1].locks[..]),
            (&[1][..], &[][..])
        );
        assert_eq!(graph.tasks[2].deps, [1]);
        assert!(graph.tasks[5].deps.is_empty());
        assert_eq!(graph.tasks[6].deps, [5]);
    }

    #[test]
    fn everything_but_an_index_locks_its_tables() {
        let entries = [
            entry(1, "TABLE", "a", PreData, &[]),
            entry(2, "TABLE", "b", PreData, &[]),
            entry(3, "CONSTRAINT", "a_pkey", PostData, &[1]),
            entry(4, "INDEX", "a_i", PostData, &[1]),
            entry(5, "INDEX", "a_j", PostData, &[1]),
            entry(6, "INDEX", "b_i", PostData, &[2]),
            entry(7, "FK CONSTRAINT", "b_fk", PostData, &[3, 1, 2]),
        ];
        let tasks = Graph::build(&entries).tasks;
        let [primary, i, j, other, foreign] = &tasks[..] else {
            panic!("{tasks:?}")
        };
        assert_eq!(primary.locks, [1]);
        assert_eq!(
            (i.locks.as_slice(), i.after_loads.as_slice()),
            (&[][..], &[1][..])
        );
        assert!(j.locks.is_empty() && other.locks.is_empty());
        assert_eq!(foreign.locks, [1, 2]);
        assert_eq!(foreign.deps, [0]);
        assert_eq!(foreign.after_loads, [1, 2]);
    }

    #[test]
    fn triggers_wait_for_the_partitions() {
        let entries = [
            entry(1, "TABLE", "parent", PreData, &[]),
            entry(2, "TABLE", "part", PreData, &[]),
            entry(3, "TABLE ATTACH", "part", PreData, &[1, 2]),
            entry(4, "TABLE", "sub", PreData, &[]),
            entry(5, "TABLE ATTACH", "sub", PreData, &[4, 2]),
            entry(6, "TABLE", "base", PreData, &[]),
            entry(7, "TABLE", "heir", PreData, &[6]),
            entry(8, "TRIGGER", "parent t", PostData, &[1]),
            entry(9, "INDEX", "i", PostData, &[1]),
            entry(10, "CHECK CONSTRAINT", "c", PostData, &[6]),
        ];
        let tasks = Graph::build(&entries).tasks;
        assert_eq!(tasks[0].after_loads, [1, 2, 4]);
        assert_eq!(tasks[0].locks, [1, 2, 4]);
        assert_eq!(tasks[1].after_loads, [1]);
        assert_eq!(tasks[2].after_loads, [6, 7]);
    }

    #[test]
    fn what_needs_something_after_the_rows_comes_after_it_with_all_that_is_its_own() {
        let entries = [
            entry(1, "TABLE", "t", PreData, &[]),
            entry(2, "CONSTRAINT", "t t_pkey", PostData, &[1]),
            entry(3, "MATERIALIZED VIEW", "m", PostData, &[2]),
            entry(4, "FUNCTION", "f()", PreData, &[3]),
            entry(5, "COMMENT", "FUNCTION f()", Nowhere, &[4]),
            entry(6, "VIEW", "v", PreData, &[4]),
            entry(7, "FUNCTION", "g()", PreData, &[1]),
        ];
        let graph = Graph::build(&entries);
        assert_eq!(graph.pre, [0, 6]);
        let deps: Vec<_> = graph.tasks.iter().map(|t| (t.entry, &t.deps[..])).collect();
        let expected: [(usize, &[usize]); 5] =
            [(1, &[]), (2, &[0]), (3, &[1]), (4, &[2]), (5, &[2])];
        assert_eq!(deps, expected);
    }

    #[test]
    fn a_trigger_is_switched_off_on_a_partition_when_it_is_there() {
        let mut switch = entry(4, "TRIGGER", "a_part on_row", PostData, &[2]);
        switch.defn = "\nALTER TABLE public.a_part DISABLE TRIGGER on_row;\n".into();
        let entries = [
            entry(1, "TABLE", "parent", PreData, &[]),
            entry(2, "TABLE", "a_part", PreData, &[]),
            entry(3, "TABLE ATTACH", "a_part", PreData, &[1, 2]),
            switch,
            entry(5, "COMMENT", "TRIGGER on_row ON a_part", Nowhere, &[4]),
            entry(6, "TRIGGER", "parent on_row", PostData, &[1]),
            entry(7, "TRIGGER", "parent on_row_2", PostData, &[1]),
            entry(8, "INDEX", "i", PostData, &[1]),
        ];
        let tasks = Graph::build(&entries).tasks;
        let order: Vec<_> = tasks.iter().map(|t| entries[t.entry].dump_id).collect();
        assert_eq!(order, [6, 7, 8, 4, 5]);
        assert_eq!(tasks[3].deps, [0, 1]);
        assert_eq!(tasks[4].deps, [3]);
    }

    #[test]
    fn a_loop_does_not_hang() {
        let entries = [
            entry(1, "RULE", "a", PostData, &[2]),
            entry(2, "RULE", "b", PostData, &[1]),
        ];
        let tasks = Graph::build(&entries).tasks;
        assert!(tasks[0].deps.is_empty());
        assert_eq!(tasks[1].deps, [0]);
    }
}
