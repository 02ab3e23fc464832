"""The chart of the report as inline SVG.

It is drawn here, not by a plotting library, so that the page needs no script to be read:
it opens at once, prints as sharp as text, follows dark mode and stays a few hundred kilobytes
(plotly's script alone is over four megabytes). ``page.js`` only adds the hover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 480
SHAPES = ("circle", "square", "triangle", "diamond", "wedge", "bar")
_RECALL_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Point:
    """One measurement: where it is, and what hovering tells (title first, then lines)."""

    x: float
    y: float
    tip: str
    faint: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one algorithm; `line` joins those that are not faint."""

    key: str
    title: str
    library: str
    shape: str
    points: Sequence[Point]
    strong: bool = False
    line: bool = True


def number(value: float) -> str:
    """Three significant digits with thousands separated: 0.0123, 4.56, 78.9, 12,345."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def short(value: float) -> str:
    """A round number for an axis: 20, 5k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def recall_place(recall: float) -> float:
    """Where a recall stands, 0..1: each nine takes the same room, and 1 has a place."""
    return -math.log10(1.001 - min(1.0, max(0.0, recall))) / 3.0


def marker(shape: str, x: float, y: float, size: float = 4.2) -> str:
    """SVG of one marker."""
    s = size
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}"/>'
    outlines = {"square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
                "triangle": [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
                "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
                "wedge": [(0, 1.15), (1.1, -0.85), (-1.1, -0.85)],
                "bar": [(-1.3, -0.6), (1.3, -0.6), (1.3, 0.6), (-1.3, 0.6)]}
    places = " ".join(f"{x + s * dx:.1f},{y + s * dy:.1f}" for dx, dy in outlines[shape])
    return f'<polygon points="{places}"/>'


def _slug(library: str) -> str:
    return "lib-" + "".join(c for c in library.lower() if c.isalnum())


def legend(series: Sequence[Series]) -> str:
    """Markers and titles as an HTML list; ``page.js`` lets them pick a series out."""
    items = [
        f'<li class="{_slug(s.library)}{" strong" if s.strong else ""}" data-key="{escape(s.key)}">'
        f'<svg viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">'
        f"{marker(s.shape, 7, 7, 5)}</svg>{escape(s.title)}</li>"
        for s in series
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _svg(height: float, label: str, parts: Sequence[str], kind: str) -> str:
    return (
        f'<svg class="chart {kind}" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    look = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{look}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def log_ticks(low: float, high: float) -> list[tuple[float, bool]]:
    """Ticks 1, 2, 5 of every decade between two values, and which of them to label."""
    ticks = []
    few = math.log10(high / low) < 2.2
    for decade in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if low * 0.999 <= value <= high * 1.001:
                ticks.append((value, step == 1 or few))
    return ticks


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low)
    return lambda value: start + (end - start) * math.log(value / low) / span


def _series(one: Series, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    places = [(x(p.x), y(p.y), p) for p in one.points]
    inner = ""
    solid = [f"{px:.1f},{py:.1f}" for px, py, p in places if not p.faint]
    if one.line and len(solid) > 1:
        inner += f'<polyline points="{" ".join(solid)}"/>'
    for px, py, p in places:
        look = "pt faint" if p.faint else "pt"
        inner += (
            f'<g class="{look}" data-x="{px:.1f}" data-y="{py:.1f}" data-tip="{escape(p.tip)}">'
            f"{marker(one.shape, px, py, 4.8 if one.strong else 4.0)}</g>"
        )
    strong = " strong" if one.strong else ""
    look = f"series {_slug(one.library)}{strong}"
    return f'<g class="{look}" data-key="{escape(one.key)}">{inner}</g>'


def recall_chart(series: Sequence[Series], limit: float | None, title: str) -> str:
    """Recall (x of the points) against queries a second (y), both stretched.

    Parameters
    ----------
    series : sequence of Series
    limit : float or None
        Queries a second of a scan at the machine's float32 limit, drawn as a line.
    title : str
        For those who can't see it.
    """
    height, left, right, top, bottom = 360.0, 46.0, WIDTH - 14.0, 26.0, 314.0
    speeds = [p.y for s in series for p in s.points] + ([limit] if limit else [])
    low, high = min(speeds) / 1.25, max(speeds) * 1.25
    y = _log_scale(low, high, bottom, top)

    def x(recall: float) -> float:
        return left + 8 + (right - left - 16) * recall_place(recall)

    parts = [_text(6, 15, "queries a second", "start", "axis")]
    for value, labelled in log_ticks(low, high):
        parts.append(_line(left, y(value), right, y(value), "grid" if labelled else "grid minor"))
        if labelled:
            parts.append(_text(left - 6, y(value) + 4, short(value), "end"))
    for tick in _RECALL_TICKS:
        parts.append(_line(x(tick), top, x(tick), bottom, "grid"))
        label = "1" if tick == 1 else f"{tick:g}".lstrip("0") or "0"
        parts.append(_text(x(tick), bottom + 18, label))
    middle = (left + right) / 2
    parts.append(_text(middle, bottom + 38, "recall of the true k furthest", kind="axis"))
    if limit:
        parts.append(_line(left, y(limit), right, y(limit), "limit"))
        parts.append(
            _text(left + 4, y(limit) - 5, "limit of a float32 scan", "start", "limit-label")
        )
    ordered = sorted(series, key=lambda s: s.strong)  # ours on top
    parts += [_series(one, x, y) for one in ordered]
    return _svg(height, title, parts, "recall")


def tip(title: str, *lines: Any) -> str:
    """What hovering shows: a title and lines; empty lines are left out."""
    return "\n".join([title, *(str(line) for line in lines if line)])
