"""How cost grows with jobs, rows and chunks."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable

import databases
import programs
from bench import JOBS, Bench, Contestant, LeftOut
from databases import chunk_count
from measure import Sample, directory_bytes
from parts.copies import ZSTD, restores, stock_of_chunks
from report import Plot, at_least, at_most

Lines = dict[str, list[tuple[float, float]]]


def allowed_memory(jobs: int) -> float:
    """The most memory that a command may take, in MB."""
    return 64 + 64 * jobs


def _add(lines: Lines, series: str, x: float, samples: list[Sample] | None) -> None:
    """A point of a plot: the median of wall times."""
    if samples:
        lines.setdefault(series, []).append((x, statistics.median(s.wall for s in samples)))


def peak(bench: Bench, key: str, text: str, samples: Iterable[Sample] | None, most: float) -> None:
    """Reports the most memory that any of the runs took, against a bound in MB."""
    peaks = [sample.peak / 1e6 for sample in samples or []]
    bench.figure(key, f"peak memory: {text}", max(peaks) if peaks else None, "MB", at_most(most))


def jobs(bench: Bench) -> None:
    """dump, restore and clone by 1, 2, 4 and 8 jobs, as far as there are cores, and memory for each"""
    cores = len(os.sched_getaffinity(0))
    counts = [count for count in (1, 2, 4, 8) if count <= cores]
    absent = [str(count) for count in (1, 2, 4, 8) if count > cores]
    if absent:
        bench.leave_out(f"{', '.join(absent)} jobs: there are {cores} cores")
    sensors, plain = databases.sensors(bench), databases.plain(bench)
    bench.warm(sensors)
    bench.warm(plain)
    programs.dump(bench, "hypertables", sensors)
    programs.dump(bench, "tables", plain)
    programs.pg_dump(bench, "archive", plain, "--compress=zstd:1")
    # By group and command, what runs it with so many jobs.
    contestants: dict[str, dict[str, Callable[[int], Sample]]] = {
        "Dump of the hypertable database": {
            "pgtide dump": lambda n: programs.dump(bench, "repo", sensors, n),
            "pg_dump -Fd --compress=zstd:1": lambda n: programs.pg_dump(
                bench, "zstd", sensors, "--compress=zstd:1", jobs=n
            ),
        },
        "Restore of the hypertable database": {
            "pgtide restore": lambda n: programs.restore(bench, bench.latest("hypertables"), "ours", jobs=n)
        },
        "Restore of the plain database": {
            "pgtide restore": lambda n: programs.restore(bench, bench.latest("tables"), "ours", jobs=n),
            "pg_restore": lambda n: programs.pg_restore(bench, bench.latest("archive"), "peer", n),
        },
    }
    if programs.knows(bench, "clone"):
        contestants["Clone of the plain database"] = {
            "pgtide clone": lambda n: programs.clone(bench, plain, "ours", jobs=n)
        }
    else:
        bench.leave_out("clone: this pgtide has none")

    def by(count: int, run: Callable[[int], Sample]) -> Contestant:
        return lambda _: run(count)

    lines: Lines = {}
    for group, commands in contestants.items():
        results = bench.contest(
            f"{group}, by jobs",
            {f"{name} -j {count}": by(count, run) for count in counts for name, run in commands.items()},
        )
        for name in commands:
            for count in counts:
                samples = results.get(f"{name} -j {count}")
                _add(lines, f"{group}: {name}", count, samples)
                if name.startswith("pgtide"):
                    key = f"{group}_{count}".replace(" ", "_").lower()
                    peak(bench, f"peak.{key}", f"{group}, {name} -j {count}", samples, allowed_memory(count))
                    if count > 1:
                        bench.times(
                            f"speed.{key}",
                            f"{group}, {name} -j {count}: times as fast as -j 1",
                            results,
                            f"{name} -j 1",
                            f"{name} -j {count}",
                        )
    bench.plot(Plot("jobs", "jobs", "Time by jobs", "lines", "jobs", "seconds", lines, log=True))


def rows(bench: Bench) -> None:
    """dump, restore and clone of 1, 10 and 100 million rows, and memory for each, against pg_dump, pg_restore, pgcopydb"""
    lines: Lines = {}
    for millions in (1, 10, 100):
        count = bench.scaled(millions * 1_000_000)
        try:
            # The source if it is not there, a copy of it, what is written ahead, and the dumps.
            bench.need_room(230 * count, f"{count:,} rows")
            _rows(bench, count, 1 if millions == 100 else bench.rounds, lines)
            if millions == 100:
                bench.drop(databases.rows(bench, count))
        except LeftOut as reason:
            bench.leave_out(str(reason))
        bench.end_part()
    bench.plot(Plot("rows", "rows", "Time by rows", "lines", "rows", "seconds", lines, log=True))


def _rows(bench: Bench, count: int, rounds: int, lines: Lines) -> None:
    database = databases.rows(bench, count)
    bench.warm(database)

    def emptied(target: str, sample: Sample) -> Sample:
        # There is room for one copy at a time.
        bench.drop(bench.named(f"to_{target}"))
        return sample

    contestants: dict[str, Contestant] = {
        "pgtide dump": lambda _: programs.dump(bench, "repo", database),
        "pg_dump -Fd --compress=zstd:1": lambda _: programs.pg_dump(bench, "zstd", database, "--compress=zstd:1"),
        "pgtide restore": lambda _: emptied("ours", programs.restore(bench, bench.latest("repo"), "ours")),
        "pg_restore": lambda _: emptied("peer", programs.pg_restore(bench, bench.latest("zstd"), "peer", JOBS)),
    }
    if programs.knows(bench, "clone"):
        contestants["pgtide clone"] = lambda _: emptied("ours", programs.clone(bench, database, "ours"))
    else:
        bench.leave_out("clone: this pgtide has none")
    if "pgcopydb" in bench.programs:
        contestants["pgcopydb clone --use-copy-binary"] = lambda _: emptied(
            "peer", programs.pgcopydb(bench, database, "peer", ("--use-copy-binary",))
        )
    results = bench.contest(f"{count:,} rows, -j {JOBS}", contestants, rounds)
    for name, samples in results.items():
        _add(lines, name, count, samples)
        if name.startswith("pgtide"):
            key = f"{name.split()[1]}_{count}"
            bench.figure(
                f"rate.{key}",
                f"{name}: rows a second, of {count:,}",
                statistics.median(count / 1e6 / s.wall for s in samples),
                "million/s",
            )
            peak(bench, f"peak.{key}", f"{name} of {count:,} rows, -j {JOBS}", samples, allowed_memory(JOBS))


def chunks(bench: Bench) -> None:
    """dump and restore of hypertables of 1, 100, 5,001 and 50,000 chunks with hardly any rows: what a chunk costs"""
    lines: Lines = {}
    try:
        # At a small scale, several may come out as the same.
        counts = {bench.scaled(full): full for full in (1, 100, 5_001, 50_000)}
        for count, full in counts.items():
            try:
                _room_for_locks(bench, count, big=full == 50_000)
                # The source if it is not there, one copy or three, and the dumps.
                bench.need_room(95e3 * count * (2.5 if full == 50_000 else 4.5), chunk_count(count))
                _chunks(bench, count, full, lines)
                if full == 50_000:
                    bench.drop(databases.chunks(bench, count))
            except LeftOut as reason:
                bench.leave_out(str(reason))
            bench.end_part()
    finally:
        bench.start_server()
    bench.plot(Plot("chunks", "chunks", "Time by chunks", "lines", "chunks", "seconds", lines, log=True))


def _room_for_locks(bench: Bench, count: int, big: bool) -> None:
    """A dump holds a lock on every chunk. With its default settings the server has room for some thousands; the bench's own
    is started anew with more for the largest only."""
    if big:
        bench.start_server(locks=1024)
    per_session = int(bench.setting("max_locks_per_transaction"))
    room = per_session * (int(bench.setting("max_connections")) + int(bench.setting("max_prepared_transactions")))
    if room < count:
        raise LeftOut(
            f"{chunk_count(count)}: the server has room for {room:,} locks (max_locks_per_transaction = {per_session})"
        )


def _chunks(bench: Bench, count: int, full: int, lines: Lines) -> None:
    database = databases.chunks(bench, count)
    # An hour at most for what may take time that grows with the square of the chunks.
    rounds, limit = (1, 3600.0) if full == 50_000 else (bench.rounds, None)
    ours = f"pgtide dump -j {JOBS}"
    results = bench.contest(
        f"Dump of {chunk_count(count)}",
        {
            ours: lambda _: programs.dump(bench, "repo", database),
            ZSTD: lambda _: programs.pg_dump(bench, "zstd", database, "--compress=zstd:1", limit=limit),
        },
        rounds,
    )
    goal = at_least(1.2) if full == 5_001 else None
    bench.times(
        f"dump_{full}", f"Dump of {chunk_count(count)}: times as fast as pg_dump with zstd:1", results, ZSTD, ours, goal
    )
    for name, place in ((ours, "repo"), (ZSTD, "zstd")):
        if name in results:
            bench.sized(f"Dump of {chunk_count(count)}", name, directory_bytes(bench.latest(place)))
    _add(lines, "pgtide dump", count, results.get(ours))
    _add(lines, "pg_dump -Fd --compress=zstd:1", count, results.get(ZSTD))
    group = f"Restore of {chunk_count(count)}"
    goal = at_least(6) if full == 5_001 else None
    restored = restores(bench, group, stock_of_chunks(bench, limit), rounds, goal, f"_{full}", keep=full != 50_000)
    _add(lines, "pgtide restore --no-analyze", count, restored["ours"])
    _add(lines, "pg_restore -j 1", count, restored["stock"])
    for name, samples in (("dump", results.get(ours)), ("restore", restored["ours"])):
        if samples:
            each = statistics.median(1000 * sample.wall / count for sample in samples)
            bench.figure(f"each.{name}_{full}", f"pgtide {name}, for each of {chunk_count(count)}", each, "ms")
    if full == 50_000:
        peak(bench, "peak.dump_50000", f"dump of {chunk_count(count)}", results.get(ours), 600)
        peak(bench, "peak.restore_50000", f"restore of {chunk_count(count)}", restored["ours"], 600)
