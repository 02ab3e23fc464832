"""One self-contained HTML page of the results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from . import charts, readme, results, tables
from .charts import Point, Series, number
from .machine import limits
from .results import Record, Results, settings
from .tables import MODES, variant_title

_HERE = Path(__file__).parent
_CHARTED = {"batch": "in a batch", "single": "one by one"}


def _tip(record: Record) -> str:
    scanned = record.get("rows_scanned")
    return charts.tip(
        variant_title(record),
        settings({**record, "variant": {}}),
        f"recall {record['recall']:.4f}" + (" (exact)" if record["exact"] else ""),
        f"{number(record['us'])} µs a query, {1e6 / record['us']:,.0f} queries a second",
        f"{scanned:,.0f} of {record['rows']:,} rows scored" if scanned is not None else "",
        f"build {number(record['build_seconds'])} s, "
        f"{record['index_bytes'] / record['rows']:,.0f} bytes a row",
    )


def _shapes(records: Sequence[Record]) -> dict[str, str]:
    """A marker for every algorithm, the same in all charts, different within a library."""
    names = sorted({(r["library"], variant_title(r)) for r in records})
    made, used = {}, dict.fromkeys((library for library, _ in names), 0)
    for library, title in names:
        made[title] = charts.SHAPES[used[library] % len(charts.SHAPES)]
        used[library] += 1
    return made


def _series(records: Sequence[Record], shapes: dict[str, str]) -> list[Series]:
    """One series an algorithm; what its own Pareto front leaves out is faint."""
    made: list[Series] = []
    usual = [record for record in records if not record.get("variant")]
    for title, found in tables.groups(usual).items():
        library = found[0]["library"]
        front = results.pareto(found)
        on_front = {id(record) for record in front}
        ordered = [*front, *[record for record in found if id(record) not in on_front]]
        points = [
            Point(r["recall"], 1e6 / r["us"], _tip(r), id(r) not in on_front) for r in ordered
        ]
        strong = library == results.LIBRARY
        made.append(Series(title, title, library, shapes[title], points, strong))
    return made


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{drawing}</figure>"


def _recall_figure(found: list[Record], series: list[Series], machine: dict[str, Any], mode: str,
                   title: str) -> str:
    limit = 1e6 / limits(machine, found[0]["rows"], found[0]["dim"])[mode]
    caption = f"Recall and speed, {_CHARTED[mode]} <small>better is up and right</small>"
    drawing = charts.recall_chart(series, limit, f"{title}: recall and speed, {MODES[mode]}")
    return _figure(caption, drawing)


def _dataset_section(found: Results, dataset: str) -> str:
    every = [record for record in found.records if record["dataset"] == dataset]
    title = escape(every[0]["dataset_title"])
    machine = found.machine
    shapes = _shapes(found.records)
    recall, best = [], []
    shown: dict[str, Series] = {}
    for mode in MODES:
        records = found.of(dataset, mode)
        if not records:
            continue
        if mode in _CHARTED:
            series = _series(records, shapes)
            shown |= {one.key: one for one in reversed(series)}
            recall.append(_recall_figure(records, series, machine, mode, title))
        threads = max(record["threads"] for record in records)
        name = MODES[mode].replace("several", str(threads))
        best.append(f"<h3>{name}</h3>{tables.best_table(records, machine, mode)}")
    return f"""
