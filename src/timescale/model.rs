//! What the catalog says of hypertables and chunks, in whatever dialect.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::pg::catalog::Name;

use super::catalog::{Catalog, CatalogError, parse_regclass};

/// What a hypertable is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One that a user made.
    User,
    /// The rows of a continuous aggregate, which users know by its view.
    Aggregate {
        /// The view.
        view: Name,
        /// The views that the extension keeps beside it: its partial and its direct form.
        internal: Vec<Name>,
    },
    /// What compressed chunks of another hypertable hang on, up to 2.28.
    Compressed,
}

/// The dimension that chunks are first cut by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Its column.
    pub column: String,
    /// The column's type, as `regtype` prints it.
    pub column_type: String,
}

impl Dimension {
    /// Whether its ranges are whole numbers; all others are microseconds since 1970-01-01 00:00 UTC.
    pub fn is_integer(&self) -> bool {
        matches!(self.column_type.as_str(), "smallint" | "integer" | "bigint")
    }

    /// A range for people: days, moments or numbers.
    pub fn show(&self, (start, end): (i64, i64)) -> String {
        if self.is_integer() {
            return format!("{start} to {end}");
        }
        let (start, end) = (moment(start), moment(end));
        match (start.strip_suffix(MIDNIGHT), end.strip_suffix(MIDNIGHT)) {
            (Some(start), Some(end)) => format!("{start} to {end}"),
            _ => format!("{start} to {end}"),
        }
    }

    /// Whether a range is a moment; without this it is what a clock without a zone showed.
    pub fn has_zone(&self) -> bool {
        !matches!(
            self.column_type.as_str(),
            "date" | "timestamp without time zone"
        )
    }
}

/// What a day begins with.
const MIDNIGHT: &str = " 00:00:00";

/// Microseconds since 1970-01-01 00:00 UTC for people.
fn moment(microseconds: i64) -> String {
    match jiff::Timestamp::from_microsecond(microseconds) {
        Ok(moment) => moment.strftime("%F %T").to_string(),
        // The first and the last slice of all.
        Err(_) if microseconds < 0 => "the beginning".to_owned(),
        Err(_) => "the end".to_owned(),
    }
}

/// A hypertable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypertable {
    /// Its table.
    pub table: Name,
    /// What it is for.
    pub kind: Kind,
    /// The dimension that chunks are first cut by.
    pub dimension: Option<Dimension>,
    /// The hypertable that this continuous aggregate aggregates.
    pub raw: Option<i64>,
    /// The hypertable that its compressed chunks hang on, up to 2.28.
    pub compressed: Option<i64>,
}

impl Hypertable {
    /// The name that its users know.
    pub fn display_name(&self) -> String {
        let (schema, name) = self.known_as();
        format!("{schema}.{name}")
    }

    /// Schema and name that its users know: of a continuous aggregate those of its view.
    pub fn known_as(&self) -> &Name {
        match &self.kind {
            Kind::Aggregate { view, .. } => view,
            _ => &self.table,
        }
    }
}

/// A chunk of a hypertable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its number.
    pub id: i64,
    /// Its hypertable.
    pub hypertable: i64,
    /// Its table.
    pub table: Name,
    /// The relation with its compressed rows.
    pub compressed: Option<Name>,
    /// What it covers of the first dimension: from, and up to but without.
    pub range: Option<(i64, i64)>,
    /// Whether its rows are in object storage.
    pub tiered: bool,
}

/// What the catalog says of hypertables and chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// By number.
    pub hypertables: BTreeMap<i64, Hypertable>,
    /// Those of hypertables with rows of users; what holds compressed rows is named by them.
    pub chunks: Vec<Chunk>,
}

impl Model {
    /// Reads it off the catalog.
    pub(super) fn new(catalog: &Catalog) -> Result<Model, CatalogError> {
        let mut views = HashMap::new();
        for row in catalog.rows("continuous_agg") {
            let view = |which: &str| {
                row.relation(
                    "",
                    &format!("{which}_view_schema"),
                    &format!("{which}_view_name"),
                )
            };
            if let (Some(id), Some(user)) = (row.number("mat_hypertable_id")?, view("user")) {
                let internal = ["partial", "direct"].into_iter().filter_map(view).collect();
                let kind = Kind::Aggregate {
                    view: user,
                    internal,
                };
                views.insert(id, (kind, row.number("raw_hypertable_id")?));
            }
        }
        let mut compressed_hypertables = Vec::new();
        for row in catalog.rows("hypertable") {
            compressed_hypertables.extend(row.number("compressed_hypertable_id")?);
        }
        let mut hypertables = BTreeMap::new();
        for row in catalog.rows("hypertable") {
            let (Some(id), Some(table)) = (
                row.number("id")?,
                row.relation("relid", "schema_name", "table_name"),
            ) else {
                continue;
            };
            let (kind, raw) = match views.remove(&id) {
                Some((kind, raw)) => (kind, raw),
                None if compressed_hypertables.contains(&id) => (Kind::Compressed, None),
                None => (Kind::User, None),
            };
            hypertables.insert(
                id,
                Hypertable {
                    table,
                    kind,
                    dimension: None,
                    raw,
                    compressed: row.number("compressed_hypertable_id")?,
                },
            );
        }
        // The first of a hypertable's dimensions has the lowest number.
        let mut first: HashMap<i64, i64> = HashMap::new();
        for row in catalog.rows("dimension") {
            let (Some(id), Some(of)) = (row.number("id")?, row.number("hypertable_id")?) else {
                continue;
            };
            if row.get("interval_length").is_none() || first.get(&of).is_some_and(|&n| n < id) {
                continue;
            }
            first.insert(of, id);
            if let Some(hypertable) = hypertables.get_mut(&of) {
                hypertable.dimension = Some(Dimension {
                    column: row.get("column_name").unwrap_or_default().to_owned(),
                    column_type: row.get("column_type").unwrap_or_default().to_owned(),
                });
            }
        }
        let chunks = chunks(catalog, &hypertables, &first)?;
        Ok(Model {
            hypertables,
            chunks,
        })
    }

