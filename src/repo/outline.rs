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
#[derive(Debug)]
pub struct KnownTables {
    key: IdKey,
    tables: HashMap<[u8; 16], OutlineTable>,
}

impl KnownTables {
    /// No tables.
    pub fn none(repo: &Repository) -> Self {
        Self {
            key: repo.id_key().clone(),
            tables: HashMap::new(),
        }
    }

    /// The tables of a snapshot.
    pub fn load(
        repo: &Repository,
        reader: &Reader,
        snapshot: &Snapshot,
    ) -> Result<Self, RepoError> {
        let mut known = Self::none(repo);
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
        let table = self.tables.get(&name_mark(&self.key, schema, name).ok()?)?;
        (content_mark(&self.key, format, columns).ok()? == table.content).then_some(table)
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
    let mut manifests: Vec<BlockId> = Vec::new();
    let mut whole = false;
    if let Some(id) = &snapshot.outline {
        each(id)?;
        if let Some(outline) = read::<Outline>(reader, id)? {
            whole = true;
            for block in outline.lists.iter().chain(&outline.tables) {
                each(block)?;
            }
            for block in &outline.tables {
                if seen.contains(block) {
                    continue;
                }
                match read::<Vec<OutlineTable>>(reader, block)? {
                    Some(tables) => {
                        seen.insert(*block);
                        manifests.extend(tables.into_iter().flat_map(|table| table.manifest));
                    }
                    None => whole = false,
                }
            }
        }
    }
    if !whole {
        each(&snapshot.root)?;
        let root: Root = read(reader, &snapshot.root)?.unwrap_or_default();
        for block in &Outline::of(snapshot.root, &root).lists {
            each(block)?;
        }
        for block in &root.tables {
            if seen.contains(block) {
                continue;
            }
            if let Some(tables) = read::<Vec<TableRecord>>(reader, block)? {
                seen.insert(*block);
                manifests.extend(tables.into_iter().flat_map(|table| table.manifest));
            }
        }
    }
    for shard in manifests {
        if seen.insert(shard) {
            each(&shard)?;
            let shard: ManifestShard = read(reader, &shard)?.unwrap_or_default();
            for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
                each(&reference.id)?;
            }
        }
    }
    Ok(())
}

/// Reads a block, or nothing where it is nowhere.
fn read<T: DeserializeOwned>(reader: &Reader, id: &BlockId) -> Result<Option<T>, RepoError> {
    match lists::read_value(reader, id) {
        Err(RepoError::MissingBlock { .. }) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        other => other.map(Some),
    }
}
