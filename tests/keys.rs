//! Encrypted repositories as their users meet them: passwords, keys, exit codes.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::program::{Done, finish, pgtide};
use common::testbed::{Server, conninfo};

const PASSWORD: &str = "correct horse battery staple";
const WRITER: &str = "of the backup host";

/// A directory with a repository `repo`, and files with passwords.
struct Safe {
    dir: tempfile::TempDir,
}

impl Safe {
    fn empty() -> Self {
        let safe = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, text) in [
            ("password", PASSWORD),
            ("writer", WRITER),
            ("wrong", "wrong"),
        ] {
            std::fs::write(safe.dir.path().join(name), format!("{text}\n")).unwrap();
        }
        safe
    }

    fn new() -> Self {
        let safe = Self::empty();
        safe.run("password", &["init", "--encrypt"])
            .expect(0)
            .prints("keep the password");
        safe
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command on the repository with the password in that file.
    fn command(&self, password: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = pgtide(arguments);
        command.env("PGTIDE_REPO", self.path("repo"));
        if !password.is_empty() {
            command.args(["--repo-password-file", &self.path(password)]);
        }
        command
    }

    fn run(&self, password: &str, arguments: &[&str]) -> Done {
        finish(self.command(password, arguments))
    }

    /// Every file of the repository.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(Path::new(&self.path("repo")), &mut files);
        files
    }

    fn add_writer(&self) -> String {
        let new = self.path("writer");
        let done = self.run(
            "password",
            &[
                "key",
                "add",
                "--role",
                "write",
                "--label",
                "backup host",
                "--new-password-file",
                &new,
                "--json",
            ],
        );
        done.expect(0).json()["id"].as_str().unwrap().to_owned()
    }
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

trait Prints {
    fn prints(self, text: &str) -> Self;
}

impl Prints for Done {
    #[track_caller]
    fn prints(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "{text:?} is not in:\n{}",
            self.stdout
        );
        self
    }
}

#[test]
fn a_wrong_password_ends_with_12_and_changes_nothing() {
    let safe = Safe::new();
    let before = safe.files();
    let new = safe.path("writer");
    for arguments in [
        &["snapshots"][..],
        &["check", "--read-data"],
        &["show", "latest"],
        &["key", "list"],
        &["key", "add", "--new-password-file", &new],
        &["key", "change", "--new-password-file", &new],
        &["key", "remove", "abcd"],
        &["dump", "-d", "nowhere"],
        &["restore", "latest", "-d", "nowhere"],
    ] {
        safe.run("wrong", arguments)
            .expect(12)
            .says(&["wrong password"]);
        // Without one and without a terminal.
        safe.run("", arguments)
            .expect(2)
            .says(&["is encrypted", "PGTIDE_PASSWORD_FILE"]);
    }
    assert_eq!(safe.files(), before);
}

#[test]
fn the_password_comes_from_file_command_or_environment_and_from_one_of_them() {
    let safe = Safe::new();
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = safe.command("", arguments);
        command.envs(variables.iter().copied());
        finish(command)
    };
    let file = safe.path("password");
    let print = format!("cat {}", shell_words::quote(&file));
    let list = &["key", "list"];
    with(&[("PGTIDE_PASSWORD", PASSWORD)], list).expect(0);
    with(&[("PGTIDE_PASSWORD_FILE", &file)], list).expect(0);
    with(&[("PGTIDE_PASSWORD_COMMAND", &print)], list).expect(0);
    with(&[], &["key", "list", "--repo-password-command", &print]).expect(0);
    // The option goes first, and so does what is said once over what is said twice.
    let arguments = ["key", "list", "--repo-password-file", &file];
    with(&[("PGTIDE_PASSWORD", "wrong")], &arguments).expect(0);
    with(
        &[
            ("PGTIDE_PASSWORD", PASSWORD),
            ("PGTIDE_PASSWORD_FILE", &file),
        ],
        list,
    )
    .expect(2)
    .says(&["more than one"]);
    for (command, text) in [
        ("false", "it failed"),
        ("/nonexistent/command", "password command"),
        ("echo", "empty"),
        ("printf 'a\\nb'", "more than one line"),
        ("printf '\\377'", "not text"),
        ("", "is empty"),
        ("'", "command"),
    ] {
        let done = with(&[], &["key", "list", "--repo-password-command", command]).expect(2);
        assert!(done.stderr.contains(text), "{command}: {}", done.stderr);
    }
    with(&[("PGTIDE_PASSWORD_FILE", "/nonexistent/file")], list)
        .expect(2)
        .says(&["/nonexistent/file"]);
}

