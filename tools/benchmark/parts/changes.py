"""What a second dump costs, and a third after a change."""

from __future__ import annotations

import shutil
import statistics

import databases
import programs
from bench import JOBS, Bench, Contestant
from measure import CommandFailed, Sample, directory_bytes, ratio
from report import Plot, at_most

CHUNKS = 30


def _update_chunk(bench: Bench, database: str, day: int) -> None:
    """Changes every row of one of the thirty chunks."""
    first = f"'2026-01-01'::timestamptz + interval '{day % CHUNKS} days'"
    bench.sql(
        database,
        "set timezone = 'UTC'; update metrics set temperature = temperature + 1 "
        f"where ts >= {first} and ts < {first} + interval '1 day'",
    )


def _append_day(bench: Bench, database: str, day: int) -> None:
    """A day more of everything: a new chunk, and events at the end of their table."""
    first, last = (f"(date '2026-01-01' + {day + n})::text" for n in (0, 1))
    dates = bench.sql(database, f"select {first} || ' ' || {last}").split()
    bench.sql(
        database, databases.METRICS_ROWS.format(first=dates[0], last=dates[1], step=databases.metrics_step(bench))
    )
    bench.sql(
        database, databases.EVENTS_ROWS.format(first=dates[0], rows=bench.scaled(100_000), step=0.864 / bench.scale)
    )


def dedup(bench: Bench) -> None:
    """a second dump of the unchanged database, and a third after all rows of one chunk in thirty were updated"""
    source = databases.sensors(bench)
    database = bench.copy_database(source, "copy")
    bench.warm(database)
    sizes: dict[str, list[int]] = {"first": [], "second": [], "third": []}

    def step(kind: str, turn: int) -> Sample:
        if kind == "third":
            _update_chunk(bench, database, 9 + turn)
        # On the second night, the repository of the first.
        sample = (
            programs.dump(bench, "repo", database)
            if kind == "first"
            else programs.dump_into(bench, bench.latest("repo"), database)
        )
        sizes[kind].append(directory_bytes(bench.latest("repo")))
        return sample

    first, second, third = (
        f"pgtide dump -j {JOBS}{text}" for text in ("", ", unchanged", ", one chunk of thirty updated")
    )
    results = bench.contest(
        "Dumps of the hypertable database into one repository",
        {
            first: lambda turn: step("first", turn),
            second: lambda turn: step("second", turn),
            third: lambda turn: step("third", turn),
        },
    )
    if len(results) < 3:
        raise CommandFailed("a dump failed, so nothing can be said about the next")

    def added(later: str, earlier: str) -> float:
        return statistics.median(100 * (b - a) / f for a, b, f in zip(sizes[earlier], sizes[later], sizes["first"]))

    bench.figure(
        "cpu",
        "second dump, unchanged: client CPU / of the first",
        ratio(results[second], results[first], cpu=True),
        "share",
        at_most(0.35),
    )
    bench.figure(
        "again", "second dump, unchanged: bytes added / repository", added("second", "first"), "%", at_most(0.1)
    )
    bench.figure(
        "chunk", "one chunk of thirty updated: bytes added / repository", added("third", "second"), "%", at_most(5)
    )


FORMS = {"-Fd --compress=none": "directory", "-Fc": "custom"}
"""The forms of a dump that restic and borg are given: text that deduplicates, and what pg_dump makes by default."""


class Nights:
    """What is kept of one database, night by night."""

    def __init__(self, bench: Bench, database: str) -> None:
        """Empty repositories of all kinds."""
        self.bench = bench
        self.database = database
        self.sizes: dict[str, list[tuple[float, float]]] = {}
        self._dumped: dict[str, Sample] = {}
        self._repositories = {"pgtide dump": programs.new_repository(bench, bench.place("tide"))}
        self._backups: dict[str, tuple[str, programs.Restic | programs.Borg]] = {}
        for name, kind in (("restic", programs.Restic), ("borg", programs.Borg)):
            if name not in bench.programs:
                bench.leave_out(f"{name}: it is not there")
                continue
            for form, place in FORMS.items():
                backup = kind(bench, f"{name}_{place}")
                self._backups[f"pg_dump {form}, then {name}"] = form, backup
                self._repositories[f"pg_dump {form}, then {name}"] = backup.repository

    def _dump(self, form: str) -> Sample:
        """The dump that restic and borg share; at the same path every night, by which they know what they saw before."""
        directory = self.bench.files / f"dump_{FORMS[form]}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        jobs = [f"-j{JOBS}"] if form.startswith("-Fd") else []
        target = ["-f", directory / "dump", "-d", self.bench.url(self.database)]
        self.bench.settle()
        self._dumped[form] = self.bench.run([self.bench.programs["pg_dump"], *form.split(), *jobs, *target])
        return self._dumped[form]

    def night(self, number: int, what: str) -> None:
        """One night of all of them. The time is that of the whole way: the dump, and the backup of it."""

        def dumped(form: str) -> Contestant:
            return lambda _: self._dump(form)

        def backed_up(form: str, backup: programs.Restic | programs.Borg) -> Contestant:
            return lambda _: self._dumped[form] + backup.backup(self.bench.files / f"dump_{FORMS[form]}", number)

        contestants: dict[str, Contestant] = {
            "pgtide dump": lambda _: programs.dump_into(self.bench, self._repositories["pgtide dump"], self.database)
        }
        for form in FORMS if self._backups else ():
            contestants[f"pg_dump {form}"] = dumped(form)
            contestants |= {name: backed_up(form, backup) for name, (of, backup) in self._backups.items() if of == form}
        group = f"Night {number}: {what}; sizes are those of the whole repository"
        results = self.bench.contest(group, contestants, 1)
        for name, repository in self._repositories.items():
            if name in results:
                size = directory_bytes(repository)
                self.bench.sized(group, name, size)
                self.sizes.setdefault(name, []).append((number, size / 1e6))


def nights(bench: Bench) -> None:
    """four nights into pgtide's repository, and into those of restic and borg over pg_dump: sizes and times"""
    source = databases.sensors(bench)
    database = bench.copy_database(source, "copy")
    bench.warm(database)
    kept = Nights(bench, database)
    kept.night(1, "the first")
    kept.night(2, "nothing changed")
    _update_chunk(bench, database, 10)
    kept.night(3, "all rows of one chunk in thirty updated")
    _append_day(bench, database, CHUNKS)
    kept.night(4, "a day appended")
    ours = kept.sizes.get("pgtide dump", [])
    for name, sizes in kept.sizes.items():
        if name != "pgtide dump" and len(sizes) == len(ours) == 4:
            bench.figure(
                f"size.{name.replace(' ', '_')}",
                f"repository after four nights / of {name}",
                ours[3][1] / sizes[3][1],
                "share",
            )
    bench.plot(
        Plot("nights", "nights-sizes", "Size of the repository after each night", "lines", "night", "MB", kept.sizes)
    )
