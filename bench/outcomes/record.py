"""Uses, and records of what came out on each set of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farann.metrics import mean_interval

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Values = Mapping[str, Sequence[float]]  # for each way a number a repeat, of the same repeats


@dataclass(frozen=True)
class Use:
    """What people do, the measure that tells whether it went well, and the ways to do it.

    Attributes
    ----------
    ours : str
        The way of farann that its documentation recommends.
    today : tuple of str
        What people do without it; the best of them on a set is what `ours` is held against.
    values : callable
        Gets what a set is made of and how many repeats or questions; returns values of each way.
    sets, chose : tuple of str
        Names of sets. `chose` are those on which a default or advice was chosen, or that were seen
        before; they don't count.
    fewer : bool
        Whether less of the measure is better.
    """

    title: str
    measure: str
    ours: str
    today: tuple[str, ...]
    values: Callable[[Any, int], Values]
    repeats: int
    sets: tuple[str, ...]
    chose: tuple[str, ...] = ()
    fewer: bool = False


@dataclass(frozen=True)
class Record:
    """One way on one set: its mean, and its gain over `rival`, the best of today's ways, with 95 %
    intervals by bootstrap over repeats; a gain is above 0 where the way is better."""

    use: str
    data: str
    license: str
    role: str  # "chose" a default, or "reports" it
    measure: str
    way: str
    whose: str  # "ours", "today" or "other"
    rival: str
    repeats: int
    mean: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float

    @property
    def verdict(self) -> str:
        """Whether the gain is beyond its interval: "better", "worse" or "same"."""
        return "better" if self.gain_low > 0 else "worse" if self.gain_high < 0 else "same"


def records(name: str, use: Use, data: str, license: str, values: Values) -> list[Record]:
    """A record for each way on a set.

    Raises
    ------
    ValueError
        A way of the use wasn't measured, or ways have different numbers of repeats.
    """
    found = {way: np.asarray(each, np.float64) for way, each in values.items()}
    if missing := {use.ours, *use.today} - found.keys():
        raise ValueError(f"{name} on {data}: expected {', '.join(sorted(missing))} among the ways")
    if len({len(each) for each in found.values()}) != 1:
        raise ValueError(f"{name} on {data}: expected as many repeats of each way")
    sign = -1.0 if use.fewer else 1.0
    rival = max(use.today, key=lambda way: sign * np.nanmean(found[way]))
    return [Record(name, data, license, role(use, data), use.measure,
                   way, whose(use, way), rival, int((~np.isnan(each)).sum()), *mean_interval(each),
                   *mean_interval(sign * (each - found[rival])))
            for way, each in found.items()]


def role(use: Use, data: str) -> str:
    """Whether a set chose a default or advice, or reports it."""
    return "chose" if data in use.chose else "reports"


def whose(use: Use, way: str) -> str:
    """Whether a way is the recommended one, one of today's, or another."""
    return "ours" if way == use.ours else "today" if way in use.today else "other"


def counts(found: Iterable[Record]) -> dict[str, int]:
    """On how many of the sets that report the recommended way is better, same and worse."""
    ours = [one.verdict for one in found if one.whose == "ours" and one.role == "reports"]
    return {verdict: ours.count(verdict) for verdict in ("better", "same", "worse")}
