"""Stop rules: the limits that users set, and the record that the native search reads."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

from farann._types import Float32Array, Int64Array
from farann.contract import checks

if TYPE_CHECKING:
    from farann._core import KeyModel, Watch

ALL_ROWS = 2**62  # more rows than any layout has


class StopRule(NamedTuple):
    """The rule by which a search stops; by default when its answer is certain.

    With `rows` or `deviations` it is approximate: it scans some of the coded rows, and takes errors
    of codes for noise.
    """

    epsilon: float = 0.0  # rows may be left out that are no more than this better than the k-th
    rows: int | None = None  # of the coded rows, the first in their order, in whole panels
    # A partition is probed if its mean key plus this number of standard deviations reaches the k-th
    # best key. Rows in no partition are always scanned.
    deviations: float | None = None
    budget: int = 0  # with `deviations`: most rows that are scanned, in whole panels; 0: no limit
    # With `deviations`: predicted distance of the k-th key above the optimistic scores of good
    # partitions, in standard deviations, see `_core.surprises`; NaN: nothing is predicted.
    predicted_threshold: float = nan
    run_ends: Int64Array | None = None  # (r,), positions before which scans of added runs end
    watch: Watch | None = None  # compares what tells of answers with the usual; None: nothing does
    model: KeyModel | None = None  # of the keys of all rows, for `watch`; None: for want of one
    # With `rows`: the lateness beyond which twice as many rows are scanned for a query, and again.
    extends_beyond: float | None = None
    seconds: float | None = None  # time of a query; the rows found by then are the answer

    @property
    def approximate(self) -> bool:
        """Whether some coded rows aren't scanned, or errors of codes are treated as noise."""
        return self.rows is not None or self.deviations is not None


class Witness(NamedTuple):
    """What is to be told of the answers of an approximate search, see `_core.Task.witness_to`."""

    told: Float32Array  # (n, 2), to write to
    model: KeyModel | None = None  # of the keys of all rows; None: nothing is told of keys
    every: int = 1  # the k-th key of one query in `every` is told of, by its number in `told`


EXACT = StopRule()
ALL_CODES = StopRule(rows=ALL_ROWS)


class Limits(NamedTuple):
    """Limits of an approximate search; at most one is given."""

    recall: float | None
    epsilon: float | None
    budget: int | None
    seconds: float | None = None


def to_limits(recall: Any, epsilon: Any, budget: Any, seconds: Any = None) -> Limits | None:
    """Check how a search may stop; None where nothing is said."""
    limits = Limits(recall, epsilon, budget, seconds)
    names = [name for name, value in zip(Limits._fields, limits, strict=True) if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"{names[0]}: expected at most one limit of a search, got "
                         f"{' and '.join(names)}")
    if recall is not None and not (type(recall) is float and 0.0 < recall <= 1.0):
        recall = checks.to_finite("recall", recall, 0.0, 1.0, above=True)
    if epsilon is not None:
        epsilon = checks.to_finite("epsilon", epsilon, 0.0)
    if budget is not None:
        budget = checks.to_int("budget", budget, 1)
    if seconds is not None:
        seconds = checks.to_finite("seconds", seconds, 0.0, above=True)
    return Limits(recall, epsilon, budget, seconds)


def check_exact(what: str, vectors: bool, instead: str) -> None:
    """Refuse a search or an argument that needs the vectors, if they were dropped."""
    if not vectors:
        raise ValueError(f"{what} needs the vectors, and keep_vectors=False dropped them: "
                         f"{instead}")
