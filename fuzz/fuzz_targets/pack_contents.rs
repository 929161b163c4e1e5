//! Any end of a pack reads as contents that cover the pack, or is refused; any bytes are a sound block, or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::repo::parse::{BlockHeader, parse_toc};
use xxhash_rust::xxh3::xxh3_128;

fuzz_target!(|input: (u64, Vec<u8>, bool)| {
    let (pack_len, mut bytes, seal) = input;
    let _ = BlockHeader::open(&bytes);
    if seal {
        // What a faulty or hostile writer would make: the checksum holds.
        bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&xxh3_128(&bytes).to_le_bytes());
        bytes.extend_from_slice(b"PGTIDEPE");
    }
    if let Ok(entries) = parse_toc(pack_len, &bytes) {
        let blocks: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
        assert_eq!(16 + blocks + entries.len() as u64 * 48 + 32, pack_len);
    }
});
