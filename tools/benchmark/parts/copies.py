"""Dump and restore of two databases, against pg_dump and pg_restore."""

from __future__ import annotations

from collections.abc import Callable

import databases
import programs
from bench import JOBS, Bench, Contestant
from measure import CommandFailed, Sample, directory_bytes
from report import Goal, at_least, at_most

OURS = f"pgtide dump -j {JOBS}"
PEER = f"pg_dump -Fd -j {JOBS}"
ZSTD = f"{PEER} --compress=zstd:1"
METHODS = {"zstd": "zstd:1", "gzip": "", "lz4": "lz4", "none": "none"}
"""Directories of pg_dump, and how it compresses there; its default is gzip."""


Stock = tuple[str, Callable[[], Sample]]
"""A restore by stock means into the database for `peer`, and its name."""


def peer_name(method: str) -> str:
    """The command of one of METHODS."""
    return f"{PEER} --compress={METHODS[method]}" if METHODS[method] else PEER


def _dumps(bench: Bench, group: str, database: str, times: Goal, default_times: Goal) -> dict[str, list[Sample]]:
    """Dumps of every kind. Leaves the last repository in `repo` and the last directories in METHODS."""

    def peer(method: str) -> Contestant:
        options = [f"--compress={METHODS[method]}"] if METHODS[method] else []
        return lambda _: programs.pg_dump(bench, method, database, *options)

    contestants: dict[str, Contestant] = {OURS: lambda _: programs.dump(bench, "repo", database)}
    contestants |= {peer_name(method): peer(method) for method in METHODS}
    results = bench.contest(group, contestants)
    for name, place in [(OURS, "repo"), *((peer_name(method), method) for method in METHODS)]:
        if name in results:
            bench.sized(group, name, directory_bytes(bench.latest(place)))
    bench.times("zstd", f"{group}: times as fast as pg_dump with zstd:1", results, ZSTD, OURS, times)
    bench.times("gzip", f"{group}: times as fast as pg_dump by default (gzip)", results, PEER, OURS, default_times)
    bench.times("lz4", f"{group}: times as fast as pg_dump with lz4", results, peer_name("lz4"), OURS)
    bench.times("none", f"{group}: times as fast as pg_dump without compression", results, peer_name("none"), OURS)
    bench.bars("dump", f"{group}: seconds", results)
    return results


def dump(bench: Bench) -> None:
    """dump of the hypertable database against pg_dump -Fd with zstd:1, gzip, lz4 and none: time, CPU, sizes"""
    database = databases.sensors(bench)
    # Everything into the page cache.
    bench.warm(database)
    results = _dumps(bench, "Dump of the hypertable database", database, at_least(1.15), at_least(4))
    if OURS in results and ZSTD in results:
        share = directory_bytes(bench.latest("repo")) / directory_bytes(bench.latest("zstd"))
        bench.figure(
            "size",
            "Hypertable database: size of the repository / of the directory with zstd:1",
            share,
            "share",
            at_most(0.45),
        )


def restore(bench: Bench) -> None:
    """restore of the hypertable database against pg_restore -j1, both without ANALYZE, and both with it"""
    database = databases.sensors(bench)
    programs.dump(bench, "repo", database)
    programs.pg_dump(bench, "zstd", database, "--compress=zstd:1")
    restores(bench, "Restore of the hypertable database", stock_of_chunks(bench), bench.rounds, at_least(2.4))


def stock_of_chunks(bench: Bench, limit: float | None = None) -> Stock:
    """pg_restore of the last `zstd`, which holds a hypertable."""
    return "pg_restore -j 1", lambda: programs.pg_restore_timescale(bench, bench.latest("zstd"), "peer", limit)


def restores(
    bench: Bench, group: str, stock: Stock, rounds: int, goal: Goal | None, key: str = "", keep: bool = True
) -> dict[str, list[Sample]]:
    """Restores of the last `repo` and by stock means, without ANALYZE and with it. Returns them as `ours` and `stock`, both
    without. Unless it is to `keep` them until the next, it drops the databases at once: there is room for one at a time."""
    analyzed: dict[int, Sample] = {}
    restored: dict[int, Sample] = {}

    def tide(target: str, *options: str) -> Sample:
        sample = programs.restore(bench, bench.latest("repo"), target, *options)
        if not keep:
            bench.drop(bench.named(f"to_{target}"))
        return sample

    def peer(turn: int) -> Sample:
        restored[turn] = stock[1]()
        analyzed[turn] = programs.analyze(bench, "peer")
        if not keep:
            bench.drop(bench.named("to_peer"))
        return restored[turn]

    def peer_all(turn: int) -> Sample:
        # The same work by stock means; the restore is not run twice for it.
        if turn not in analyzed:
            raise CommandFailed(f"{stock[0]} did not end well")
        return restored[turn] + analyzed[turn]

    ours, ours_all, stock_all = (
        f"pgtide restore -j {JOBS} --no-analyze",
        f"pgtide restore -j {JOBS}",
        f"{stock[0]}, then ANALYZE",
    )
    results = bench.contest(
        group,
        {
            ours: lambda _: tide("ours", "--no-analyze"),
            stock[0]: peer,
            ours_all: lambda _: tide("ours_all"),
            stock_all: peer_all,
        },
        rounds,
    )
    bench.times(f"restore{key}", f"{group}: times as fast as {stock[0]}", results, stock[0], ours, goal)
    bench.times(f"restore{key}_analyze", f"{group}: the same, both with ANALYZE", results, stock_all, ours_all)
    if not key:
        bench.bars("restore", f"{group}: seconds", results)
    return {"ours": results.get(ours, []), "stock": results.get(stock[0], [])}


def plain(bench: Bench) -> None:
    """dump and restore of a plain database with one big table, against pg_dump -Fd and pg_restore -j2"""
    database = databases.plain(bench)
    bench.warm(database)
    _dumps(bench, "Dump of the plain database", database, at_least(1.4), at_least(6.5))
    stock = f"pg_restore -j {JOBS}", lambda: programs.pg_restore(bench, bench.latest("zstd"), "peer", JOBS)
    restores(bench, "Restore of the plain database", stock, bench.rounds, at_least(1.7))
