//! Sessions of pgtide's own on the test servers, for tests that use it as a library.

use pgtide::pg::{Connection, ConnectionArgs, SessionOptions, Settings};

use super::testbed::{Database, conninfo};

/// The settings of a database.
pub fn settings(database: &Database) -> Settings {
    let args = ConnectionArgs {
        dbname: Some(conninfo(&database.name)),
        ..ConnectionArgs::default()
    };
    let env = &database.server.env;
    let env = |name: &str| {
        let found = env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    Settings::resolve(args, &env).unwrap()
}

/// A session of the tests, in the schema `public`.
pub fn connect(settings: &Settings) -> Connection {
    let options = SessionOptions {
        application_name: Some("pgtide test".to_owned()),
        ..SessionOptions::pinned().with("search_path", "public")
    };
    settings.connect(&options).unwrap()
}
