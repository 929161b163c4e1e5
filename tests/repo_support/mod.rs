//! A small dump and restore over the repository, for its tests.
//!
//! Repositories are in directories, or with `PGTIDE_TEST_PLACE=NAME` on the server for object storage that
//! `PGTIDE_TEST_STORE_<NAME>` describes.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgtide::repo::lists::{read_list, read_value, write_list, write_value};
use pgtide::repo::model::{
    BlockRef, Cluster, Column, ManifestShard, Member, Root, Segment, SequenceValue, Snapshot,
    Source, TableRecord, TableRole, Totals,
};
use pgtide::repo::outline::Tree;
use pgtide::repo::{
    CheckOptions, CheckReport, Hex, InitOptions, Kdf, NewKey, PackGroup, Password, ReadData,
    RepoError, Repository, Role, SnapshotId, Writer, WriterOptions, WriterStats,
};
use pgtide::rows::{ColumnKind, Decoder, Effort, Encoder, Format, RowDigest, Shape};
use pgtide::store::{LocalStore, Store};

#[allow(
    clippy::duplicate_mod,
    reason = "some test files have the tests of stores beside this"
)]
#[path = "../store_support/servers.rs"]
mod servers;

use servers::Server;

/// Tables by name, each with the payloads of its blocks.
pub type Database = Vec<(String, Vec<Vec<u8>>)>;

/// Packs so small that a test has many.
pub const SMALL: WriterOptions = WriterOptions {
    pack_size: 20_000,
    open_packs: 4,
    pack_age: Duration::from_secs(120),
    index_interval: Duration::from_secs(60),
    index_bytes: 50_000,
    heartbeat: Duration::from_secs(20),
};

/// A repository in a temporary directory, or in a place of its own on a server.
pub struct Place {
    home: Home,
    pub store: Arc<dyn Store>,
    /// Of an encrypted one.
    pub password: Option<Password>,
}

enum Home {
    Directory(tempfile::TempDir),
    Server(Server),
}

/// The server where repositories are to be, if it is not a directory.
fn server() -> Option<Server> {
    let name = std::env::var("PGTIDE_TEST_PLACE").ok()?;
    let server = servers::remote(&name.to_uppercase());
    Some(server.expect("PGTIDE_TEST_PLACE is that of a server that is there"))
}

/// Whether repositories are on a server: every request takes its time.
pub fn is_remote() -> bool {
    std::env::var_os("PGTIDE_TEST_PLACE").is_some()
}

/// All of these cases, or where each takes long every seventh, beginning anywhere.
pub fn cases<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let all: Vec<T> = all.into_iter().collect();
    let step = if is_remote() { 7 } else { 1 };
    let first = rand::random_range(0..all.len().clamp(1, step));
    all.into_iter().skip(first).step_by(step)
}

/// After so long without a sign of life a session is dead: writers of the tests give one much more often.
pub fn patience() -> Duration {
    Duration::from_millis(if is_remote() { 2_000 } else { 40 })
}

/// A password's key that costs nothing.
pub const CHEAP: Kdf = Kdf::Argon2id {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

/// The password of encrypted repositories.
pub const PASSWORD: &str = "correct horse";

pub fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

/// A key that costs nothing.
pub fn cheap(role: Role, password: &Password) -> NewKey<'_> {
    NewKey {
        role,
        label: "test key",
        password,
        kdf: CHEAP,
    }
}

/// What kinds of repositories there are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Plain,
    Encrypted,
}

impl Place {
    pub fn new() -> Self {
        let place = Self::empty();
        Repository::init(Arc::clone(&place.store)).unwrap();
        place
    }

