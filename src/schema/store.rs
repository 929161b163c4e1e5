//! Entries as they are stored: sorted by what they are, without the numbers of one archive.
//!
//! `pg_dump` numbers its entries anew every time, so one more table changes every entry after it. Stored entries know
//! their dependencies by identity instead, and are sorted by identity: a new object is one more item among unchanged
//! neighbours, and a night without DDL stores nothing. The order of the archive is kept beside them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::pg::archive::{Section, SqlText, TocEntry};

/// What an entry is known by: a short hash of its identity.
pub type EntryKey = u64;

/// An entry without its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    /// Identity; see [`encode`].
    pub key: EntryKey,
    /// Kind of the entry.
    pub desc: String,
    /// Schema.
    pub namespace: Option<SqlText>,
    /// Name.
    pub tag: SqlText,
    /// OID of the catalog.
    pub tableoid: u32,
    /// OID of the object.
    pub oid: u32,
    /// Section.
    pub section: Section,
    /// The statements that make it.
    pub defn: SqlText,
    /// The statement that drops it.
    pub drop_stmt: SqlText,
    /// The `COPY` statement of a data entry.
    pub copy_stmt: SqlText,
    /// Tablespace.
    pub tablespace: Option<SqlText>,
    /// Access method.
    pub tableam: Option<SqlText>,
    /// Kind of relation.
    pub relkind: Option<char>,
    /// Owner.
    pub owner: SqlText,
    /// Keys of the entries it depends on, in ascending order.
    pub dependencies: Vec<EntryKey>,
    /// Whether an archive may hold data for it.
    pub had_dumper: bool,
}

/// The stored entries do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the schema's stored entries contradict each other: {0}; check the repository with pgtide check --read-data"
)]
pub struct DecodeError(&'static str);

/// Entries for storage, sorted, and the archive's order as positions among them.
///
/// Entries of the same kind, schema, name and OIDs are told apart by what they say, and by a count where they say the
/// same. Dependencies are a set, because `pg_dump` repeats them (a temporal foreign key named one extension 25 times) and
/// nothing depends on their order. Those on what is not among the entries are dropped: nothing could wait for them.
pub fn encode(entries: &[TocEntry]) -> (Vec<StoredEntry>, Vec<u32>) {
    let mut sorted: Vec<usize> = (0..entries.len()).collect();
    sorted.sort_by(|a, b| sort_key(&entries[*a]).cmp(&sort_key(&entries[*b])));
    let mut used = HashSet::new();
    let mut keys = vec![0; entries.len()];
    for index in &sorted {
        let key = (0..)
            .map(|count| key(&entries[*index], count))
            .find(|key| used.insert(*key));
        keys[*index] = key.unwrap_or_default();
    }
    let key_of: HashMap<i32, EntryKey> = entries
        .iter()
        .zip(&keys)
        .map(|(entry, key)| (entry.dump_id, *key))
        .collect();
    let mut order = vec![0; entries.len()];
    let mut items = Vec::with_capacity(entries.len());
    for (position, index) in (0..).zip(sorted) {
        order[index] = position;
        let entry = entries[index].clone();
        let keys_of = entry.dependencies.iter().filter_map(|id| key_of.get(id));
        let dependencies: BTreeSet<EntryKey> = keys_of.copied().collect();
        let dependencies = dependencies.into_iter().collect();
        items.push(StoredEntry {
            key: keys[index],
            desc: entry.desc,
            namespace: entry.namespace,
            tag: entry.tag,
            tableoid: entry.tableoid,
            oid: entry.oid,
            section: entry.section,
            defn: entry.defn,
            drop_stmt: entry.drop_stmt,
            copy_stmt: entry.copy_stmt,
            tablespace: entry.tablespace,
            tableam: entry.tableam,
            relkind: entry.relkind,
            owner: entry.owner,
            dependencies,
            had_dumper: entry.had_dumper,
        });
    }
    (items, order)
}

/// The entries in the archive's order, numbered from 1 in it.
pub fn decode(items: Vec<StoredEntry>, order: &[u32]) -> Result<Vec<TocEntry>, DecodeError> {
    if items.len() != order.len() {
        return Err(DecodeError("the order has another length"));
    }
    let mut ids = HashMap::with_capacity(items.len());
    for (dump_id, position) in (1..).zip(order) {
        let item = items
            .get(*position as usize)
            .ok_or(DecodeError("the order leads nowhere"))?;
        if ids.insert(item.key, dump_id).is_some() {
            return Err(DecodeError("an entry comes twice"));
        }
    }
    let mut slots: Vec<Option<StoredEntry>> = items.into_iter().map(Some).collect();
    let mut entries = Vec::with_capacity(slots.len());
    for (dump_id, position) in (1..).zip(order) {
        let item = slots[*position as usize]
            .take()
            .ok_or(DecodeError("an entry comes twice"))?;
        let dependencies = item.dependencies.iter().map(|key| ids.get(key).copied());
        let dependencies: Option<BTreeSet<i32>> = dependencies.collect();
        let dependencies = dependencies.ok_or(DecodeError("a dependency is missing"))?;
        entries.push(TocEntry {
            dump_id,
            tableoid: item.tableoid,
            oid: item.oid,
            tag: item.tag,
            desc: item.desc,
            section: item.section,
            defn: item.defn,
            drop_stmt: item.drop_stmt,
            copy_stmt: item.copy_stmt,
            namespace: item.namespace,
            tablespace: item.tablespace,
            tableam: item.tableam,
            relkind: item.relkind,
            owner: item.owner,
            dependencies: dependencies.into_iter().collect(),
            had_dumper: item.had_dumper,
        });
    }
    Ok(entries)
}

/// Identity first, then what tells apart those that share one.
fn sort_key(entry: &TocEntry) -> impl Ord + '_ {
    let name = (&entry.desc, &entry.namespace, &entry.tag);
    (
        name,
        entry.tableoid,
        entry.oid,
        &entry.owner,
        &entry.defn,
        entry.dump_id,
    )
}

