"""A database cloned from server to server, against pgcopydb."""

from __future__ import annotations

import statistics

import databases
import programs
from bench import JOBS, Bench, Contestant
from measure import CommandFailed, Sample
from report import at_least

SPLIT = "200MB"
"""A table above that size is copied by several of pgcopydb's jobs: the big table by both."""

TEXT, BINARY = (), ("--use-copy-binary",)
NO_VACUUM = "--skip-vacuum"


def _peer_name(options: tuple[str, ...]) -> str:
    return " ".join(["pgcopydb clone", *options])


def _variants(options: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Whole tables, and big ones by parts: which is faster depends on the table."""
    return [options, (*options, "--split-tables-larger-than", SPLIT)]


def _faster(results: dict[str, list[Sample]], options: tuple[str, ...]) -> str:
    """The faster of the variants, by its median; the first if none was measured."""
    names = [_peer_name(variant) for variant in _variants(options)]
    measured = [name for name in names if results.get(name)]
    return min(measured, key=lambda name: statistics.median(s.wall for s in results[name]), default=names[0])


def _prove(bench: Bench, source: str, target: str) -> bool:
    """Whether source and target are equal, row by row. Says so where it cannot be told."""
    if not programs.knows(bench, "compare", "--source"):
        bench.leave_out("whether a clone equals its source: this pgtide has no compare of two servers")
        return False
    words = [bench.pgtide, "compare", "--source", bench.url(source), "--target", bench.url(bench.named(f"to_{target}"))]
    bench.run([*words, "--rows"] if programs.knows(bench, "compare", "--rows") else words)
    return True


def clone(bench: Bench) -> None:
    """clone of the plain database against pgcopydb, text and binary; and of the hypertable database, compared with it"""
    if not programs.knows(bench, "clone"):
        raise CommandFailed(f"{bench.pgtide} has no clone")
    _plain(bench)
    _hypertables(bench)


def _plain(bench: Bench) -> None:
    database = databases.plain(bench)
    bench.sql(database, "select count(*), sum(quantity) from orders")
    ours, ours_bare = f"pgtide clone -j {JOBS}", f"pgtide clone -j {JOBS} --no-analyze"
    contestants: dict[str, Contestant] = {ours: lambda _: programs.clone(bench, database, "ours")}
    bare = programs.knows(bench, "clone", "--no-analyze")
    if bare:
        contestants[ours_bare] = lambda _: programs.clone(bench, database, "ours_bare", "--no-analyze")

    def peer(options: tuple[str, ...]) -> Contestant:
        return lambda _: programs.pgcopydb(bench, database, "peer", options)

    if "pgcopydb" in bench.programs:
        variants = [*_variants(BINARY), *_variants(TEXT)]
        if bare:
            variants += _variants((*BINARY, NO_VACUUM))
        contestants |= {_peer_name(options): peer(options) for options in variants}
    else:
        bench.leave_out("pgcopydb: it is not there")
    group = "Clone of the plain database"
    results = bench.contest(group, contestants)
    binary, text = _faster(results, BINARY), _faster(results, TEXT)
    bench.times("binary", f"clone: times as fast as {binary}", results, binary, ours, at_least(1.4))
    bench.times("text", f"clone: times as fast as {text}", results, text, ours)
    if bare:
        without = _faster(results, (*BINARY, NO_VACUUM))
        bench.times("bare", f"clone without ANALYZE: times as fast as {without}", results, without, ours_bare)
    bench.bars("plain", f"{group}: seconds", results)
    if ours in results and _prove(bench, database, "ours"):
        bench.progress("the clone of the plain database equals its source")


def _hypertables(bench: Bench) -> None:
    database = databases.sensors(bench)
    ours = f"pgtide clone -j {JOBS}"
    results = bench.contest(
        "Clone of the hypertable database", {ours: lambda _: programs.clone(bench, database, "ours_chunks")}
    )
    proven = ours in results and _prove(bench, database, "ours_chunks")
    bench.figure(
        "equal",
        "clone of the hypertable database equals its source (1: yes)",
        1 if proven else None,
        "share",
        at_least(1),
    )
