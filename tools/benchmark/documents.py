"""Puts results into a Markdown page, between the marks that it has for them.

A mark is a comment, `<!-- bench NAME -->`, and ends at `<!-- bench end -->`. NAME is a part, `machine` or `targets`; what
is between them is replaced, what is around them is written by hand and stays.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from report import Figure, Report, figure_rows, groups, timing_rows

NOTHING = "Not measured yet."


def fill(document: Path, report: Report, parts: Sequence[str]) -> None:
    """Replaces all blocks: the page says what the report has and nothing else."""
    text = document.read_text()
    blocks = {part: _part(document, report, part) if part in report.measured else NOTHING for part in parts}
    blocks["machine"] = blocks["targets"] = NOTHING
    if report.facts:
        blocks["machine"] = _table([["", ""], *([name, value] for name, value in report.facts.items())])
    targets = [figure for figure in report.figures if figure.goal]
    if targets:
        blocks["targets"] = _figures(targets, ["measured by", *(f"`tools/bench {figure.part}`" for figure in targets)])
    for name, block in blocks.items():
        start, end = f"<!-- bench {name} -->\n", "<!-- bench end -->"
        before, found, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise SystemExit(f"bench: {document} has no block `{start.strip()}` that ends with `{end}`")
        text = f"{before}{start}{block}\n{end}{after}"
    document.write_text(text)


def _part(document: Path, report: Report, part: str) -> str:
    pieces = [f"Measured by {report.measured[part]}."]
    figures = [figure for figure in report.figures if figure.part == part]
    if figures:
        pieces.append(_figures(figures))
    for group, timings in groups(timing for timing in report.timings if timing.part == part).items():
        pieces.append(f"**{group}**")
        rows = timing_rows(timings)
        pieces.append(_table([rows[0], *([f"`{row[0]}`", *row[1:]] for row in rows[1:])]))
    for plot in report.plots:
        if plot.part == part:
            pieces.append(f"![{plot.title}]({document.stem}/{plot.key}.svg)")
    for heading, reasons in (("Left out", report.left_out.get(part, [])), ("Failed", report.failed.get(part, []))):
        pieces += [f"{heading}: {textwrap.shorten(reason, 300)}" for reason in reasons]
    return "\n\n".join(pieces)


def _figures(figures: Sequence[Figure], more: Sequence[str] = ()) -> str:
    rows = figure_rows(figures)
    if not any(row[2] for row in rows[1:]):
        rows = [row[:2] for row in rows]
    return _table([[*row, more[number]] for number, row in enumerate(rows)] if more else rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; a cell has no line ends and no bars."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
