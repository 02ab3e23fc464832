"""Tables of `Index.tune` as metadata of a file, and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from math import inf, isfinite, isinf, nan
from typing import Any

from farann.contract import FormatError, checks
from farann.tuning.table import Tuning


def metadata_of(tunings: Collection[Tuning], prefix: str = "") -> dict[str, Any]:
    """The metadata of tables in a file, by names with a prefix."""
    return {
        f"{prefix}tunings": [[t.k, _rows_of(t)] for t in tunings],
        f"{prefix}single_costs": [[t.k, list(t.single_costs)] for t in tunings if t.single_costs],
        f"{prefix}lateness": [[t.k, t.sampled, list(t.late), list(t.late_spread)]
                     for t in tunings if t.sampled],
        f"{prefix}extended": [[t.k] for t in tunings if t.extends],
    }


def _rows_of(tuning: Tuning) -> list[list[float | None]]:
    """A table as JSON, which has no infinity, the effort of exact search, and no NaN."""
    columns = [tuning.efforts, tuning.recalls, tuning.costs]
    if tuning.predicted_thresholds:
        columns.append(tuning.predicted_thresholds)
    return [[value if isfinite(value) else None for value in row]
            for row in zip(*columns, strict=True)]


def tunings_from(metadata: Mapping[str, Any], partitioned: bool,
                 prefix: str = "") -> dict[int, Tuning]:
    """Tables by k; FormatError for what no index could have written."""
    def parts(name: str, put: Callable[..., None]) -> None:
        key = f"{prefix}{name}"
        try:
            for k, *part in metadata.get(key, []):
                put(k, *part)
        except (TypeError, ValueError, OverflowError, KeyError):
            raise FormatError(
                f"metadata: {key!r} can't be {checks.shown(metadata[key])}") from None

    tunings: dict[int, Tuning] = {}

    def put_table(k: int, rows: list[list[float | None]]) -> None:
        tunings[k] = _tuning_of(k, rows, partitioned)

    def put_costs(k: int, costs: list[float]) -> None:
        tunings[k] = _with_single_costs(tunings[k], costs)

    def put_late(k: int, sampled: int, *columns: list[float]) -> None:
        tunings[k] = _with_late(tunings[k], sampled, *columns)

    parts("tunings", put_table)
    parts("single_costs", put_costs)
    def put_extended(k: int) -> None:
        if not tunings[k].late or partitioned:
            raise ValueError(k)
        tunings[k] = tunings[k]._replace(extends=True)

    parts("lateness", put_late)
    parts("extended", put_extended)
    return tunings


def _with_late(tuning: Tuning, sampled: int, *columns: list[float]) -> Tuning:
    late, spread = (tuple(float(root) for root in column) for column in columns)
    known = len(late) == len(spread) and len(late) in (0, len(tuning.costs))
    if not known or sampled < 1 or not all(0.0 <= root < inf for root in late + spread):
        raise ValueError(columns)
    return tuning._replace(late=late, late_spread=spread, sampled=int(sampled))


def _with_single_costs(tuning: Tuning, costs: list[float]) -> Tuning:
    single_costs = tuple(float(cost) for cost in costs)
    if len(single_costs) != len(tuning.costs) or not all(0.0 <= c < inf for c in single_costs):
        raise ValueError(costs)
    return tuning._replace(single_costs=single_costs)


def _tuning_of(k: int, rows: list[list[float | None]], partitioned: bool) -> Tuning:
    efforts, recalls, costs, *more = zip(*rows, strict=True)
    efforts = (*efforts[:-1], inf if efforts[-1] is None else efforts[-1])
    predicted = tuple(nan if value is None else float(value)
                      for column in more for value in column)
    columns = [tuple(float(value) for value in column) for column in (efforts, recalls, costs)]
    efforts, recalls, costs = columns
    if not (isinstance(k, int) and not isinstance(k, bool) and 1 <= k < 2**63
            and efforts[-1] == inf and recalls[-1] == 1.0
            and efforts[0] >= 0.0 and all(a < b for a, b in pairwise(efforts))
            and all(0.0 <= v <= 1.0 for v in recalls) and min(costs) >= 0.0
            and len(more) <= 1 and not any(map(isinf, predicted))):
        raise ValueError(k)
    return Tuning(k, () if partitioned else efforts, recalls, costs, predicted_thresholds=predicted,
                  deviations=efforts if partitioned else ())
