//! One run of a profile at a time.
//!
//! The lock is one of the operating system on a small file, which is given up by the kernel however the process ends. Two
//! hosts that run one profile do no harm: the repository bears many writers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::ops::config::Profile;

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A run of the profile is at work.
    #[error(
        "the previous run of {profile} is still at work{}\nhint: wait for it, or see what holds it up; a deadline in the profile stops a run that takes too long",
        if holder.is_empty() { String::new() } else { format!(" ({holder})") }
    )]
    Held {
        /// The profile.
        profile: String,
        /// Who it is.
        holder: String,
    },
    /// The file cannot be used.
    #[error("the lock file {}: {source}\nhint: see that this user may write there", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The lock of a profile.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    pub fn take(profile: &Profile) -> Result<Self, LockError> {
        Self::take_in(&directory(), profile)
    }

    fn take_in(directory: &Path, profile: &Profile) -> Result<Self, LockError> {
        // A profile of the same name in another configuration is another one.
        let what = format!("{}\n{}", profile.name, profile.repository.location);
        let mark = blake3::hash(what.as_bytes()).to_hex();
        let path = directory.join(format!(
            "pgtide-{}-{}.lock",
            nix::unistd::Uid::effective(),
            &mark[..16]
        ));
        let io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Who it is only makes the message better.
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held {
                    profile: profile.name.clone(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(error) => return Err(io(error.into())),
        }
        let now = crate::clock::now().strftime("%F %T UTC");
        let holder = format!("process {}, since {now}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(holder.as_bytes()))
            .map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// Where lock files are kept: the same place in a crontab and in a terminal, which have other environments.
fn directory() -> PathBuf {
    let places = ["/run/lock", "/var/lock", "/tmp"].map(PathBuf::from);
    let writable =
        |place: &PathBuf| rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_ok();
    let mut found = places.into_iter().filter(writable);
    found.next().unwrap_or_else(std::env::temp_dir)
}
