//! Everything of a snapshot that can be picked, in the order of `pg_restore --list`: entries, and rows, values of
//! sequences and large objects between those that come before the rows and those that come after.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::pg::archive::{Section, TocEntry};
use crate::pg::catalog::Name;
use crate::repo::model::TableRole;
use crate::restore::{Opened, hypertables};
use crate::schema::{closure, statements};

/// Something that can be picked.
pub struct Item<'o> {
    /// What it is, as `pg_dump` would state it. What is no entry of the snapshot has a number above all that are.
    pub entry: Cow<'o, TocEntry>,
    /// What is restored.
    pub what: What,
}

/// What an item stands for, by its number in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An entry.
    Entry(usize),
    /// The rows of a table.
    Rows(usize),
    /// The value of a sequence.
    Sequence(usize),
    /// All large objects, with what belongs to them.
    LargeObjects,
}

/// All items. TimescaleDB's own catalog is none: it goes with the hypertables.
pub fn of(opened: &Opened) -> Vec<Item<'_>> {
    let entries = opened.entries.iter().enumerate();
    let mut items: Vec<Item<'_>> = entries
        .filter(|(_, e)| !statements::is_setting(e) && !statements::is_data(e))
        .map(|(n, entry)| Item {
            entry: Cow::Borrowed(entry),
            what: What::Entry(n),
        })
        .collect();
    let mut data = data(opened);
    for (number, item) in (1..).zip(&mut data) {
        let ids = i32::try_from(opened.entries.len()).unwrap_or(i32::MAX);
        item.entry.to_mut().dump_id = ids.saturating_add(number);
    }
    let after = items
        .iter()
        .position(|item| item.entry.section == Section::PostData)
        .unwrap_or(items.len());
    items.splice(after..after, data);
    items
}

fn data(opened: &Opened) -> Vec<Item<'_>> {
    let relations: HashMap<Name, &TocEntry> = opened
        .entries
        .iter()
        .filter_map(|e| Some((closure::relation(e)?, e)))
        .collect();
    let item = |desc: &str, name: Option<Name>, what: What| {
        let of = name.as_ref().and_then(|name| relations.get(name));
        let (namespace, tag) = match name {
            Some((schema, name)) => (Some(schema.into()), name.into()),
            None => (None, desc.into()),
        };
        let entry = TocEntry {
            oid: match what {
                What::Rows(_) => of.map_or(0, |of| of.oid),
                _ => 0,
            },
            desc: desc.to_owned(),
            namespace,
            tag,
            section: Section::Data,
            owner: of.map(|of| of.owner.clone()).unwrap_or_default(),
            dependencies: of.map(|of| of.dump_id).into_iter().collect(),
            had_dumper: true,
            ..TocEntry::default()
        };
        Item {
            entry: Cow::Owned(entry),
            what,
        }
    };
    let tables = opened.tables.iter().enumerate();
    let tables = tables.filter(|(_, t)| match t.role {
        TableRole::Plain => true,
        TableRole::ExtensionConfig { .. } => !hypertables::is_catalog(t),
        _ => false,
    });
    let mut items: Vec<Item<'_>> = tables
        .map(|(n, t)| item("TABLE DATA", Some(t.key()), What::Rows(n)))
        .collect();
    let sequences = opened.sequences.iter().enumerate();
    items.extend(sequences.map(|(n, s)| item("SEQUENCE SET", Some(s.key()), What::Sequence(n))));
    let metadata = |t: &crate::repo::model::TableRecord| t.role == TableRole::LargeObjectMetadata;
    if opened
        .tables
        .iter()
        .any(|t| metadata(t) && t.digest.rows > 0)
    {
        items.push(item("BLOBS", None, What::LargeObjects));
    }
    items
}
