//! `pgtide stats`

use std::collections::BTreeMap;

use pgtide::repo::model::Snapshot;
use pgtide::repo::{Repository, SnapshotId, Stats};

use super::common::{Repo, print_json};
use super::render::{self, Align};
use super::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    repo: Repo,
    /// The snapshot for --tables and --codecs: an id, a unique prefix of one, latest, or latest:DATABASE [default: latest]
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// By table, of one snapshot
    #[arg(long, conflicts_with = "codecs")]
    tables: bool,
    /// By coder, of one snapshot; reads all of its data
    #[arg(long)]
    codecs: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    if args.snapshot.is_some() && !args.tables && !args.codecs {
        return Err(Failure::usage(
            "without --tables or --codecs it is the whole repository that is counted\nhint: add one of them, or drop the snapshot",
        ));
    }
    let repo = args.repo.open()?;
    if !args.tables && !args.codecs {
        return whole(&repo, args.json);
    }
    let (id, snapshot) = repo.find(args.snapshot.as_deref().unwrap_or("latest"))?;
    if args.tables {
        tables(&repo, &id, &snapshot, args.json)
    } else {
        codecs(&repo, &id, &snapshot, args.json)
    }
}

fn whole(repo: &Repository, json: bool) -> Outcome {
    let stats = repo.stats()?;
    if json {
        print_json(&serde_json::to_value(&stats)?)?;
        return Ok(Exit::Done);
    }
    let snapshots: BTreeMap<SnapshotId, Snapshot> = repo.snapshots()?.list.into_iter().collect();
    growth(&stats, &snapshots);
    outln!(
        "snapshots   {} with {} of rows",
        render::count(stats.snapshots.len() as u64),
        render::bytes(stats.payload_bytes)
    );
    outln!(
        "distinct    {} of rows: deduplicated {}",
        render::bytes(stats.distinct_payload_bytes),
        render::factor(stats.payload_bytes, stats.distinct_payload_bytes)
    );
    outln!(
        "encoded     {}: compressed {}",
        render::bytes(stats.encoded_bytes),
        render::factor(stats.distinct_payload_bytes, stats.encoded_bytes)
    );
    outln!(
        "stored      {} of {} in {}, {} of {}; {} in all",
        render::bytes(stats.pack_bytes),
        render::plural(stats.blocks, "block", "blocks"),
        render::plural(stats.packs, "pack", "packs"),
        render::bytes(stats.index_bytes),
        render::plural(stats.index_objects, "index object", "index objects"),
        render::factor(stats.payload_bytes, stats.pack_bytes + stats.index_bytes),
    );
    outln!(
        "unused      {} of {} that no snapshot needs",
        render::bytes(stats.unused_bytes),
        render::plural(stats.unused_blocks, "block", "blocks"),
    );
    if stats.unindexed_packs > 0 {
        outln!(
            "unindexed   {} of {} that a run left behind; the next dump takes them over",
            render::bytes(stats.unindexed_bytes),
            render::plural(stats.unindexed_packs, "pack", "packs"),
        );
    }
    if stats.missing_blocks > 0 {
        eprintln!(
            "error: {} lead to blocks that are nowhere; run `pgtide check`",
            render::plural(stats.missing_blocks, "reference", "references")
        );
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn growth(stats: &Stats, snapshots: &BTreeMap<SnapshotId, Snapshot>) {
    let rows: Vec<Vec<String>> = (stats.snapshots.iter())
        .map(|growth| {
            let snapshot = snapshots.get(&growth.id);
            vec![
                render::short(&growth.id),
                snapshot.map(|s| render::time(s.time)).unwrap_or_default(),
                snapshot.map(|s| s.label().to_owned()).unwrap_or_default(),
                render::bytes(growth.payload_bytes),
                render::count(growth.new_blocks),
                render::bytes(growth.new_bytes),
                render::factor(growth.payload_bytes, growth.new_bytes),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let header = [
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("DATABASE", Align::Left),
        ("PAYLOAD", Align::Right),
        ("NEW BLOCKS", Align::Right),
        ("NEW BYTES", Align::Right),
        ("RATIO", Align::Right),
    ];
    render::table(&header, &rows);
    outln!("");
}

fn tables(repo: &Repository, id: &SnapshotId, snapshot: &Snapshot, json: bool) -> Outcome {
    let mut tables = repo.table_stats(snapshot)?;
    tables.sort_by(|a, b| {
        let name = |t: &pgtide::repo::TableStats| (t.schema.clone(), t.name.clone());
        b.stored_bytes
            .cmp(&a.stored_bytes)
            .then_with(|| name(a).cmp(&name(b)))
    });
    if json {
        print_json(&serde_json::json!({"snapshot": id, "tables": tables}))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = (tables.iter())
        .map(|table| {
            vec![
                format!("{}.{}", table.schema, table.name),
                render::count(table.rows),
                render::bytes(table.payload_bytes),
                render::count(table.blocks),
                render::bytes(table.stored_bytes),
                render::factor(table.payload_bytes, table.stored_bytes),
            ]
        })
        .collect();
    let header = [
        ("TABLE", Align::Left),
        ("ROWS", Align::Right),
        ("PAYLOAD", Align::Right),
        ("BLOCKS", Align::Right),
        ("STORED", Align::Right),
        ("RATIO", Align::Right),
    ];
    render::table(&header, &rows);
    Ok(Exit::Done)
}

fn codecs(repo: &Repository, id: &SnapshotId, snapshot: &Snapshot, json: bool) -> Outcome {
    if !json {
        eprintln!(
            "reading {} of rows",
            render::bytes(snapshot.totals.payload_bytes)
        );
    }
    let jobs = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4);
    let coders = repo.coder_stats(snapshot, jobs)?;
    if json {
        print_json(&serde_json::json!({"snapshot": id, "codecs": coders}))?;
        return Ok(Exit::Done);
    }
    let all: u64 = coders.values().map(|coder| coder.bytes).sum();
    let mut coders: Vec<_> = coders.into_iter().collect();
    coders.sort_by_key(|(name, coder)| (std::cmp::Reverse(coder.bytes), *name));
    let rows: Vec<Vec<String>> = (coders.iter())
        .map(|(name, coder)| {
            vec![
                (*name).to_owned(),
                render::count(coder.parts),
                render::bytes(coder.bytes),
                format!("{:.1} %", coder.bytes as f64 * 100.0 / all.max(1) as f64),
            ]
        })
        .collect();
    let header = [
        ("CODEC", Align::Left),
        ("COLUMNS", Align::Right),
        ("BYTES", Align::Right),
        ("SHARE", Align::Right),
    ];
    render::table(&header, &rows);
    Ok(Exit::Done)
}