    /// All relations of a hypertable: its table, its chunks, what holds compressed rows, an aggregate's views.
    pub fn relations_of(&self, hypertable: i64) -> Vec<Name> {
        let Some(found) = self.hypertables.get(&hypertable) else {
            return Vec::new();
        };
        let mut names = vec![found.table.clone()];
        if let Kind::Aggregate { view, internal } = &found.kind {
            names.push(view.clone());
            names.extend(internal.iter().cloned());
        }
        let compressed = found.compressed.and_then(|id| self.hypertables.get(&id));
        names.extend(compressed.map(|h| h.table.clone()));
        for chunk in self.chunks_of(hypertable) {
            names.push(chunk.table.clone());
            names.extend(chunk.compressed.clone());
        }
        names
    }

    /// How the relations of hypertables are called for people: `metrics, 2025-01-01 to 2025-01-08`.
    pub fn labels(&self) -> HashMap<Name, String> {
        let mut labels = HashMap::new();
        for (&id, hypertable) in &self.hypertables {
            let name = hypertable.display_name();
            for chunk in self.chunks_of(id) {
                let range = chunk.range.zip(hypertable.dimension.as_ref());
                let range = range.map_or_else(
                    || format!("chunk {}", chunk.id),
                    |(range, dimension)| dimension.show(range),
                );
                labels.insert(chunk.table.clone(), format!("{name}, {range}"));
                if let Some(compressed) = &chunk.compressed {
                    labels.insert(compressed.clone(), format!("{name}, {range}, compressed"));
                }
            }
        }
        labels
    }

    /// Chunks, and what holds their compressed rows.
    pub fn chunk_relations(&self) -> HashSet<&Name> {
        let chunks = self.chunks.iter();
        chunks
            .flat_map(|chunk| chunk.compressed.iter().chain([&chunk.table]))
            .collect()
    }

    /// Whether rows of a table are kept compressed elsewhere, or it holds those of others.
    pub fn is_compressed(&self, relation: &Name) -> bool {
        let mut chunks = self.chunks.iter();
        chunks.any(|c| {
            c.compressed.as_ref() == Some(relation)
                || (c.table == *relation && c.compressed.is_some())
        })
    }

    /// Relations of the extension's own making: chunks, what holds compressed rows, all of an aggregate.
    pub fn own_relations(&self) -> HashSet<&Name> {
        let mut own = self.chunk_relations();
        for hypertable in self.hypertables.values() {
            match &hypertable.kind {
                Kind::User => continue,
                Kind::Compressed => {}
                Kind::Aggregate { view, internal } => {
                    own.insert(view);
                    own.extend(internal);
                }
            }
            own.insert(&hypertable.table);
        }
        own
    }

    /// The hypertables that aggregate the given one, directly or through each other.
    pub fn aggregates_on(&self, hypertable: i64) -> Vec<i64> {
        let mut found = Vec::new();
        let mut open = vec![hypertable];
        while let Some(on) = open.pop() {
            for (&id, _) in self.hypertables.iter().filter(|(_, h)| h.raw == Some(on)) {
                if !found.contains(&id) {
                    found.push(id);
                    open.push(id);
                }
            }
        }
        found
    }

    /// The chunks of a hypertable.
    pub fn chunks_of(&self, hypertable: i64) -> impl Iterator<Item = &Chunk> {
        self.chunks
            .iter()
            .filter(move |chunk| chunk.hypertable == hypertable)
    }
}

