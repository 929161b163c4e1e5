//! Hypertables whose chunks go by other names at the other side, as where each was made by itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::PoisonError;

use crate::dump::DumpError;
use crate::dump::origin::Origin;
use crate::pg::archive::SqlText;
use crate::pg::catalog::{Name, quote_ident};
use crate::schema::compare::EntryName;
use crate::timescale::model::{Chunk, Hypertable, Kind, Model};
use crate::timescale::reading::{self, Reading, ReadingError};
use crate::timescale::{self, portable};

use super::definitions::{self, Change, EntryDifference};
use super::{CompareError, SIDES};

/// What hypertables are to each other whose chunks go by other names, as where each was made by itself.
#[derive(Debug, Default)]
pub struct Strange {
    /// The relations of their chunks, at each side.
    pub relations: [HashSet<Name>; 2],
    /// Their names.
    pub hypertables: Vec<String>,
    /// Whether there are continuous aggregates.
    pub aggregates: bool,
    /// Where chunks do not cover the same, and settings that are not the same.
    pub differences: Vec<EntryDifference>,
}

impl Strange {
    /// Looks at the hypertables of both sides.
    pub fn of(sides: [&Origin<'_>; 2]) -> Result<Self, CompareError> {
        let mut strange = Self::default();
        let [a, b] = sides.map(|side| &side.special);
        let [of_a, of_b] = [a, b].map(|reading| by_name(&reading.model));
        for (name, &(id_a, hypertable)) in &of_a {
            let Some(&(id_b, _)) = of_b.get(name) else {
                continue;
            };
            let names = |reading, id| {
                chunks(reading, id)
                    .map(|c| &c.table)
                    .collect::<BTreeSet<_>>()
            };
            if names(a, id_a) == names(b, id_b) {
                continue;
            }
            for (n, reading, id) in [(0, a, id_a), (1, b, id_b)] {
                let relations =
                    chunks(reading, id).flat_map(|c| c.compressed.iter().chain([&c.table]));
                strange.relations[n].extend(relations.cloned());
            }
            strange.hypertables.push(hypertable.display_name());
            strange.aggregates |= a.model.hypertables.values().any(is_aggregate);
            strange
                .differences
                .extend(ranges(name, hypertable, [(a, id_a), (b, id_b)]));
        }
        if !strange.hypertables.is_empty() {
            let settings = |n: usize| settings(sides[n]).map_err(CompareError::of(SIDES[n]));
            let changed = definitions::differences(settings(0)?, settings(1)?);
            strange.differences.extend(changed);
        }
        Ok(strange)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.hypertables.is_empty()
    }
}

/// The settings, policies and jobs of hypertables, as the statements that a user would type: they have no numbers in them.
fn settings(side: &Origin<'_>) -> Result<BTreeMap<EntryName, String>, DumpError> {
    let catalog = {
        let holder = &side.holding.holders[0];
        let mut conn = holder.lock().unwrap_or_else(PoisonError::into_inner);
        reading::read_catalog(&mut conn, &side.choice.relations).map_err(ReadingError::from)?
    };
    let mut extensions = side.extensions.iter();
    let extension = extensions.find(|e| e.name == timescale::EXTENSION);
    let target = portable::Target {
        schema: quote_ident(extension.map_or("public", |e| &e.schema)),
        tsl: true,
        owners: true,
        tablespaces: true,
    };
    let chosen = |name: &Name| !side.left_out(name);
    let plan = portable::plan(&catalog, &side.special.model, &chosen, &target)
        .map_err(ReadingError::from)?;
    let mut by_title: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (title, statements) in plan.create.into_iter().chain(plan.settings) {
        let statements: Vec<String> = statements.iter().map(SqlText::to_string).collect();
        let said = by_title.entry(without_number(&title)).or_default();
        said.push(statements.join(";\n"));
    }
    let mut texts = BTreeMap::new();
    for (title, mut said) in by_title {
        said.sort();
        for (n, said) in said.into_iter().enumerate() {
            texts.insert(("TIMESCALEDB".to_owned(), None, title.clone(), n), said);
        }
    }
    Ok(texts)
}

/// The name of a job without its number: `Retention Policy [1001] of public.metrics`.
fn without_number(title: &str) -> String {
    if let Some((before, rest)) = title.split_once(" [")
        && let Some((number, after)) = rest.split_once(']')
        && number.bytes().all(|digit| digit.is_ascii_digit())
    {
        return format!("{before}{after}");
    }
    title.to_owned()
}

fn is_aggregate(hypertable: &Hypertable) -> bool {
    matches!(hypertable.kind, Kind::Aggregate { .. })
}

/// The hypertables by the names that their users know.
fn by_name(model: &Model) -> BTreeMap<&Name, (i64, &Hypertable)> {
    let hypertables = model.hypertables.iter();
    hypertables
        .map(|(&id, h)| (h.known_as(), (id, h)))
        .collect()
}

/// The chunks of a hypertable that are read.
fn chunks(reading: &Reading, id: i64) -> impl Iterator<Item = &Chunk> {
    let chunks = reading.model.chunks_of(id);
    chunks.filter(|chunk| !reading.left_out.contains(&chunk.table))
}

/// Ranges that only the chunks of one side cover.
fn ranges(
    name: &Name,
    hypertable: &Hypertable,
    sides: [(&Reading, i64); 2],
) -> Vec<EntryDifference> {
    let [a, b] = sides.map(|(reading, id)| {
        let ranges = chunks(reading, id).filter_map(|chunk| chunk.range);
        ranges.collect::<BTreeSet<_>>()
    });
    let show = |range: &(i64, i64)| match &hypertable.dimension {
        Some(dimension) => dimension.show(*range),
        None => format!("{} to {}", range.0, range.1),
    };
    let only = |a: &BTreeSet<(i64, i64)>, b: &BTreeSet<(i64, i64)>, change| {
        let only = a.difference(b).map(|range| EntryDifference {
            change,
            kind: "CHUNK".to_owned(),
            schema: Some(name.0.clone()),
            name: format!("{}, {}", name.1, show(range)),
            line: None,
            source: None,
            target: None,
        });
        only.collect::<Vec<_>>()
    };
    [
        only(&a, &b, Change::OnlySource),
        only(&b, &a, Change::OnlyTarget),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_go_by_names_without_numbers() {
        let title = "Retention Policy [1001] of public.metrics";
        assert_eq!(without_number(title), "Retention Policy of public.metrics");
        assert_eq!(
            without_number("hypertable public.[x] [y]"),
            "hypertable public.[x] [y]"
        );
    }
}
