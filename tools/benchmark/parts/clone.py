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


def _short(name: str) -> str:
    """A command of pgcopydb as it stands in a figure's text: which variant was the faster."""
    return name.replace(f" --split-tables-larger-than {SPLIT}", ", big tables split")


def _prove(bench: Bench, what: str, source: str, target: str) -> None:
    """Reports whether source and target are equal, row by row."""
    equal = None
    if programs.knows(bench, "compare", "--source"):
        places = ["--source", bench.url(source), "--target", bench.url(bench.named(f"to_{target}"))]
        try:
            bench.run([bench.pgtide, "compare", *places, "--pg-dump", bench.programs["pg_dump"]])
            equal = 1
        except CommandFailed as error:
            bench.fail(str(error))
            equal = 0
    else:
        bench.leave_out(f"whether the clone of the {what} database equals its source: this pgtide has no compare")
    key = f"equal_{what}"
    bench.figure(
        key, f"clone of the {what} database equals its source, by pgtide compare (1: yes)", equal, "yes", at_least(1)
    )


def clone(bench: Bench) -> None:
    """clone of the plain database against pgcopydb, text and binary; and of the hypertable database, compared with it"""
    if not programs.knows(bench, "clone"):
        raise CommandFailed(f"{bench.pgtide} has no clone")
    _plain(bench)
    _hypertables(bench)


def _plain(bench: Bench) -> None:
    database = databases.plain(bench)
    bench.warm(database)
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
    bench.times("binary", f"{group}: times as fast as {_short(binary)}", results, binary, ours, at_least(1.4))
    bench.times("text", f"{group}: times as fast as {_short(text)}", results, text, ours)
    if bare:
        without = _faster(results, (*BINARY, NO_VACUUM))
        bench.times("bare", f"{group} without ANALYZE: times as fast as {_short(without)}", results, without, ours_bare)
    bench.bars("plain", f"{group}: seconds", results)
    if ours in results:
        _prove(bench, "plain", database, "ours")


def _hypertables(bench: Bench) -> None:
    database = databases.sensors(bench)
    ours = f"pgtide clone -j {JOBS}"
    results = bench.contest(
        "Clone of the hypertable database", {ours: lambda _: programs.clone(bench, database, "ours_chunks")}
    )
    if ours in results:
        _prove(bench, "hypertable", database, "ours_chunks")
