//! Places and settings of a store on the command line: what is wrong is refused before anything is asked, and nothing
//! that is secret is ever printed.

mod store_support;

use std::process::{Command, Output};

use store_support::endpoint::{Endpoint, SECRET};

fn pgtide(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgtide"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(
            !text.contains(SECRET) && !text.contains("hunter2"),
            "{text}"
        );
    }
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_repository_in_a_bucket_is_used_like_any_other() {
    let endpoint = Endpoint::start();
    let option = format!("s3.endpoint={}", endpoint.address);
    let repo = [
        "--repo",
        "s3://bucket/nightly/db1/",
        "--repo-option",
        &option,
    ];
    let run = |words: &[&str]| pgtide(&[words, &repo].concat(), &[]);
    assert_eq!(run(&["snapshots"]).status.code(), Some(10));
    let created = run(&["init"]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let text = String::from_utf8_lossy(&created.stdout).into_owned();
    assert!(text.ends_with(" at s3://bucket/nightly/db1\n"), "{text}");
    let keys = endpoint.keys();
    assert!(
        keys.iter().any(|key| key == "nightly/db1/config")
            && keys.iter().all(|key| key.starts_with("nightly/db1/")),
        "{keys:?}"
    );
    // The same from the environment, where an option of the command line comes first.
    let from_env = |words: &[&str], options: &str| {
        let env = [
            ("PGTIDE_REPO", "s3://bucket/nightly/db1"),
            ("PGTIDE_REPO_OPTIONS", options),
        ];
        pgtide(words, &env).status.code()
    };
    assert_eq!(
        from_env(&["check"], &format!("retries=1 {option}")),
        Some(0)
    );
    assert_eq!(
        from_env(
            &["check", "--repo-option", &option],
            "s3.endpoint=http://127.0.0.1:1"
        ),
        Some(0)
    );
    assert_eq!(
        from_env(&["check"], "s3.endpoint=http://127.0.0.1:1 retries=0"),
        Some(1)
    );
}

#[test]
fn wrong_places_and_options_are_wrong_usage() {
    let places = [
        "s3://",
        "s3:///prefix",
        "s3://bucket//x",
        "s3://bucket/../x",
        "s3://key:hunter2@bucket/x",
        "s3://bucket/x?secret=hunter2",
        "ftp://user:hunter2@host/x",
        "http://host/x",
        "az://container/x",
        "file://relative",
        "",
    ];
    for place in places {
        let output = pgtide(&["snapshots", "--repo", place], &[]);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{place}: {}",
            stderr(&output)
        );
    }
    let options = [
        "s3.regoin=x",
        "s3.region",
        "s3.path-style=maybe",
        "s3.endpoint=localhost:9000",
        "s3.endpoint=http://key:hunter2@host",
        "s3.profile=absent",
        "s3.sse=rot13",
        "s3.object-lock=yes",
        "s3.checksum=md5",
        "limit.upload=fast",
        "timeout.retry=1h",
        "timeout.retry=11m",
        "tls.ca-file=/absent",
    ];
    for option in options {
        let output = pgtide(
            &[
                "snapshots",
                "--repo",
                "s3://bucket/x",
                "--repo-option",
                option,
            ],
            &[],
        );
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{option}: {text}");
        assert!(
            text.starts_with("pgtide: ") && text.contains("; "),
            "{option}: {text}"
        );
    }
    let output = pgtide(
        &[
            "snapshots",
            "--repo",
            "s3://bucket/x",
            "--repo-option",
            "x=1",
        ],
        &[],
    );
    assert!(stderr(&output).contains("s3.endpoint") && stderr(&output).contains("limit.download"));
}

#[test]
fn a_directory_may_be_written_as_a_url() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repo").display().to_string();
    assert_eq!(
        pgtide(&["init", "--repo", &format!("file://{path}")], &[])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        pgtide(&["snapshots", "--repo", &path], &[]).status.code(),
        Some(0)
    );
}
