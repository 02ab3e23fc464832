"""Reading results back: the latest of each measurement, Pareto fronts, ratios to peers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]
LIBRARY = "farann"
LEVELS = (0.99, 0.95, 0.9)  # recalls at which the tables compare


@dataclass
class Results:
    """What a file of JSON lines says about the machine of its last run.

    Attributes
    ----------
    machine : dict
    runs : list of dict
        The runs on that machine that gave at least one of the lines below, oldest first.
    records : list of dict
        The latest result of each measurement.
    failures, skipped : list of dict
        What failed or was left out and has no result that came later.
    """

    machine: dict[str, Any]
    runs: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failures: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)

    def datasets(self) -> list[str]:
        """Names of the data sets in the order they were measured first."""
        return list(dict.fromkeys(record["dataset"] for record in self.records))

    def of(self, dataset: str, mode: str) -> list[Record]:
        """Results on one data set in one mode."""
        return [r for r in self.records if r["dataset"] == dataset and r["mode"] == mode]


def place(machine: dict[str, Any]) -> tuple[str, int]:
    """What tells machines apart."""
    return machine["cpu"], machine["cores"]


def _best_rates(measured: list[dict[str, float]]) -> dict[str, float]:
    """The highest of each rate: what disturbs a measurement only lowers it."""
    names = {name for rates in measured for name in rates}
    return {name: max(rates.get(name, 0.0) for rates in measured) for name in sorted(names)}


def _identity(line: Record) -> str:
    keys = ["dataset", "k", "algorithm", "build", "search", "variant", "mode", "rows", "dim"]
    return json.dumps([line.get(key) for key in keys], sort_keys=True)


def read(path: Path) -> list[Record]:
    """The lines of a file of results.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A line is no JSON.
    """
    lines: list[Record] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
    return lines


def load(path: Path) -> Results:
    """Read a file that `run.run` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A line is no JSON, or there is no run in the file.
    """
    lines = read(path)
    runs = {line["run"]: line for line in lines if line["kind"] == "run"}
    if not runs:
        raise ValueError(f"{path} holds no run")
    machine = dict(list(runs.values())[-1]["machine"])
    here = {run for run, line in runs.items() if place(line["machine"]) == place(machine)}
    machine["rates"] = _best_rates([runs[run]["machine"]["rates"] for run in here])
    latest: dict[str, dict[str, Record]] = {kind: {} for kind in ("result", "failure", "skipped")}
    for line in lines:
        if line["kind"] in latest and line["run"] in here:
            latest[line["kind"]][_identity(line)] = line
    records = list(latest["result"].values())
    measured: dict[str, str] = {}  # the last run that has an index
    for record in records:
        measured[_index(record)] = max(record["run"], measured.get(_index(record), ""))
    used = {line["run"] for line in records}
    ran = {line["algorithm"] for line in records}
    return Results(
        machine=machine,
        runs=[line for run, line in runs.items() if run in used],
        records=records,
        failures=[line for line in latest["failure"].values()
                  if measured.get(_index(line), "") <= line["run"]],
        skipped=[line for line in latest["skipped"].values() if line["run"] in used
                 and ("dataset" in line or line.get("algorithm") not in ran)])


def _index(line: Record) -> str:
    return json.dumps([line["dataset"], line["algorithm"], line["build"]], sort_keys=True)


def is_ours(record: Record) -> bool:
    """Whether the record is one of farann."""
    return bool(record["library"] == LIBRARY)


def is_peer(record: Record) -> bool:
    """Whether the record is one to be compared with: not farann, no baseline."""
    return not is_ours(record) and not record.get("baseline", False)


def pareto(records: Iterable[Record]) -> list[Record]:
    """Records that no other beats in recall without being slower; by rising recall."""
    front: list[Record] = []
    for record in sorted(records, key=lambda r: (-r["recall"], r["us"])):
        if not front or record["us"] < front[-1]["us"]:
            front.append(record)
    return front[::-1]


def fastest(records: Iterable[Record], recall: float = 0.0, *,
            exact: bool = False) -> Record | None:
    """The fastest record that reaches a recall, or that is exact; None when none does."""
    reached = [r for r in records if (r["exact"] if exact else r["recall"] >= recall)]
    return min(reached, key=lambda r: r["us"], default=None)


def best_peer(record: Record, others: Iterable[Record]) -> Record | None:
    """The fastest peer at the same or a higher recall in the same mode on the same data."""
    alike = [
        other
        for other in others
        if is_peer(other) and all(other[key] == record[key] for key in ("dataset", "mode", "k"))
    ]
    return fastest(alike, record["recall"])


def ratio(record: Record | None, peer: Record | None) -> float | None:
    """How many times faster the record is than the peer; None when one is missing."""
    return None if record is None or peer is None else float(peer["us"] / record["us"])


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table; the first columns are words, the others numbers.

    Examples
    --------
    >>> print(markdown(["set", "us"], [["glove", "1.5"]]))
    | set | us |
    |---|---:|
    | glove | 1.5 |
    """
    rule = f"|{'---|' * words}{'---:|' * (len(heads) - words)}"
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def settings(record: Record) -> str:
    """Parameters of a record in words, as in ``nlist 128, nprobe 16``."""
    values = {**record.get("variant", {}), **record["build"], **record["search"]}
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in values.items())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
