//! Any text is a configuration or has problems that can be told, and its quantities come back as they are printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pgtide::ops::config::{Config, ConfigError};
use pgtide::ops::units::{Percent, Size, Wait};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let problems = match Config::parse(Path::new("/etc/pgtide/pgtide.toml"), text.to_owned()) {
        Ok(config) => {
            for name in config.profiles() {
                let _ = config.profile(name);
            }
            config.problems()
        }
        Err(ConfigError::Wrong { problems, .. }) => problems,
        Err(error) => panic!("{error}"),
    };
    problems.iter().for_each(|problem| drop(problem.to_string()));
    if let Ok(wait) = text.parse::<Wait>() {
        assert!(wait.to_string().parse::<Wait>().is_ok());
    }
    let _ = (text.parse::<Size>(), text.parse::<Percent>());
});