<section>
<h2 id="{escape(dataset)}">{title}</h2>
{_blind_words(found.of(dataset, "batch"))}
<div class="pair">{"".join(recall)}</div>
{charts.legend(list(shown.values())[::-1])}
{"".join(best)}
<h3>Indexes</h3>
{tables.index_table(every)}
<details><summary>All {len(every)} measurements</summary>{tables.full_table(every)}</details>
</section>"""


def _blind_words(batch: list[Record]) -> str:
    blind = [r for r in batch if r.get("baseline")]
    if not blind:
        return ""
    parts = [
        f"{record['recall']:.3f} with {record['search'].get('listed', '?'):,} rows"
        for record in sorted(blind, key=lambda r: r["recall"])
    ]
    return (
        '<p class="lead">The blind list, which gives every query the same rows, reaches recall '
        f"{escape(' and '.join(parts))}.</p>"
    )


def _machine_section(found: Results) -> str:
    machine, rates = found.machine, found.machine["rates"]
    rated = [
        f"{rates['read_1'] / 1e9:.0f} GB/s read from memory by one thread, "
        f"{rates['read_2'] / 1e9:.0f} by two, {rates['read_cache'] / 1e9:.0f} from the last cache",
        f"{rates['flops_1'] / 1e9:.0f} GFLOP/s float32 on one thread, "
        f"{rates['flops_2'] / 1e9:.0f} on two",
    ]
    every = found.records
    versions = {
        f"{record['library']} {record['version']}"
        for record in every
        if record.get("version") and not record.get("baseline")
    }
    kernels: dict[str, set[str]] = {}
    for record in every:
        for kernel in [] if record.get("baseline") else record["kernels"]:
            kernels.setdefault(kernel, set()).add(record["library"])
    lines = {
        "processor": f"{escape(machine['cpu'])}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GB, {escape(machine['system'])}",
        "instruction sets": escape(", ".join(machine["flags"]) or "not known"),
        "measured limits": "<br>".join(rated),
        "versions": escape(f"Python {machine['python']}, " + ", ".join(sorted(versions))),
        "detected kernels": "<br>".join(
            escape(f"{kernel}: {', '.join(sorted(libraries))}")
            for kernel, libraries in sorted(kernels.items())
        ),
        "commands": "<br>".join(
            f"<code>{escape(run['command'])}</code> <small>commit {escape(run['commit'])}, "
            f"{escape(run['time'][:10])}</small>"
            for run in found.runs
        ),
    }
    listing = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in lines.items())
    missing = [
        f"{line.get('dataset', '')} {line.get('algorithm', '')}: {line['reason']}".strip(" :")
        for line in found.skipped
    ] + [
        f"{line['dataset']} {line['algorithm']} ({settings({**line, 'search': {}})}): "
        f"failed, {line['reason']}"
        for line in found.failures
    ]
    left_out = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(missing))
    return f"""
<section>
<h2 id="machine">Machine and commands</h2>
<dl>{listing}</dl>
<p class="note">The limits are what a dot product of a long array and a matrix product of
numpy reach here: lower bounds of what the machine can do, and close ones. "Limit of a scan" is the
time to read (one by one) or to multiply (batch) every row once; a search that needs not look at
every row can be faster.</p>
{f'<h3>Left out</h3><ul class="note">{left_out}</ul>' if left_out else ""}
</section>"""


_HOW = """
<p>Every peer ran in a process of its own, on one thread unless it says otherwise, with the best of
several repetitions counted. None of the peers but mlpack has a furthest search: they get it by
an exact reduction to largest inner products. Recall is by value against float64 brute force,
distinct ids only. A time counts as exact only when the answers were checked to be. The blind
list, the same rows for every query, shows what a recall is worth. Underlined in the tables: the
fastest peer of a column.</p>"""


def _summary_table(found: Results) -> str:
    rows: list[tuple[str, list[str]]] = []
    head: list[str] = []
    for dataset in found.datasets():
        title = next(r["dataset_title"] for r in found.records if r["dataset"] == dataset)
        cells = [f'<a href="#{escape(dataset)}">{escape(title)}</a>']
        compared = tables.headline(found, dataset)
        for name, mine, rival in compared:
            speed = results.ratio(mine, rival)
            note = f"<small>{tables.times(speed)}</small>" if speed else ""
            # Phones show a row as a block, whose cells say what they are.
            cells.append(f"<i>farann, {escape(name)}, µs</i><b>{number(mine['us'])}</b>{note}"
                         if mine else "")
            cells.append(f"<i>best peer</i>{number(rival['us'])}<small>{escape(rival['title'])}"
                         "</small>" if rival else "")
        rows.append(("headline", cells))
        head = ["µs a query<small>×: speed over the best peer's</small>"]
        for name, _, _ in compared:
            head += [f"farann<small>{escape(name)}</small>", "best peer<small>there</small>"]
    return tables.table(head, rows)


def page(found: Results) -> str:
    """The whole page."""
    links = [(name, name) for name in found.datasets()]
    links.append(("machine", "machine"))
    nav = "".join(f'<a href="#{escape(to)}">{escape(name)}</a>' for to, name in links)
    ks = ", ".join(map(str, sorted({record["k"] for record in found.records}))) or "10"
    machine = found.machine
    body = f"""
<header>
<h1>Furthest neighbors: farann beside its peers</h1>
<p class="lead">The {ks} furthest rows of each query, on {escape(machine["cpu"])},
{machine["cores"]} cores.</p>
{_HOW}
{_summary_table(found) if found.records else ""}
<nav>{nav}</nav>
</header>
<main>
{"".join(_dataset_section(found, dataset) for dataset in found.datasets())}
{_machine_section(found)}
</main>"""
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title="farann beside its peers",
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
        body=body,
    )


def write(source: Path, html: Path, checkout: Path | None = None) -> Path:
    """Read JSON lines, write the page and, when asked, what README and docs show of it."""
    found = results.load(source)
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(page(found), encoding="utf-8")
    if checkout is not None:
        readme.update(checkout, found)
    return html
