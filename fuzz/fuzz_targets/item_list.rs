//! Any bytes are a list of items or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::pg::archive::TocEntry;
use pgtide::schema::list::parse_list;

fuzz_target!(|bytes: &[u8]| {
    for listed in parse_list(bytes).unwrap_or_default() {
        listed.is_of(&TocEntry::default());
    }
});
