//! What a snapshot holds, for people: tables, and hypertables instead of their chunks.

use std::collections::HashMap;

use crate::pg::catalog::Name;
use crate::progress::Stage;
use crate::repo::model::{TableRecord, TableRole};

use super::model::{Kind, Model};

/// A table, a hypertable with its chunks, or all that an extension keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its name; of a continuous aggregate that of its view.
    pub name: String,
    /// Chunks, where it is a hypertable.
    pub chunks: Option<u64>,
    /// How many of them are compressed.
    pub compressed: u64,
    /// Rows; of compressed chunks those that are not compressed.
    pub rows: u64,
    /// Bytes of heap and TOAST at the source.
    pub source_bytes: u64,
    /// Bytes of payload.
    pub payload_bytes: u64,
}

/// The items of some tables, in order of name.
pub fn items<'t>(model: &Model, tables: impl Iterator<Item = &'t TableRecord>) -> Vec<Item> {
    let parts = parts(model);
    let mut found: HashMap<String, Item> = HashMap::new();
    for table in tables {
        let key = table.key();
        let part = parts.get(&key);
        let name = match (&table.role, part) {
            (TableRole::Plain, Some(part)) => part.of.clone(),
            (TableRole::Plain, None) => format!("{}.{}", table.schema, table.name),
            (TableRole::ExtensionConfig { extension }, _) => {
                format!("(of the extension {extension})")
            }
            (TableRole::LargeObjects | TableRole::LargeObjectMetadata, _) => {
                "(large objects)".to_owned()
            }
            // What the chunks' own columns say, what is known of the tables' own, and facts of the schema.
            (
                TableRole::MissingValues
                | TableRole::Statistics
                | TableRole::Types
                | TableRole::ConfigReferences,
                _,
            ) => continue,
        };
        let item = found.entry(name.clone()).or_insert_with(|| Item {
            name,
            ..Item::default()
        });
        item.source_bytes += table.source_bytes;
        item.payload_bytes += table.payload_bytes;
        match part.map(|part| part.is) {
            None => item.rows += table.digest.rows,
            Some(Is::Hypertable) => {
                item.chunks.get_or_insert(0);
                item.rows += table.digest.rows;
            }
            Some(Is::Chunk) => {
                *item.chunks.get_or_insert(0) += 1;
                item.rows += table.digest.rows;
            }
            // Its rows are batches of rows.
            Some(Is::Compressed) => item.compressed += 1,
            Some(Is::Holder) => {}
        }
    }
    let mut items: Vec<Item> = found.into_values().collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    items
}

/// Numbers of tables, hypertables and chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tables that are nothing of TimescaleDB's.
    pub tables: u64,
    /// Hypertables, continuous aggregates among them.
    pub hypertables: u64,
    /// Their chunks.
    pub chunks: u64,
}

impl Counts {
    /// The step of reading or loading them.
    pub fn stage(self, bytes: u64) -> Stage {
        Stage::Rows {
            bytes,
            tables: self.tables,
            hypertables: self.hypertables,
            chunks: self.chunks,
        }
    }

    /// Counts tables, given by their names.
    pub fn of<'n>(model: &Model, names: impl Iterator<Item = &'n Name>) -> Counts {
        let parts = parts(model);
        let mut counts = Counts::default();
        for name in names {
            match parts.get(name).map(|part| part.is) {
                None => counts.tables += 1,
                Some(Is::Hypertable) => counts.hypertables += 1,
                Some(Is::Chunk) => counts.chunks += 1,
                Some(Is::Compressed | Is::Holder) => {}
            }
        }
        counts
    }
}

/// What a relation is to its hypertable.
#[derive(Clone, Copy)]
enum Is {
    Hypertable,
    Chunk,
    Compressed,
    /// What compressed chunks hang on.
    Holder,
}

struct Part {
    of: String,
    is: Is,
}

fn parts(model: &Model) -> HashMap<Name, Part> {
    let mut parts = HashMap::new();
    for (&id, hypertable) in &model.hypertables {
        if hypertable.kind == Kind::Compressed {
            continue;
        }
        let mut put = |table: &Name, is| {
            let of = hypertable.display_name();
            parts.insert(table.clone(), Part { of, is });
        };
        put(&hypertable.table, Is::Hypertable);
        let holder = hypertable
            .compressed
            .and_then(|id| model.hypertables.get(&id));
        if let Some(holder) = holder {
            put(&holder.table, Is::Holder);
        }
        for chunk in model.chunks_of(id) {
            put(&chunk.table, Is::Chunk);
            if let Some(compressed) = &chunk.compressed {
                put(compressed, Is::Compressed);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{by_name, by_relation};
    use super::*;
    use crate::rows::{Format, RowDigest};

    fn table(schema: &str, name: &str, role: TableRole) -> TableRecord {
        TableRecord {
            schema: schema.to_owned(),
            name: name.to_owned(),
            role,
            columns: Vec::new(),
            format: Format::Binary,
            load_through: None,
            segment_pages: 1,
            source_bytes: 10,
            payload_bytes: 5,
            digest: RowDigest { rows: 3, sum: 0 },
            manifest: Vec::new(),
        }
    }

    #[test]
    fn chunks_are_counted_with_their_hypertable_in_both_dialects() {
        let plain = |schema, name| table(schema, name, TableRole::Plain);
        let extension = "timescaledb".to_owned();
        let mut tables = vec![
            plain("public", "device"),
            plain("public", "m"),
            plain("i", "c1"),
            plain("i", "c2"),
            plain("i", "z3"),
            plain("i", "mat_3"),
            plain("i", "a4"),
            table(
                "_timescaledb_catalog",
                "chunk",
                TableRole::ExtensionConfig { extension },
            ),
            table("pg_catalog", "pg_attribute", TableRole::MissingValues),
        ];
        let new = items(&by_relation().model().unwrap(), tables.iter());
        tables.push(plain("i", "compressed_2"));
        let mut old = items(&by_name().model().unwrap(), tables.iter());
        assert_eq!(old[3].source_bytes, 50);
        (old[3].source_bytes, old[3].payload_bytes) = (40, 20);
        assert_eq!(old, new);
        let names: Vec<&str> = new.iter().map(|item| item.name.as_str()).collect();
        let expected = [
            "(of the extension timescaledb)",
            "public.daily",
            "public.device",
            "public.m",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            (new[3].chunks, new[3].compressed, new[3].rows),
            (Some(2), 1, 9)
        );
        let names: Vec<Name> = tables[..7].iter().map(|t| t.key()).collect();
        let counts = Counts::of(&by_name().model().unwrap(), names.iter());
        assert_eq!(
            (counts.tables, counts.hypertables, counts.chunks),
            (1, 2, 3)
        );
    }
}