#[test]
fn an_empty_password_makes_no_repository_and_no_key() {
    let safe = Safe::empty();
    std::fs::write(safe.path("none"), "\n").unwrap();
    safe.run("none", &["init", "--encrypt"])
        .expect(2)
        .says(&["empty"]);
    assert!(!Path::new(&safe.path("repo/config")).exists());
    let safe = Safe::new();
    std::fs::write(safe.path("none"), "").unwrap();
    let (before, none) = (safe.files(), safe.path("none"));
    safe.run("password", &["key", "add", "--new-password-file", &none])
        .expect(2)
        .says(&["empty"]);
    assert_eq!(safe.files(), before);
}

#[test]
fn a_plain_repository_where_a_password_is_given_is_not_the_one_that_was_meant() {
    let safe = Safe::empty();
    safe.run("password", &["init"])
        .expect(2)
        .says(&["--encrypt"]);
    safe.run("", &["init"]).expect(0);
    let mut command = safe.command("", &["snapshots"]);
    command.env("PGTIDE_PASSWORD", "whatever");
    finish(command)
        .expect(2)
        .says(&["not encrypted", "PGTIDE_PASSWORD"]);
    safe.run("password", &["snapshots"])
        .expect(2)
        .says(&["not encrypted", "is it the right one"]);
    safe.run("", &["key", "list"])
        .expect(2)
        .says(&["not encrypted"]);
}

#[test]
fn keys_are_added_listed_changed_and_removed() {
    let safe = Safe::new();
    let writer = safe.add_writer();
    let keys = safe
        .run("password", &["key", "list", "--json"])
        .expect(0)
        .json();
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(
        (&keys[0]["role"], &keys[0]["current"]),
        (&"read".into(), &true.into())
    );
    assert_eq!(
        (&keys[1]["role"], &keys[1]["label"]),
        (&"write".into(), &"backup host".into())
    );
    assert_eq!(keys[1]["id"], *writer);
    safe.run("writer", &["key", "list"])
        .expect(0)
        .prints("backup host")
        .prints(&format!("{} *", &writer[..12]));

    // Whoever writes cannot make himself a reader, nor take the last reader's key away.
    let new = safe.path("new");
    std::fs::write(&new, "new").unwrap();
    safe.run("writer", &["key", "add", "--new-password-file", &new])
        .expect(1)
        .says(&["can only be added by one that reads", "--role write"]);
    let reader = keys[0]["id"].as_str().unwrap();
    safe.run("writer", &["key", "remove", reader])
        .expect(1)
        .says(&["last one that reads"]);

    safe.run("password", &["key", "change", "--new-password-file", &new])
        .expect(0);
    safe.run("password", &["key", "list"]).expect(12);
    safe.run("new", &["key", "remove", &writer[..8]]).expect(0);
    safe.run("writer", &["key", "list"]).expect(12);
    let keys = safe.run("new", &["key", "list", "--json"]).expect(0).json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    safe.run("new", &["key", "remove", "ffff"])
        .expect(1)
        .says(&["key list"]);
    let label = "two\nlines";
    safe.run(
        "new",
        &["key", "add", "--label", label, "--new-password-file", &new],
    )
    .expect(2)
    .says(&["one line"]);
}

