//! Compares what is not rows: definitions, sequences, versions of extensions.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::dump::DumpError;
use crate::dump::origin::Origin;
use crate::pg::archive::TocEntry;
use crate::pg::catalog::Name;
use crate::repo::model::SequenceValue;
use crate::schema::compare::{EntryName, pairs, texts};
use crate::schema::{closure, statements};

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
        let mut sequences = side.sequences(&archive)?;
        let gone = side.keep_chosen(&mut archive)?;
        sequences.retain(|sequence| !gone.contains(&sequence.key()));
        archive.entries.retain(|e| !statements::is_database(e));
        Ok(Self {
            entries: archive.entries,
            sequences,
        })
    }

    /// Those of a snapshot.
    pub fn stored(entries: &[TocEntry], sequences: &[SequenceValue]) -> Self {
        let entries = entries.iter().filter(|e| !statements::is_database(e));
        Self {
            entries: entries.cloned().collect(),
            sequences: sequences.to_vec(),
        }
    }

    /// The entries.
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// The entries, to leave something out of them.
    pub fn entries_mut(&mut self) -> &mut Vec<TocEntry> {
        &mut self.entries
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
    differences(a, b)
}

/// The texts that are not the same.
pub fn differences(
    a: BTreeMap<EntryName, String>,
    b: BTreeMap<EntryName, String>,
) -> Vec<EntryDifference> {
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
