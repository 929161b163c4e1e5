//! Any bytes are a key slot, or are refused: none asks for more than a key may cost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::repo::parse::Slot;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (frame, body) = input;
    let bytes = if frame {
        let line = format!("pgtide key 1 {}\n", blake3::hash(&body).to_hex());
        [line.as_bytes(), &body].concat()
    } else {
        body
    };
    let _ = Slot::parse(&bytes);
});
