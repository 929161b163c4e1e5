//! Known answers of sealed objects: those of `docs/format.md`. None is ever changed.
//!
//! `tests/golden/key-1` is the slot of the password `correct horse`.

use pgtide::repo::parse::{BlockHeader, Closed, IndexFile, Keyring, Slot, record};
use pgtide::repo::{KeyId, Password, Role};
use pgtide::rows::{Decoder, Format, IdKey};

const SLOT: &[u8] = include_bytes!("golden/key-1");
const READER_BLOCK: &str = "50475442010401004d0272a508ebdabfa454c2754e75002c38672c9543544dceb20fdcdcd4844f274e000000060000000bdc0e7e13c1a3175bdef8ef90d69e69db7082662df7654f8909554ae4767a732f7f712835b6d3787120073fd1c9d01d00000000000000004d0434051467780fb92f4b5f4f372d98d913ed2a5107e89f1d2a5045c004202fe394733883ae";
const INDEX_BLOCK: &str = "50475442010403004d0272a508ebdabfa454c2754e75002c38672c9543544dceb20fdcdcd4844f274e000000060000001e399c49c07ec99e7a1c590b8cb92d6a35c8e8feadb0390b1deb74b3ad9fbcb35638b5e4f164a8b6b071ecb0419182420000000000000000079f125756912c7d794016042fcf190035f30d7daf5ceade725a629ae3f7c7f1134dbc8822f2";
const RECORD_LINE: &str =
    "pgtide sealed heartbeat 1 86e21c2aebd1c4edc57f0cd5727131680f181caaec32238a3437bfe77ed7e096\n";
const RECORD: &str = "c32c20c7037a8529c2cfd65554e5bff97adfc19ce687f8b5600c14f9d298fd090000000000000000cf42c1fe05166b72ccc58bd3dbd9b2de4d450ca15a6fc33a02605c30effe19dcad4c08bb9e7b0d4e073e4f8b796e57a55438dbdedd46a4";
const INDEX: &str = "50475449444549580100000001000000c02ad0ab267e504eb0c64c308ac04a2656922f68373e2902263bd2e34af07429a0d26341880337d364cba613314d461d12147c28ee71ec33777a70e68c5f9a6d594010ff66a4c59c4e2e35c9e430cb73";

fn open(slot: &Slot, password: &str) -> Option<Keyring> {
    let password = Password::new(password.to_owned()).unwrap();
    slot.open(KeyId::of(SLOT), &password)
}

fn keys() -> Keyring {
    open(&Slot::parse(SLOT).unwrap(), "correct horse").unwrap()
}

#[test]
fn the_slot_opens_with_its_password_alone() {
    let slot = Slot::parse(SLOT).unwrap();
    assert_eq!(slot.role, Role::Read);
    assert!(open(&slot, "correct horse").is_some());
    for wrong in ["correct hors", "correct horse ", "Correct horse"] {
        assert!(open(&slot, wrong).is_none(), "{wrong}");
    }
}

#[test]
fn the_blocks_open() {
    let id_key = IdKey(std::array::from_fn(|n| n as u8));
    for block in [READER_BLOCK, INDEX_BLOCK] {
        let mut block = hex::decode(block).unwrap();
        let (header, _) = BlockHeader::open(&block).unwrap();
        let stored = &mut block[64..];
        let none = Keyring::plain().open_block(&header, stored).map(drop);
        assert_eq!(none, Err(Closed::OtherKind));
        let encoded = keys().open_block(&header, stored).unwrap().to_vec();
        let mut payload = Vec::new();
        let info = Decoder::new().decode(&encoded, &mut payload).unwrap();
        assert_eq!((info.format, &payload[..]), (Format::Other, &b"pgtide"[..]));
        assert_eq!(id_key.block_id(info.format, 0, &payload), header.id);
    }
}

#[test]
fn the_record_opens_under_its_name() {
    let bytes = [RECORD_LINE.as_bytes(), &hex::decode(RECORD).unwrap()].concat();
    let name = "sessions/606162636465666768696a6b6c6d6e6f.beat";
    let beat: serde_json::Value = record(&keys(), "heartbeat", name, &bytes).unwrap();
    assert_eq!(beat, serde_json::json!({"counter": 7, "tombstones": []}));
    assert!(record::<serde_json::Value>(&keys(), "heartbeat", "sessions/x", &bytes).is_err());
}

#[test]
fn the_index_opens() {
    let bytes = hex::decode(INDEX).unwrap();
    let file = IndexFile::open(&keys(), "index/x", bytes.clone().into()).unwrap();
    assert_eq!((file.pack_count(), file.record_count()), (0, 0));
    assert!(IndexFile::open(&Keyring::plain(), "index/x", bytes.into()).is_err());
}
