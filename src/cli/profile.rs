//! Arguments of the commands that know profiles.

use std::path::PathBuf;

use clap::Args;
use pgtide::ops::config::{Config, ConfigError, PlaceError, Profile};

use super::Failure;

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The configuration [default: PGTIDE_CONFIG, ~/.config/pgtide/pgtide.toml, /etc/pgtide/pgtide.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArg {
    /// Where it is.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        Ok(Config::find(self.config.as_deref(), &|name| {
            std::env::var(name).ok()
        })?)
    }

    /// What it says.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.path()?)?)
    }
}

/// The profiles of these names, or all of them.
pub fn profiles(config: &Config, names: &[String]) -> Result<Vec<Profile>, Failure> {
    let wanted: Vec<&str> = match names.is_empty() {
        true => config.profiles().collect(),
        false => names.iter().map(String::as_str).collect(),
    };
    if wanted.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no profiles\nhint: add [profiles.NAME]; `pgtide config init` writes one to start with",
            config.path().display()
        )));
    }
    let profiles = wanted.into_iter().map(|name| config.profile(name));
    Ok(profiles.collect::<Result<_, _>>()?)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Repository(error) => error.into(),
            error => Self::usage(error.to_string()),
        }
    }
}
