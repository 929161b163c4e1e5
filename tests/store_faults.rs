//! A store on an S3 server that fails in every way servers do: either nobody notices, or the error is the right one.

mod repo_support;
mod store_support;

use pgtide::repo::Repository;
use pgtide::store::{Listed, Store, StoreError};
use repo_support::*;
use store_support::endpoint::{Endpoint, Fault, Request, Response, SECRET, error};

const MANY: usize = 1000;

fn is_get(request: &Request) -> bool {
    request.is("GET") && !request.key.is_empty()
}

fn bytes(len: usize) -> Vec<u8> {
    payload(7, len)
}

fn upload(store: &dyn Store, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let mut upload = store.create_upload()?;
    upload.write(content)?;
    upload.finish(name)
}

/// Everything a store does, once.
fn use_all(store: &dyn Store) -> Result<(), StoreError> {
    let content = bytes(300_000);
    store.put("snapshots/a", &content)?;
    assert!(store.get("snapshots/a")? == content);
    assert_eq!(store.len("snapshots/a")?, content.len() as u64);
    let mut out = Vec::new();
    for offset in [0, 100_000, 200_000, 5] {
        store.get_range("snapshots/a", offset, 50_000, &mut out)?;
        assert!(out == content[offset as usize..][..50_000]);
    }
    let large = bytes(20 << 20);
    upload(store, "packs/aa/x", &large)?;
    assert!(*store.map("packs/aa/x")? == large);
    let names: Vec<String> = store
        .list("")?
        .into_iter()
        .map(|object| object.name)
        .collect();
    assert_eq!(names, ["packs/aa/x", "snapshots/a"]);
    store.delete("packs/aa/x")?;
    store.delete("snapshots/a")?;
    assert!(store.list("")?.is_empty());
    Ok(())
}

#[test]
fn a_failure_that_passes_is_not_noticed() {
    let faults = [
        error(500, "InternalError"),
        error(502, ""),
        error(503, "SlowDown"),
        error(429, "TooManyRequests"),
        error(408, "RequestTimeout"),
        Fault::Stall,
        Fault::Refuse,
        Fault::Lose,
        Fault::Cut,
    ];
    for fault in faults {
        // Each kind of request fails once.
        let endpoint = Endpoint::start();
        let kinds: [fn(&Request) -> bool; 8] = [
            |request| request.is("PUT") && !request.has("uploadId"),
            is_get,
            |request| request.is("HEAD"),
            |request| request.is("POST") && request.has("uploads"),
            |request| request.is("PUT") && request.has("uploadId"),
            |request| request.is("POST") && request.has("uploadId"),
            Request::is_list,
            |request| request.is("DELETE"),
        ];
        for kind in kinds {
            endpoint.fail(1, fault.clone(), kind);
        }
        // Beginning an upload twice leaves the first one behind; a completed one is not there a second time.
        use_all(&*endpoint.store()).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(endpoint.pending(), 0, "{fault:?}");
    }
}

