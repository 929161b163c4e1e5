//! Compares what is not rows: definitions, sequences, versions of extensions.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use crate::dump::DumpError;
use crate::dump::origin::Origin;
use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;
use crate::repo::model::SequenceValue;
use crate::schema::compare::{pairs, texts};
use crate::schema::{closure, statements};
use crate::timescale::model::{Chunk, Hypertable, Model};
use crate::timescale::reading::Reading;

use super::SIDES;

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the source has it.
    OnlySource,
    /// Only the target has it.
    OnlyTarget,
    /// Both have it, and it is not the same.
    Different,
}

/// A definition that only one side has, or that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryDifference {
    /// Where it is.
    pub change: Change,
    /// Its kind: `TABLE`, `INDEX` ...
    pub kind: String,
    /// Its schema, if it has one.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// The number of the first line in which both differ.
    pub line: Option<usize>,
    /// That line at the source, if it has one there.
    pub source: Option<String>,
    /// That line at the target, if it has one there.
    pub target: Option<String>,
}

/// What a sequence would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SequenceState {
    /// Its last value.
    pub last_value: i64,
    /// Whether that was given already.
    pub is_called: bool,
}

/// A sequence that is not at the same value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SequenceDifference {
    /// Schema and name.
    pub sequence: String,
    /// At the source, if it is there.
    pub source: Option<SequenceState>,
    /// At the target, if it is there.
    pub target: Option<SequenceState>,
}

/// The definitions and sequences of a side.
pub struct Definitions {
    entries: Vec<TocEntry>,
    sequences: Vec<SequenceValue>,
}

impl Definitions {
    /// Asks a side. What belongs to the database itself (its owner, settings, privileges, comment) is none of its
    /// content, as in a `pg_dump` without `--create`.
    pub fn read(side: &Origin<'_>) -> Result<Self, DumpError> {
        let mut archive = side.schema()?;
        let sequences = side.sequences(&archive)?;
        side.keep_chosen(&mut archive)?;
        archive.entries.retain(|e| !statements::is_database(e));
        Ok(Self {
            entries: archive.entries,
            sequences,
        })
    }

    /// Definitions and sequences.
    pub fn counts(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.sequences.len() as u64)
    }
}

/// The definitions that are not the same. Those of chunks are left out where chunks go by other names.
pub fn definitions(
    sides: [&Definitions; 2],
    strangers: &[HashSet<Name>; 2],
) -> Vec<EntryDifference> {
    let [a, b] = [0, 1].map(|n| {
        let entries = &sides[n].entries;
        let gone = closure::with_dependents(entries, &|name| strangers[n].contains(name));
        let kept = entries.iter().enumerate();
        texts(kept.filter(|(n, _)| !gone.contains(n)).map(|(_, e)| e))
    });
    let pairs = pairs(a.into_iter(), b.into_iter(), |(name, _)| name.clone());
    let differences = pairs
        .into_iter()
        .filter_map(|((kind, schema, name, _), pair)| {
            let (change, first) = match &pair {
                (Some((_, a)), Some((_, b))) => (Change::Different, Some(first_difference(a, b)?)),
                (Some(_), None) => (Change::OnlySource, None),
                (None, _) => (Change::OnlyTarget, None),
            };
            let (line, source, target) = first.unwrap_or((0, None, None));
            Some(EntryDifference {
                change,
                kind,
                schema,
                name,
                line: (line > 0).then_some(line),
                source,
                target,
            })
        });
    differences.collect()
}

/// The number of the first line in which texts differ, and what each has there; nothing if they are the same.
fn first_difference(a: &str, b: &str) -> Option<(usize, Option<String>, Option<String>)> {
    if a == b {
        return None;
    }
    let (mut a, mut b) = (a.lines(), b.lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return Some((line, a.map(str::to_owned), b.map(str::to_owned))),
        }
    }
    Some((1, None, None))
}

/// The sequences that are not at the same value, without those of an extension that is not compared. One that only one
/// side has is among the definitions, where these are compared.
pub fn sequences(
    sides: [&Definitions; 2],
    defined: bool,
    without: Option<&str>,
) -> Vec<SequenceDifference> {
    let [a, b] = sides.map(|side| {
        let sequences = side.sequences.iter();
        sequences.filter(|s| without.is_none() || s.extension.as_deref() != without)
    });
    let state = |s: &SequenceValue| SequenceState {
        last_value: s.last_value,
        is_called: s.is_called,
    };
    let pairs = pairs(a, b, |sequence| sequence.key());
    let differences = pairs.into_iter().filter_map(|((schema, name), (a, b))| {
        let missing = a.is_none() || b.is_none();
        let [source, target] = [a.map(state), b.map(state)];
        (source != target && !(missing && defined)).then(|| SequenceDifference {
            sequence: format!("{schema}.{name}"),
            source,
            target,
        })
    });
    differences.collect()
}

/// Extensions that both sides have, in different versions.
pub fn versions(sides: [&Origin<'_>; 2]) -> Vec<String> {
    let [a, b] = sides.map(|side| side.extensions.iter());
    let pairs = pairs(a, b, |extension| extension.name.clone());
    let both = pairs.into_iter().filter_map(|(name, pair)| match pair {
        (Some(a), Some(b)) if a.version != b.version => Some(format!(
            "the extension {name} is {} at the {} and {} at the {}",
            a.version, SIDES[0], b.version, SIDES[1]
        )),
        _ => None,
    });
    both.collect()
}

/// What hypertables are to each other whose chunks go by other names, as where each was made by itself.
#[derive(Debug, Default)]
pub struct Strange {
    /// The relations of their chunks, at each side.
    pub relations: [HashSet<Name>; 2],
    /// Their names.
    pub hypertables: Vec<String>,
    /// Where chunks do not cover the same.
    pub differences: Vec<EntryDifference>,
}

impl Strange {
    /// Looks at the hypertables of both sides.
    pub fn of(sides: [&Origin<'_>; 2]) -> Self {
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
            strange
                .differences
                .extend(ranges(name, hypertable, [(a, id_a), (b, id_b)]));
        }
        strange
    }
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
    fn the_first_line_that_differs_is_found_and_told_as_each_side_has_it() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(
            first_difference("a\nb\nc", "a\nx\nc"),
            Some((2, some("b"), some("x")))
        );
        assert_eq!(first_difference("a", "a\nb"), Some((2, None, some("b"))));
        assert_eq!(first_difference("a\n", "a"), Some((1, None, None)));
    }
}
