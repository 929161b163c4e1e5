//! Any connection string resolves to settings or to an error, and settings hand on what they understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgtide::pg::{ConnectionArgs, Settings};

fn resolve(text: String) -> Option<Settings> {
    let args = ConnectionArgs {
        dbname: Some(text),
        ..ConnectionArgs::default()
    };
    Settings::resolve(args, &|name| {
        (name == "HOME").then(|| "/nowhere".to_owned())
    })
    .ok()
}

fuzz_target!(|text: String| {
    let _ = resolve(format!("postgresql://{text}"));
    if let Some(settings) = resolve(text) {
        let again = resolve(settings.child_conninfo()).expect("what is written can be read");
        assert_eq!(again.dbname(), settings.dbname());
    }
});