fn key(entry: &TocEntry, count: u32) -> EntryKey {
    let mut hasher = blake3::Hasher::new();
    let namespace = entry.namespace.as_ref().map_or(&[][..], SqlText::as_bytes);
    for part in [entry.desc.as_bytes(), namespace, entry.tag.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    for number in [entry.tableoid, entry.oid, count] {
        hasher.update(&number.to_le_bytes());
    }
    let mut key = [0; 8];
    hasher.finalize_xof().fill(&mut key);
    EntryKey::from_le_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(dump_id: i32, tag: &str, oid: u32, dependencies: Vec<i32>) -> TocEntry {
        TocEntry {
            dump_id,
            tableoid: 1259,
            oid,
            tag: tag.into(),
            desc: "TABLE".into(),
            section: Section::PreData,
            defn: format!("CREATE TABLE {tag} ();").into(),
            drop_stmt: SqlText::default(),
            copy_stmt: SqlText::default(),
            namespace: Some("public".into()),
            tablespace: Some(SqlText::default()),
            tableam: Some("heap".into()),
            relkind: Some('r'),
            owner: "me".into(),
            dependencies,
            had_dumper: true,
        }
    }

    /// What the stored form keeps: the order, not the numbers.
    fn renumbered(entries: &[TocEntry]) -> Vec<TocEntry> {
        let ids: HashMap<i32, i32> = entries.iter().map(|entry| entry.dump_id).zip(1..).collect();
        let renumber = |entry: &TocEntry| {
            let dependencies: BTreeSet<i32> = entry
                .dependencies
                .iter()
                .filter_map(|id| ids.get(id).copied())
                .collect();
            let dependencies = dependencies.into_iter().collect();
            TocEntry {
                dump_id: ids[&entry.dump_id],
                dependencies,
                ..entry.clone()
            }
        };
        entries.iter().map(renumber).collect()
    }

    proptest! {
        #[test]
        fn comes_back_in_order(
            specs in prop::collection::vec(("[ab]{1,2}", 0u32..3, prop::collection::vec(0i32..12, 0..4)), 0..10),
        ) {
            let entries: Vec<_> =
                (3..).zip(specs).map(|(id, (tag, oid, deps))| entry(id, &tag, oid, deps)).collect();
            let (items, order) = encode(&entries);
            let bytes = postcard::to_allocvec(&items).unwrap();
            let items: Vec<StoredEntry> = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(decode(items, &order).unwrap(), renumbered(&entries));
        }
    }

    #[test]
    fn one_more_object_is_one_more_item() {
        let before: Vec<_> = (1..50)
            .map(|id| entry(id, &format!("t{id}"), 100 + id as u32, vec![id - 1]))
            .collect();
        let mut after = vec![entry(1, "new", 99, vec![])];
        after.extend(before.iter().map(|entry| {
            TocEntry {
                dump_id: entry.dump_id + 1,
                dependencies: entry
                    .dependencies
                    .iter()
                    .map(|id| id + 1)
                    .filter(|id| *id > 1)
                    .collect(),
                ..entry.clone()
            }
        }));
        let (before, _) = encode(&before);
        let (mut after, _) = encode(&after);
        after.retain(|item| item.tag != "new");
        assert_eq!(before, after);
    }

    #[test]
    fn contradictions_are_errors() {
        let (items, order) = encode(&[entry(1, "a", 1, vec![]), entry(2, "b", 2, vec![1])]);
        assert!(decode(items.clone(), &order[..1]).is_err());
        assert!(decode(items.clone(), &[0, 2]).is_err());
        assert!(decode(items.clone(), &[0, 0]).is_err());
        let mut wrong = items;
        wrong[1].dependencies = vec![7];
        assert!(decode(wrong, &order).is_err());
    }
}
