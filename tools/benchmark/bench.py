"""What every part works with: the server, the programs, a place for files, and the report."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from measure import CommandFailed, Sample, median, ratio, run
from report import Figure, Goal, Plot, Report, Timing

TOOLS = Path(__file__).resolve().parent.parent
SETUP = TOOLS / "benchmark" / "setup.sh"
JOBS = 2
"""Jobs of every measurement that does not say otherwise; the targets are for two cores."""

Contestant = Callable[[int], Sample]
"""One run, in the round of that number: what it prepares first is not measured."""


class LeftOut(Exception):
    """Something that cannot be measured here; the message says what and why."""


class Bench:
    """One run of tools/bench."""

    def __init__(self, scale: float, rounds: int) -> None:
        self.scale = scale
        self.rounds = rounds
        self.report = Report()
        self.part = ""
        self.given = os.environ.get("PGTIDE_BENCH_URL")
        self.data: Path | None = None
        self.server = ""
        self.start_server()
        found = (line.split(" ", 1) for line in setup("peers").splitlines())
        self.programs = {name: path for name, path in found}
        for name in ("psql", "pg_dump", "pg_restore"):
            if name not in self.programs:
                raise SystemExit(f"bench: {name} is neither in PATH nor could it be installed")
        self.pgtide = os.environ.get("PGTIDE_BENCH_PGTIDE") or setup("pgtide").strip()
        base = os.environ.get("PGTIDE_BENCH_DIR")
        if base:
            Path(base).mkdir(parents=True, exist_ok=True)
        self.files = Path(tempfile.mkdtemp(prefix="pgtide-bench.", dir=base or os.environ.get("TMPDIR", "/var/tmp")))
        self.log = self.files / "log"
        self._scratch: set[str] = set()
        self._places: dict[str, int] = {}

    # The server.

    def start_server(self, locks: int = 64) -> None:
        """Has the bench's own server up with that max_locks_per_transaction. A given server stays as it is."""
        if self.given:
            self.server = self.given
            return
        self.server, data = setup("server", str(locks)).split()
        self.data = Path(data)

    def url(self, database: str) -> str:
        """The server's URL with that database."""
        return re.sub(r"^([a-z]+://[^/?]*)(/[^?]*)?", rf"\1/{database}", self.server)

    def sql(self, database: str, script: str) -> str:
        """Runs a script by psql; what it prints, unaligned, without the last line's end."""
        command = [self.programs["psql"], "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-f", "-"]
        environment = {**os.environ, "PGOPTIONS": "-c client_min_messages=error"}
        done = subprocess.run(command, input=script, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"psql, in {database}: {done.stderr.strip()[-800:]}")
        return done.stdout.rstrip("\n")

    def setting(self, name: str) -> str:
        """A setting of the server."""
        return self.sql("postgres", f"show {name}")

    def warm(self, database: str) -> None:
        """Brings all tables into the page cache."""
        self.sql(
            database,
            "select format('select count(*) from %s', oid::regclass) from pg_class where relkind = 'r' \\gexec",
        )

    def settle(self) -> None:
        """So that what was done before costs the next command nothing."""
        self.sql("postgres", "checkpoint")

    # Databases.

    def scaled(self, count: int) -> int:
        """A number of rows or the like, at this run's scale."""
        return max(1, round(count * self.scale))

    def named(self, name: str) -> str:
        """The name of a database at this run's scale."""
        return f"pgtide_bench_{name}" + ("" if self.scale == 1 else f"_at_{self.scale:g}".replace(".", "_"))

    def database(self, name: str, holds: str, scripts: Iterable[str], size: float) -> str:
        """Makes a database of about `size` bytes unless it is there as these scripts make it; each runs in a session of its
        own. Returns its full name."""
        full = self.named(name)
        scripts = list(scripts)
        recipe = hashlib.sha256("\n".join(scripts).encode()).hexdigest()
        made = f"select shobj_description(oid, 'pg_database') from pg_database where datname = '{full}'"
        if self.sql("postgres", made) != recipe:
            self.drop(full)
            # Indexes are built from sorted files, and the write-ahead log keeps some too.
            self.need_room(1.3 * size, f"the database {full}")
            self.progress(f"making the database {full}: {holds}")
            # A name of its own until it is complete.
            self.fresh(f"{full}_new")
            for script in scripts:
                self.sql(f"{full}_new", script)
            self.sql(f"{full}_new", "vacuum analyze")
            self.sql("postgres", f"comment on database {full}_new is '{recipe}'")
            self.alone(f"{full}_new", f"alter database {full}_new rename to {full}")
            self._scratch.discard(f"{full}_new")
        return full

    def fresh(self, name: str) -> str:
        """An empty database, dropped when the part ends."""
        self.drop(name)
        self.sql("postgres", f"create database {name} template template0")
        self._scratch.add(name)
        return name

    def target(self, name: str) -> str:
        """The name of a database to restore into, which is made empty; apart for each kind of restore, as some file
        systems pass over the places of files that were just deleted, one by one."""
        name = self.fresh(self.named(f"to_{name}"))
        self.settle()
        return name

    def copy_database(self, source: str, name: str) -> str:
        """A copy, page by page, that a part may change; dropped when the part ends."""
        full = self.named(name)
        self.drop(full)
        self._scratch.add(full)
        self.alone(source, f"create database {full} template {source} strategy file_copy")
        return full

    def alone(self, name: str, statement: str) -> None:
        """Runs a statement that suffers no session on a database. Those of TimescaleDB's scheduler come and go."""
        end = f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'"
        for attempt in range(10):
            self.sql("postgres", end)
            try:
                self.sql("postgres", statement)
            except CommandFailed as error:
                if attempt == 9 or "accessed by other users" not in str(error):
                    raise
            else:
                return

    def drop(self, name: str) -> None:
        """Drops a database that may be there."""
        self.sql("postgres", f"drop database if exists {name} with (force)")
        self._scratch.discard(name)

    # Files.

    def place(self, name: str) -> Path:
        """A path that was not there before; the last one of that name is deleted."""
        turn = self._places[name] = self._places.get(name, 0) + 1
        shutil.rmtree(self.files / f"{name}.{turn - 1}", ignore_errors=True)
        return self.files / f"{name}.{turn}"

    def latest(self, name: str) -> Path:
        """The path that `place` last gave."""
        return self.files / f"{name}.{self._places[name]}"

    def need_room(self, size: float, what: str) -> None:
        """Raises LeftOut where a disk has no room for so many bytes, and some more."""
        reserve = 2e9 * min(self.scale, 1)
        for directory in {self.files, self.data or self.files}:
            free = shutil.disk_usage(directory).free
            if free < size + reserve:
                raise LeftOut(f"{what}: takes {size / 1e9:.1f} GB, and {directory} has {free / 1e9:.1f} GB free")

    def end_part(self) -> None:
        """Deletes what the part left behind."""
        for name in list(self._scratch):
            self.drop(name)
        for entry in self.files.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._places.clear()

    def close(self) -> None:
        """Also after a failure."""
        try:
            self.end_part()
        finally:
            shutil.rmtree(self.files, ignore_errors=True)

    # Measuring.

    def run(
        self,
        command: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        seconds: float | None = None,
        accept: Sequence[int] = (0,),
    ) -> Sample:
        """Runs a command and measures it; see `measure.run`. What it prints is in `log` until the next."""
        return run(command, log=self.log, env=env, cwd=cwd, seconds=seconds, accept=accept)

    def contest(
        self, group: str, contestants: dict[str, Contestant], rounds: int | None = None
    ) -> dict[str, list[Sample]]:
        """Runs each in turn, round by round, so that a machine whose speed drifts does so for all of them. One that fails is
        reported and runs no more."""
        self.progress(group)
        results: dict[str, list[Sample]] = {name: [] for name in contestants}
        for turn in range(1, (rounds or self.rounds) + 1):
            for name in list(results):
                try:
                    sample = contestants[name](turn)
                except CommandFailed as error:
                    self.fail(f"{name}: {error}")
                    del results[name]
                else:
                    results[name].append(sample)
                    self.progress(f"  round {turn}: {name}: {sample.wall:.2f} s, cpu {sample.cpu:.2f} s")
        for name, samples in results.items():
            self.report.timings.append(Timing(self.part, group, name, samples))
        return results

    def sized(self, group: str, name: str, size: int) -> None:
        """Notes what a command of a contest left on disk."""
        for timing in self.report.timings:
            if (timing.part, timing.group, timing.name) == (self.part, group, name):
                timing.size = size

    def figure(self, key: str, text: str, value: float | None, unit: str, goal: Goal | None = None) -> None:
        """Reports a figure. A target is one only at full scale."""
        self.report.figures.append(
            Figure(self.part, f"{self.part}.{key}", text, value, unit, goal if self.scale == 1 else None)
        )

    def times(
        self,
        key: str,
        text: str,
        results: dict[str, list[Sample]],
        peer: str,
        ours: str,
        goal: Goal | None = None,
    ) -> None:
        """Reports how many times as fast ours is, if the peer took part."""
        self.figure(key, text, ratio(results.get(peer), results.get(ours)), "times", goal)

    def plot(self, plot: Plot) -> None:
        """Reports a plot, unless it would be empty."""
        if any(plot.series.values()):
            self.report.plots.append(plot)

    def bars(self, key: str, title: str, results: dict[str, list[Sample]]) -> None:
        """Reports the medians of a contest as a plot."""
        series = {name: [(0.0, median(samples).wall)] for name, samples in results.items()}
        self.plot(Plot(self.part, f"{self.part}-{key}", title, "bars", "", "seconds", series))

    def leave_out(self, reason: str) -> None:
        """Reports something that is not measured."""
        self.progress(f"left out: {reason}")
        self.report.left_out.setdefault(self.part, []).append(reason)

    def fail(self, reason: str) -> None:
        """Reports something that failed."""
        self.progress(f"FAILED: {reason}")
        self.report.failed.setdefault(self.part, []).append(reason)

    def progress(self, text: str) -> None:
        """Tells who waits."""
        print(f"bench: {text}", flush=True)


def setup(*words: str) -> str:
    """Runs tools/benchmark/setup.sh; what it prints."""
    done = subprocess.run([str(SETUP), *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {SETUP.name} {' '.join(words)} failed")
    return done.stdout.strip()
