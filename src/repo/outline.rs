//! What a snapshot needs, without names: enough to keep its blocks, and for the next dump of the same database to
//! find what it can use again. Whoever may write to an encrypted repository, but not read it, sees this much.

use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::model::{Column, ManifestShard, Root, Snapshot, TableRecord};
use super::{PackGroup, Reader, RepoError, Repository, Writer, lists};
use crate::rows::{BlockId, Format, IdKey};

/// The outline of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outline {
    /// The root, and the blocks of its lists.
    pub lists: Vec<BlockId>,
    /// Blocks that hold `Vec<OutlineTable>`, in the order of the list of tables.
    pub tables: Vec<BlockId>,
}

/// A table in an outline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlineTable {
    /// Keyed hash of schema and name.
    pub name: [u8; 16],
    /// Keyed hash of what its digests depend on: format and columns.
    pub content: [u8; 16],
    /// Heap pages of a segment.
    pub segment_pages: u32,
    /// The blocks that hold its manifest.
    pub manifest: Vec<BlockId>,
}

/// A snapshot's tree, stored: what its record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// The block with the [`Root`].
    pub root: BlockId,
    /// The block with the [`Outline`].
    pub outline: BlockId,
}

impl Tree {
    /// Stores the root, whose lists are stored, and the outline. The tables are those of the root's list.
    pub fn store(writer: &Writer, root: &Root, tables: &[TableRecord]) -> Result<Self, RepoError> {
        let key = writer.id_key();
        let tables: Vec<OutlineTable> = tables
            .iter()
            .map(|table| {
                Ok(OutlineTable {
                    name: name_mark(key, &table.schema, &table.name)?,
                    content: content_mark(key, table.format, &table.columns)?,
                    segment_pages: table.segment_pages,
                    manifest: table.manifest.clone(),
                })
            })
            .collect::<Result<_, RepoError>>()?;
        let tables = lists::write_list(writer, &PackGroup::Outline, &tables, |table| table.name)?;
        let root_id = lists::write_value(writer, &PackGroup::Meta, root)?;
        let mut outline = Outline::of(root_id, root);
        outline.tables = tables;
        Ok(Self {
            root: root_id,
            outline: lists::write_value(writer, &PackGroup::Outline, &outline)?,
        })
    }
}

impl Outline {
    /// Without its tables.
    pub(super) fn of(root_id: BlockId, root: &Root) -> Self {
        let lists = [
            &root.entries,
            &root.entry_order,
            &root.tables,
            &root.sequences,
        ];
        let mut all = vec![root_id];
        all.extend(lists.into_iter().flatten());
        Self {
            lists: all,
            tables: Vec::new(),
        }
    }
}

fn name_mark(key: &IdKey, schema: &str, name: &str) -> Result<[u8; 16], RepoError> {
    Ok(key.mark("pgtide table name 1", &lists::encode(&(schema, name))?))
}

fn content_mark(key: &IdKey, format: Format, columns: &[Column]) -> Result<[u8; 16], RepoError> {
    Ok(key.mark(
        "pgtide table content 1",
        &lists::encode(&(format, columns))?,
    ))
}

/// The tables of an earlier snapshot of the same database.
#[derive(Debug, Default)]
pub struct KnownTables {
    /// Nothing where no tables are known.
    key: Option<IdKey>,
    tables: HashMap<[u8; 16], OutlineTable>,
}

impl KnownTables {
    /// The tables of a snapshot.
    pub fn load(
        repo: &Repository,
        reader: &Reader,
        snapshot: &Snapshot,
    ) -> Result<Self, RepoError> {
        let mut known = Self {
            key: Some(repo.id_key().clone()),
            ..Self::default()
        };
        if let Some(outline) = &snapshot.outline {
            let outline: Outline = lists::read_value(reader, outline)?;
            let tables = lists::read_list::<OutlineTable>(reader, &outline.tables)?;
            known.tables = tables.into_iter().map(|t| (t.name, t)).collect();
        }
        Ok(known)
    }

    /// The table of that name, and whether its rows had the same digests as rows of this format and these columns.
    pub fn find(
        &self,
        schema: &str,
        name: &str,
        format: Format,
        columns: &[Column],
    ) -> Option<&OutlineTable> {
        let key = self.key.as_ref()?;
        let table = self.tables.get(&name_mark(key, schema, name).ok()?)?;
        (content_mark(key, format, columns).ok()? == table.content).then_some(table)
    }
}

