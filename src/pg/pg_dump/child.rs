//! A `pg_dump` at work: its archive parsed and its messages kept while it runs, and its end.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PgDumpError;
use crate::pg::archive::{Archive, ArchiveError};

/// How long a child may take to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// What is kept of a child's messages.
const STDERR_LIMIT: u64 = 64 * 1024;

/// A `pg_dump` at work. Dropping it ends the child.
#[derive(Debug)]
pub struct RunningPgDump {
    child: Arc<Mutex<Child>>,
    program: String,
    archive: Option<JoinHandle<Result<Archive, ArchiveError>>>,
    stderr: Option<JoinHandle<String>>,
}

/// Ends a running `pg_dump` from another thread.
#[derive(Clone, Debug)]
pub struct PgDumpKiller(Arc<Mutex<Child>>);

impl PgDumpKiller {
    /// Asks the child to stop, and ends it if it does not; returns when it is gone.
    pub fn kill(&self) {
        let mut child = lock(&self.0);
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        // A pg_dump that is asked cancels its query on the server; one that is killed leaves it running.
        if let Some(pid) = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl RunningPgDump {
    pub(super) fn start(mut command: Command, program: String) -> Result<Self, PgDumpError> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C on the terminal is ours to handle, and a stop reaches what a wrapper started.
            .process_group(0);
        let failed = |source| PgDumpError::Run {
            program: program.clone(),
            source,
        };
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let running = |archive, stderr| Self {
            child: Arc::new(Mutex::new(child)),
            program: program.clone(),
            archive,
            stderr,
        };
        let (Some(stdout), Some(mut stderr)) = (stdout, stderr) else {
            drop(running(None, None));
            return Err(failed(std::io::Error::other("its output is not connected")));
        };
        let archive = std::thread::spawn(move || {
            let mut stdout = std::io::BufReader::with_capacity(1 << 18, stdout);
            let archive = Archive::read(&mut stdout);
            // The child must be able to write to its end, whatever we think of what it wrote.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
            archive
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.by_ref().take(STDERR_LIMIT).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&bytes).trim().to_string()
        });
        Ok(running(Some(archive), Some(stderr)))
    }

    /// A handle to end it from another thread.
    pub fn killer(&self) -> PgDumpKiller {
        PgDumpKiller(Arc::clone(&self.child))
    }

    /// Waits for its end. What it said without failing comes with the archive.
    pub fn wait(mut self) -> Result<(Archive, String), PgDumpError> {
        let archive = self.archive.take().map(JoinHandle::join);
        let stderr = self
            .stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        let program = std::mem::take(&mut self.program);
        // Both its outputs are closed, so this takes no time worth noting while the lock is held.
        let status = lock(&self.child).wait();
        let status = status.map_err(|source| PgDumpError::Run {
            program: program.clone(),
            source,
        })?;
        if !status.success() {
            return Err(PgDumpError::Failed {
                program,
                status,
                stderr,
            });
        }
        match archive {
            Some(Ok(Ok(archive))) => Ok((archive, stderr)),
            Some(Ok(Err(source))) => Err(PgDumpError::Output { program, source }),
            _ => {
                let source = std::io::Error::other("the thread that reads its output died");
                Err(PgDumpError::Run { program, source })
            }
        }
    }
}

impl Drop for RunningPgDump {
    fn drop(&mut self) {
        self.killer().kill();
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
