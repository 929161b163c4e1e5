//! Any bytes decode to a payload of the announced length, or to an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::rows::{Decoder, MAX_PAYLOAD, coders, read_header};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    match Decoder::new().decode(bytes, &mut out) {
        Ok(info) => {
            assert_eq!(read_header(bytes).as_ref(), Ok(&info));
            assert_eq!(out.len(), info.payload_len as usize);
            assert_eq!(coders(bytes, |_, _| ()), Ok(()));
        }
        Err(_) => {
            assert!(out.is_empty());
            let _ = coders(bytes, |_, _| ());
        }
    }
    assert!(out.capacity() <= MAX_PAYLOAD);
});
