//! Commands before and after a run.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::pg::interrupt::Interrupt;

/// How often it is looked whether a hook has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a hook that has ended is listened to: something that it has left running may keep its pipes open.
const LISTEN: Duration = Duration::from_secs(1);
/// Bytes of what a hook says that are kept.
const KEPT: usize = 4000;

/// Runs a command with a document on its standard input. What it says; an error if it fails, or takes too long.
pub fn run(
    command: &str,
    document: &[u8],
    environment: &[(&str, &str)],
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<String, String> {
    let words = shell_words::split(command).map_err(|error| error.to_string())?;
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What it starts is stopped with it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let stdin = child.stdin.take();
    let document = document.to_vec();
    // A hook may say much before it reads, and need not read at all.
    let writer = thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&document);
        }
    });
    let said = [
        child.stdout.take().map(|pipe| reader(Box::new(pipe))),
        child.stderr.take().map(|pipe| reader(Box::new(pipe))),
    ];
    let status = wait(&mut child, timeout, interrupt);
    drop(writer);
    let said: Vec<String> = said
        .into_iter()
        .flatten()
        .filter_map(|heard| heard.recv_timeout(LISTEN).ok())
        .filter(|text| !text.is_empty())
        .collect();
    let said = said.join("\n");
    match status? {
        status if status.success() => Ok(said),
        status => Err(match said.is_empty() {
            true => format!("it failed ({status})"),
            false => format!("it failed ({status}): {said}"),
        }),
    }
}

fn wait(
    child: &mut Child,
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<std::process::ExitStatus, String> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        let late = began.elapsed() > timeout;
        if late || interrupt.raised() {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
            return Err(match late {
                true => {
                    format!("it was stopped after {timeout:?}, which is as long as it may take")
                }
                false => "it was stopped with the run".to_owned(),
            });
        }
        thread::sleep(LOOK);
    }
}

/// Reads all, and keeps the beginning.
fn reader(mut pipe: Box<dyn Read + Send>) -> Receiver<String> {
    let (heard, receiver) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read) = pipe.read(&mut buffer)
            && read > 0
        {
            let room = KEPT.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
        }
        let _ = heard.send(String::from_utf8_lossy(&kept).trim().to_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(command: &str, timeout: Duration) -> Result<String, String> {
        let document = vec![b'x'; 1 << 20];
        run(
            command,
            &document,
            &[("WHO", "me")],
            timeout,
            &Interrupt::default(),
        )
    }

    #[test]
    fn a_hook_reads_the_document_and_is_heard() {
        let minute = Duration::from_secs(60);
        assert_eq!(hook("wc -c", minute).unwrap(), (1 << 20).to_string());
        // One that does not read.
        assert_eq!(
            hook("sh -c 'echo $WHO; echo too >&2'", minute).unwrap(),
            "me\ntoo"
        );
        let error = hook("sh -c 'echo no; exit 3'", minute).unwrap_err();
        assert!(
            error.contains("exit status: 3") && error.ends_with("no"),
            "{error}"
        );
        assert!(hook("/no/such/program", minute).is_err());
    }

    #[test]
    fn what_a_hook_leaves_running_holds_nobody_up() {
        let began = Instant::now();
        let minute = Duration::from_secs(60);
        assert!(hook("sh -c 'sleep 60 & echo there'", minute).is_ok());
        assert!(began.elapsed() < minute / 2);
    }

    #[test]
    fn a_hook_that_takes_too_long_is_stopped() {
        let error = hook("sh -c 'sleep 600; true'", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("it was stopped after"), "{error}");
    }
}
