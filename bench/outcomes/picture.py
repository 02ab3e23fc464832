"""One picture of all uses: how much of the measure the recommended way gains on each set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from ..readme import COLORS, INK, LINE, PAPER, SOFT, STYLE
from .data import SETS
from .record import Record

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 760, 330, 20, 58, 17
_MOST = 0.6  # of the rival's mean: gains beyond it are drawn at the border


def picture(found: Sequence[Record], titles: Mapping[str, str]) -> str:
    """A dot a set with the interval of its gain, as a share of the best of today's ways, as SVG.

    Hollow dots are sets that chose.
    """
    bad, _, good = COLORS
    means = {(one.use, one.data, one.way): one.mean for one in found}
    parts: list[str] = []
    y = float(_TOP)

    def x(share: float) -> float:
        held = max(-_MOST, min(_MOST, share))
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (held + _MOST) / (2 * _MOST)

    def text(place: float, words: str, color: str, anchor: str = "start", weight: int = 400,
             ) -> str:
        return (f'<text x="{place:.1f}" y="{y + 4:.1f}" fill="{color}" text-anchor="{anchor}" '
                f'font-weight="{weight}">{escape(words)}</text>')

    for use, same in groupby((one for one in found if one.whose == "ours"), lambda one: one.use):
        parts.append(text(0, titles[use], INK, weight=600))
        y += _STEP
        for one in same:
            full = means[use, one.data, one.rival] or 1.0
            color = {"better": good, "worse": bad, "same": SOFT}[one.verdict]
            low, high = one.gain_low / full, one.gain_high / full
            inside = PAPER if one.role == "chose" else color
            parts += [text(12, SETS[one.data].title, SOFT),
                      f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" '
                      f'stroke="{color}" stroke-width="2"/>',
                      f'<circle cx="{x(one.gain / full):.1f}" cy="{y}" r="4" stroke="{color}" '
                      f'fill="{inside}" stroke-width="1.5"/>']
            y += _STEP
        y += 6
    height, y = y + 4, 16.0
    head = [text(0, "Gain over the best of today's ways", INK, weight=600)]
    y = 40.0
    for share in (-0.5, -0.25, 0.0, 0.25, 0.5):
        head += [text(x(share), f"{share:+.0%}" if share else "same", SOFT, "middle"),
                 f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{_TOP - 8}" '
                 f'y2="{height}" stroke="{LINE if share else SOFT}"/>']
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
            f'width="{_WIDTH}" font-family="system-ui, sans-serif" font-size="12" role="img" '
            'aria-label="How much farann gains over what people use today, by use and set">'
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="{PAPER}"/>'
            f"{STYLE}{''.join(head + parts)}</svg>\n")
