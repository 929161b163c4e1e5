//! What a faulty writer stores has all its checksums: it must be found by its meaning.

mod repo_support;

use pgtide::repo::lists::{read_list, read_value, write_list, write_value};
use pgtide::repo::model::{ManifestShard, Root, TableRecord};
use pgtide::repo::{CheckOptions, PackGroup, ReadData, RepoError, Repository, SnapshotId};
use pgtide::rows::{BlockId, ColumnKind, Decoder, Effort, Encoder, Format};
use repo_support::*;

#[test]
fn a_block_under_the_wrong_id_is_refused_and_found() {
    let place = Place::new();
    let repo = place.open();
    let writer = repo.writer(Effort::Fast).unwrap();
    let mut encoded = Vec::new();
    Encoder::new(Effort::Fast)
        .encode(Format::Text, &[ColumnKind::Text], 1, b"a\n", &mut encoded)
        .unwrap();
    let wrong = repo.id_key().block_id(Format::Text, 1, b"b\n");
    writer.put(&PackGroup::Small, wrong, &encoded).unwrap();
    writer.abort().unwrap();
    let reader = repo.reader().unwrap();
    let error = reader
        .read(
            &wrong,
            &mut Decoder::new(),
            &mut Vec::new(),
            &mut Vec::new(),
        )
        .unwrap_err();
    assert!(
        matches!(&error, RepoError::DamagedBlock { block, .. } if *block == wrong),
        "{error}"
    );
    assert!(
        error.to_string().contains("payload does not have its id"),
        "{error}"
    );
    let report = check(&repo);
    assert!(
        report.problems.len() == 1
            && report.problems[0]
                .detail
                .contains("payload does not have its id")
    );
}

#[test]
fn bytes_that_are_no_block_are_not_taken() {
    let place = Place::new();
    let writer = place.open().writer(Effort::Fast).unwrap();
    writer
        .put(&PackGroup::Small, BlockId([1; 32]), b"not an encoded block")
        .unwrap_err();
    // That is the caller's fault and not the writer's end.
    writer.put_other(&PackGroup::Small, b"x").unwrap();
    writer.abort().unwrap();
}

/// Commits a snapshot whose only table is changed by `lie`.
fn lying(repo: &Repository, lie: impl Fn(&mut TableRecord, &mut ManifestShard)) -> SnapshotId {
    let (_, honest) = repo.find("latest").unwrap();
    let reader = repo.reader().unwrap();
    let root: Root = read_value(&reader, &honest.root).unwrap();
    let mut tables: Vec<TableRecord> = read_list(&reader, &root.tables).unwrap();
    let mut shard: ManifestShard = read_value(&reader, &tables[0].manifest[0]).unwrap();
    lie(&mut tables[0], &mut shard);
    let writer = repo.writer(Effort::Fast).unwrap();
    tables[0].manifest[0] = write_value(&writer, &PackGroup::Meta, &shard).unwrap();
    let tables = write_list(&writer, &PackGroup::Meta, &tables, |table| {
        table.name.clone()
    })
    .unwrap();
    let root = write_value(&writer, &PackGroup::Meta, &Root { tables, ..root }).unwrap();
    writer
        .commit(pgtide::repo::model::Snapshot { root, ..honest })
        .unwrap()
}

#[test]
fn a_manifest_that_does_not_agree_with_its_blocks_is_found() {
    type Lie = fn(&mut TableRecord, &mut ManifestShard);
    let lies: [(&str, Lie); 6] = [
        ("holds", |table, shard| {
            shard.segments[0].blocks[0].payload_len += 1;
            table.payload_bytes += 1;
        }),
        ("rows", |table, shard| {
            shard.segments[0].blocks[0].digest.rows += 1;
            table.digest.rows += 1;
        }),
        ("Binary", |_, shard| {
            shard.segments[0].blocks[0].format = Format::Binary
        }),
        ("digest", |table, _| table.digest.sum += 1),
        ("bytes", |table, _| table.payload_bytes -= 1),
        ("in no index", |_, shard| {
            shard.segments[1].blocks[0].id = BlockId([3; 32])
        }),
    ];
    for (what, lie) in lies {
        let place = Place::new();
        let repo = place.open();
        let (honest, _) = dump(&repo, &database(1, 3, 5_000), 1).unwrap();
        let liar = lying(&repo, lie);
        let report = check(&repo);
        let [problem] = &report.problems[..] else {
            panic!("{what}: {:#?}", report.problems)
        };
        assert!(problem.detail.contains(what), "{what}: {problem}");
        assert_eq!(problem.snapshots, [liar], "{what}: {problem}, not {honest}");
    }
}

#[test]
fn a_root_that_is_no_root_is_found() {
    let place = Place::new();
    let repo = place.open();
    dump(&repo, &database(1, 3, 5_000), 1).unwrap();
    let (_, honest) = repo.find("latest").unwrap();
    let writer = repo.writer(Effort::Fast).unwrap();
    let root = writer
        .put_other(&PackGroup::Meta, b"\xff\xff\xff nonsense")
        .unwrap();
    let id = writer
        .commit(pgtide::repo::model::Snapshot {
            root,
            ..honest.clone()
        })
        .unwrap();
    let report = check(&repo);
    assert!(
        report.problems.len() == 1 && report.problems[0].snapshots == [id],
        "{:#?}",
        report.problems
    );

    let writer = repo.writer(Effort::Fast).unwrap();
    let root = BlockId([9; 32]);
    let error = writer
        .commit(pgtide::repo::model::Snapshot { root, ..honest })
        .unwrap_err();
    assert!(
        matches!(error, RepoError::MissingBlock { block, .. } if block == root),
        "{error}"
    );
    assert_eq!(repo.snapshots().unwrap().list.len(), 2);
}

#[test]
fn a_check_of_the_structure_finds_what_lengths_and_names_tell() {
    let place = Place::new();
    let repo = place.open();
    dump(&repo, &database(3, 4, 8_000), 1).unwrap();
    let expect = |object: &str, what: &str| {
        let report = repo
            .check(
                CheckOptions {
                    read_data: ReadData::None,
                },
                &|_| (),
            )
            .unwrap();
        let problem = report
            .problems
            .iter()
            .find(|problem| problem.object == object);
        let problem =
            problem.unwrap_or_else(|| panic!("{object}: {what}: not in {:#?}", report.problems));
        assert_eq!(problem.snapshots.len(), 1, "{problem}");
    };
    let packs = place.names("packs/");
    let [a, b] = [0, 1].map(|at| place.store.get(&packs[at]).unwrap());
    place.store.put(&packs[0], &a[..a.len() - 1]).unwrap();
    expect(&packs[0], "cut");
    place
        .store
        .put(&packs[0], &[&a[..], b"x"].concat())
        .unwrap();
    expect(&packs[0], "extended");
    place.store.put(&packs[0], &b).unwrap();
    expect(&packs[0], "another in its place");
    place.store.delete(&packs[0]).unwrap();
    expect(&packs[0], "deleted");
    place.store.put(&packs[0], &a).unwrap();
    for index in place.names("index/") {
        place.store.delete(&index).unwrap();
    }
    for pack in &packs {
        expect(pack, "not indexed");
    }
}