#[test]
fn a_repository_can_share_the_keys_of_another() {
    let safe = Safe::new();
    safe.add_writer();
    let (twin, from, file) = (safe.path("twin"), safe.path("repo"), safe.path("password"));
    let init = |more: &[&str]| {
        let mut arguments = vec!["init", "--repo", &twin, "--keys-from", &from];
        arguments.extend(more);
        finish(pgtide(&arguments))
    };
    let other = safe.path("writer");
    let by = |from_file: &str| {
        init(&[
            "--encrypt",
            "--repo-password-file",
            &other,
            "--from-password-file",
            from_file,
        ])
    };
    by(&safe.path("wrong")).expect(12);
    by(&other).expect(1).says(&["not read"]);
    init(&["--from-password-file", &file])
        .expect(2)
        .says(&["both encrypted"]);
    by(&file).expect(0);
    let stated = |repo: &str| {
        let text = std::fs::read_to_string(Path::new(repo).join("config")).unwrap();
        let (_, json) = text.split_once('\n').unwrap();
        let config: serde_json::Value = serde_json::from_str(json).unwrap();
        (config["id"].clone(), config["public_keys"].clone())
    };
    assert_eq!(stated(&twin).1, stated(&from).1);
    assert_ne!(stated(&twin).0, stated(&from).0);
}

#[test]
fn a_backup_host_dumps_what_only_others_can_restore() {
    let Some(server) = ["17", "15", "18"].into_iter().find_map(Server::find) else {
        return;
    };
    let safe = Safe::new();
    safe.add_writer();
    let source = server.empty("keys_source");
    source.sql(
        "CREATE TABLE columnofmine_table (columnofmine text);
         INSERT INTO columnofmine_table SELECT 'valueofmine' || n FROM generate_series(1, 5000) n",
    );
    let on_server = |password: &str, arguments: &[&str]| {
        let mut command = safe.command(password, arguments);
        command.envs(server.env.iter().map(|(name, value)| (name, value)));
        command.env("PATH", &server.path);
        finish(command)
    };
    let dump = || {
        let done = on_server(
            "writer",
            &["dump", "-d", &conninfo(&source.name), "--tag", "tagofmine"],
        )
        .expect(0);
        done.stdout.lines().last().unwrap().to_owned()
    };
    let (first, second) = (dump(), dump());
    let shown = safe
        .run("writer", &["snapshots", "--json"])
        .expect(0)
        .json();
    let list = shown["snapshots"].as_array().unwrap();
    assert_eq!(list[1]["id"], *second);
    assert_eq!(list[1]["snapshot"]["sealed"], true);
    assert_eq!(list[1]["snapshot"]["source"]["database"], *source.name);
    assert_eq!(
        list[1]["snapshot"]["totals"]["added_blocks"], 0,
        "the second adds nothing"
    );
    safe.run("writer", &["check", "--read-data"])
        .expect(0)
        .prints("this key cannot read");
    let target = server.empty("keys_target");
    let out = safe.path("out");
    for arguments in [
        &["show", "latest"][..],
        &["list", "latest"],
        &["restore", "latest", "-d", &conninfo(&target.name)],
        &["export", "latest", "--format", "sql", "-f", &out],
    ] {
        on_server("writer", arguments).expect(1).says(&[
            "this key can write and maintain but not read",
            "use the password of a key that reads",
        ]);
    }
    on_server(
        "password",
        &["restore", &first, "-d", &conninfo(&target.name)],
    )
    .expect(0);
    assert_eq!(
        target.sql("SELECT count(*) || max(columnofmine) FROM columnofmine_table"),
        source.sql("SELECT count(*) || max(columnofmine) FROM columnofmine_table"),
    );
    safe.run("password", &["check", "--read-data"]).expect(0);
    safe.run("password", &["show", "latest"])
        .expect(0)
        .prints("columnofmine_table");

    let server_host = server.env.iter().find(|(name, _)| name == "PGHOST");
    let mut needles = vec![
        source.name.as_str(),
        "columnofmine",
        "valueofmine",
        "tagofmine",
        PASSWORD,
        WRITER,
    ];
    needles.extend(server_host.map(|(_, host)| host.as_str()));
    for (path, bytes) in safe.files() {
        for needle in &needles {
            let found = bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes());
            assert!(!found, "{needle} is in {}", path.display());
        }
    }
}
