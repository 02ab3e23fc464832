"""``python -m bench edge``: every row in processes of their own, and the ratios."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from .. import machine
from ..algorithms import by_name
from ..fetch import Unavailable
from ..results import Record, markdown
from ..run import RESULTS, Log, Options, child_environment, run_child
from .cases import BUILD, Case
from .worker import OURS

OUT = RESULTS.with_name("edge.jsonl")
_LIBRARIES = ("faiss", "ScaNN", "LoRANN", "numpy")
_SAME = 0.001  # recall that a peer may have less and still count as equal
_SHORT = 0.01  # the same of what was asked
_SLOWER = 1.05


def run(chosen: list[Case], scale: float, seconds: float, timeout: float, out: Path,
        command: list[str]) -> Path:
    """Measure farann and the peers on every case; append JSON lines, print a Markdown table.

    Parameters
    ----------
    scale : float
        A factor of the numbers of rows.
    seconds : float
        To repeat each measurement for, at least.
    timeout : float
        Seconds after which farann or a peer is stopped on one case.
    """
    if not scale > 0:
        raise ValueError(f"--scale must be above 0, got {scale}")
    log = Log(out, Options(timeout=timeout), command)
    missing = {who: by_name(who).missing() for who in sorted({p for c in chosen for p in c.peers})}
    for who, reason in missing.items():
        if reason:
            _left_out(log, who, reason)
    records: list[Record] = []
    for case in chosen:
        try:
            count, dim = case.make(scale)[0].shape
        except Unavailable as error:
            _left_out(log, case.name, str(error))
            continue
        for who in (OURS, *(peer for peer in case.peers if not missing[peer])):
            print(f"{case.name}, {count:,} x {dim}: {who}", file=sys.stderr)
            known = {} if who == OURS else by_name(who).environment(machine.cpu_flags())
            task = {"case": case.name, "who": who, "scale": scale, "seconds": seconds}
            found, reason = run_child("edge.worker", task, child_environment(known), timeout)
            for record in found:
                full = {"case": case.name, "title": case.title, "shape": f"{count:,} x {dim}",
                        "k": case.k, "scale": scale, **record}
                records.append(full)
                log.write("edge", **full)
            if reason:
                _left_out(log, f"{who} on {case.name}", reason)
    rates = [log.about["machine"]["rates"].get(f"read_{threads}") for threads in (1, 2)]
    if all(rates):
        print("One thread reads {:.0f} GB/s from memory, two {:.0f}.\n".format(
            *(rate / 1e9 for rate in rates)))
    print(table(records))
    return out


def _left_out(log: Log, what: str, reason: str) -> None:
    log.write("skipped", what=what, reason=reason)
    print(f"left out: {what}: {reason}", file=sys.stderr)


def fastest(records: Iterable[Record], ours: Record, library: str) -> Record | None:
    """A library's fastest at the same recall or above, in the same case, mode and filter."""
    keys = ("case", "mode", "only")
    least = 0.0 if ours["mode"] == BUILD else ours["recall"] - _SAME
    alike = [other for other in records if other["library"] == library
             and all(other[key] == ours[key] for key in keys) and other["recall"] >= least]
    return min(alike, key=lambda record: float(record["us"]), default=None)


def itself(records: Iterable[Record], ours: Record) -> Record | None:
    """The way of farann that a way is compared with; threads of callers with one that has none."""
    mode = "single" if ours["mode"].startswith("callers") else ours["mode"]
    return next((other for other in records if other["library"] == OURS and other is not ours
                 and other["case"] == ours["case"] and other["mode"] == mode
                 and other["label"] == ours["against"] != ours["label"]), None)


def table(records: list[Record]) -> str:
    """Records as a Markdown table, one row for each way and mode of farann.

    Ratios are times of farann over those of a peer, below 1 where farann is faster; what is
    slower by a twentieth, or short of the recall asked by more than a hundredth, is bold.

    Examples
    --------
    >>> ours = {"case": "a", "title": "A", "shape": "100 x 8", "library": "farann", "label": "",
    ...         "against": "", "only": None, "mode": "batch", "asked": 1.0, "recall": 1.0,
    ...         "us": 12.0, "scanned": 100.0, "rescored": 10.0, "counted": 0.5}
    >>> numpy = {**ours, "library": "numpy", "us": 10.0}
    >>> print(table([ours, numpy]).splitlines()[2])
    | A, 100 x 8 | exact | batch | 1 | 1.000 | 12.0 µs |  |  |  | **1.20** |  | 100 | 10 | 0.50 |  |
    """
    heads = ["where", "how", "mode", "asked", "got", "time", *_LIBRARIES, "itself", "scanned",
             "rescored", "counted", "guarded"]
    lines = []
    for ours in (record for record in records if record["library"] == OURS):
        rivals = [*(fastest(records, ours, library) for library in _LIBRARIES),
                  itself(records, ours)]
        got = f"{ours['recall']:.3f}"
        lines.append([
            f"{ours['title']}, {ours['shape']}", ours["label"] or "exact", ours["mode"],
            f"{ours['asked']:g}", f"**{got}**" if ours["recall"] < ours["asked"] - _SHORT else got,
            _time(ours["us"]), *(_ratio(ours, rival) for rival in rivals),
            f"{ours['scanned']:,.0f}", f"{ours['rescored']:,.0f}", f"{ours['counted']:.2f}",
            f"{ours['guarded']:.0%}" if ours.get("guarded") else ""])
    return markdown(heads, lines, 3)


def _time(us: float) -> str:
    return f"{us:,.1f} µs" if us < 1e5 else f"{us / 1000:,.0f} ms"


def _ratio(ours: Record, rival: Record | None) -> str:
    if rival is None:
        return ""
    # A mask has to be read, whoever is asked.
    reading = ours.get("reading", 0.0) if rival["library"] == OURS else 0.0
    ratio = ours["us"] / (rival["us"] + reading)
    return f"**{ratio:.2f}**" if ratio > _SLOWER else f"{ratio:.2f}"
