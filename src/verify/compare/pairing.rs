//! What is compared with what: tables by name, hypertables with all their chunks, partitions with their namesakes or, where
//! they have none, as part of their root.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use serde::Serialize;

use crate::dump::origin::Origin;
use crate::dump::plan::PlannedTable;
use crate::pg::Error;
use crate::pg::catalog::{self, Name};
use crate::repo::model::TableRole;
use crate::timescale::model::Kind as HypertableKind;

/// What rows are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A table; a hypertable with its chunks; partitions that have no namesake at the other side, under their root.
    Table,
    /// A configuration table of an extension.
    ExtensionConfiguration,
    /// The pages of large objects.
    LargeObjects,
    /// Owner, privileges, comments and labels of large objects.
    LargeObjectProperties,
}

/// Tables of both sides whose rows must be the same, whichever of them has a row.
#[derive(Debug)]
pub struct Group {
    /// What they are.
    pub kind: Kind,
    /// Schema and name.
    pub name: Name,
    /// The extension whose configuration it is.
    pub extension: Option<String>,
    /// The tables of each side, by their numbers in its plan.
    pub tables: [Vec<usize>; 2],
    /// Whether a side has a table of that name of which rows are left out, and not because somebody asked for it.
    pub unread: [bool; 2],
}

impl Group {
    /// The name for people.
    pub fn display_name(&self) -> String {
        display_name(self.kind, &self.name)
    }

    /// Whether a side has it. Large objects are there, be they none.
    pub fn is_at(&self, side: usize) -> bool {
        let always = matches!(self.kind, Kind::LargeObjects | Kind::LargeObjectProperties);
        always || !self.tables[side].is_empty()
    }

