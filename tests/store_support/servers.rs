//! The servers that tools/stores starts, or that the environment names.

use std::collections::HashMap;
use std::sync::Arc;

use pgtide::store::{self, Options, Store, StoreError};

/// A place to keep objects in, for many tests at once.
pub struct Server {
    /// URL of a bucket, or a directory.
    url: String,
    options: Vec<String>,
    env: HashMap<String, String>,
    /// Goes with the server.
    dir: tempfile::TempDir,
}

/// A directory.
pub fn directory() -> Server {
    let dir = tempfile::tempdir().unwrap();
    Server {
        url: dir.path().join("objects").display().to_string(),
        options: Vec::new(),
        env: HashMap::new(),
        dir,
    }
}

/// The server that `PGTIDE_TEST_STORE_<NAME>` describes: its URL, options, and environment variables in upper case.
pub fn remote(name: &str) -> Option<Server> {
    let variable = format!("PGTIDE_TEST_STORE_{name}");
    let Ok(words) = std::env::var(&variable) else {
        eprintln!(
            "SKIPPED: no {} server: {variable} is not set (tools/stores up {})",
            name,
            name.to_lowercase()
        );
        return None;
    };
    let mut words = words.split_whitespace().map(str::to_owned);
    let url = words.next().unwrap();
    let (env, options): (Vec<_>, Vec<_>) =
        words.partition(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    let env = env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Some(Server {
        url,
        options,
        env: env.collect(),
        dir: tempfile::tempdir().unwrap(),
    })
}

impl Server {
    /// A store at a URL of the server.
    fn open(&self, url: &str, more: &[&str]) -> Arc<dyn Store> {
        let options = Options::parse(
            self.options
                .iter()
                .map(String::as_str)
                .chain(more.iter().copied()),
        )
        .unwrap();
        let env = |name: &str| match name {
            "PGTIDE_CACHE_DIR" => Some(self.cache()),
            "HOME" => Some(self.dir.path().display().to_string()),
            _ => self.env.get(name).cloned(),
        };
        store::open(url, &options, &env).unwrap()
    }

    /// A place that nobody used before.
    pub fn place(&self) -> Arc<dyn Store> {
        let place = format!("{}/test/{:032x}", self.url, rand::random::<u128>());
        let store = self.open(&place, &[]);
        assert_eq!(store.location(), place);
        store
    }

    /// What the program needs in its environment for a repository in that place of the server.
    pub fn program_env(&self, place: &str) -> Vec<(String, String)> {
        let own = [
            ("PGTIDE_REPO", place.to_owned()),
            ("PGTIDE_REPO_OPTIONS", self.options.join(" ")),
            ("PGTIDE_CACHE_DIR", self.cache()),
            ("HOME", self.dir.path().display().to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        own.into_iter().chain(self.env.clone()).collect()
    }

    fn cache(&self) -> String {
        self.dir.path().join("cache").display().to_string()
    }

    /// A new place in another bucket of the server.
    pub fn in_bucket(&self, bucket: &str, options: &[&str]) -> Arc<dyn Store> {
        let (scheme, _) = self.url.split_once("://").unwrap();
        self.open(
            &format!("{scheme}://{bucket}/{:032x}", rand::random::<u128>()),
            options,
        )
    }

    /// What is asked of a bucket that is not there says so.
    pub fn a_missing_bucket_is_no_absent_object(&self) {
        if !self.url.contains("://") {
            return;
        }
        let store = self.in_bucket("there-is-no-such-bucket", &["retries=1"]);
        let mut errors = vec![
            store.get("x").unwrap_err(),
            store.len("x").unwrap_err(),
            store.list("").unwrap_err(),
            store.put("x", b"").unwrap_err(),
        ];
        errors.push(store.get_range("x", 0, 1, &mut Vec::new()).unwrap_err());
        for error in errors {
            assert!(
                matches!(
                    error,
                    StoreError::NoBucket { .. } | StoreError::Forbidden { .. }
                ),
                "{error}"
            );
        }
    }
}
