"""tools/bench: arguments in, the parts, tables and files out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import documents
import facts
import svg
from bench import TOOLS, Bench, LeftOut
from measure import CommandFailed
from parts import PARTS
from report import Report, load, part_text, summary_text

DOCUMENT = TOOLS.parent / "docs" / "benchmarks.md"

DESCRIPTION = """Measures pgtide against pg_dump, pg_restore, pgcopydb, restic and borg on one server, and prints medians of
several rounds, and ratios. It is not a test: a target that is missed is shown, and fails nothing."""

EPILOG = """The commands run in turn, round by round, so that a machine whose speed drifts does so for all of them; a ratio is the
median of the ratios of each round, always the peer's time divided by ours. user and sys are those of the client alone:
the server's work comes on top, and on a small machine competes with it. Memory is that of a command's largest process.
Everything is read from the page cache, and before each command the server makes a checkpoint and all files are synced.

The server is the bench's own, PostgreSQL 17 with default settings but for autovacuum, which is off, and for as many
background workers as TimescaleDB wants: it syncs what it commits. Its databases (pgtide_bench_*) are made where they do not exist and stay for the next time, 13 GB, but for the
one of 100 million rows and the one of 50,000 chunks. On top of that come 5 to 15 GB of dumps and restored copies, a
part at a time, and 25 GB for 100 million rows; what there is no room for is left out, and said. Expect two hours or more for
all of it.

  tools/bench down          stops the server; nothing is deleted
  tools/bench wipe          stops it and deletes its databases

environment:
  BENCH_SCALE              size of everything, from 0.001 to see that it works (default 1; targets hold only there)
  ROUNDS                   how often each command runs (default 3)
  PGTIDE_BENCH_DIR         directory for repositories and dumps (default a temporary one in TMPDIR or /var/tmp)
  PGTIDE_BENCH_PGTIDE      the program to measure (default: built here, for release)
  PGTIDE_BENCH_URL         a server to use instead of the bench's own; it needs TimescaleDB, and stays as it is set up
  PGTIDE_BENCH_PORT        TCP port of the bench's own server (default 56317)"""


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parts = "parts, in this order (default: all of them):\n" + "\n".join(
        f"  {name:10}{part.run.__doc__}" for name, part in PARTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description=DESCRIPTION,
        epilog=f"{parts}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", help="what to measure")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write all results as one JSON document, after each part"
    )
    parser.add_argument("--svg", metavar="DIR", type=Path, help="write the plots")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="put the results into docs/benchmarks.md, to those of other parts that it has",
    )
    parser.add_argument(
        "--from", dest="earlier", metavar="FILE", type=Path, action="append", default=[],
        help="take results of an earlier run's --json, too; without a part, only these (repeatable)",
    )  # fmt: skip
    asked = parser.parse_args()
    unknown = [part for part in asked.part if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    if not asked.part and not asked.earlier:
        asked.part = list(PARTS)
    return asked


def number(name: str, default: str) -> float:
    """A number above zero from the environment."""
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        value = 0
    if value <= 0:
        raise SystemExit(f"bench: {name} is {os.environ[name]!r}; it takes a number above 0")
    return value


def measure(parts: list[str], report: Report, json: Path | None) -> None:
    """Runs the parts, and adds their results to the report. A part that fails does not keep the next from running."""
    bench = Bench(number("BENCH_SCALE", "1"), max(1, int(number("ROUNDS", "3"))))
    try:
        bench.report.facts = facts.gather(bench)
        print("\n".join(f"{name}: {value}" for name, value in bench.report.facts.items()), flush=True)
        for part in [part for part in PARTS if part in parts]:
            print(f"\n== {part}: {PARTS[part].run.__doc__}", flush=True)
            bench.part = part
            bench.report.measured[part] = facts.how(bench)
            start = time.monotonic()
            try:
                bench.need_room(PARTS[part].room * 1e9 * bench.scale, "what it writes")
                PARTS[part].run(bench)
            except LeftOut as reason:
                bench.leave_out(str(reason))
            except CommandFailed as error:
                bench.fail(str(error))
            finally:
                bench.end_part()
            print(f"\n{part_text(bench.report, part)}", flush=True)
            bench.progress(f"{part} took {(time.monotonic() - start) / 60:.1f} minutes")
            if json:
                bench.report.save(json)
    finally:
        bench.close()
    report.add(bench.report)


def document(report: Report) -> None:
    """Puts the results beside docs/benchmarks.md, to those of other parts that are there, and all of them into it."""
    directory = DOCUMENT.with_suffix("")
    results = directory / "results.json"
    kept = load(results) if results.exists() else Report()
    if kept.facts and any(kept.facts.get(name) != report.facts.get(name) for name in facts.MACHINE):
        print(f"\nbench: the results in {results} are of another machine: they go")
        kept = Report()
    kept.add(report)
    kept.save(results)
    svg.write(kept.plots, directory)
    documents.fill(DOCUMENT, kept, list(PARTS))


def main() -> int:
    """Exit code 1 if anything failed; a missed target is no failure."""
    asked = arguments()
    # What was made is deleted however this ends.
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _: sys.exit(128 + number))
    report = Report()
    for path in asked.earlier:
        report.add(load(path))
    if asked.part:
        measure(asked.part, report, asked.json)
    if asked.json:
        report.save(asked.json)
    if asked.svg:
        svg.write(report.plots, asked.svg)
    if asked.docs:
        document(report)
    print(f"\n== Targets\n\n{summary_text(report)}")
    for part, reasons in report.left_out.items():
        for reason in reasons:
            print(f"left out, {part}: {reason}")
    for part, reasons in report.failed.items():
        for reason in reasons:
            print(f"FAILED, {part}: {textwrap.shorten(reason, 200)}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except CommandFailed as failure:
        sys.exit(f"bench: {failure}")
