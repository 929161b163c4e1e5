//! Where the password of an encrypted repository comes from: a file, a command, the environment or the terminal, never
//! an argument, which other users of the machine could see.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use pgtide::ops::secret::Secret;
use pgtide::repo::{KeyError, Password, RepoError};
use zeroize::Zeroizing;

use super::Failure;

/// The password itself.
const VALUE: &str = "PGTIDE_PASSWORD";
/// A file that holds it.
const FILE: &str = "PGTIDE_PASSWORD_FILE";
/// A command that prints it.
const COMMAND: &str = "PGTIDE_PASSWORD_COMMAND";

/// The password of the repository.
#[derive(Debug, Args)]
pub struct RepoPassword {
    /// File with the password of an encrypted repository; else PGTIDE_PASSWORD, PGTIDE_PASSWORD_FILE or
    /// PGTIDE_PASSWORD_COMMAND, or it is asked for
    #[arg(long, value_name = "FILE")]
    repo_password_file: Option<PathBuf>,
    /// Command that prints the password of an encrypted repository
    #[arg(long, value_name = "COMMAND", conflicts_with = "repo_password_file")]
    repo_password_command: Option<String>,
}

/// The password of a key that is made.
#[derive(Debug, Args)]
pub struct NewPassword {
    /// File with the new password; without it and --new-password-command it is asked for
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Command that prints the new password
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_password_file")]
    new_password_command: Option<String>,
}

/// The password of the repository that gives its keys to a new one.
#[derive(Debug, Args)]
pub struct FromPassword {
    /// File with the password of the repository of --keys-from; without it and --from-password-command it is asked for
    #[arg(long, value_name = "FILE", requires = "keys_from")]
    from_password_file: Option<PathBuf>,
    /// Command that prints the password of the repository of --keys-from
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "keys_from",
        conflicts_with = "from_password_file"
    )]
    from_password_command: Option<String>,
}

/// The password of the repository that snapshots are copied to.
#[derive(Debug, Args)]
pub struct ToPassword {
    /// File with the password of the repository of --to; without it and --to-password-command the same as for --repo
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// Command that prints the password of the repository of --to
    #[arg(long, value_name = "COMMAND", conflicts_with = "to_password_file")]
    to_password_command: Option<String>,
}

impl ToPassword {
    /// The password of the second repository.
    pub fn get(&self, location: &str) -> Result<Password, Failure> {
        let own = RepoPassword {
            repo_password_file: self.to_password_file.clone(),
            repo_password_command: self.to_password_command.clone(),
        };
        own.get(location)
    }
}

impl RepoPassword {
    /// Whether an option or the environment says that there is one: then a repository that needs none is not the one that
    /// was meant. Somebody may have put it there, to be given the next dump in the clear.
    pub fn is_given(&self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.repo_password_file.is_some()
            || self.repo_password_command.is_some()
            || [VALUE, FILE, COMMAND].into_iter().any(set)
    }

    /// The password of a repository that is there.
    pub fn get(&self, location: &str) -> Result<Password, Failure> {
        match self.found()? {
            Some(password) => Ok(password),
            None if std::io::stdin().is_terminal() => ask(&format!("Password of {location}: ")),
            None => {
                let location = location.to_owned();
                Err(RepoError::from(KeyError::NoPassword { location }).into())
            }
        }
    }

    /// The password of a repository that is to be made: asked for twice.
    pub fn choose(&self, location: &str) -> Result<Password, Failure> {
        match self.found()? {
            Some(password) => Ok(password),
            None => ask_twice(&format!("Password for {location}: ")),
        }
    }

    fn found(&self) -> Result<Option<Password>, Failure> {
        let found = given(
            self.repo_password_file.as_deref(),
            self.repo_password_command.as_deref(),
        )?;
        if found.is_some() {
            return Ok(found);
        }
        let variable = |name: &'static str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            let text = value.map(|value| value.into_string()).transpose();
            text.map(|text| text.map(Zeroizing::new))
                .map_err(|_| Failure::usage(format!("{name} is not text; give it in UTF-8")))
        };
        let [value, file, command] = [variable(VALUE)?, variable(FILE)?, variable(COMMAND)?];
        if [&value, &file, &command].into_iter().flatten().count() > 1 {
            return Err(Failure::usage(format!(
                "more than one of {VALUE}, {FILE} and {COMMAND} is set; leave one"
            )));
        }
        match value {
            Some(value) => Ok(Some(password(value, VALUE)?)),
            None => given(
                file.as_ref().map(|file| Path::new(file.as_str())),
                command.as_ref().map(|command| command.as_str()),
            ),
        }
    }
}

impl NewPassword {
    /// The new password.
    pub fn choose(&self) -> Result<Password, Failure> {
        match given(
            self.new_password_file.as_deref(),
            self.new_password_command.as_deref(),
        )? {
            Some(password) => Ok(password),
            None => ask_twice("New password: "),
        }
    }
}

impl FromPassword {
    /// The password of the other repository.
    pub fn get(&self, location: &str) -> Result<Password, Failure> {
        match given(
            self.from_password_file.as_deref(),
            self.from_password_command.as_deref(),
        )? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {location}: ")),
        }
    }
}

/// What a file or a command says.
fn given(file: Option<&Path>, command: Option<&str>) -> Result<Option<Password>, Failure> {
    let secret = match (file, command) {
        (Some(file), _) => Secret::File(file.to_owned()),
        (None, Some(command)) => Secret::Command(command.to_owned()),
        (None, None) => return Ok(None),
    };
    let text = secret
        .read()
        .map_err(|error| Failure::usage(error.to_string()))?;
    password(text, "the password").map(Some)
}

fn password(text: Zeroizing<String>, what: &str) -> Result<Password, Failure> {
    Password::new(text).map_err(|error| Failure::usage(format!("{what}: {error}")))
}

/// Asks on the terminal.
fn ask(prompt: &str) -> Result<Password, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask for a password on; give a file or a command that has it",
        ));
    }
    password(
        Zeroizing::new(rpassword::prompt_password(prompt)?),
        "the answer",
    )
}

fn ask_twice(prompt: &str) -> Result<Password, Failure> {
    let first = ask(prompt)?;
    if ask("The same again: ")? != first {
        return Err(Failure::usage("the two passwords differ; try again"));
    }
    Ok(first)
}
