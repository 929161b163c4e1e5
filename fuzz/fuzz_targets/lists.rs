//! Any payload of a block is a value or a list of its kind, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::repo::lists::decode;
use pgtide::repo::model::{ManifestShard, Root, SequenceValue, TableRecord};
use pgtide::repo::outline::{Outline, OutlineTable};
use pgtide::rows::{BlockId, Format};

fuzz_target!(|payload: &[u8]| {
    let id = BlockId([0; 32]);
    let _ = decode::<Root>(&id, Format::Other, payload);
    let _ = decode::<Vec<TableRecord>>(&id, Format::Other, payload);
    let _ = decode::<Vec<SequenceValue>>(&id, Format::Other, payload);
    let _ = decode::<ManifestShard>(&id, Format::Other, payload);
    let _ = decode::<Outline>(&id, Format::Other, payload);
    let _ = decode::<Vec<OutlineTable>>(&id, Format::Other, payload);
});
