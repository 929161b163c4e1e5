//! Any bytes are an answer of an object store, or something that is told from one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::store::parse;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse::is_listing(bytes);
    let _ = parse::error_code(bytes);
    let _ = parse::unfinished_uploads(bytes);
});
