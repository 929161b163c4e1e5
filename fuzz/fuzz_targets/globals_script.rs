//! Any script is taken apart into entries or an error, and a password can be taken out of any statement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::schema::globals;

fuzz_target!(|script: &[u8]| {
    if let Ok(entries) = globals::parse(script) {
        for entry in &entries {
            let bare = globals::without_password(&entry.defn);
            assert!(bare.is_none_or(|bare| bare.as_bytes().len() < entry.defn.as_bytes().len()));
            let _ = globals::location(entry);
        }
    }
});
