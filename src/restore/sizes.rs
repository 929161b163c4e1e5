//! How large the tables of a restore are, and what builds on them.

use std::collections::{HashMap, HashSet};

use crate::repo::model::{TableRecord, TableRole};

use super::cost::{Kind, Size};
use super::plan::Selection;

/// What a table is called among objects. One whose definition is not restored exists at the target.
pub fn object(ids: &HashMap<(&str, &str), i32>, n: usize, table: &TableRecord) -> i32 {
    let id = ids.get(&(table.schema.as_str(), table.name.as_str()));
    let other = || -1 - i32::try_from(n).unwrap_or(i32::MAX - 1);
    id.copied().unwrap_or_else(other)
}

/// How large the tables are that will be there.
pub struct Sizes {
    /// By object.
    of: HashMap<i32, Size>,
    /// Objects that have rows of their own, which do not come through a root.
    pub own: HashSet<i32>,
    /// What all loads cost.
    pub loads: u64,
}

impl Sizes {
    /// Of what is restored.
    pub fn of(selection: &Selection<'_>, ids: &HashMap<(&str, &str), i32>) -> Self {
        let mut sizes = Self {
            of: HashMap::new(),
            own: HashSet::new(),
            loads: 0,
        };
        for (n, table) in selection.tables.iter().enumerate() {
            let loaded = (selection.table)(n);
            // One that is neither loaded nor created is there with its rows, as far as anybody knows.
            if table.role != TableRole::Plain || (!loaded && (selection.created)(table)) {
                continue;
            }
            let (object, size) = (object(ids, n, table), Size::of(table));
            *sizes.of.entry(object).or_default() += size;
            match &table.load_through {
                Some((schema, name)) => {
                    if let Some(root) = ids.get(&(schema.as_str(), name.as_str())) {
                        *sizes.of.entry(*root).or_default() += size;
                    }
                }
                None if size.rows > 0 => {
                    sizes.own.insert(object);
                }
                None => {}
            }
            if loaded {
                sizes.loads += Kind::Rows.cost(size);
            }
        }
        sizes
    }

    /// Of several objects together.
    pub fn all(&self, objects: &[i32]) -> Size {
        let mut all = Size::default();
        for size in objects.iter().filter_map(|object| self.of.get(object)) {
            all += *size;
        }
        all
    }
}

/// The indexes that are built on tables.
pub struct Builds {
    /// By object: how many there are, and what the longest costs.
    of: HashMap<i32, (usize, u64)>,
    /// What all of them cost.
    pub total: u64,
}

impl Builds {
    /// Of what is restored.
    pub fn of(selection: &Selection<'_>, sizes: &Sizes) -> Self {
        let mut builds = Self {
            of: HashMap::new(),
            total: 0,
        };
        for task in &selection.graph.tasks {
            let entry = &selection.entries[task.entry];
            let kind = Kind::of(entry);
            if !kind.is_index() || !(selection.entry)(task.entry) {
                continue;
            }
            for table in &task.after_loads {
                let cost = kind.cost(sizes.all(&[*table]));
                let (count, longest) = builds.of.entry(*table).or_default();
                *count += 1;
                *longest = cost.max(*longest);
                builds.total += cost;
            }
        }
        builds
    }

    /// What the longest build on a table costs.
    pub fn longest(&self, table: i32) -> u64 {
        self.of.get(&table).map_or(0, |(_, longest)| *longest)
    }

    /// Whether a table has more than one.
    pub fn is_one_of_many(&self, table: i32) -> bool {
        self.of.get(&table).is_some_and(|(count, _)| *count > 1)
    }
}
