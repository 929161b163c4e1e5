"""Plots as plain SVG, which read on a light page and on a dark one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from report import Plot

WIDTH = 760
COLOURS = 9
"""As many as STYLE has; more series begin again with dashes."""

# Colours that are apart for most eyes, a little lighter on dark pages. pgtide's own is the first.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 15px }
.grid { stroke: #8888; stroke-width: 0.5 } .line { fill: none; stroke-width: 2 } .second { stroke-dasharray: 5 4 }
.c0 { color: #0969da } .c1 { color: #cf222e } .c2 { color: #1a7f37 } .c3 { color: #9a6700 } .c4 { color: #8250df }
.c5 { color: #bf3989 } .c6 { color: #57606a } .c7 { color: #1b7c83 } .c8 { color: #bc4c00 }
.stroke { stroke: currentColor } .fill { fill: currentColor }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.c0 { color: #58a6ff } .c1 { color: #ff7b72 } .c2 { color: #56d364 } .c3 { color: #e3b341 } .c4 { color: #bc8cff }
.c5 { color: #f778ba } .c6 { color: #8b949e } .c7 { color: #76e3ea } .c8 { color: #ffa657 }
}
"""


def write(plots: Sequence[Plot], directory: Path) -> None:
    """Each as a file that is named by its key."""
    directory.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        (directory / f"{plot.key}.svg").write_text(draw(plot))


def draw(plot: Plot) -> str:
    """A plot as an SVG document."""
    body, height = _bars(plot) if plot.kind == "bars" else _lines(plot)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
            f"<title>{escape(plot.title)}</title>",
            f"<style>{STYLE}</style>",
            _text(8, 20, plot.title, "start", "title"),
            *body,
            "</svg>",
            "",
        ]
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    classes = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def plain(value: float) -> str:
    """A number for an axis: 1000000 is 1M."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _bars(plot: Plot) -> tuple[list[str], int]:
    """A bar for each series, pgtide's in its own colour."""
    left = min(WIDTH // 2, 20 + max(7 * len(name) for name in plot.series))
    most = max(points[0][1] for points in plot.series.values()) or 1
    body, y = [], 40
    for name, points in plot.series.items():
        length = max(1.0, (WIDTH - left - 90) * points[0][1] / most)
        colour = "c0" if name.startswith("pgtide") else "c6"
        body.append(_text(left - 8, y + 14, name, "end"))
        body.append(f'<rect class="fill {colour}" x="{left}" y="{y}" width="{length:.1f}" height="18" rx="2"/>')
        body.append(_text(left + length + 6, y + 14, f"{points[0][1]:.2f}", "start"))
        y += 26
    return body, y + 10


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers that span an axis: powers of ten, or some four or more steps from zero."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**power for power in range(first, max(last, first + 1) + 1)]
    raw = (high or 1) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [step * n for n in range(math.ceil(high / step) + 1)]


def _lines(plot: Plot) -> tuple[list[str], int]:
    """A line for each series, with the legend below."""
    left, right, top, bottom = 60, WIDTH - 20, 58, 350
    xs = sorted({x for points in plot.series.values() for x, _ in points})
    ys = [y for points in plot.series.values() for _, y in points if y > 0 or not plot.log]
    y_ticks = _ticks(min(ys), max(ys), plot.log)

    def scaled(value: float, low: float, high: float) -> float:
        if plot.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.5

    def at_x(value: float) -> float:
        return left + 12 + (right - left - 24) * scaled(value, xs[0], xs[-1])

    def at_y(value: float) -> float:
        return bottom - (bottom - top) * scaled(value, y_ticks[0], y_ticks[-1])

    body = [_text(8, 40, plot.y, "start")]
    for tick in y_ticks:
        body += [_line(left, at_y(tick), right, at_y(tick)), _text(left - 8, at_y(tick) + 4, plain(tick), "end")]
    for x in xs:
        body += [_line(at_x(x), top, at_x(x), bottom), _text(at_x(x), bottom + 18, plain(x), "middle")]
    body.append(_text((left + right) / 2, bottom + 36, plot.x, "middle"))
    y = bottom + 62
    for number, (name, points) in enumerate(plot.series.items()):
        kind = f"c{number % COLOURS}" + (" second" if number >= COLOURS else "")
        path = " ".join(f"{at_x(x):.1f},{at_y(value):.1f}" for x, value in points)
        body.append(f'<polyline class="line stroke {kind}" points="{path}"/>')
        body += [
            f'<circle class="fill {kind}" cx="{at_x(x):.1f}" cy="{at_y(value):.1f}" r="3.5"/>' for x, value in points
        ]
        body.append(f'<line class="line stroke {kind}" x1="{left}" y1="{y - 4}" x2="{left + 24}" y2="{y - 4}"/>')
        body.append(_text(left + 32, y, name, "start"))
        y += 20
    return body, y
