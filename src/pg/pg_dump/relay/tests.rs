//! The relay without a server.

use super::*;

fn opening(code: u32, rest: &[u8]) -> Result<Opening, &'static str> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(rest);
    Opening::parse(&body)
}

fn session(minor: u16, extensions: &[&str]) -> Result<Opening, &'static str> {
    Ok(Opening::Session {
        minor,
        extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
    })
}

#[test]
fn first_messages_are_told_apart() {
    assert_eq!(opening(80_877_102, &[0; 8]), Ok(Opening::Cancel));
    assert_eq!(opening(80_877_103, b""), Ok(Opening::Encryption));
    assert_eq!(opening(80_877_104, b""), Ok(Opening::Encryption));
    assert_eq!(
        opening(PROTOCOL, b"user\0me\0database\0d\0\0"),
        session(0, &[])
    );
    assert_eq!(opening(PROTOCOL, b"\0"), session(0, &[]));
    assert_eq!(
        opening(PROTOCOL + 9999, b"user\0me\0_pq_.test\0\0\0"),
        session(9999, &["_pq_.test"])
    );
}

#[test]
fn damaged_first_messages_are_refused() {
    for rest in [&b""[..], b"user", b"user\0", b"user\0me", b"user\0me\0"] {
        assert!(opening(PROTOCOL, rest).is_err(), "{rest:?}");
    }
    assert!(opening(2 << 16, b"\0").is_err());
    assert!(opening(4 << 16, b"\0").is_err());
    assert!(Opening::parse(b"").is_err() && Opening::parse(&[0, 3, 0]).is_err());
}

#[test]
fn the_door_is_for_one_user_and_leaves_nothing_behind() {
    let door = Door::open(54321).unwrap();
    let directory = PathBuf::from(door.directory());
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(directory.join(".s.PGSQL.54321").exists());
    drop(door);
    assert!(!directory.exists());
}

#[test]
fn nobody_waits_for_a_visitor_that_does_not_come() {
    let door = Door::open(5432).unwrap();
    assert!(door.accept(&AtomicBool::new(true)).unwrap().is_none());
}

#[test]
fn a_place_that_libpq_cannot_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let comma = dir.path().join("a,b");
    let long = dir.path().join("x".repeat(100));
    for place in [comma, long] {
        std::fs::create_dir(&place).unwrap();
        assert!(Door::open_in(&place, ".s.PGSQL.5432").is_err());
    }
}
