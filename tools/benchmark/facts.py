"""What was measured with: the machine, the server, the versions of the programs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from bench import JOBS, TOOLS, Bench


MACHINE = ("cores", "memory")
"""What makes it another machine, whose results are not to stand beside one another."""


def gather(bench: Bench) -> dict[str, str]:
    """All of it, by name."""
    model = _first("/proc/cpuinfo", r"model name\s*: (.*)")
    memory = int(_first("/proc/meminfo", r"MemTotal:\s*(\d+) kB")) * 1024
    found = {
        "cores": f"{len(os.sched_getaffinity(0))}, {model}",
        "memory": f"{memory / 1e9:.1f} GB",
        "kernel": platform.release(),
        "files on": _filesystem(bench.files),
        "PostgreSQL": bench.sql("postgres", "show server_version"),
        "TimescaleDB": bench.sql(
            "postgres",
            "select coalesce(max(default_version), 'none') from pg_available_extensions where name = 'timescaledb'",
        ),
        "server": ", ".join(
            f"{name} = {bench.setting(name)}"
            for name in ("fsync", "shared_buffers", "max_wal_size", "autovacuum", "maintenance_work_mem")
        ),
        "pgtide": f"{_said(bench.pgtide, '--version')}, commit {commit()}",
        "pg_dump": _said(bench.programs["pg_dump"], "--version"),
    }
    for name, words in (("pgcopydb", ["--version"]), ("restic", ["version"]), ("borg", ["--version"])):
        path = bench.programs.get(name)
        found[name] = _said(path, *words) if path else "not there"
    return found


def how(bench: Bench) -> str:
    """How a part is measured."""
    scale = f", at scale {bench.scale:g}: for show, not for comparison" if bench.scale != 1 else ""
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return f"`tools/bench {bench.part}`, {day}, commit {commit()}, {bench.rounds} rounds, -j {JOBS} where nothing else is said{scale}"


def commit() -> str:
    """The commit of the working tree, and whether it was changed."""
    done = subprocess.run(
        ["git", "-C", str(TOOLS), "describe", "--always", "--dirty", "--exclude", "*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _first(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1] if found else "0"


def _filesystem(path: Path) -> str:
    done = subprocess.run(["df", "--output=fstype", str(path)], capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[-1]


def _said(*command: str) -> str:
    """The line in which a program tells its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d", line)]
    return lines[0].strip() if lines else "unknown"
