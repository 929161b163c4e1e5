//! No bytes open as a sealed block, record or index object but those that were sealed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgtide::repo::parse::{BlockHeader, IndexFile, Keyring, Slot, record};
use pgtide::repo::{KeyId, Password};

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    let bytes = include_bytes!("../../tests/golden/key-1");
    let password = Password::new("correct horse".to_owned()).unwrap();
    let slot = Slot::parse(bytes).unwrap();
    slot.open(KeyId::of(bytes), &password).unwrap()
});

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (kind, mut bytes) = input;
    match kind % 3 {
        0 => {
            if let Ok(header) = BlockHeader::parse(&bytes) {
                assert!(KEYS.open_block(&header, &mut bytes[64..]).is_err());
            }
        }
        1 => {
            let line = format!(
                "pgtide sealed heartbeat 1 {}\n",
                blake3::hash(&bytes).to_hex()
            );
            let bytes = [line.as_bytes(), &bytes].concat();
            assert!(record::<Vec<u8>>(&KEYS, "heartbeat", "", &bytes).is_err());
        }
        _ => {
            let start = b"PGTIDEIX\x01\0\0\0\x01\0\0\0";
            let bytes = [start, &bytes[..]].concat();
            assert!(IndexFile::open(&KEYS, "index/x", bytes.into()).is_err());
        }
    }
});
