//! The configuration: `pgtide.toml`, where it is found, what it says, and where it is wrong, by line and column.

mod model;
mod places;
mod profile;
mod starter;
mod values;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use model::File;

pub(in crate::ops) use model::NotifyKeys;
pub use model::{On, QueryKeys};
pub use places::{Place, PlaceError, Source};
pub use profile::{Anomaly, Check, CopyStep, Databases, Hooks, Profile, VerifyServer, VerifyStep};
pub use starter::{Starter, starter};
pub(in crate::ops) use values::{At, Reference, Text};

use super::notify::Channel;

/// Name of the file.
const NAME: &str = "pgtide.toml";
/// The variable of the environment that names it.
const VARIABLE: &str = "PGTIDE_CONFIG";

/// What is wrong with a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1 on; 0 where it is nowhere in particular.
    pub line: usize,
    /// The column, in characters, from 1 on.
    pub column: usize,
    /// The line's text, and how many characters of it are meant.
    excerpt: Option<(String, usize)>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, column) = (self.line, self.column);
        if number == 0 {
            return f.write_str(&self.message);
        }
        write!(f, "line {number}, column {column}: {}", self.message)?;
        let Some((line, length)) = &self.excerpt else {
            return Ok(());
        };
        let margin = " ".repeat(number.to_string().len());
        let before = " ".repeat(column - 1);
        let meant = "^".repeat((*length).max(1));
        write!(f, "\n  {number} | {line}\n  {margin} | {before}{meant}")
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no file.
    #[error(
        "there is no configuration: none of these exists\n{}\nhint: `pgtide config init` writes one; --config or {VARIABLE} names one elsewhere",
        searched.iter().map(|path| format!("  {}", path.display())).collect::<Vec<_>>().join("\n")
    )]
    NotFound {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("{}: {source}\nhint: --config or {VARIABLE} names another", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error(
        "{} is wrong\n{}\nhint: `pgtide config check` looks at all of it",
        path.display(),
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it, as far as it can be read.
        problems: Vec<Problem>,
    },
    /// There is no such profile, source or repository.
    #[error(
        "there is no {what} {name:?} in {}\nhint: {}", path.display(),
        if known.is_empty() { "there is none at all".to_owned() } else { format!("there are {}", known.join(", ")) }
    )]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// By which name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
        /// The file.
        path: PathBuf,
    },
}

/// A configuration file, read.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    text: String,
    file: File,
}

/// Collects what is wrong.
pub(in crate::ops) struct Problems<'a> {
    text: &'a str,
    list: Vec<Problem>,
}

impl Problems<'_> {
    /// Something is wrong at that place of the file.
    pub(in crate::ops) fn at(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.list.push(problem(self.text, span, message.into()));
    }

    /// Something is missing.
    pub(in crate::ops) fn missing(&mut self, message: impl Into<String>) {
        self.list.push(Problem {
            line: 0,
            column: 0,
            excerpt: None,
            message: message.into(),
        });
    }
}

/// Whether a line may have a secret in it, or in a value that somebody has misspelt: it is named, and not shown.
fn is_delicate(line: &str) -> bool {
    const WORDS: [&str; 9] = [
        "pas",
        "token",
        "secret",
        "key",
        "url",
        "connection",
        "server",
        "push",
        "header",
    ];
    let line = line.to_lowercase();
    WORDS.iter().any(|word| line.contains(word)) || line.contains("://") || line.contains('@')
}

