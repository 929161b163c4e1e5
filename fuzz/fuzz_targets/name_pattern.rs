//! Any text is a pattern of names or an error, and matching by it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::schema::pattern::Pattern;

fuzz_target!(|input: (&str, &str, &str)| {
    let (pattern, schema, name) = input;
    if let Ok(pattern) = pattern.parse::<Pattern>() {
        pattern.matches(&(schema.to_owned(), name.to_owned()), None);
    }
});