    /// An encrypted one.
    pub fn encrypted() -> Self {
        let mut place = Self::empty();
        let password = password(PASSWORD);
        let options = InitOptions {
            key: Some(cheap(Role::Read, &password)),
            keys_from: None,
        };
        Repository::init_with(Arc::clone(&place.store), &options).unwrap();
        place.password = Some(password);
        place
    }

    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Plain => Self::new(),
            Kind::Encrypted => Self::encrypted(),
        }
    }

    pub fn empty() -> Self {
        if let Some(server) = server() {
            return Self {
                store: server.place(),
                home: Home::Server(server),
                password: None,
            };
        }
        // In memory where that is possible: these tests do not cut the power, and syncing takes most of their time.
        let memory = std::path::Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory)
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        Self {
            store: Arc::new(LocalStore::new(dir.path())),
            home: Home::Directory(dir),
            password: None,
        }
    }

    /// A place below a directory, which is gone with it.
    pub fn below(dir: tempfile::TempDir, name: &str) -> Self {
        Self {
            store: Arc::new(LocalStore::new(dir.path().join(name))),
            home: Home::Directory(dir),
            password: None,
        }
    }

    /// Where it is, as the program is told.
    pub fn url(&self) -> String {
        self.store.location()
    }

    /// What the program needs in its environment to find it.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = match &self.home {
            Home::Directory(_) => vec![("PGTIDE_REPO".into(), self.url())],
            Home::Server(server) => server.program_env(&self.url()),
        };
        // The only one that tests use where they use the program.
        env.extend(
            self.password
                .iter()
                .map(|_| ("PGTIDE_PASSWORD".into(), PASSWORD.into())),
        );
        env
    }

    pub fn open(&self) -> Repository {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Repository, RepoError> {
        self.open_through(Arc::clone(&self.store))
    }

    /// Opens it by way of another store.
    pub fn open_through(&self, store: Arc<dyn Store>) -> Result<Repository, RepoError> {
        match &self.password {
            None => Repository::open(store),
            Some(password) => open_with(store, password),
        }
    }

    /// Opens it with another password.
    pub fn open_with(&self, text: &str) -> Result<Repository, RepoError> {
        open_with(Arc::clone(&self.store), &password(text))
    }

    /// The bytes of every object, by name.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.names("").into_iter();
        names
            .map(|name| (name.clone(), self.store.get(&name).unwrap()))
            .collect()
    }

    /// The largest pack: it has rows. Others may hold nothing but lists, or the copy of a snapshot's record.
    pub fn pack_with_rows(&self) -> String {
        let packs = self.store.list("packs/").unwrap();
        packs.into_iter().max_by_key(|pack| pack.len).unwrap().name
    }

    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.store
            .list(prefix)
            .unwrap()
            .into_iter()
            .map(|object| object.name)
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Home::Server(_) = self.home {
            // What stays behind is in nobody's way.
            for object in self.store.list("").unwrap_or_default() {
                let _ = self.store.delete(&object.name);
            }
        }
    }
}

fn open_with(store: Arc<dyn Store>, password: &Password) -> Result<Repository, RepoError> {
    Repository::open_with(store, || Ok::<_, RepoError>(password.clone()))
}

/// Rows of random digits, the same for the same seed: they do not compress below half.
pub fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(format!("{state}\n").as_bytes());
    }
    out
}

/// Some tables of several blocks.
pub fn database(tables: u64, blocks: u64, len: usize) -> Database {
    let table = |table: u64| {
        let payloads = (0..blocks)
            .map(|block| payload(table * 1000 + block, len))
            .collect();
        (format!("table {table:03}"), payloads)
    };
    (0..tables).map(table).collect()
}

/// Stores one table's blocks.
pub fn put_table(
    repo: &Repository,
    writer: &Writer,
    name: &str,
    payloads: &[Vec<u8>],
) -> Result<TableRecord, RepoError> {
    let mut encoder = Encoder::new(Effort::Fast);
    let group = PackGroup::Table(name.bytes().map(u64::from).sum());
    let mut shard = ManifestShard::default();
    let (mut encoded, mut digest, mut payload_bytes) = (Vec::new(), RowDigest::default(), 0);
    for (number, payload) in (0..).zip(payloads) {
        let id = repo.id_key().block_id(Format::Text, 1, payload);
        if !writer.contains(&id) {
            encoder.encode(Format::Text, &[ColumnKind::Text], 1, payload, &mut encoded)?;
            writer.put(&group, id, &encoded)?;
        }
        let rows = payload.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let of_block = RowDigest {
            rows,
            sum: u128::from(number) + 1,
        };
        digest += of_block;
        payload_bytes += payload.len() as u64;
        let reference = BlockRef {
            id,
            format: Format::Text,
            payload_len: payload.len() as u32,
            digest: of_block,
        };
        shard.segments.push(Segment {
            number,
            blocks: vec![reference],
        });
    }
    let column = Column {
        name: "n".into(),
        type_name: "text".into(),
        kind: ColumnKind::Text,
        shape: Shape::Plain,
    };
    Ok(TableRecord {
        schema: "public".into(),
        name: name.into(),
        role: TableRole::Plain,
        columns: vec![column],
        format: Format::Text,
        load_through: None,
        segment_pages: 256,
        source_bytes: 0,
        payload_bytes,
        digest,
        manifest: vec![write_value(writer, &PackGroup::Outline, &shard)?],
    })
}

/// Stores root and lists, and commits.
pub fn finish(
    writer: Writer,
    tables: &[TableRecord],
    source: &str,
    time: i64,
) -> Result<SnapshotId, RepoError> {
    finish_as(writer, tables, source, time, |_| ())
}

