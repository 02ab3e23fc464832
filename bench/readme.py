"""What README and docs show of the results: a chart, a short table and the whole one."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from .charts import number
from .machine import limits
from .results import Record, Results, ratio, settings
from .tables import headline, times

START, END = "<!-- bench:start -->", "<!-- bench:end -->"

# Paper, what is written, softly written, lines, and three disciplines, by day and by night.
PAPER, INK, SOFT, LINE, *COLORS = (f"var(--c{place})" for place in range(7))
_DAY = ("#ffffff", "#1c2733", "#5b6b7b", "#d9e0e7", "#c2410c", "#0f6cbd", "#1a7f37")
_NIGHT = ("#0d1117", "#e6edf3", "#9aa7b4", "#30363d", "#ff9d6c", "#6cb6ff", "#7ee787")
STYLE = "<style>{}@media (prefers-color-scheme: dark) {{{}}}</style>".format(*(
    "svg {{{}}}".format("; ".join(f"--c{place}: {color}" for place, color in enumerate(colors)))
    for colors in (_DAY, _NIGHT)))
_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 760, 300, 24, 74, 30


def short_table(results: Results) -> str:
    """The Markdown table of the README: time beside the best peer, and who that is."""
    lines = ["| one thread, 10 furthest | exact, batch | exact, single query | recall ≥ 0.95 |",
             "|---|---:|---:|---:|"]
    for dataset in results.datasets():
        found = [(mine, rival) for _, mine, rival in headline(results, dataset)]
        if not found[0][0]:
            continue
        cells = [f"{number(mine['us'])} µs, **{times(ratio(mine, rival))}** {rival['title']}"
                 if mine and rival else "" for mine, rival in found]
        lines.append(f"| {found[0][0]['dataset_title']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Time a query, and how many times faster that is than the best "
                      f"other library, on {results.machine['cpu']}."])


def whole_table(results: Results) -> str:
    """The Markdown table of the docs: one line a data set, all disciplines."""
    ks = ", ".join(str(k) for k in sorted({record["k"] for record in results.records}))
    table = [[f"k = {ks}, one thread, µs a query", "farann, exact, batch", "best peer",
              "farann, exact, single query", "best peer", "farann, recall ≥ 0.95, batch",
              "best peer", "float32 limit, batch / single", "recall of a fixed list"]]
    for dataset in results.datasets():
        batch = results.of(dataset, "batch")
        cells = [batch[0]["dataset_title"] if batch else dataset]
        for _, mine, rival in headline(results, dataset):
            speed = f" ({times(ratio(mine, rival))})" if mine and rival else ""
            cells.append(f"**{number(mine['us'])}**{speed}" if mine else "")
            cells.append(f"{number(rival['us'])} {rival['title']}" if rival else "")
        least = limits(results.machine, batch[0]["rows"], batch[0]["dim"]) if batch else {}
        cells.append(f"{number(least['batch'])} / {number(least['single'])}" if least else "")
        baselines = [r for r in batch if r.get("baseline")]
        blind = max(baselines, key=lambda r: r["recall"], default=None)
        cells.append(f"{blind['recall']:.2f} ({settings(blind)})" if blind else "")
        table.append(cells)
    # A column that has nothing to say is left out.
    columns = [column for column in zip(*table, strict=True) if any(column[1:])]
    lines = ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    lines.insert(1, "|---|" + "---:|" * (len(columns) - 1))
    machine = results.machine
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    return "\n".join([*lines, "", f"In brackets: speed over the best peer's. {where}."])


def replace_between(text: str, table_text: str, start: str = START, end: str = END) -> str:
    """Put the table between the markers of a page.

    Raises
    ------
    ValueError
        The markers aren't there once each, in order.
    """
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"the page must hold {start} and then {end}, once each")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{table_text}\n{end}{after}"


def chart(results: Results) -> str:
    """How many times faster than the best peer, by data set and discipline, as SVG.

    A dot right of the line is faster than every peer.
    """
    found = [(dataset, headline(results, dataset)) for dataset in results.datasets()]
    speeds = {dataset: [speed for _, mine, rival in compared
                        if (speed := _speed(mine, rival)) is not None]
              for dataset, compared in found}
    most = max((max(some, default=1.0) for some in speeds.values()), default=1.0)
    least = min((min(some, default=1.0) for some in speeds.values()), default=1.0)
    low, high = math.log10(min(0.5, least)), math.log10(max(2.0, most)) + 0.05
    height = _TOP + _STEP * len(found) + 40

    def x(speed: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(speed) - low) / (high - low)

    def text(place: float, y: float, words: str, color: str = INK, anchor: str = "start") -> str:
        return (f'<text x="{place:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}">'
                f"{escape(words)}</text>")

    bottom = height - 34
    parts = [f'<rect width="{_WIDTH}" height="{height}" fill="{PAPER}"/>',
             f'<text x="0" y="18" fill="{INK}" font-size="16" font-weight="600">'
             "Times as fast as the fastest other library</text>"]
    place = float(_LEFT)
    for (name, *_), color in zip(found[0][1] if found else [], COLORS, strict=False):
        parts += [f'<circle cx="{place:.1f}" cy="41" r="5.5" fill="{color}"/>',
                  text(place + 10, 45, name, SOFT)]
        place += 34 + 7.1 * len(name)
    for speed in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if low <= math.log10(speed) <= high:
            strong = speed == 1
            parts += [f'<line x1="{x(speed):.1f}" x2="{x(speed):.1f}" y1="{_TOP - 14}" '
                      f'y2="{bottom}" stroke="{SOFT if strong else LINE}"/>',
                      text(x(speed), bottom + 17, f"{speed:g}×", SOFT, "middle")]
    for place_of, (_, compared) in enumerate(found):
        y = _TOP + _STEP * place_of + 6
        title = next(one["dataset_title"] for _, *both in compared for one in both if one)
        parts.append(text(0, y + 4.5, title))
        for (_, mine, rival), color in zip(compared, COLORS, strict=True):
            speed = _speed(mine, rival)
            if speed is not None:
                parts.append(f'<circle cx="{x(speed):.1f}" cy="{y}" r="5.5" fill="{color}"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" font-family="system-ui, sans-serif" font-size="13" role="img" '
            'aria-label="How many times faster farann is than the fastest peer">'
            f"{STYLE}{''.join(parts)}</svg>\n")


def _speed(mine: Record | None, rival: Record | None) -> float | None:
    return ratio(mine, rival) if mine and rival else None


def update(folder: Path, results: Results) -> None:
    """Put tables and the chart into README and docs of a checkout.

    Raises
    ------
    ValueError
        The markers aren't there.
    """
    pages = {folder / "README.md": short_table(results),
             folder / "docs" / "benchmarks.md": whole_table(results)}
    texts = {page: replace_between(page.read_text("utf-8"), table) for page, table in pages.items()}
    for page, changed in texts.items():
        page.write_text(changed, encoding="utf-8")
    drawn = folder / "docs" / "_static" / "speed.svg"
    drawn.parent.mkdir(exist_ok=True)
    drawn.write_text(chart(results), encoding="utf-8")
