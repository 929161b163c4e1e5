//! Loading into what exists at the target: whether it is there, and in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::pg::catalog::{self, Name, qualified, quote_literal};
use crate::pg::{Connection, Error};
use crate::repo::model::{TableRecord, TableRole};

use super::chosen::Chosen;
use super::{Opened, hypertables};

/// The table that rows are sent to.
fn target(chosen: &Chosen, table: &TableRecord) -> Name {
    chosen.root(table).cloned().unwrap_or_else(|| table.key())
}

/// Tables, by number, whose rows go into one that this restore does not create.
fn tables<'a>(opened: &'a Opened, chosen: &'a Chosen) -> Vec<(usize, &'a TableRecord)> {
    let tables = opened.tables.iter().enumerate();
    let by_name = tables.filter(|(_, t)| match t.role {
        TableRole::Plain => true,
        TableRole::ExtensionConfig { .. } => !hypertables::is_catalog(t),
        _ => false,
    });
    by_name
        .filter(|(n, t)| chosen.tables[*n] && !chosen.created(t))
        .filter(|(_, t)| chosen.root(t).is_none_or(|root| !chosen.restores(root)))
        .collect()
}

/// Tables, columns and sequences that are to be filled, are not created, and are not there.
pub fn missing(
    opened: &Opened,
    chosen: &Chosen,
    conn: &mut Connection,
) -> Result<Vec<String>, Error> {
    let tables = tables(opened, chosen);
    let names: BTreeSet<Name> = tables
        .iter()
        .map(|(_, table)| target(chosen, table))
        .collect();
    let there = columns(conn, &names, "'r', 'p', 'f'")?;
    let mut missing = BTreeSet::new();
    for (_, table) in tables {
        let name = target(chosen, table);
        match there.get(&name) {
            None => {
                missing.insert(format!("TABLE {}.{}", name.0, name.1));
            }
            Some(columns) => missing.extend(
                table
                    .columns
                    .iter()
                    .filter(|column| !columns.contains(&column.name))
                    .map(|column| format!("COLUMN {}.{}.{}", name.0, name.1, column.name)),
            ),
        }
    }
    let sequences = opened.sequences.iter().zip(&chosen.sequences);
    let names: BTreeSet<Name> = sequences
        .filter(|(sequence, wanted)| **wanted && !chosen.creates_sequence(sequence))
        .map(|(sequence, _)| sequence.key())
        .collect();
    let there = columns(conn, &names, "'S'")?;
    let gone = names.iter().filter(|name| !there.contains_key(*name));
    missing.extend(gone.map(|name| format!("SEQUENCE {}.{}", name.0, name.1)));
    Ok(missing.into_iter().collect())
}

/// Relations of these names and kinds that are there, and their columns that can be loaded.
fn columns(
    conn: &mut Connection,
    names: &BTreeSet<Name>,
    kinds: &str,
) -> Result<HashMap<Name, HashSet<String>>, Error> {
    let mut found: HashMap<Name, HashSet<String>> = HashMap::new();
    let names: Vec<&Name> = names.iter().collect();
    for names in names.chunks(1000) {
        let list = names
            .iter()
            .map(|(schema, name)| quote_literal(&qualified(schema, name)));
        let rows = conn.query(&format!(
            "SELECT v.n - 1, a.attname FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY AS v(name, n)
             JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(v.name) AND c.relkind IN ({kinds})
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
               AND NOT a.attisdropped AND a.attgenerated = ''",
            list.collect::<Vec<_>>().join(",")
        ))?;
        for row in &rows {
            let number: Option<usize> = row.get(0).and_then(|text| text.parse().ok());
            let Some(name) = number.and_then(|n| names.get(n)) else {
                continue;
            };
            let columns = found.entry((*name).clone()).or_default();
            columns.extend(row.get(1).map(str::to_owned));
        }
    }
    Ok(found)
}

/// What must be loaded before what, as tables that exist have their foreign keys already. Partitions of one table are one
/// group: foreign keys know the partitioned table only.
#[derive(Debug, Default)]
pub struct Order {
    /// Numbers of the tables of each group.
    pub groups: Vec<Vec<usize>>,
    /// Numbers of groups: the first is loaded after the second.
    pub pairs: Vec<(usize, usize)>,
    /// Tables that refer to each other in a circle.
    pub circle: Vec<String>,
}

/// The order of loads into tables that exist.
pub fn order(opened: &Opened, chosen: &Chosen, conn: &mut Connection) -> Result<Order, Error> {
    let tables = tables(opened, chosen);
    let tables = tables
        .into_iter()
        .filter(|(_, t)| t.role == TableRole::Plain && t.digest.rows > 0);
    let tables: Vec<(usize, Name)> = tables.map(|(n, t)| (n, target(chosen, t))).collect();
    if tables.len() < 2 {
        return Ok(Order::default());
    }
    let roots = catalog::partition_roots(conn)?;
    let root = |name: Name| roots.get(&name).cloned().unwrap_or(name);
    let mut groups: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
    for (n, name) in tables {
        groups.entry(root(name)).or_default().push(n);
    }
    let keys = catalog::foreign_keys(conn)?;
    let keys: BTreeSet<(Name, Name)> = keys
        .into_iter()
        .map(|(own, other)| (root(own), root(other)))
        .filter(|(own, other)| groups.contains_key(own) && groups.contains_key(other))
        .collect();
    Ok(ordered(groups, &keys.into_iter().collect::<Vec<_>>()))
}

fn ordered(groups: BTreeMap<Name, Vec<usize>>, keys: &[(Name, Name)]) -> Order {
    let names = groups.keys().map(|(s, n)| (s.as_str(), n.as_str()));
    let place: HashMap<(&str, &str), usize> = hypertables::ordered(names.collect(), keys)
        .into_iter()
        .zip(0..)
        .collect();
    let number: HashMap<&Name, usize> = groups.keys().zip(0..).collect();
    let place = |name: &Name| place.get(&(name.0.as_str(), name.1.as_str())).copied();
    let mut circle = BTreeSet::new();
    let mut pairs = Vec::new();
    for (own, other) in keys {
        if own == other {
            // The rows of one table find each other, those of several may not.
            if groups[own].len() > 1 {
                circle.insert(format!("{}.{}", own.0, own.1));
            }
        } else if place(own) < place(other) {
            circle.extend([own, other].map(|(schema, name)| format!("{schema}.{name}")));
        } else {
            pairs.push((number[own], number[other]));
        }
    }
    Order {
        pairs,
        circle: circle.into_iter().collect(),
        groups: groups.into_values().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first_and_circles_are_named() {
        let name = |name: &str| ("s".to_owned(), name.to_owned());
        let groups = [
            ("a", vec![7]),
            ("b", vec![3]),
            ("c", vec![1]),
            ("d", vec![2]),
            ("e", vec![4, 5]),
        ];
        let groups = groups.map(|(group, tables)| (name(group), tables)).into();
        let pair = |own: &str, other: &str| (name(own), name(other));
        let keys = [
            pair("a", "b"),
            pair("b", "b"),
            pair("c", "d"),
            pair("d", "c"),
            pair("e", "e"),
        ];
        let order = ordered(groups, &keys);
        assert_eq!(order.pairs.len(), 2);
        assert_eq!(order.pairs[0], (0, 1));
        assert_eq!((&order.groups[0], &order.groups[1]), (&vec![7], &vec![3]));
        assert_eq!(order.circle, ["s.c", "s.d", "s.e"]);
    }
}