fn problem(text: &str, span: Range<usize>, message: String) -> Problem {
    let floor = |at: usize| {
        let mut places = (0..=at.min(text.len())).rev();
        places.find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let start = floor(span.start);
    let before = &text[..start];
    let begin = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let column = before[begin..].chars().count() + 1;
    let end = floor(span.end.max(start));
    let meant = text[start..end].lines().next().unwrap_or_default();
    Problem {
        line: before.matches('\n').count() + 1,
        column,
        excerpt: (!is_delicate(line)).then(|| (line.to_owned(), meant.chars().count())),
        message,
    }
}

impl Config {
    /// The file that is meant: the one given, the one that `PGTIDE_CONFIG` names, or the first in the usual places that is
    /// there.
    pub fn find(
        given: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, ConfigError> {
        if let Some(path) = given {
            return Ok(path.to_owned());
        }
        let set = |name| {
            env(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(path) = set(VARIABLE) {
            return Ok(path);
        }
        let searched = usual_places(&set);
        match searched.iter().find(|path| path.exists()) {
            Some(path) => Ok(path.clone()),
            None => Err(ConfigError::NotFound { searched }),
        }
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, text)
    }

    /// Reads the text of a file. `path` is where it is from: relative paths in it begin in its directory.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let file = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let mut problems = Problems {
                text: &text,
                list: Vec::new(),
            };
            let message = error.message().trim_end();
            problems.at(error.span().unwrap_or(0..0), message);
            ConfigError::Wrong {
                path: path.to_owned(),
                problems: problems.list,
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            file,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.file.profiles.keys().map(String::as_str)
    }

    /// A profile.
    pub fn profile(&self, name: &str) -> Result<Profile, ConfigError> {
        let keys = self.file.profiles.get(name);
        let keys = keys.ok_or_else(|| self.unknown("profile", name, &mut self.profiles()))?;
        self.complete(|problems| profile::resolve(self, name, keys, problems))
    }

    /// A server.
    pub fn source(&self, name: &str) -> Result<Source, ConfigError> {
        let keys = self.file.sources.get(name);
        let mut known = self.file.sources.keys().map(String::as_str);
        let keys = keys.ok_or_else(|| self.unknown("source", name, &mut known))?;
        self.complete(|problems| self.source_of(name, keys, problems))
    }

    /// A repository.
    pub fn repository(&self, name: &str) -> Result<Place, ConfigError> {
        let keys = self.file.repositories.get(name);
        let mut known = self.file.repositories.keys().map(String::as_str);
        let keys = keys.ok_or_else(|| self.unknown("repository", name, &mut known))?;
        self.complete(|problems| self.place_of(name, keys, problems))
    }

    /// Those who are told of a profile's runs.
    pub fn channels(&self, profile: &str) -> Result<Vec<Channel>, ConfigError> {
        self.complete(|problems| {
            let mut channels = Channel::all(self, &self.file.notify, problems);
            channels.retain(|channel| channel.is_for(profile));
            Some(channels)
        })
    }

    /// The directory of node_exporter's textfile collector.
    pub fn textfile(&self) -> Option<PathBuf> {
        let directory = self.file.metrics.textfile.as_ref()?;
        Some(self.absolute(Path::new(&**directory)))
    }

    /// The push gateway.
    pub fn push_gateway(&self) -> Option<&str> {
        self.file.metrics.push.as_ref().map(|url| url.as_str())
    }

    /// Everything that is wrong, as far as that can be told without connecting to anything.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems {
            text: &self.text,
            list: Vec::new(),
        };
        for (name, keys) in &self.file.sources {
            self.source_of(name, keys, &mut problems);
        }
        for (name, keys) in &self.file.repositories {
            self.place_of(name, keys, &mut problems);
        }
        let mut profiles: Vec<Profile> = Vec::new();
        for (name, keys) in &self.file.profiles {
            let Some(profile) = profile::resolve(self, name, keys, &mut problems) else {
                continue;
            };
            for other in profiles.iter().filter(|other| other.rivals(&profile)) {
                problems.missing(format!(
                    "the profiles {} and {name} dump the same into the same repository, so each would forget the other's snapshots: give one of them tags",
                    other.name
                ));
            }
            profiles.push(profile);
        }
        Channel::all(self, &self.file.notify, &mut problems);
        self.metrics_of(&mut problems);
        if self.file.profiles.is_empty() {
            problems
                .missing("there are no profiles, so there is nothing to run: add [profiles.NAME]");
        }
        // A source that is wrong is wrong for each profile that has it.
        let mut list = problems.list;
        list.sort_by_key(|problem| (problem.line, problem.column));
        list.dedup();
        list
    }

    fn metrics_of(&self, problems: &mut Problems<'_>) {
        if let Some(url) = &self.file.metrics.push
            && let Err(message) = check_url(url)
        {
            problems.at(url.span(), message);
        }
    }

    /// The value, if nothing is wrong with it.
    fn complete<T>(
        &self,
        make: impl FnOnce(&mut Problems<'_>) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let mut problems = Problems {
            text: &self.text,
            list: Vec::new(),
        };
        match make(&mut problems) {
            Some(value) if problems.list.is_empty() => Ok(value),
            _ => Err(ConfigError::Wrong {
                path: self.path.clone(),
                problems: problems.list,
            }),
        }
    }

    fn unknown(
        &self,
        what: &'static str,
        name: &str,
        known: &mut dyn Iterator<Item = &str>,
    ) -> ConfigError {
        ConfigError::Unknown {
            what,
            name: name.to_owned(),
            known: known.map(str::to_owned).collect(),
            path: self.path.clone(),
        }
    }

    /// A path of the file, which is relative to the file's directory.
    fn absolute(&self, path: &Path) -> PathBuf {
        let file = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        match file.parent() {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }
}

/// Whether a text is a URL that can be spoken HTTP with.
pub(in crate::ops) fn check_url(text: &str) -> Result<(), String> {
    match url::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) => Ok(()),
        Ok(url) => Err(format!(
            "is a URL of the kind {}, and must be http or https",
            url.scheme()
        )),
        Err(error) => Err(format!("is no URL: {error}")),
    }
}

fn usual_places(set: &dyn Fn(&'static str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let own = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let directories = own.into_iter().chain([PathBuf::from("/etc")]);
    directories
        .map(|directory| directory.join("pgtide").join(NAME))
        .collect()
}

/// The JSON schema of the file, for editors.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

#[cfg(test)]
mod tests;