/// The blocks of a snapshot's lists. What hangs from a block that is nowhere is left out: whoever needs the blocks finds
/// out.
#[derive(Debug)]
pub(super) struct Parts {
    /// All of them.
    pub lists: Vec<BlockId>,
    /// Those that hold tables.
    pub tables: Vec<BlockId>,
    /// Whether tables are in an outline; snapshots of the first versions have none.
    outlined: bool,
}

impl Parts {
    /// Those of a snapshot, by its outline if that can be had.
    pub fn of(reader: &Reader, snapshot: &Snapshot) -> Result<Self, RepoError> {
        let outline = match &snapshot.outline {
            Some(id) => read_if_there::<Outline>(reader, id)?.map(|outline| (id, outline)),
            None => None,
        };
        let Some((id, outline)) = outline else {
            return Self::of_tree(reader, snapshot);
        };
        let mut lists = vec![*id];
        lists.extend(outline.lists);
        lists.extend(&outline.tables);
        Ok(Self {
            lists,
            tables: outline.tables,
            outlined: true,
        })
    }

    /// Those of a snapshot by its tree, with the outline that it should have.
    fn of_tree(reader: &Reader, snapshot: &Snapshot) -> Result<Self, RepoError> {
        let root: Root = read(reader, &snapshot.root)?;
        let mut lists = Outline::of(snapshot.root, &root).lists;
        lists.extend(snapshot.outline);
        Ok(Self {
            lists,
            tables: root.tables,
            outlined: false,
        })
    }

    /// The shards of the manifests of the tables in one of the blocks that hold tables.
    pub fn shards(&self, reader: &Reader, block: &BlockId) -> Result<Vec<BlockId>, RepoError> {
        Ok(self.shards_if_there(reader, block)?.unwrap_or_default())
    }

    fn shards_if_there(
        &self,
        reader: &Reader,
        block: &BlockId,
    ) -> Result<Option<Vec<BlockId>>, RepoError> {
        Ok(if self.outlined {
            let tables = read_if_there::<Vec<OutlineTable>>(reader, block)?;
            tables.map(|tables| tables.into_iter().flat_map(|t| t.manifest).collect())
        } else {
            let tables = read_if_there::<Vec<TableRecord>>(reader, block)?;
            tables.map(|tables| tables.into_iter().flat_map(|t| t.manifest).collect())
        })
    }
}

/// Calls `each` for every block a snapshot needs. Shards in `seen` were visited with another snapshot and are passed
/// over; those visited are added. What hangs from a block that is nowhere cannot be visited: `each` is called for that
/// block, and is to find out. Where a part of the outline is nowhere, the tree itself is followed as well.
pub(super) fn visit(
    reader: &Reader,
    snapshot: &Snapshot,
    seen: &mut HashSet<BlockId>,
    each: &mut dyn FnMut(&BlockId) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let parts = Parts::of(reader, snapshot)?;
    let whole = visit_parts(reader, &parts, seen, each)?;
    if parts.outlined && !whole {
        visit_parts(reader, &Parts::of_tree(reader, snapshot)?, seen, each)?;
    }
    Ok(())
}

/// Whether all blocks that hold tables are there.
fn visit_parts(
    reader: &Reader,
    parts: &Parts,
    seen: &mut HashSet<BlockId>,
    each: &mut dyn FnMut(&BlockId) -> Result<(), RepoError>,
) -> Result<bool, RepoError> {
    let mut whole = true;
    parts.lists.iter().try_for_each(&mut *each)?;
    for block in &parts.tables {
        if seen.contains(block) {
            continue;
        }
        let Some(shards) = parts.shards_if_there(reader, block)? else {
            whole = false;
            continue;
        };
        seen.insert(*block);
        for shard in shards {
            if seen.insert(shard) {
                each(&shard)?;
                let shard: ManifestShard = read(reader, &shard)?;
                for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
                    each(&reference.id)?;
                }
            }
        }
    }
    Ok(whole)
}

/// Reads a block, or an empty value where it is nowhere.
pub(super) fn read<T: DeserializeOwned + Default>(
    reader: &Reader,
    id: &BlockId,
) -> Result<T, RepoError> {
    Ok(read_if_there(reader, id)?.unwrap_or_default())
}

fn read_if_there<T: DeserializeOwned>(
    reader: &Reader,
    id: &BlockId,
) -> Result<Option<T>, RepoError> {
    match lists::read_value(reader, id) {
        Err(RepoError::MissingBlock { .. }) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        other => other.map(Some),
    }
}
