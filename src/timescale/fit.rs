//! Makes the catalog fit what is restored: without the rows of relations that are left out.
//!
//! A chunk may be left out because of its age, a hypertable by name; a chunk whose compressed rows travel plain comes back
//! without its compressed relation; a tiered chunk has its rows in object storage and stays behind. Rows are judged by the
//! columns that refer to hypertables, chunks and relations, whatever table they are in, so that a catalog table that a
//! later version adds is treated as those that are there.

use std::collections::{BTreeSet, HashSet};

use crate::pg::catalog::{Name, quote_ident};

use super::catalog::{Catalog, CatalogError, RowRef, Rows, parse_name, parse_regclass};

/// Columns that refer to a hypertable.
const HYPERTABLE_COLUMNS: &[&str] = &[
    "hypertable_id",
    "mat_hypertable_id",
    "raw_hypertable_id",
    "parent_mat_hypertable_id",
    "materialization_id",
];
/// Bits of a chunk's status that speak of compressed rows: compressed, unordered, partial (`src/chunk.h`).
const COMPRESSED_BITS: i64 = 1 | 2 | 8;
/// Bits of a hypertable's status that speak of a tiered chunk (`src/hypertable.h`).
const TIERED_BITS: i64 = 1 | 2;

/// What is missing from what the catalog describes.
#[derive(Default)]
struct Gone {
    hypertables: BTreeSet<i64>,
    chunks: BTreeSet<i64>,
    dimensions: BTreeSet<i64>,
    slices: BTreeSet<i64>,
    /// Chunks that lose their compressed relation, and only that.
    decompressed: BTreeSet<i64>,
    decompressed_relations: HashSet<Name>,
    /// Hypertables that lose a tiered chunk.
    untiered: BTreeSet<i64>,
}

/// What the catalog is to fit.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Whether a relation is restored.
    pub restored: &'a dyn Fn(&Name) -> bool,
    /// The role that owns all jobs, if they are not to keep their owners.
    pub owner: Option<&'a str>,
    /// Whether hypertables keep their tablespaces.
    pub tablespaces: bool,
    /// Whether everything is restored: jobs of no hypertable call procedures that come with nothing else.
    pub whole: bool,
}

/// The roles that own jobs.
pub fn owners(catalog: &Catalog) -> BTreeSet<String> {
    let jobs = catalog
        .tables
        .iter()
        .filter(|(name, _)| name.1 == "bgw_job");
    jobs.flat_map(|((_, name), rows)| rows.rows.iter().map(|row| RowRef::new(name, rows, row)))
        .filter_map(|row| row.get("owner").and_then(parse_name))
        .collect()
}

/// The tablespaces that hypertables put new chunks into.
pub fn tablespaces(catalog: &Catalog) -> BTreeSet<String> {
    let rows = catalog.rows("tablespace");
    rows.filter_map(|row| row.get("tablespace_name").map(str::to_owned))
        .collect()
}

/// The catalog without the rows of relations that are not restored.
pub fn fit(catalog: &Catalog, target: Target<'_>) -> Result<Catalog, CatalogError> {
    let restored = target.restored;
    let gone = Gone::new(catalog, restored)?;
    let mut fitted = Catalog::default();
    for (name, rows) in &catalog.tables {
        let mut kept = Vec::with_capacity(rows.rows.len());
        if name.1 == "tablespace" && !target.tablespaces {
            continue;
        }
        for row in &rows.rows {
            let of = RowRef::new(&name.1, rows, row);
            let own_job = name.1 == "bgw_job" && of.get("hypertable_id").is_none();
            if own_job && !target.whole {
                continue;
            }
            if gone.keeps(of, &name.1, restored)? {
                let mut row = gone.change(&name.1, rows, row)?;
                if let (Some(owner), Some(n)) = (target.owner, rows.column("owner")) {
                    row[n] = Some(quote_ident(owner));
                }
                kept.push(row);
            }
        }
        let rows = Rows {
            columns: rows.columns.clone(),
            rows: kept,
        };
        fitted.tables.insert(name.clone(), rows);
    }
    Ok(fitted)
}

