//! Where databases and repositories are, and how they are opened.

use std::path::PathBuf;
use std::sync::Arc;

use super::model::{RepositoryKeys, SourceKeys};
use super::values::Reference;
use super::{Config, Problems};
use crate::ops::secret::{Secret, SecretError};
use crate::pg::{ConnectionArgs, Settings, SettingsError};
use crate::repo::{KeyError, Password, RepoError, Repository};
use crate::store::{self, OpenError, Options, Store};

/// What is said of a connection that cannot be shown.
const NOT_READ: &str = "is no connection string or URI that can be read: write it like host=db1 dbname=postgres user=backup, or postgresql://backup@db1/postgres";

/// A server.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in the file.
    pub name: String,
    /// How to connect.
    connection: String,
    password: Option<Secret>,
    /// The role to become.
    pub role: Option<String>,
    /// The command to run as `pg_dump`.
    pub pg_dump: Option<String>,
    /// The command to run as `pg_dumpall`.
    pub pg_dumpall: Option<String>,
}

/// A repository.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name in the file.
    pub name: String,
    /// Where it is.
    pub location: String,
    options: Options,
    password: Option<Secret>,
}

/// Why a server or a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its password cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The connection's settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The place is wrong.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Repository(#[from] RepoError),
}

impl Source {
    /// The settings to connect with, those of the environment and the password file among them.
    pub fn settings(&self) -> Result<Settings, PlaceError> {
        let settings = settings(&self.connection)?;
        Ok(match &self.password {
            Some(secret) => settings.with_password(&secret.read()?),
            None => settings,
        })
    }
}

fn settings(connection: &str) -> Result<Settings, SettingsError> {
    let args = ConnectionArgs {
        dbname: Some(connection.to_owned()),
        no_password: true,
        ..ConnectionArgs::default()
    };
    Settings::resolve(args, &|name| std::env::var(name).ok())
}

impl Place {
    /// The store.
    pub fn store(&self) -> Result<Arc<dyn Store>, PlaceError> {
        Ok(store::open(&self.location, &self.options, &environment)?)
    }

    /// The password; an error if there is none.
    pub fn password(&self) -> Result<Password, PlaceError> {
        let Some(secret) = &self.password else {
            let location = self.location.clone();
            return Err(RepoError::from(KeyError::NoPassword { location }).into());
        };
        Ok(Password::new(secret.read()?).map_err(RepoError::from)?)
    }

    /// Whether a password is given.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The repository.
    pub fn open(&self) -> Result<Repository, PlaceError> {
        let repo = Repository::open_with(self.store()?, || self.password())?;
        if self.has_password() && !repo.is_encrypted() {
            let location = self.location.clone();
            return Err(RepoError::from(KeyError::NotNeeded { location }).into());
        }
        Ok(repo)
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Config {
    /// A secret of the file; a path is relative to the file's directory.
    pub(in crate::ops) fn secret(&self, reference: Option<&Reference>) -> Option<Secret> {
        Some(match &reference?.0 {
            Secret::File(path) => Secret::File(self.absolute(path)),
            other => other.clone(),
        })
    }

    /// The source of a name, where somebody refers to it.
    pub(super) fn source_of(
        &self,
        name: &str,
        keys: &SourceKeys,
        problems: &mut Problems<'_>,
    ) -> Option<Source> {
        let text = keys.connection.as_str();
        match Settings::states_password(text) {
            Ok(true) => {
                problems.at(
                    keys.connection.span(),
                    "a password is in the connection: take it out, and say where it is by password = { file = \"...\" }, \
                     or have it in ~/.pgpass",
                );
                return None;
            }
            Ok(false) => {}
            Err(_) => {
                problems.at(keys.connection.span(), NOT_READ);
                return None;
            }
        }
        if let Err(error) = settings(text) {
            // What it quotes may be a secret that was not written as one.
            let shown = match text.contains(['@', '%']) || text.to_lowercase().contains("pas") {
                true => NOT_READ.to_owned(),
                false => error.to_string(),
            };
            problems.at(keys.connection.span(), shown);
        }
        let text = |value: &Option<super::values::Text>| value.as_ref().map(|v| v.0.clone());
        Some(Source {
            name: name.to_owned(),
            connection: keys.connection.0.clone(),
            password: self.secret(keys.password.as_ref()),
            role: text(&keys.role),
            pg_dump: text(&keys.pg_dump).or_else(|| environment("PGTIDE_PG_DUMP")),
            pg_dumpall: text(&keys.pg_dumpall).or_else(|| environment("PGTIDE_PG_DUMPALL")),
        })
    }

    /// The repository of a name, where somebody refers to it.
    pub(super) fn place_of(
        &self,
        name: &str,
        keys: &RepositoryKeys,
        problems: &mut Problems<'_>,
    ) -> Option<Place> {
        let location = match keys.location.as_str() {
            text if text.contains("://") || text.is_empty() => text.to_owned(),
            path => self.absolute(&PathBuf::from(path)).display().to_string(),
        };
        let options: Vec<String> = (keys.options.iter())
            .map(|(key, value)| format!("{key}={}", value.0))
            .collect();
        let options = Options::parse(options.iter().map(String::as_str));
        let opened = options.and_then(|options| {
            store::open(&location, &options, &environment)?;
            Ok(options)
        });
        match opened {
            Ok(options) => Some(Place {
                name: name.to_owned(),
                location,
                options,
                password: self.secret(keys.password.as_ref()),
            }),
            Err(error) => {
                problems.at(keys.location.span(), error.to_string());
                None
            }
        }
    }
}