/// As [`finish`], a snapshot that says something else of itself.
pub fn finish_as(
    writer: Writer,
    tables: &[TableRecord],
    source: &str,
    time: i64,
    edit: impl FnOnce(&mut Snapshot),
) -> Result<SnapshotId, RepoError> {
    let sequence = SequenceValue {
        schema: "public".into(),
        name: "s".into(),
        extension: None,
        last_value: 7,
        is_called: true,
    };
    let root = Root {
        entry_order: Vec::new(),
        entries: vec![writer.put_other(&PackGroup::Meta, b"CREATE TABLE and so on")?],
        tables: write_list(&writer, &PackGroup::Meta, tables, |table| {
            table.name.clone()
        })?,
        sequences: write_list(&writer, &PackGroup::Meta, &[sequence], |sequence| {
            sequence.name.clone()
        })?,
    };
    let tree = Tree::store(&writer, &root, tables)?;
    let (host, database) = source.split_once('/').unwrap();
    let mut snapshot = Snapshot {
        time: jiff::Timestamp::from_second(time).unwrap(),
        finished: jiff::Timestamp::from_second(time + 1).unwrap(),
        tool: "test".into(),
        host: "here".into(),
        tags: vec![],
        source: Source {
            database: database.into(),
            host: host.into(),
            port: 5432,
            ..Source::default()
        },
        totals: Totals::default(),
        warnings: vec![],
        sections: vec![],
        chosen: vec![],
        conditions: vec![],
        without_rows: vec![],
        cluster: None,
        original: None,
        root: tree.root,
        outline: Some(tree.outline),
        sealed: false,
    };
    edit(&mut snapshot);
    writer.commit(snapshot)
}

/// Stores all tables as a snapshot.
pub fn dump(
    repo: &Repository,
    database: &Database,
    time: i64,
) -> Result<(SnapshotId, WriterStats), RepoError> {
    let writer = repo.writer_with(Effort::Fast, SMALL)?;
    let mut tables = Vec::new();
    for (name, payloads) in database {
        tables.push(put_table(repo, &writer, name, payloads)?);
    }
    let stats = writer.stats();
    Ok((finish(writer, &tables, "host/db", time)?, stats))
}

/// Stores all tables as a snapshot that says something else of itself.
pub fn dump_as(
    repo: &Repository,
    database: &Database,
    source: &str,
    time: i64,
    edit: impl FnOnce(&mut Snapshot),
) -> Result<SnapshotId, RepoError> {
    let writer = repo.writer_with(Effort::Fast, SMALL)?;
    let mut tables = Vec::new();
    for (name, payloads) in database {
        tables.push(put_table(repo, &writer, name, payloads)?);
    }
    finish_as(writer, &tables, source, time, edit)
}

/// Reads all tables of a snapshot.
pub fn restore(repo: &Repository, snapshot: &Snapshot) -> Result<Database, RepoError> {
    let reader = repo.reader()?;
    let (mut decoder, mut scratch, mut out) = (Decoder::new(), Vec::new(), Vec::new());
    let root: Root = read_value(&reader, &snapshot.root)?;
    let mut database = Vec::new();
    for table in read_list::<TableRecord>(&reader, &root.tables)? {
        let mut payloads = Vec::new();
        for shard in &table.manifest {
            let shard: ManifestShard = read_value(&reader, shard)?;
            for reference in shard.segments.iter().flat_map(|segment| &segment.blocks) {
                reader.read(&reference.id, &mut decoder, &mut scratch, &mut out)?;
                payloads.push(out.clone());
            }
        }
        database.push((table.name, payloads));
    }
    Ok(database)
}

/// Checks every byte.
pub fn check(repo: &Repository) -> CheckReport {
    repo.check(
        CheckOptions {
            read_data: ReadData::All,
        },
        &|_| (),
    )
    .unwrap()
}

/// Checks every byte and finds nothing.
pub fn assert_clean(repo: &Repository, when: &str) {
    let problems: Vec<String> = check(repo)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(problems.is_empty(), "{when}: {problems:#?}");
}

pub const DAY: i64 = 86_400;

/// A small database as of that day.
pub fn content(day: i64) -> Database {
    let mut database = database(2, 2, 3_000);
    database[0].1[0] = payload(day as u64 + 500, 3_000);
    database
}

/// Snapshots of one database, one a day.
pub fn nights(place: &Place, days: i64) -> Vec<SnapshotId> {
    let repo = place.open();
    (0..days)
        .map(|day| dump(&repo, &content(day), day * DAY).unwrap().0)
        .collect()
}

/// The dump of a cluster with two databases: theirs, and its own.
pub fn cluster(repo: &Repository, time: i64) -> [SnapshotId; 3] {
    let run = Hex([time as u8 + 1; 16]);
    let member = |name: &str, after: i64| {
        let source = format!("host/{name}");
        dump_as(repo, &content(time), &source, time, |snapshot| {
            snapshot.finished = jiff::Timestamp::from_second(time + after).unwrap();
            snapshot.cluster = Some(Cluster {
                run,
                databases: None,
                missing: Vec::new(),
            });
        })
        .unwrap()
    };
    let (a, b) = (member("a", 1), member("b", 2));
    let whole = dump_as(repo, &vec![], "host/", time + 1, |snapshot| {
        let member = |name: &str, snapshot| Member {
            database: name.into(),
            snapshot,
        };
        snapshot.cluster = Some(Cluster {
            run,
            databases: Some(vec![member("a", a), member("b", b)]),
            missing: Vec::new(),
        });
    });
    [a, b, whole.unwrap()]
}