impl Gone {
    fn new(catalog: &Catalog, restored: &dyn Fn(&Name) -> bool) -> Result<Gone, CatalogError> {
        let mut gone = Gone::default();
        for row in catalog.rows("hypertable") {
            let table = row.relation("relid", "schema_name", "table_name");
            if let (Some(id), false) = (row.number("id")?, table.is_some_and(|t| restored(&t))) {
                gone.hypertables.insert(id);
            }
        }
        // An aggregate does without the hypertable that it aggregates as little as without its own; one may stand on
        // another.
        loop {
            let before = gone.hypertables.len();
            for row in catalog.rows("continuous_agg") {
                if gone.has_hypertable(row)? {
                    gone.hypertables.extend(row.number("mat_hypertable_id")?);
                }
            }
            if gone.hypertables.len() == before {
                break;
            }
        }
        for row in catalog.rows("chunk") {
            let (Some(id), Some(of)) = (row.number("id")?, row.number("hypertable_id")?) else {
                continue;
            };
            let table = row.relation("relid", "schema_name", "table_name");
            let tiered = row.get("osm_chunk") == Some("t");
            // A row that outlives its table, as some versions keep for the aggregates on it.
            let dropped = row.get("dropped") == Some("t");
            let there = dropped || (!tiered && table.is_some_and(|t| restored(&t)));
            if tiered {
                gone.untiered.insert(of);
            }
            if !there || gone.hypertables.contains(&of) {
                gone.chunks.insert(id);
            }
        }
        for chunk in catalog.model()?.chunks {
            let lost = chunk
                .compressed
                .is_some_and(|relation| !restored(&relation));
            if lost && !gone.chunks.contains(&chunk.id) {
                gone.decompressed.insert(chunk.id);
                gone.decompressed_relations.insert(chunk.table);
            }
        }
        for row in catalog.rows("dimension") {
            if gone.has_hypertable(row)? {
                gone.dimensions.extend(row.number("id")?);
            }
        }
        // Where chunks share slices, one goes with the last chunk that has it.
        let (mut used, mut unused) = (BTreeSet::new(), BTreeSet::new());
        for row in catalog.rows("chunk_constraint") {
            if let Some(slice) = row.number("dimension_slice_id")? {
                let chunk = row.number("chunk_id")?;
                if chunk.is_some_and(|chunk| gone.chunks.contains(&chunk)) {
                    unused.insert(slice);
                } else {
                    used.insert(slice);
                }
            }
        }
        gone.slices = &unused - &used;
        Ok(gone)
    }