#[test]
fn an_answer_that_is_none_is_asked_for_again() {
    for fault in [Fault::Short, Fault::WrongRange, Fault::Whole, Fault::Cut] {
        let endpoint = Endpoint::start();
        endpoint.fail(2, fault.clone(), |request| request.range().is_some());
        use_all(&*endpoint.store()).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
}

#[test]
fn an_answer_that_is_always_wrong_is_an_error() {
    for fault in [Fault::Short, Fault::WrongRange, Fault::Whole] {
        let endpoint = Endpoint::start();
        let store = endpoint.store();
        store.put("a", &bytes(1000)).unwrap();
        endpoint.fail(MANY, fault.clone(), |request| request.range().is_some());
        let error = store.get_range("a", 10, 500, &mut Vec::new()).unwrap_err();
        assert!(
            matches!(error, StoreError::Broken { .. }),
            "{fault:?}: {error}"
        );
        assert!(error.to_string().starts_with("a: "), "{error}");
    }
}

#[test]
fn what_does_not_pass_is_the_right_error_for_every_operation() {
    type Is = fn(&StoreError) -> bool;
    let cases: [(Fault, Is); 15] = [
        (error(500, "InternalError"), |error| {
            matches!(error, StoreError::Broken { .. })
        }),
        (error(412, "PreconditionFailed"), |error| {
            matches!(error, StoreError::Broken { .. })
        }),
        (error(400, "InvalidArgument"), |error| {
            matches!(error, StoreError::Broken { .. })
        }),
        (error(301, "PermanentRedirect"), |error| {
            matches!(error, StoreError::Broken { .. })
        }),
        (error(503, "SlowDown"), |error| {
            matches!(error, StoreError::Throttled { .. })
        }),
        (error(429, ""), |error| {
            matches!(error, StoreError::Throttled { .. })
        }),
        (error(403, "AccessDenied"), |error| {
            matches!(error, StoreError::Forbidden { .. })
        }),
        (error(403, ""), |error| {
            matches!(error, StoreError::Forbidden { .. })
        }),
        (
            error(400, "ExpiredToken"),
            |error| matches!(error, StoreError::Forbidden { hint, .. } if hint.contains("renew")),
        ),
        (
            error(403, "RequestTimeTooSkewed"),
            |error| matches!(error, StoreError::Forbidden { hint, .. } if hint.contains("clock")),
        ),
        (error(403, "InvalidAccessKeyId"), |error| {
            matches!(error, StoreError::Forbidden { .. })
        }),
        (error(404, "NoSuchBucket"), |error| {
            matches!(error, StoreError::NoBucket { .. })
        }),
        (error(507, "InsufficientStorage"), |error| {
            matches!(error, StoreError::Full { .. })
        }),
        (Fault::Stall, |error| {
            matches!(error, StoreError::Unreachable { .. })
        }),
        (Fault::Refuse, |error| {
            matches!(error, StoreError::Unreachable { .. })
        }),
    ];
    for (fault, is) in cases {
        let endpoint = Endpoint::start();
        let store = endpoint.store_with(&["retries=1"]);
        store.put("a", b"there").unwrap();
        let headless = matches!(&fault, Fault::Answer(response) if response.body.windows(6).any(|part| part == b"<Code>") && response.status == 404);
        endpoint.fail(MANY, fault.clone(), |_| true);
        let mut errors = vec![
            store.get("a").unwrap_err(),
            store.get_range("a", 0, 2, &mut Vec::new()).unwrap_err(),
            store.put("b", b"").unwrap_err(),
            store.list("").unwrap_err(),
            store.map("a").unwrap_err(),
            upload(&*store, "packs/x", b"small").unwrap_err(),
            upload(&*store, "packs/x", &bytes(17 << 20)).unwrap_err(),
            store.delete("a").unwrap_err(),
        ];
        // The answer to HEAD has no document; only its status says something.
        if headless
            || !matches!(&fault, Fault::Answer(response) if [400, 403].contains(&response.status))
        {
            errors.push(store.len("a").unwrap_err());
        }
        for error in errors {
            assert!(is(&error), "{fault:?}: {error:?}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains(SECRET), "{text}");
            assert!(error.to_string().contains(error.object()) && !error.object().is_empty());
        }
        endpoint.heal();
        assert_eq!(store.get("a").unwrap(), b"there");
        assert_eq!(endpoint.keys(), ["repo/a"], "{fault:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let endpoint = Endpoint::start();
    let error = endpoint
        .store_with(&["s3.endpoint=http://127.0.0.1:1", "retries=1"])
        .get("a")
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let error = endpoint
        .store_with(&["s3.endpoint=http://no-such-host.invalid", "retries=0"])
        .list("")
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[test]
fn an_archived_object_names_the_command_that_thaws_it() {
    let endpoint = Endpoint::start();
    let store = endpoint.store();
    store.put("packs/aa/x", b"cold").unwrap();
    endpoint.fail(MANY, error(403, "InvalidObjectState"), is_get);
    for error in [
        store
            .get_range("packs/aa/x", 0, 2, &mut Vec::new())
            .unwrap_err(),
        store.map("packs/aa/x").unwrap_err(),
    ] {
        let StoreError::Archived { object, command } = &error else {
            panic!("{error}")
        };
        assert_eq!(object, "packs/aa/x");
        assert!(
            command
                .starts_with("aws s3api restore-object --bucket bucket --key 'repo/packs/aa/x' "),
            "{command}"
        );
    }
}

#[test]
fn a_locked_object_is_not_merely_forbidden() {
    let endpoint = Endpoint::start();
    let store = endpoint.store();
    store.put("a", b"").unwrap();
    let locked = Response::error(
        403,
        "AccessDenied",
        "Access Denied because object protected by object lock.",
    );
    endpoint.fail(1, Fault::Answer(locked), |request| request.is("DELETE"));
    let error = store.delete("a").unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    endpoint.fail(1, error_403(), |request| request.is("DELETE"));
    let error = store.delete("a").unwrap_err();
    assert!(matches!(error, StoreError::Forbidden { .. }), "{error}");
}

fn error_403() -> Fault {
    error(403, "AccessDenied")
}

#[test]
fn locks_are_made_longer_never_shorter() {
    let endpoint = Endpoint::start();
    let store = endpoint.store_with(&["s3.object-lock=governance"]);
    store.put("a", b"").unwrap();
    let until: jiff::Timestamp = "2033-01-01T00:00:00.5Z".parse().unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    assert!(store.protect("a", until).unwrap());
    assert!(store.protect("a", until + hour).unwrap());
    assert!(store.protect("a", until).unwrap());
    assert!(store.protect("b", until).unwrap_err().is_absent());
    endpoint.fail(1, error(503, "SlowDown"), |request| {
        request.has("retention")
    });
    assert!(store.protect("a", until + hour + hour).unwrap());
    endpoint.fail(MANY, error_403(), |request| request.is("PUT"));
    let error = store.protect("a", until + hour * 9).unwrap_err();
    assert!(matches!(error, StoreError::Forbidden { .. }), "{error}");
    assert!(!endpoint.store().protect("a", until).unwrap());
}

#[test]
fn a_failed_listing_is_never_an_empty_one() {
    let html = Fault::Answer(Response::new(200, "<html><body>Sign in</body></html>"));
    let nothing = Fault::Answer(Response::new(200, ""));
    let denied = Fault::Answer(Response::error(200, "AccessDenied", "no"));
    for fault in [
        html,
        nothing,
        denied,
        error(200, "InternalError"),
        Fault::NoToken,
        Fault::Short,
        Fault::Loop,
    ] {
        let endpoint = Endpoint::start();
        let store = endpoint.store();
        store.put("index/a", b"").unwrap();
        endpoint.fail(MANY, fault.clone(), Request::is_list);
        let error = store.list("index/").unwrap_err();
        assert!(
            !error.is_absent() && error.to_string().starts_with("the listing of index/: "),
            "{fault:?}: {error}"
        );
        assert!(Repository::open(store).is_err());
    }
}

#[test]
fn pages_are_joined_and_doubles_removed() {
    let endpoint = Endpoint::start();
    let store = endpoint.store();
    let expected: Vec<String> = (0..17).map(|number| format!("a/{number:02}")).collect();
    expected
        .iter()
        .for_each(|name| store.put(name, b"x").unwrap());
    endpoint.page(5);
    let names = |listed: Vec<Listed>| -> Vec<String> {
        listed.into_iter().map(|object| object.name).collect()
    };
    assert_eq!(names(store.list("a/").unwrap()), expected);
    // A page that fails in the middle is asked for again, and only that one.
    endpoint.log();
    endpoint.fail(1, error(500, ""), |request| {
        request.has("continuation-token")
    });
    assert_eq!(names(store.list("").unwrap()), expected);
    assert_eq!(endpoint.log().len(), 5);
    endpoint.fail(MANY, Fault::Double, Request::is_list);
    assert_eq!(names(store.list("a/").unwrap()), expected);
}

#[test]
fn an_upload_whose_completion_fails_is_aborted_and_no_object() {
    let large = bytes(17 << 20);
    for fault in [
        Fault::Answer(Response::error(200, "InvalidPart", "as scripted")),
        error(200, "InternalError"),
        error(403, "AccessDenied"),
        error(400, "InvalidPart"),
    ] {
        let endpoint = Endpoint::start();
        let store = endpoint.store();
        endpoint.fail(MANY, fault.clone(), |request| {
            request.is("POST") && request.has("uploadId")
        });
        upload(&*store, "packs/aa/x", &large).unwrap_err();
        assert_eq!(
            (endpoint.open_uploads(), endpoint.keys().len()),
            (0, 0),
            "{fault:?}"
        );
    }
    let endpoint = Endpoint::start();
    endpoint.fail(MANY, error_403(), |request| request.has("partNumber"));
    let error = upload(&*endpoint.store(), "packs/aa/x", &large).unwrap_err();
    assert!(matches!(error, StoreError::Forbidden { .. }), "{error}");
    assert_eq!((endpoint.open_uploads(), endpoint.keys().len()), (0, 0));
}

#[test]
fn old_unfinished_uploads_are_ended_and_young_ones_left() {
    let endpoint = Endpoint::start();
    let store = endpoint.store();
    let now = jiff::Timestamp::now();
    endpoint.begin_upload(
        "repo/packs/aa/x",
        now - jiff::SignedDuration::from_hours(25),
    );
    endpoint.begin_upload(
        "repo/packs/aa/y",
        now - jiff::SignedDuration::from_hours(23),
    );
    assert_eq!(store.clean().unwrap(), 1);
    assert_eq!(endpoint.open_uploads(), 1);
    // Who may not do that may still dump.
    endpoint.fail(1, error_403(), |request| request.has("uploads"));
    assert_eq!(store.clean().unwrap(), 0);
    endpoint.fail(1, error(501, "NotImplemented"), |request| {
        request.has("uploads")
    });
    assert_eq!(store.clean().unwrap(), 0);
}

#[test]
fn objects_get_their_class_and_their_encryption() {
    let endpoint = Endpoint::start();
    let store = endpoint.store_with(&[
        "s3.storage-class=STANDARD_IA",
        "s3.storage-class-records=INTELLIGENT_TIERING",
        "s3.sse=aws:kms",
        "s3.sse-kms-key-id=key-7",
    ]);
    store.put("index/a", b"").unwrap();
    upload(&*store, "packs/aa/x", b"small").unwrap();
    upload(&*store, "packs/aa/y", &bytes(17 << 20)).unwrap();
    let sent: Vec<_> = endpoint
        .log()
        .into_iter()
        .filter(|request| request.is("PUT") && !request.has("partNumber") || request.has("uploads"))
        .collect();
    assert_eq!(sent.len(), 3);
    for request in sent {
        let class = if request.key.starts_with("repo/packs/") {
            "STANDARD_IA"
        } else {
            "INTELLIGENT_TIERING"
        };
        assert_eq!(request.header("x-amz-storage-class"), class);
        assert_eq!(request.header("x-amz-server-side-encryption"), "aws:kms");
        assert_eq!(
            request.header("x-amz-server-side-encryption-aws-kms-key-id"),
            "key-7"
        );
    }
    endpoint
        .store_with(&["s3.sse=AES256"])
        .put("a", b"")
        .unwrap();
    let log = endpoint.log();
    assert_eq!(log[0].header("x-amz-server-side-encryption"), "AES256");
    assert_eq!(log[0].header("x-amz-storage-class"), "");
    // No request depends on a condition.
    assert!(
        log.iter()
            .all(|request| request.header("if-match").is_empty()
                && request.header("if-none-match").is_empty())
    );
}

#[test]
fn bytes_that_change_on_their_way_to_the_server_are_refused_by_it() {
    let endpoint = Endpoint::start();
    endpoint.store().put("a", b"content").unwrap();
    let request = &endpoint.log()[0];
    let digest = <sha2::Sha256 as sha2::Digest>::digest(b"content");
    assert_eq!(request.header("x-amz-content-sha256"), hex::encode(digest));
    assert!(!request.header("x-amz-checksum-sha256").is_empty());
    assert!(
        request
            .header("authorization")
            .contains("x-amz-checksum-sha256")
    );
}

#[test]
fn an_index_object_is_fetched_once_and_never_trusted() {
    let endpoint = Endpoint::start();
    let content = bytes(9_000_000);
    let name = format!("index/{}", blake3::hash(&content).to_hex());
    let fetched = || {
        endpoint
            .log()
            .iter()
            .filter(|request| is_get(request))
            .count()
    };
    // What was put is there already.
    endpoint.store().put(&name, &content).unwrap();
    assert!(*endpoint.store().map(&name).unwrap() == content);
    assert_eq!(fetched(), 0);
    // What is no longer listed is forgotten, and fetched when it is back.
    endpoint.fail(1, Fault::Stale(1), Request::is_list);
    assert!(endpoint.store().list("index/").unwrap().is_empty());
    assert!(*endpoint.store().map(&name).unwrap() == content);
    assert!(fetched() > 0);
    assert!(*endpoint.store().map(&name).unwrap() == content);
    assert_eq!(fetched(), 0);
    // What arrives damaged is handed on as it is, for a check to find, but not kept.
    endpoint.store().list("index/").unwrap();
    endpoint.fail(1, Fault::Stale(1), Request::is_list);
    endpoint.store().list("index/").unwrap();
    endpoint.fail(1, Fault::Flip, is_get);
    assert!(*endpoint.store().map(&name).unwrap() != content);
    assert!(*endpoint.store().map(&name).unwrap() == content);
}

#[test]
fn reads_in_order_cost_few_requests_and_others_no_byte_too_much() {
    let endpoint = Endpoint::start();
    let store = endpoint.store();
    let content = bytes(40 << 20);
    upload(&*store, "packs/aa/x", &content).unwrap();
    endpoint.log();
    endpoint.sent();
    let mut out = Vec::new();
    // Its end first, as whoever looks for a pack's contents does.
    store
        .get_range("packs/aa/x", content.len() as u64 - 32, 32, &mut out)
        .unwrap();
    let block = 200_000;
    for offset in (0..content.len() - block).step_by(block) {
        store
            .get_range("packs/aa/x", offset as u64, block, &mut out)
            .unwrap();
        assert!(out == content[offset..offset + block]);
    }
    let requests = endpoint.log().len();
    assert!(requests <= 15, "{requests} requests for 209 blocks");
    let sent = endpoint.sent();
    assert!(sent <= content.len() as u64 + block as u64, "{sent} bytes");
    // Back and forth: what was asked for, and nothing else.
    let offsets = [
        39_000_000, 100, 20_000_000, 7_000_000, 30_000_000, 1_000_000,
    ];
    for offset in offsets {
        endpoint
            .store()
            .get_range("packs/aa/x", offset, 1_000, &mut out)
            .unwrap();
    }
    let jumping = endpoint.store();
    for offset in offsets {
        jumping
            .get_range("packs/aa/x", offset, 1_000, &mut out)
            .unwrap();
    }
    assert_eq!(endpoint.sent(), 12_000);
}
