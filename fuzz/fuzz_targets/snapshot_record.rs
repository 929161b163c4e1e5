//! Any bytes are a record of their kind, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::repo::model::Snapshot;
use pgtide::repo::parse::{CheckRecord, Keyring, record};
use pgtide::repo::{Beat, Config, HistoryRecord, SessionRecord, Tombstone};

fuzz_target!(|input: (bool, u8, Vec<u8>)| {
    let (frame, kind, body) = input;
    let kinds = [
        "snapshot",
        "config",
        "history",
        "session",
        "heartbeat",
        "tombstone",
        "check",
    ];
    let kind = kinds[usize::from(kind) % kinds.len()];
    let bytes = if frame {
        let line = format!("pgtide {kind} 1 {}\n", blake3::hash(&body).to_hex());
        [line.as_bytes(), &body].concat()
    } else {
        body
    };
    let keys = Keyring::plain();
    let _ = record::<Snapshot>(&keys, kind, "", &bytes);
    let _ = record::<Config>(&keys, kind, "", &bytes);
    let _ = record::<HistoryRecord>(&keys, kind, "", &bytes);
    let _ = record::<SessionRecord>(&keys, kind, "", &bytes);
    let _ = record::<Beat>(&keys, kind, "", &bytes);
    let _ = record::<Tombstone>(&keys, kind, "", &bytes);
    let _ = record::<CheckRecord>(&keys, kind, "", &bytes);
});