    /// What differs in the columns' names, which rows cannot make up for.
    pub fn columns_differ(&self, sides: [&Origin<'_>; 2]) -> Vec<String> {
        let [Some(a), Some(b)] = self.columns(sides) else {
            return Vec::new();
        };
        let only = |a: &BTreeMap<_, _>, b: &BTreeMap<_, _>, side| {
            let names = a.keys().filter(|name| !b.contains_key(*name));
            let say = |name: &&str| format!("{name} is only at the {side}");
            names.map(say).collect::<Vec<_>>()
        };
        [only(&a, &b, super::SIDES[0]), only(&b, &a, super::SIDES[1])].concat()
    }

    /// Whether rows only compare as text: types differ, or how values travel.
    fn only_as_text(&self, sides: [&Origin<'_>; 2]) -> bool {
        let [Some(a), Some(b)] = self.columns(sides) else {
            return false;
        };
        let format = |n: usize| {
            let tables = self.tables[n].iter();
            tables.map(move |&table| sides[n].plan.tables[table].format)
        };
        let mut formats = format(0).chain(format(1));
        let first = formats.next();
        let types = a.iter().any(|(name, of)| b.get(name) != Some(of));
        types || formats.any(|format| Some(format) != first)
    }

    /// Columns and their types at both sides.
    fn columns<'a>(&self, sides: [&'a Origin<'_>; 2]) -> [Option<BTreeMap<&'a str, &'a str>>; 2] {
        [0, 1].map(|n| {
            let table = &sides[n].plan.tables[*self.tables[n].first()?];
            let columns = table.columns.iter();
            Some(
                columns
                    .map(|c| (c.name.as_str(), c.type_name.as_str()))
                    .collect(),
            )
        })
    }
}

/// The name of what has rows, for people.
pub fn display_name(kind: Kind, name: &Name) -> String {
    match kind {
        Kind::LargeObjects => "(large objects)".to_owned(),
        Kind::LargeObjectProperties => "(properties of large objects)".to_owned(),
        _ => format!("{}.{}", name.0, name.1),
    }
}

/// How a group is found again.
type Key = (Kind, Name);

/// The groups of all tables that are read, in order of kind and name.
pub fn groups(sides: [&Origin<'_>; 2]) -> Result<Vec<Group>, (usize, Error)> {
    let known = sides.map(|side| {
        let relations = side.choice.relations.iter().filter(|r| r.kind != 'p');
        relations.map(|r| r.key()).collect::<HashSet<Name>>()
    });
    let families = [
        Family::of(sides[0]).map_err(|error| (0, error))?,
        Family::of(sides[1]).map_err(|error| (1, error))?,
    ];
    let through: HashSet<&Name> = sides
        .iter()
        .flat_map(|side| {
            side.plan
                .tables
                .iter()
                .filter_map(|t| t.load_through.as_ref())
        })
        .collect();
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for (n, side) in sides.into_iter().enumerate() {
        let other = &known[1 - n];
        for (number, table) in side.plan.tables.iter().enumerate() {
            let name = families[n].home(table, other, &through);
            let Some((kind, name, extension)) = name else {
                continue;
            };
            let key = (kind, name.clone());
            let group = groups.entry(key).or_insert_with(|| Group {
                kind,
                name,
                extension,
                tables: [Vec::new(), Vec::new()],
                unread: [false; 2],
            });
            group.tables[n].push(number);
        }
    }
    for group in groups.values_mut() {
        group.unread = [0, 1].map(|n| group.tables[n].is_empty() && known[n].contains(&group.name));
    }
    Ok(groups.into_values().collect())
}

/// What the tables of a side belong to.
struct Family {
    /// The hypertables of their relations, as their users know them.
    hypertables: HashMap<Name, Name>,
    /// The roots of partitions.
    roots: HashMap<u32, Name>,
}

impl Family {
    fn of(side: &Origin<'_>) -> Result<Self, Error> {
        let model = &side.special.model;
        let mut hypertables = HashMap::new();
        for (&id, hypertable) in &model.hypertables {
            if hypertable.kind == HypertableKind::Compressed {
                continue;
            }
            let relations = model.relations_of(id).into_iter();
            hypertables.extend(relations.map(|name| (name, hypertable.known_as().clone())));
        }
        let mut holder = side.holding.holders[0]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let roots = catalog::load_through_roots(&mut holder, true)?;
        Ok(Self { hypertables, roots })
    }

    /// Where the rows of a table are looked for at the other side; nothing for facts that are none of the user's.
    fn home(
        &self,
        table: &PlannedTable,
        other: &HashSet<Name>,
        through: &HashSet<&Name>,
    ) -> Option<(Kind, Name, Option<String>)> {
        let name = table.relation.key();
        Some(match &table.role {
            TableRole::Plain => {
                let root = self.roots.get(&table.relation.oid);
                // A row of the one leaf may be in another there.
                let root = root.filter(|root| through.contains(root) || !other.contains(&name));
                let of = self.hypertables.get(&name).or(root);
                let name = of.cloned().unwrap_or(name);
                (Kind::Table, name, None)
            }
            TableRole::ExtensionConfig { extension } => {
                (Kind::ExtensionConfiguration, name, Some(extension.clone()))
            }
            TableRole::LargeObjects => (Kind::LargeObjects, name, None),
            TableRole::LargeObjectMetadata => (Kind::LargeObjectProperties, name, None),
            TableRole::MissingValues
            | TableRole::Statistics
            | TableRole::Types
            | TableRole::ConfigReferences => return None,
        })
    }
}

/// Has both sides read rows in the same form, so that equal rows have equal digests.
pub fn align(sides: &mut [Origin<'_>; 2], groups: &[Group]) {
    // The bytes of SQL_ASCII mean nothing, so that all there is to compare are bytes.
    if sides.iter().all(|side| side.facts.encoding != "SQL_ASCII") {
        for side in sides.iter_mut() {
            side.holding.encoding = "UTF8".to_owned();
        }
    }
    for group in groups {
        let [a, b] = &*sides;
        let as_text = group.only_as_text([a, b]);
        for (side, tables) in sides.iter_mut().zip(&group.tables) {
            for &table in tables {
                let page = side.facts.block_size / 4;
                let table = &mut side.plan.tables[table];
                if as_text {
                    table.read_as_text();
                }
                if group.kind == Kind::LargeObjects {
                    table.condition = Some(pages_that_matter(page));
                }
            }
        }
    }
}

/// Which pages of large objects have something to say: an empty one only where it is what makes the object as long as it
/// is; any other is a trace of a cut, which no restore needs to leave.
pub fn pages_that_matter(page: u32) -> String {
    let others =
        "SELECT FROM pg_catalog.pg_largeobject q WHERE q.loid = pg_largeobject.loid AND q.pageno";
    format!(
        "(data <> '' OR pageno > 0 AND NOT EXISTS ({others} > pg_largeobject.pageno) AND NOT EXISTS ({others} = pg_largeobject.pageno - 1 AND pg_catalog.octet_length(q.data) >= {page}))"
    )
}
