"""Memory of unusual rows, large objects, encryption, object storage."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable

import databases
import programs
from bench import JOBS, TOOLS, Bench, Contestant
from measure import CommandFailed, Sample, directory_bytes, ratio
from parts.growth import allowed_memory, peak
from report import at_least, at_most


def memory(bench: Bench) -> None:
    """peak memory of dump, restore and clone: of the hypertable database, of rows of 50 kB, of two rows of 900 MB"""
    for make, what in (
        (databases.sensors, "the hypertable database"),
        (databases.wide, "rows of 50 kB"),
        (databases.huge, "two rows of 900 MB"),
    ):
        _memory_of(bench, make.__name__, what, make(bench))


def _memory_of(bench: Bench, key: str, what: str, database: str) -> None:
    commands: dict[str, Contestant] = {
        "dump": lambda _: programs.dump(bench, "repo", database),
        "restore": lambda _: programs.restore(bench, bench.latest("repo"), "ours"),
        "clone": lambda _: programs.clone(bench, database, "ours"),
    }
    if not programs.knows(bench, "clone"):
        bench.leave_out(f"clone of {what}: this pgtide has none")
        del commands["clone"]
    names = {name: f"pgtide {name} -j {JOBS}" for name in commands}
    results = bench.contest(f"Memory for {what}", {names[name]: run for name, run in commands.items()}, 1)
    for name in commands:
        peak(bench, f"{name}_{key}", f"{name} of {what}, -j {JOBS}", results.get(names[name]), allowed_memory(JOBS))


def objects(bench: Bench) -> None:
    """dump and restore of a million large objects with owners, privileges and comments; one round, it takes long"""
    database = databases.objects(bench)
    count = int(bench.sql(database, "select count(*) from pg_largeobject_metadata"))
    dump, restore = f"pgtide dump -j {JOBS}", f"pgtide restore -j {JOBS}"
    stock_dump, stock_restore = f"pg_dump -Fd -j {JOBS}", f"pg_restore -j {JOBS}"
    results = bench.contest(
        f"{count:,} large objects of 256 bytes",
        {
            dump: lambda _: programs.dump(bench, "repo", database),
            stock_dump: lambda _: programs.pg_dump(bench, "stock", database),
            restore: lambda _: programs.restore(bench, bench.latest("repo"), "ours"),
            stock_restore: lambda _: programs.pg_restore(bench, bench.latest("stock"), "peer", JOBS),
        },
        1,
    )
    bench.times("dump", "large objects, dump: times as fast as pg_dump", results, stock_dump, dump, at_least(1))
    bench.times(
        "restore", "large objects, restore: times as fast as pg_restore", results, stock_restore, restore, at_least(1)
    )
    wanted = bench.sql(database, databases.OBJECTS_DIGEST)
    for name, target in ((restore, "ours"), (stock_restore, "peer")):
        if name in results and bench.sql(bench.named(f"to_{target}"), databases.OBJECTS_DIGEST) != wanted:
            bench.fail(f"{name}: what it restored differs from its source")


def sealed(bench: Bench) -> None:
    """dump, restore and check --read-data of an encrypted repository against a plain one"""
    database = databases.sensors(bench)
    bench.warm(database)
    secret = {"PGTIDE_PASSWORD": "bench"}

    def command(kind: str, *words: object) -> list[str]:
        return [bench.pgtide, *map(str, words), "--repo", str(bench.latest(kind))]

    def dump(kind: str) -> Sample:
        place = bench.place(kind)
        bench.run([bench.pgtide, "init", *(["--encrypt"] if kind == "sealed" else []), "--repo", place], env=env(kind))
        bench.settle()
        words = command(
            kind, "dump", "-q", "-d", bench.url(database), "-j", JOBS, "--pg-dump", bench.programs["pg_dump"]
        )
        return bench.run(words, env=env(kind))

    def restore(kind: str) -> Sample:
        url = bench.url(bench.target(kind))
        return bench.run(command(kind, "restore", "-q", "latest", "-d", url, "-j", JOBS, "--no-analyze"), env=env(kind))

    def check(kind: str) -> Sample:
        return bench.run(command(kind, "check", "-q", "--read-data"), env=env(kind))

    def env(kind: str) -> dict[str, str]:
        return secret if kind == "sealed" else {}

    def once(run: Callable[[str], Sample], kind: str) -> Contestant:
        return lambda _: run(kind)

    actions = {"dump": dump, "restore": restore, "check --read-data": check}
    kinds = {"plain": "a plain repository", "sealed": "an encrypted one"}
    results = bench.contest(
        "An encrypted repository and a plain one",
        {f"{name}, {text}": once(run, kind) for kind, text in kinds.items() for name, run in actions.items()},
    )
    for name in actions:
        samples = [results.get(f"{name}, {text}") for text in kinds.values()]
        bench.figure(
            name.split()[0], f"{name}: encrypted / plain", ratio(samples[1], samples[0]), "times", at_most(1.1)
        )


def remote(bench: Bench) -> None:
    """dump of 3 GB to a full S3 server (Garage, tools/stores) on this machine against a dump to a directory"""
    database = databases.noise(bench)
    if subprocess.run([str(TOOLS / "stores"), "up", "garage"], check=False).returncode != 0:
        raise CommandFailed("Garage does not start; see tools/stores")
    lines = subprocess.run([str(TOOLS / "stores"), "env"], check=True, capture_output=True, text=True).stdout
    # `export NAME=quoted words`: the URL, then settings of the store (lower case) and of the environment (upper case).
    values = dict(word.split("=", 1) for word in shlex.split(lines) if "=" in word)
    url, *words = values["PGTIDE_TEST_STORE_GARAGE"].split()
    env = dict(word.split("=", 1) for word in words if word[0].isupper())
    env["PGTIDE_REPO_OPTIONS"] = " ".join(word for word in words if not word[0].isupper())
    sizes: list[int] = []

    def far(turn: int) -> Sample:
        place = f"{url}/bench-{os.getpid()}-{turn}"

        def tide(*words: object) -> Sample:
            return bench.run([bench.pgtide, *map(str, words), "--repo", place], env=env)

        tide("init")
        bench.settle()
        sample = tide("dump", "-q", "-d", bench.url(database), "-j", JOBS, "--pg-dump", bench.programs["pg_dump"])
        # So that the server has room for the next.
        tide("snapshots", "--json")
        found = re.search(r'"id": "([0-9a-f]{64})"', bench.log.read_text())
        if not found:
            raise CommandFailed("the dump to Garage left no snapshot")
        tide("forget", found[1])
        tide("prune", "-q")
        return sample

    def near(_: int) -> Sample:
        sample = programs.dump(bench, "near", database)
        sizes.append(directory_bytes(bench.latest("near")))
        return sample

    bench.warm(database)
    group = "Object storage on this machine"
    results = bench.contest(group, {"dump to a directory": near, "dump to Garage": far})
    if sizes:
        bench.sized(group, "dump to a directory", sizes[-1])
    bench.times(
        "garage",
        "dump to Garage: times as fast as to a directory",
        results,
        "dump to a directory",
        "dump to Garage",
        at_least(0.8),
    )
