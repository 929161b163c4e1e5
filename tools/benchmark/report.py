"""What was measured: kept for JSON, printed as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from measure import Sample, median

FORMAT = 1


@dataclass(frozen=True)
class Goal:
    """What a figure has to reach."""

    at_least: bool
    value: float

    def met(self, value: float) -> bool:
        """Whether it does."""
        return value >= self.value if self.at_least else value <= self.value


def at_least(value: float) -> Goal:
    """No less than that."""
    return Goal(True, value)


def at_most(value: float) -> Goal:
    """No more than that."""
    return Goal(False, value)


@dataclass
class Timing:
    """The runs of one command."""

    part: str
    group: str
    """The table it belongs to, by its heading."""
    name: str
    """The command, as a reader would type it but for names of places."""
    samples: list[Sample]
    size: int | None = None
    """Bytes that it left on disk, where that is of interest."""


@dataclass
class Figure:
    """One number with a meaning: a ratio, a share, a size."""

    part: str
    key: str
    """Its name in the JSON document, which stays."""
    text: str
    value: float | None
    """None where it could not be measured."""
    unit: str
    """`times`, `share`, `%`, `MB`, `s`, `ms`, `million/s` or `yes`."""
    goal: Goal | None = None


@dataclass
class Plot:
    """A chart: `bars` (one value for each series) or `lines`."""

    part: str
    key: str
    title: str
    kind: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    log: bool = False
    """Whether both axes are logarithmic."""


@dataclass
class Report:
    """All of one run, or of several put together."""

    facts: dict[str, str] = field(default_factory=dict)
    """The machine, the server, the versions, by name."""
    measured: dict[str, str] = field(default_factory=dict)
    """For each part that was run, how: the command, when, at which scale, how many rounds."""
    timings: list[Timing] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """By part, what was not measured and why."""
    failed: dict[str, list[str]] = field(default_factory=dict)
    """By part, what failed and how."""

    def save(self, path: Path) -> None:
        """As one JSON document."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    def add(self, other: Report) -> None:
        """Takes over the other's parts in place of its own."""
        self.facts.update(other.facts)
        self.measured.update(other.measured)
        for part in other.measured:
            self.left_out.pop(part, None)
            self.failed.pop(part, None)
        self.left_out.update(other.left_out)
        self.failed.update(other.failed)
        self.timings = [t for t in self.timings if t.part not in other.measured] + other.timings
        self.figures = [f for f in self.figures if f.part not in other.measured] + other.figures
        self.plots = [p for p in self.plots if p.part not in other.measured] + other.plots


def load(path: Path) -> Report:
    """What `save` wrote."""
    document: dict[str, Any] = json.loads(path.read_text())
    if document.pop("format", None) != FORMAT:
        raise SystemExit(f"bench: {path} is not a result of this version of tools/bench; measure again")
    for timing in document["timings"]:
        timing["samples"] = [Sample(**sample) for sample in timing["samples"]]
    for figure in document["figures"]:
        figure["goal"] = Goal(**figure["goal"]) if figure["goal"] else None
    for plot in document["plots"]:
        plot["series"] = {name: [(x, y) for x, y in points] for name, points in plot["series"].items()}
    document["timings"] = [Timing(**timing) for timing in document["timings"]]
    document["figures"] = [Figure(**figure) for figure in document["figures"]]
    document["plots"] = [Plot(**plot) for plot in document["plots"]]
    return Report(**document)


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def value_text(figure: Figure) -> str:
    """A figure's value with its unit."""
    if figure.value is None:
        return "not measured"
    form = {
        "times": "{:.2f}",
        "share": "{:.3f}",
        "%": "{:.3g} %",
        "MB": "{:.0f} MB",
        "s": "{:.2f} s",
        "million/s": "{:.2f} million",
        "ms": "{:.2f} ms",
        "yes": "{:.0f}",
    }[figure.unit]
    return form.format(figure.value)


def goal_text(figure: Figure) -> str:
    """What it has to reach, or nothing."""
    if figure.goal is None:
        return ""
    unit = f" {figure.unit}" if figure.unit in ("MB", "%", "s") else ""
    return f"{'at least' if figure.goal.at_least else 'at most'} {figure.goal.value:g}{unit}"


def verdict(figure: Figure) -> str:
    """Whether it does."""
    if figure.goal is None:
        return ""
    if figure.value is None:
        return "not measured"
    return "reached" if figure.goal.met(figure.value) else "missed"


def groups(timings: Iterable[Timing]) -> dict[str, list[Timing]]:
    """By heading, in the order they were measured."""
    found: dict[str, list[Timing]] = {}
    for timing in timings:
        found.setdefault(timing.group, []).append(timing)
    return found


def timing_rows(timings: Sequence[Timing]) -> list[list[str]]:
    """A table of medians; its first row is the heading."""
    sized = any(timing.size is not None for timing in timings)
    rows = [["", "time", "user", "sys", "memory"] + (["size"] if sized else [])]
    for timing in timings:
        m = median(timing.samples)
        row = [timing.name, f"{m.wall:.2f} s", f"{m.user:.2f} s", f"{m.system:.2f} s", size(m.peak)]
        rows.append(row + ([size(timing.size) if timing.size is not None else ""] if sized else []))
    return rows


def figure_rows(figures: Sequence[Figure]) -> list[list[str]]:
    """A table of figures; its first row is the heading."""
    return [["", "measured", "target", ""]] + [[f.text, value_text(f), goal_text(f), verdict(f)] for f in figures]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the first column to the left, numbers to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def part_text(report: Report, part: str) -> str:
    """All of a part, for a terminal."""
    pieces = []
    for group, timings in groups(t for t in report.timings if t.part == part).items():
        rounds = max(len(timing.samples) for timing in timings)
        pieces.append(f"{group} (medians of {rounds})" if rounds > 1 else f"{group} (one round)")
        pieces.append(aligned(timing_rows(timings)) + "\n")
    figures = [figure for figure in report.figures if figure.part == part]
    if figures:
        pieces.append(aligned(figure_rows(figures)) + "\n")
    pieces += [f"left out: {reason}" for reason in report.left_out.get(part, [])]
    pieces += [f"FAILED: {reason}" for reason in report.failed.get(part, [])]
    return "\n".join(pieces)


def summary_text(report: Report) -> str:
    """The figures that have a target."""
    rows = figure_rows([figure for figure in report.figures if figure.goal])
    return aligned(rows) if len(rows) > 1 else "no figure of these parts has a target"
