"""The tables of the report: what each peer's best is, and by how much farann differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from .charts import number
from .machine import limits
from .results import LEVELS, Record, Results, best_peer, fastest, is_ours, is_peer, ratio, settings

MODES = {"batch": "Batch, one thread", "single": "One by one, one thread",
         "threads": "Batch, several threads"}
Cell = str


def variant_title(record: Record) -> str:
    """Title of the algorithm, with its setting's label and what makes its process special."""
    words = [record.get("label", ""), *record.get("variant", {}).values()]
    special = ", ".join(str(word) for word in words if word)
    return f"{record['title']} ({special})" if special else str(record["title"])


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by algorithm and variant: farann first, baselines last, else by best time."""
    made: dict[str, list[Record]] = {}
    for record in records:
        made.setdefault(variant_title(record), []).append(record)

    def place(item: tuple[str, list[Record]]) -> tuple[bool, bool, float]:
        records = item[1]
        best = fastest(records, exact=True) or fastest(records, 0.9) or fastest(records)
        assert best is not None
        first = records[0]
        apart = not is_ours(first) or bool(first.get("variant"))
        return apart, bool(first.get("baseline")), best["us"]

    return dict(sorted(made.items(), key=place))


def ours(records: Sequence[Record]) -> list[Record]:
    """farann's records as a user gets them, without forced instruction sets."""
    return [r for r in records if is_ours(r) and not r.get("variant")]


def peers(records: Sequence[Record]) -> list[Record]:
    """Records to compare with."""
    return [r for r in records if is_peer(r)]


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], words: int = 1) -> str:
    """HTML of a table; each row is a class and cells of HTML, the first `words` are text."""

    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=words' if place < words else ''}>{value}</{tag}>"
                       for place, value in enumerate(values))

    body = "".join(f"<tr{f' class={look!r}' if look else ''}>{cells(values, 'td')}</tr>"
                   for look, values in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def times(value: float | None) -> str:
    """A ratio in two digits: 0.71×, 3.4×, 12×, 1,200×; nothing for None."""
    if value is None:
        return ""
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:,.{digits}f}×"


def best_table(records: Sequence[Record], machine: dict[str, Any], mode: str) -> str:
    """Fastest time of every algorithm at each level of recall, with baselines and limits."""
    columns: list[Callable[[Sequence[Record]], Record | None]] = [partial(fastest, exact=True)]
    columns += [partial(fastest, recall=level) for level in LEVELS]
    rivals = [choose(peers(records)) for choose in columns]

    def cell(record: Record | None, rival: Record | None) -> str:
        if record is None:
            return ""
        shown = number(record["us"])
        if record["search"] and not record["exact"]:
            shown += f" <small>{escape(settings({**record, 'build': {}, 'variant': {}}))}</small>"
        return f"<u>{shown}</u>" if record is rival else shown

    rows: list[tuple[str, Sequence[Cell]]] = []
    for title, found in groups(records).items():
        look = "ours" if is_ours(found[0]) else "base" if found[0].get("baseline") else ""
        values = [cell(choose(found), rival) for choose, rival in zip(columns, rivals, strict=True)]
        best = max(found, key=lambda r: r["recall"])
        scanned = best.get("rows_scanned")
        more = [f"{best['recall']:.4f}", f"{scanned:,.0f}" if scanned is not None else ""]
        rows.append((look, [escape(title), *values, *more]))
    mine = [choose(ours(records)) for choose in columns]
    if any(mine):
        ratios = [times(ratio(m, rival)) for m, rival in zip(mine, rivals, strict=True)]
        rows.append(("ratio", ["farann's speed over the best peer's", *ratios, "", ""]))
    rows += limit_rows(records, machine, mode)
    head = ["µs a query", "exact", *[f"recall ≥ {level}" for level in LEVELS],
            "best recall", "rows scored"]  # fmt: skip
    return table(head, rows)


def limit_rows(records: Sequence[Record], machine: dict[str, Any],
               mode: str) -> list[tuple[str, Sequence[Cell]]]:
    """The machine's limits for scanning every row once, as rows of a table."""
    if mode == "threads" and {record["threads"] for record in records} != {2}:
        return []
    least = limits(machine, records[0]["rows"], records[0]["dim"])[mode]
    cells = ["limit of a float32 scan", number(least), "", "", "", "", f"{records[0]['rows']:,}"]
    return [("base", cells)]


def index_table(records: Sequence[Record]) -> str:
    """Build seconds and memory of every index."""
    made: dict[tuple[str, str], Record] = {}
    for record in records:
        made.setdefault((variant_title(record), settings({**record, "search": {}})), record)
    rows = []
    for (title, build), record in sorted(made.items(), key=lambda item: item[1]["build_seconds"]):
        size = f"{record['index_bytes'] / record['rows']:,.0f}"
        if record["index_bytes_are"] != "reported":
            size += "<small>grown</small>"
        look = "ours" if is_ours(record) else "base" if record.get("baseline") else ""
        rows.append((look, [
            escape(title), escape(build if not record.get("variant") else ""),
            number(record["build_seconds"]), size, f"{record['peak_bytes'] / 2**20:,.0f}"]))
    return table(["index", "built with", "build s", "bytes a row", "peak MB"], rows, words=2)


def full_table(records: Sequence[Record]) -> str:
    """Every measurement, with farann's ratio to the best peer at the same or higher recall."""
    rows = []
    for mode in MODES:
        for title, found in groups([r for r in records if r["mode"] == mode]).items():
            for record in sorted(found, key=lambda r: (-r["recall"], r["us"])):
                mine = is_ours(record)
                look = "ours" if mine else "base" if record.get("baseline") else ""
                rows.append((look, [
                    escape(title), escape(settings({**record, "variant": {}})),
                    MODES[mode].lower(), f"{record['recall']:.4f}", number(record["us"]),
                    f"{1e6 / record['us']:,.0f}", f"{record['queries']:,}",
                    times(ratio(record, best_peer(record, records))) if mine else ""]))
    head = ["algorithm", "settings", "mode", "recall", "µs a query", "queries/s", "queries",
            "speed over the best peer's"]  # fmt: skip
    return table(head, rows, words=3)


def headline(results: Results, dataset: str) -> list[tuple[str, Record | None, Record | None]]:
    """What is compared first: farann's best and the best peer's in three disciplines."""
    batch, single = results.of(dataset, "batch"), results.of(dataset, "single")
    disciplines = (("exact, batch", batch, 0.0, True), ("exact, one by one", single, 0.0, True),
                   ("recall ≥ 0.95, batch", batch, 0.95, False))
    return [
        (name, fastest(ours(records), level, exact=exact),
         fastest(peers(records), level, exact=exact))
        for name, records, level, exact in disciplines
    ]
