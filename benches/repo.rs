//! How fast blocks get into a repository and out of it, with everything made durable, against a plain file.
//!
//! `cargo bench --bench repo [MiB]` prints MB/s; the directory is on the disk of the build.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use pgtide::repo::{CheckOptions, PackGroup, ReadData, Repository};
use pgtide::rows::{BlockId, ColumnKind, Decoder, Effort, Encoder, Format};
use pgtide::store::LocalStore;

const BLOCK: usize = 1 << 20;
const THREADS: u64 = 2;

fn main() {
    let mib = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(1024usize);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();

    // Random printable rows: they hardly compress, so bytes in are bytes on disk, nearly.
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let repo = Repository::init(Arc::new(LocalStore::new(dir.path().join("repo")))).unwrap();
    let mut encoder = Encoder::new(Effort::Fast);
    let mut blocks: Vec<(BlockId, Vec<u8>)> = Vec::new();
    for _ in 0..mib {
        let mut payload: Vec<u8> = (0..BLOCK / 8)
            .flat_map(|_| next().to_le_bytes().map(|byte| byte | 0x80))
            .collect();
        payload.push(b'\n');
        let mut encoded = Vec::new();
        encoder
            .encode(Format::Text, &[ColumnKind::Text], 1, &payload, &mut encoded)
            .unwrap();
        blocks.push((repo.id_key().block_id(Format::Text, 1, &payload), encoded));
    }
    let bytes: usize = blocks.iter().map(|(_, encoded)| encoded.len()).sum();
    let report = |what: &str, start: Instant| {
        println!(
            "{what}: {:.0} MB/s",
            bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
        );
    };

    let start = Instant::now();
    let mut file = File::create(dir.path().join("plain")).unwrap();
    blocks
        .iter()
        .for_each(|(_, encoded)| file.write_all(encoded).unwrap());
    file.sync_all().unwrap();
    report("plain file, synced", start);

    let start = Instant::now();
    let writer = repo.writer(Effort::Fast).unwrap();
    let at = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (writer, blocks, at) = (&writer, &blocks, &at);
            scope.spawn(move || {
                while let Some((id, encoded)) = blocks.get(at.fetch_add(1, Ordering::Relaxed)) {
                    writer.put(&PackGroup::Table(number), *id, encoded).unwrap();
                }
            });
        }
    });
    report("put, before the end", start);
    writer.abort().unwrap();
    report("put, packs and index synced", start);

    let start = Instant::now();
    let writer = repo.writer(Effort::Fast).unwrap();
    assert!(blocks.iter().all(|(id, _)| writer.contains(id)));
    writer.abort().unwrap();
    report("found again", start);

    let start = Instant::now();
    let reader = repo.reader().unwrap();
    let (mut decoder, mut scratch, mut out) = (Decoder::new(), Vec::new(), Vec::new());
    for (id, _) in &blocks {
        reader
            .read(id, &mut decoder, &mut scratch, &mut out)
            .unwrap();
    }
    report("read, one thread", start);

    let start = Instant::now();
    let found = repo
        .check(
            CheckOptions {
                read_data: ReadData::All,
            },
            &|_| (),
        )
        .unwrap();
    assert!(found.problems.is_empty());
    report("check --read-data", start);
}