fn chunks(
    catalog: &Catalog,
    hypertables: &BTreeMap<i64, Hypertable>,
    first_dimension: &HashMap<i64, i64>,
) -> Result<Vec<Chunk>, CatalogError> {
    // Slices by their own number, where constraints refer to them, or by chunk.
    let mut slices: HashMap<i64, (i64, (i64, i64))> = HashMap::new();
    let mut ranges: HashMap<(i64, i64), (i64, i64)> = HashMap::new();
    for row in catalog.rows("dimension_slice") {
        let (Some(id), Some(dimension), Some(start), Some(end)) = (
            row.number("id")?,
            row.number("dimension_id")?,
            row.number("range_start")?,
            row.number("range_end")?,
        ) else {
            continue;
        };
        match row.number("chunk_id")? {
            Some(chunk) => ranges.insert((chunk, dimension), (start, end)),
            None => slices.insert(id, (dimension, (start, end))).map(|s| s.1),
        };
    }
    for row in catalog.rows("chunk_constraint") {
        let slice = row.number("dimension_slice_id")?;
        let slice = slice.and_then(|slice| slices.get(&slice));
        if let (Some(chunk), Some((dimension, range))) = (row.number("chunk_id")?, slice) {
            ranges.insert((chunk, *dimension), *range);
        }
    }
    let mut by_relation = HashMap::new();
    for row in catalog.rows("compression_settings") {
        let relation = row.get("relid").and_then(parse_regclass);
        let compressed = row.get("compress_relid").and_then(parse_regclass);
        if let (Some(relation), Some(compressed)) = (relation, compressed) {
            by_relation.insert(relation, compressed);
        }
    }
    let mut tables = HashMap::new();
    for row in catalog.rows("chunk") {
        let table = row.relation("relid", "schema_name", "table_name");
        if let (Some(id), Some(table)) = (row.number("id")?, table) {
            tables.insert(id, table);
        }
    }
    let mut chunks = Vec::new();
    for row in catalog.rows("chunk") {
        let (Some(id), Some(hypertable)) = (row.number("id")?, row.number("hypertable_id")?) else {
            continue;
        };
        let Some(table) = tables.get(&id) else {
            continue;
        };
        let kind = hypertables.get(&hypertable).map(|h| &h.kind);
        // What was dropped keeps its row, in some versions, for the aggregates on it.
        if kind.is_none_or(|kind| *kind == Kind::Compressed) || row.get("dropped") == Some("t") {
            continue;
        }
        let compressed = match row.number("compressed_chunk_id")? {
            Some(id) => tables.get(&id).cloned(),
            None => by_relation.get(table).cloned(),
        };
        chunks.push(Chunk {
            id,
            hypertable,
            table: table.clone(),
            compressed,
            range: first_dimension
                .get(&hypertable)
                .and_then(|dimension| ranges.get(&(id, *dimension)).copied()),
            tiered: row.get("osm_chunk") == Some("t"),
        });
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{by_name, by_relation};
    use super::*;

    fn name(schema: &str, name: &str) -> Name {
        (schema.to_owned(), name.to_owned())
    }

    #[test]
    fn both_dialects_say_the_same_of_hypertables_and_chunks() {
        let old = by_name().model().unwrap();
        let mut new = by_relation().model().unwrap();
        assert_eq!(old.chunks, new.chunks);
        new.hypertables.insert(2, old.hypertables[&2].clone());
        if let Some(m) = new.hypertables.get_mut(&1) {
            m.compressed = Some(2);
        }
        assert_eq!(old.hypertables, new.hypertables);
        assert_eq!(old.hypertables[&2].kind, Kind::Compressed);
        assert_eq!(old.hypertables[&3].display_name(), "public.daily");
        assert_eq!(old.aggregates_on(1), [3]);
        let relations = old.relations_of(1).into_iter();
        let names: Vec<String> = relations.map(|(_, name)| name).collect();
        assert_eq!(names, ["m", "compressed_2", "c1", "z3", "c2"]);
        let chunks: Vec<_> = old.chunks_of(1).collect();
        assert_eq!(chunks[0].compressed, Some(name("i", "z3")));
        assert_eq!(chunks[0].range, Some((0, 10)));
        assert_eq!((chunks[1].id, &chunks[1].compressed), (2, &None));
        assert_eq!(old.chunks.len(), 3);
    }

    #[test]
    fn chunks_are_called_by_their_hypertable_and_range() {
        let dimension = |column_type: &str| Dimension {
            column: "t".to_owned(),
            column_type: column_type.to_owned(),
        };
        const DAY: i64 = 86_400_000_000;
        let zoned = dimension("timestamp with time zone");
        assert_eq!(zoned.show((0, 7 * DAY)), "1970-01-01 to 1970-01-08");
        let hour = (0, DAY / 24);
        assert_eq!(
            zoned.show(hour),
            "1970-01-01 00:00:00 to 1970-01-01 01:00:00"
        );
        assert_eq!(zoned.show((i64::MIN, i64::MAX)), "the beginning to the end");
        assert_eq!(dimension("bigint").show((-10, 0)), "-10 to 0");
        let labels = by_name().model().unwrap().labels();
        assert!(labels[&name("i", "z3")].ends_with(", compressed"));
        assert!(labels[&name("i", "a4")].starts_with("public.daily, "));
    }
}
