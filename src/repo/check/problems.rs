//! What a check finds, gathered by object.

use std::collections::BTreeMap;
use std::fmt;

use super::Snapshots;
use crate::repo::ids::SnapshotId;

/// In what way an object is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// It is not there.
    Missing,
    /// Its bytes are not what they were.
    Damaged,
    /// It does not agree with another object.
    Inconsistent,
    /// A pack that snapshots need is in no index: an index object was removed or damaged.
    NotIndexed,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Inconsistent => "inconsistent",
            Self::NotIndexed => "not indexed",
        })
    }
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the object.
    pub object: String,
    /// In what way it is wrong.
    pub kind: ProblemKind,
    /// What exactly.
    pub detail: String,
    /// Snapshots that cannot be restored in full because of it.
    pub snapshots: Vec<SnapshotId>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.kind, self.detail)?;
        match self.snapshots[..] {
            [] => f.write_str("; hurts no snapshot"),
            _ => {
                f.write_str("; hurts")?;
                self.snapshots
                    .iter()
                    .try_for_each(|id| write!(f, " {id:.12}"))
            }
        }
    }
}

/// Problems so far: at most one of a kind for an object.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<(String, ProblemKind), (String, Snapshots)>);

impl Problems {
    pub fn add(
        &mut self,
        object: &str,
        kind: ProblemKind,
        detail: impl Into<String>,
        snapshots: Snapshots,
    ) {
        let key = (object.to_owned(), kind);
        let entry = self
            .0
            .entry(key)
            .or_insert_with(|| (detail.into(), Snapshots::new()));
        entry.1.extend(snapshots);
    }

    /// Says that a snapshot is hurt by what is wrong with an object, if that is known. Otherwise adds it.
    pub fn hurts(&mut self, object: &str, kind: ProblemKind, detail: &str, snapshot: SnapshotId) {
        let mut known = false;
        for ((name, _), (_, snapshots)) in self
            .0
            .range_mut((object.to_owned(), ProblemKind::Missing)..)
        {
            if name != object {
                break;
            }
            snapshots.insert(snapshot);
            known = true;
        }
        if !known {
            self.add(object, kind, detail, Snapshots::from([snapshot]));
        }
    }

    pub fn into_list(self) -> Vec<Problem> {
        let problems = self.0.into_iter();
        let problems = problems.map(|((object, kind), (detail, snapshots))| Problem {
            object,
            kind,
            detail,
            snapshots: snapshots.into_iter().collect(),
        });
        problems.collect()
    }
}
