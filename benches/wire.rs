//! What a row costs on the connection: read from a COPY, sent into a COPY, and passed from one to the other as a clone
//! does. The server is a thread that sends frames made before, and throws away what it gets, so that the client is what is
//! measured; on one core both share it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgtide::pg::{Connection, ConnectionArgs, Error, Reply, RowSink, SessionOptions, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 500_000;
/// Bytes of a row, as those of a table of sensors: 8 columns.
const ROW: usize = 86;
/// Rows above this would come in parts.
const MAX_ROW: usize = 8 << 20;

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() + 4) as u32;
    [&[tag][..], &len.to_be_bytes(), body].concat()
}

/// All rows, as a server sends them: the header with the first, a frame each, the trailer.
fn copy_out() -> Vec<u8> {
    let mut out = frame(b'H', &[1, 0, 1, 0, 1]);
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    for row in 0..ROWS {
        let mut body = vec![row as u8; ROW];
        body[..2].copy_from_slice(&[0, 8]);
        match row {
            0 => out.extend(frame(b'd', &[&header[..], &body].concat())),
            _ => out.extend(frame(b'd', &body)),
        }
    }
    out.extend(frame(b'd', &[0xff, 0xff]));
    out.extend(frame(b'c', &[]));
    out.extend(frame(b'C', format!("COPY {ROWS}\0").as_bytes()));
    out.extend(frame(b'Z', b"I"));
    out
}

/// Serves one connection: COPY TO is answered with all rows, COPY FROM with the count.
fn serve(mut stream: UnixStream, rows: &[u8]) -> std::io::Result<()> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut startup = vec![0; u32::from_be_bytes(len) as usize - 4];
    stream.read_exact(&mut startup)?;
    let mut hello = frame(b'R', &[0; 4]);
    for setting in [
        "server_version\x0017.0\0",
        "client_encoding\0UTF8\0",
        "integer_datetimes\0on\0",
    ] {
        hello.extend(frame(b'S', setting.as_bytes()));
    }
    hello.extend(frame(b'K', &[0; 8]));
    hello.extend(frame(b'Z', b"I"));
    stream.write_all(&hello)?;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).is_err() {
            return Ok(());
        }
        body.resize(
            u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4,
            0,
        );
        stream.read_exact(&mut body)?;
        match head[0] {
            b'Q' if body.ends_with(b"TO STDOUT\0") => stream.write_all(rows)?,
            b'Q' if body.ends_with(b"FROM STDIN\0") => {
                stream.write_all(&frame(b'G', &[1, 0, 1, 0, 1]))?
            }
            b'Q' => stream.write_all(&[frame(b'C', b"SET\0"), frame(b'Z', b"I")].concat())?,
            b'c' => {
                let tag = format!("COPY {ROWS}\0");
                stream.write_all(&[frame(b'C', tag.as_bytes()), frame(b'Z', b"I")].concat())?;
            }
            _ => {}
        }
    }
}

fn connect(settings: &Settings) -> Connection {
    settings
        .connect(&SessionOptions::pinned())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Takes rows and counts their bytes.
struct Count(u64);

impl RowSink for Count {
    type Error = Error;

    fn row(&mut self, row: &[u8]) -> Result<(), Error> {
        self.0 += row.len() as u64;
        Ok(())
    }

    fn part(&mut self, part: &[u8], _: u64, _: u64) -> Result<(), Error> {
        self.0 += part.len() as u64;
        Ok(())
    }
}

/// Gathers rows, as a dump does.
struct Gather(Vec<u8>);

impl RowSink for Gather {
    type Error = Error;

    fn row(&mut self, row: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(row);
        if self.0.len() >= 16 << 20 {
            self.0.clear();
        }
        Ok(())
    }

    fn part(&mut self, _: &[u8], _: u64, _: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// Passes rows on, as a clone does.
struct Pass<'p, 'c>(&'p mut pgtide::pg::CopyIn<'c>);

impl RowSink for Pass<'_, '_> {
    type Error = Error;

    fn row(&mut self, row: &[u8]) -> Result<(), Error> {
        self.0.write(row)
    }

    fn part(&mut self, part: &[u8], _: u64, _: u64) -> Result<(), Error> {
        self.0.write(part)
    }
}

fn read<S: RowSink<Error = Error>>(source: &mut Connection, sink: &mut S) -> u64 {
    let mut rows = 0;
    let result = source.send("COPY t TO STDOUT").and_then(|()| {
        loop {
            match source.next()? {
                Reply::CopyOut { .. } => match source.read_copy(MAX_ROW, sink) {
                    Ok(read) => rows = read,
                    Err(error) => panic!("{error:?}"),
                },
                Reply::Done => return Ok(()),
                _ => {}
            }
        }
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rows, ROWS as u64);
    rows
}

fn wire(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = dir.path().join(".s.PGSQL.5432");
    let listener = UnixListener::bind(path).unwrap_or_else(|error| panic!("{error}"));
    let rows = copy_out();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for stream in listener.incoming().flatten() {
                let rows = &rows;
                scope.spawn(move || serve(stream, rows));
            }
        });
    });
    let args = ConnectionArgs {
        host: dir.path().to_str().map(str::to_owned),
        dbname: Some("bench".to_owned()),
        user: Some("bench".to_owned()),
        ..ConnectionArgs::default()
    };
    let settings = Settings::resolve(args, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let (mut source, mut target) = (connect(&settings), connect(&settings));

    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(20);
    println!("rows of {ROW} bytes");
    group.bench_function("read", |b| b.iter(|| read(&mut source, &mut Count(0))));
    group.bench_function("read into blocks", |b| {
        let mut gather = Gather(Vec::with_capacity(17 << 20));
        b.iter(|| read(&mut source, &mut gather));
    });
    let payload = vec![7; ROW * 25_000];
    group.bench_function("load", |b| {
        b.iter(|| {
            let mut copy = target.copy_in("COPY t FROM STDIN")?;
            for _ in 0..ROWS / 25_000 {
                copy.write(&payload)?;
            }
            copy.finish()
        });
    });
    group.bench_function("pass on", |b| {
        b.iter(|| {
            let mut copy = target.copy_in("COPY t FROM STDIN")?;
            read(&mut source, &mut Pass(&mut copy));
            copy.finish()
        });
    });
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
