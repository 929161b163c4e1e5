//! Any text is the rows of TimescaleDB's catalog or an error; what was read is written back as it was, fits a restore of
//! some of its relations, and gives steps for another version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::timescale::catalog::{Catalog, Rows, parse_regclass};
use pgtide::timescale::fit::{self, Target};
use pgtide::timescale::portable;

/// Tables with the columns of both dialects. Each has a section of the text.
const TABLES: &[(&str, &str)] = &[
    (
        "hypertable",
        "id schema_name table_name compressed_hypertable_id status",
    ),
    (
        "dimension",
        "id hypertable_id column_name column_type num_slices interval_length",
    ),
    (
        "chunk",
        "id relid schema_name table_name hypertable_id compressed_chunk_id status osm_chunk",
    ),
    ("chunk_constraint", "chunk_id dimension_slice_id"),
    (
        "dimension_slice",
        "id chunk_id dimension_id range_start range_end",
    ),
    (
        "compression_settings",
        "relid compress_relid segmentby orderby orderby_desc orderby_nullsfirst",
    ),
    (
        "continuous_agg",
        "mat_hypertable_id raw_hypertable_id user_view_schema user_view_name",
    ),
    (
        "bgw_job",
        "id application_name proc_schema proc_name owner config hypertable_id",
    ),
];

fuzz_target!(|text: &str| {
    parse_regclass(text);
    let mut catalog = Catalog::default();
    for ((name, columns), section) in TABLES.iter().zip(text.split('\0')) {
        let columns = columns.split(' ').map(str::to_owned).collect();
        let Ok(rows) = Rows::parse(columns, section) else {
            return;
        };
        let again = Rows::parse(rows.columns.clone(), &rows.to_copy_text());
        assert_eq!(again.as_ref(), Ok(&rows));
        catalog.tables.insert(
            ("_timescaledb_catalog".to_owned(), (*name).to_owned()),
            rows,
        );
    }
    let Ok(model) = catalog.model() else {
        return;
    };
    model.labels();
    let restored = |name: &(String, String)| name.1.len() % 2 == 0;
    let target = Target {
        restored: &restored,
        owner: None,
        tablespaces: true,
        whole: true,
    };
    if let Ok(fitted) = fit::fit(&catalog, target) {
        // What fits once has nothing more to lose.
        assert_eq!(fit::fit(&fitted, target).as_ref(), Ok(&fitted));
    }
    let target = portable::Target {
        schema: "public".to_owned(),
        tsl: true,
        owners: true,
        tablespaces: true,
    };
    let _ = portable::plan(&catalog, &model, &restored, &target);
});
