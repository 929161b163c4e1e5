"""The commands that are measured: pgtide's and its peers', each as one run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from bench import JOBS, Bench
from measure import Sample

# pgtide.


def new_repository(bench: Bench, repository: Path) -> Path:
    """An empty repository."""
    bench.run([bench.pgtide, "init", "--repo", repository])
    return repository


def dump_into(bench: Bench, repository: Path, database: str, jobs: int = JOBS) -> Sample:
    """A dump into a repository that is there."""
    bench.settle()
    return bench.run(
        [bench.pgtide, "dump", "-q", "--repo", repository, "-d", bench.url(database), "-j", str(jobs)]
        + ["--pg-dump", bench.programs["pg_dump"]]
    )


def dump(bench: Bench, name: str, database: str, jobs: int = JOBS) -> Sample:
    """A dump into a new repository at the place of that name."""
    return dump_into(bench, new_repository(bench, bench.place(name)), database, jobs)


def restore(bench: Bench, repository: Path, target: str, *options: str, jobs: int = JOBS) -> Sample:
    """A restore of the latest snapshot into an empty database."""
    database = bench.target(target)
    return bench.run(
        [bench.pgtide, "restore", "-q", "--repo", repository, "latest", "-d", bench.url(database)]
        + ["-j", str(jobs), *options]
    )


def clone(bench: Bench, source: str, target: str, *options: str, jobs: int = JOBS) -> Sample:
    """A clone into an empty database."""
    database = bench.target(target)
    places = ["--source", bench.url(source), "--target", bench.url(database)]
    return bench.run(
        [bench.pgtide, "clone", "-q", *places, "-j", str(jobs), "--pg-dump", bench.programs["pg_dump"], *options]
    )


def knows(bench: Bench, command: str, option: str = "") -> bool:
    """Whether the pgtide that is measured has a command, and that option of it."""
    bench.run([bench.pgtide, command, "--help"], accept=range(256))
    text = bench.log.read_text(errors="replace")
    return re.search(rf"Usage: \S+ {command} ", text) is not None and option in text


# PostgreSQL's own.


def pg_dump(
    bench: Bench, name: str, database: str, *options: str, jobs: int = JOBS, limit: float | None = None
) -> Sample:
    """A dump as a directory; ended after `limit` seconds."""
    directory = bench.place(name)
    bench.settle()
    return bench.run(
        [bench.programs["pg_dump"], "-Fd", f"-j{jobs}", *options, "-f", directory, "-d", bench.url(database)],
        seconds=limit,
    )


def pg_restore(bench: Bench, archive: Path, target: str, jobs: int) -> Sample:
    """A restore of a directory into an empty database."""
    database = bench.target(target)
    return bench.run([bench.programs["pg_restore"], f"-j{jobs}", "-d", bench.url(database), archive])


def pg_restore_timescale(bench: Bench, archive: Path, target: str, limit: float | None = None) -> Sample:
    """The only stock way that does not lose hypertables: one session, and what TimescaleDB wants before and after."""
    database = bench.target(target)
    bench.sql(database, "create extension timescaledb")
    bench.sql(database, "select timescaledb_pre_restore()")
    sample = bench.run([bench.programs["pg_restore"], "-j1", "-d", bench.url(database), archive], seconds=limit)
    bench.sql(database, "select timescaledb_post_restore()")
    return sample


def analyze(bench: Bench, target: str) -> Sample:
    """ANALYZE of what was restored: the work that `pgtide restore` has done at its end."""
    return bench.run([bench.programs["psql"], "-Xq", "-d", bench.url(bench.named(f"to_{target}")), "-c", "analyze"])


# pgcopydb.


def pgcopydb(bench: Bench, source: str, target: str, options: Sequence[str]) -> Sample:
    """A clone into an empty database, with two jobs for tables and two for indexes."""
    database = bench.target(target)
    directory = bench.place("pgcopydb")
    return bench.run(
        [bench.programs["pgcopydb"], "clone", "--source", bench.url(source), "--target", bench.url(database)]
        + ["--dir", directory, "--table-jobs", "2", "--index-jobs", "2", *options],
        # It runs the server's clients by their plain names, and may be unpacked beside them.
        env={"PATH": f"{Path(bench.programs['pgcopydb']).parent}:{os.environ['PATH']}"},
    )


# Backup programs.

# Restic encrypts always and needs a password; its compression is zstd by default. Borg's default is lz4, which would
# lose on size; it is given zstd, as restic has.
RESTIC_ENV = {"RESTIC_PASSWORD": "bench", "RESTIC_PROGRESS_FPS": "0.01"}
BORG_ENV = {
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


class Restic:
    """A restic repository with a cache of its own."""

    def __init__(self, bench: Bench, name: str) -> None:
        """A new one, at the place of that name."""
        self.bench = bench
        self.repository = bench.place(name)
        self.env = {**RESTIC_ENV, "RESTIC_CACHE_DIR": str(bench.place(f"{name}_cache"))}
        bench.run([bench.programs["restic"], "init", "-q", "-r", self.repository], env=self.env)

    def backup(self, directory: Path, night: int) -> Sample:
        """One night."""
        return self.bench.run(
            [self.bench.programs["restic"], "backup", "-q", "-r", self.repository, "."], env=self.env, cwd=directory
        )


class Borg:
    """A borg repository with a cache of its own."""

    def __init__(self, bench: Bench, name: str) -> None:
        """A new one, at the place of that name."""
        self.bench = bench
        self.repository = bench.place(name)
        self.env = {**BORG_ENV, "BORG_BASE_DIR": str(bench.place(f"{name}_base"))}
        (self.bench.latest(f"{name}_base")).mkdir()
        bench.run([bench.programs["borg"], "init", "-e", "none", self.repository], env=self.env)

    def backup(self, directory: Path, night: int) -> Sample:
        """One night."""
        return self.bench.run(
            [self.bench.programs["borg"], "create", "--compression", "zstd", f"{self.repository}::night-{night}", "."],
            env=self.env,
            cwd=directory,
        )