    fn has_hypertable(&self, row: RowRef<'_>) -> Result<bool, CatalogError> {
        for column in HYPERTABLE_COLUMNS {
            if row
                .number(column)?
                .is_some_and(|id| self.hypertables.contains(&id))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn keeps(
        &self,
        row: RowRef<'_>,
        table: &str,
        restored: &dyn Fn(&Name) -> bool,
    ) -> Result<bool, CatalogError> {
        let among = |column: &str, gone: &BTreeSet<i64>| -> Result<bool, CatalogError> {
            Ok(row.number(column)?.is_some_and(|id| gone.contains(&id)))
        };
        if self.has_hypertable(row)?
            || among("chunk_id", &self.chunks)?
            || among("dimension_id", &self.dimensions)?
        {
            return Ok(false);
        }
        Ok(match table {
            "hypertable" => !among("id", &self.hypertables)?,
            "chunk" => !among("id", &self.chunks)?,
            "dimension_slice" => !among("id", &self.slices)?,
            "compression_chunk_size" => !among("chunk_id", &self.decompressed)?,
            "compression_settings" => row
                .get("relid")
                .and_then(parse_regclass)
                .is_some_and(|r| restored(&r) && !self.decompressed_relations.contains(&r)),
            _ => true,
        })
    }

    /// A row that stays, with what it said of something that goes taken out.
    fn change(
        &self,
        table: &str,
        rows: &Rows,
        row: &[Option<String>],
    ) -> Result<Vec<Option<String>>, CatalogError> {
        let mut changed = row.to_vec();
        let of = RowRef::new(table, rows, row);
        let mut set = |column: &str, value: Option<String>| {
            if let Some(n) = rows.column(column) {
                changed[n] = value;
            }
        };
        let id = of.number("id")?.unwrap_or(-1);
        let without = |bits: i64| -> Result<Option<String>, CatalogError> {
            Ok(of
                .number("status")?
                .map(|status| (status & !bits).to_string()))
        };
        match table {
            "chunk" if self.decompressed.contains(&id) => {
                set("status", without(COMPRESSED_BITS)?);
                set("compressed_chunk_id", None);
            }
            "hypertable" => {
                if self.untiered.contains(&id) {
                    set("status", without(TIERED_BITS)?);
                }
                let compressed = of.number("compressed_hypertable_id")?;
                if compressed.is_some_and(|id| self.hypertables.contains(&id)) {
                    set("compressed_hypertable_id", None);
                    set("compression_state", Some("0".to_owned()));
                }
            }
            _ => {}
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{by_name, by_relation, catalog};
    use super::*;

    fn fit_to(
        catalog: &Catalog,
        restored: &dyn Fn(&Name) -> bool,
    ) -> Result<Catalog, CatalogError> {
        let target = Target {
            restored,
            owner: None,
            tablespaces: true,
            whole: true,
        };
        fit(catalog, target)
    }

    fn ids(catalog: &Catalog, table: &str, column: &str) -> Vec<i64> {
        let rows = catalog.rows(table);
        rows.filter_map(|row| row.number(column).unwrap()).collect()
    }

    #[test]
    fn nothing_changes_where_everything_is_restored() {
        for whole in [by_name(), by_relation()] {
            assert_eq!(fit_to(&whole, &|_| true).unwrap(), whole);
        }
    }

    #[test]
    fn a_chunk_that_is_left_out_takes_its_rows_and_its_compressed_chunk_with_it() {
        for whole in [by_name(), by_relation()] {
            let fitted = fit_to(&whole, &|t| !["c1", "z3"].contains(&t.1.as_str())).unwrap();
            assert_eq!(ids(&fitted, "chunk", "id"), [2, 4]);
            assert_eq!(ids(&fitted, "dimension_slice", "id"), [2, 3]);
            assert!(ids(&fitted, "compression_chunk_size", "chunk_id").is_empty());
            assert_eq!(fitted.rows("compression_settings").count(), 1);
            assert_eq!(ids(&fitted, "bgw_job", "id"), [1000, 1001, 1002]);
        }
    }

    #[test]
    fn a_chunk_without_its_compressed_relation_is_not_compressed() {
        for whole in [by_name(), by_relation()] {
            let fitted = fit_to(&whole, &|t| t.1 != "z3").unwrap();
            assert_eq!(ids(&fitted, "chunk", "id"), [1, 2, 4]);
            assert_eq!(ids(&fitted, "chunk", "status"), [0, 0, 0]);
            assert!(ids(&fitted, "chunk", "compressed_chunk_id").is_empty());
            assert!(ids(&fitted, "compression_chunk_size", "chunk_id").is_empty());
            assert_eq!(fitted.rows("compression_settings").count(), 1);
            assert_eq!(fitted.model().unwrap().chunks[0].compressed, None);
        }
    }

    #[test]
    fn a_hypertable_that_is_left_out_takes_its_aggregates_and_jobs_with_it() {
        for whole in [by_name(), by_relation()] {
            let gone = ["m", "c1", "c2", "z3"];
            let fitted = fit_to(&whole, &|t| !gone.contains(&t.1.as_str())).unwrap();
            for table in [
                "chunk",
                "dimension",
                "dimension_slice",
                "continuous_agg",
                "continuous_aggs_invalidation_threshold",
                "compression_settings",
            ] {
                assert_eq!(fitted.rows(table).count(), 0, "{table}");
            }
            assert_eq!(ids(&fitted, "bgw_job", "id"), [1002]);
        }
    }

    #[test]
    fn a_job_of_no_hypertable_comes_with_everything_only() {
        for catalog in [by_name(), by_relation()] {
            let target = Target {
                restored: &|_| true,
                owner: None,
                tablespaces: true,
                whole: false,
            };
            let fitted = fit(&catalog, target).unwrap();
            assert_eq!(ids(&fitted, "bgw_job", "id"), [1000, 1001]);
        }
    }

    #[test]
    fn a_tiered_chunk_stays_behind() {
        let mut whole = by_relation();
        let tiered = catalog(&[
            (
                "hypertable",
                "id schema_name table_name status",
                &["1 public m 5", "3 i mat_3 0"],
            ),
            (
                "chunk",
                "id relid hypertable_id status osm_chunk",
                &["1 i.c1 1 9 f", "2 i.c2 1 0 t", "4 i.a4 3 0 f"],
            ),
        ]);
        whole.tables.extend(tiered.tables);
        assert!(whole.model().unwrap().chunks[1].tiered);
        let fitted = fit_to(&whole, &|_| true).unwrap();
        assert_eq!(ids(&fitted, "chunk", "id"), [1, 4]);
        assert_eq!(ids(&fitted, "hypertable", "status"), [4, 0]);
        assert_eq!(ids(&fitted, "dimension_slice", "chunk_id"), [1, 4]);
    }

    #[test]
    fn settings_of_a_relation_that_is_gone_go_too() {
        let orphan = catalog(&[(
            "compression_settings",
            "relid compress_relid",
            &["16412 17000"],
        )]);
        assert_eq!(
            fit_to(&orphan, &|_| true)
                .unwrap()
                .rows("compression_settings")
                .count(),
            0
        );
    }

    #[test]
    fn jobs_and_tablespaces_follow_what_the_user_leaves_out() {
        let whole = catalog(&[
            ("bgw_job", "id owner", &["1000 alice", "1001 \"Bob\""]),
            ("tablespace", "id tablespace_name", &["1 fast"]),
        ]);
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        assert_eq!(names(owners(&whole)), ["Bob", "alice"]);
        assert_eq!(names(tablespaces(&whole)), ["fast"]);
        let target = Target {
            restored: &|_| true,
            owner: Some("me"),
            tablespaces: false,
            whole: true,
        };
        let fitted = fit(&whole, target).unwrap();
        assert_eq!(names(owners(&fitted)), ["me"]);
        assert!(tablespaces(&fitted).is_empty());
    }
}
