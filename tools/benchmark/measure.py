"""Runs commands and says what they cost: wall time, CPU time, memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer


class CommandFailed(Exception):
    """A command ended with an error, or not in the time it had; the message ends with what it printed."""


@dataclass(frozen=True)
class Sample:
    """What one run cost. CPU times are the client's alone: the server's work comes on top."""

    wall: float
    """Seconds from start to end."""
    user: float
    """Seconds of CPU in the client and in the processes it started."""
    system: float
    """The same in the kernel."""
    peak: int
    """Bytes resident at most, of the process that had the most. This program's own memory when it starts another, some
    25 MB, is the least that the kernel reports."""

    @property
    def cpu(self) -> float:
        """Seconds of CPU in all."""
        return self.user + self.system

    def __add__(self, other: Sample) -> Sample:
        """One after the other."""
        return Sample(
            self.wall + other.wall, self.user + other.user, self.system + other.system, max(self.peak, other.peak)
        )


def run(
    command: Sequence[object],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float | None = None,
    accept: Sequence[int] = (0,),
) -> Sample:
    """Runs a command with its output in `log`, and measures it. `env` is added to this program's environment; after
    `seconds` it is killed; an exit code not in `accept` raises CommandFailed."""
    words = [str(word) for word in command]
    # What is dirty already is not this command's to write.
    os.sync()
    with log.open("wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            # A group of its own, so that the workers of a command that takes too long end with it.
            start_new_session=True,
        )
        timer = Timer(seconds, lambda: os.killpg(process.pid, signal.SIGTERM)) if seconds else None
        if timer:
            timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        finally:
            if timer:
                timer.cancel()
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accept:
        if timer and process.returncode == -signal.SIGTERM:
            raise CommandFailed(f"{words[0]} was not done after {seconds:.0f} s")
        said = log.read_text(errors="replace").strip().splitlines()[-15:]
        raise CommandFailed("\n".join([f"{' '.join(words)}: exit {process.returncode}", *said]))
    return Sample(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


def median(samples: Sequence[Sample]) -> Sample:
    """The medians of each cost; not of one run."""
    return Sample(
        statistics.median(s.wall for s in samples),
        statistics.median(s.user for s in samples),
        statistics.median(s.system for s in samples),
        int(statistics.median(s.peak for s in samples)),
    )


def ratio(above: Sequence[Sample] | None, below: Sequence[Sample] | None, *, cpu: bool = False) -> float | None:
    """The median of the ratios of each round, so that a machine whose speed drifts does so for both. None where one of
    them was not measured."""
    if not above or not below:
        return None
    if cpu:
        return statistics.median(a.cpu / b.cpu for a, b in zip(above, below))
    return statistics.median(a.wall / b.wall for a, b in zip(above, below))


def directory_bytes(directory: Path) -> int:
    """What the files in a directory hold."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(directory) for name in names
    )
