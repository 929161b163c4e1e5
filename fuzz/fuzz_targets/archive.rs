//! Any bytes are an archive or an error, and what was read can be ordered, listed, rendered and stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::pg::archive::Archive;
use pgtide::schema::graph::Graph;
use pgtide::schema::list::list_line;
use pgtide::schema::statements::{RenderOptions, session_settings, statements};
use pgtide::schema::store::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(archive) = Archive::read(bytes) else {
        return;
    };
    let graph = Graph::build(&archive.entries);
    for (number, task) in graph.tasks.iter().enumerate() {
        assert!(task.deps.iter().all(|dep| *dep < number));
    }
    for entry in &archive.entries {
        list_line(entry);
        statements(entry, RenderOptions::default());
    }
    session_settings(&archive.entries);
    let (items, order) = encode(&archive.entries);
    let again = decode(items, &order).expect("what was stored can be read");
    assert_eq!(again.len(), archive.entries.len());
});
