//! Any bytes are an index object that can be searched, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::repo::parse::IndexFile;
use pgtide::rows::BlockId;

fuzz_target!(|input: (bool, u8, u8, [u8; 32], Vec<u8>)| {
    let (frame, packs, records, id, rest) = input;
    let bytes = if frame {
        let start = b"PGTIDEIX\x01\0\0\0\0\0\0\0";
        let counts = [u64::from(packs), u64::from(records)].map(u64::to_le_bytes);
        [&start[..], &counts[0], &counts[1], &rest].concat()
    } else {
        rest
    };
    let Ok(file) = IndexFile::parse(bytes.into()) else {
        return;
    };
    assert_eq!(file.packs().count(), file.pack_count());
    let records: Vec<_> = file.records().collect();
    assert_eq!(records.len(), file.record_count());
    let found = file.find(BlockId(id)).count();
    if records.is_sorted() {
        assert_eq!(
            found,
            records
                .iter()
                .filter(|record| record.id == BlockId(id))
                .count()
        );
    }
});
