//! What a row costs on its way into a block and back. Criterion prints rows per second; the sizes come first.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgtide::rows::{
    ColumnKind, Decoder, DigestPlan, Digester, Effort, Encoder, Format, IdKey, Shape,
};

/// The program's allocator: the compressors ask for much memory, and the one of libc gives it back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 28_000;
const DEVICES: usize = 100;
const NAMES: [&str; 8] = [
    "time",
    "device",
    "temperature",
    "noise",
    "reads",
    "writes",
    "load",
    "status",
];
const KINDS: [ColumnKind; 8] = [
    ColumnKind::Timestamp,
    ColumnKind::Int32,
    ColumnKind::Float64,
    ColumnKind::Float64,
    ColumnKind::Int64,
    ColumnKind::Int64,
    ColumnKind::Float32,
    ColumnKind::Text,
];

/// A small generator, so that every run has the same rows.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Readings of some devices, ten seconds apart, as binary COPY sends them.
fn sensor_rows() -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut payload = Vec::new();
    let mut temperatures = [20.0f64; DEVICES];
    let mut reads = [0i64; DEVICES];
    let mut writes = [0i64; DEVICES];
    for row in 0..ROWS {
        let device = row % DEVICES;
        temperatures[device] += random.unit() - 0.5;
        reads[device] += (random.next() % 1000) as i64;
        writes[device] += (random.next() % 10) as i64;
        let time = 800_000_000_000_000 + (row / DEVICES) as i64 * 10_000_000;
        let temperature = (temperatures[device] * 100.0).round() / 100.0;
        let noise = (random.unit() * 100_000.0).round() / 100.0;
        let load = (random.unit() * 100.0).round() as f32 / 100.0;
        let status = match random.next() % 100 {
            0..=1 => "fail",
            2..=9 => "warn",
            _ => "ok",
        };
        payload.extend((KINDS.len() as u16).to_be_bytes());
        for field in [
            &time.to_be_bytes()[..],
            &(device as i32).to_be_bytes(),
            &temperature.to_be_bytes(),
            &noise.to_be_bytes(),
            &reads[device].to_be_bytes(),
            &writes[device].to_be_bytes(),
            &load.to_be_bytes(),
            status.as_bytes(),
        ] {
            payload.extend((field.len() as u32).to_be_bytes());
            payload.extend(field);
        }
    }
    payload
}

fn rows(criterion: &mut Criterion) {
    let payload = sensor_rows();
    let columns = KINDS.len() as u16;
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    println!(
        "payload: {:.1} bytes a row",
        payload.len() as f64 / ROWS as f64
    );

    let key = IdKey([7; 32]);
    group.bench_function("block_id", |b| {
        b.iter(|| key.block_id(Format::Binary, columns, &payload));
    });

    let described = NAMES.map(|name| (name.to_string(), Shape::Plain));
    let plan = DigestPlan::new(Format::Binary, &described);
    group.bench_function("digest", |b| {
        let mut digester = Digester::new(&plan);
        b.iter(|| digester.push_rows(&payload).map(|digest| digest.rows));
    });

    for effort in [Effort::Fast, Effort::Default, Effort::Best] {
        let mut encoder = Encoder::new(effort);
        let mut encoded = Vec::new();
        let result = encoder.encode(Format::Binary, &KINDS, columns, &payload, &mut encoded);
        assert!(result.is_ok());
        println!(
            "{effort:?}: {:.2} bytes a row",
            encoded.len() as f64 / ROWS as f64
        );
        group.bench_function(format!("encode and verify, {effort:?}"), |b| {
            b.iter(|| encoder.encode(Format::Binary, &KINDS, columns, &payload, &mut encoded));
        });
        let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
        group.bench_function(format!("decode, {effort:?}"), |b| {
            b.iter(|| decoder.decode(&encoded, &mut decoded));
        });
    }
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
