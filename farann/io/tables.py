"""Tables of `Index.tune` and their guards as a file has them, and back; see docs/format.md."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import inf, isfinite, isinf, nan
from typing import Any

import numpy.typing as npt

from farann.contract import FormatError, checks
from farann.contract.index_spec import IndexSpec
from farann.runtime.pool import default_isa
from farann.tuning.guard import Guard, GuardArrays
from farann.tuning.table import Tuning, Tunings

# What null stands for, as JSON has neither: the effort of exact search, and what isn't known.
_NULLS = {"rows": inf, "deviations": inf, "predicted_thresholds": nan}
_COLUMNS = ("rows", "deviations", "recalls", "costs", "predicted_thresholds", "single_costs",
            "late", "late_spread")


def tables_to(tunings: Tunings,
              prefix: str) -> tuple[list[dict[str, Any]], dict[str, npt.NDArray[Any]]]:
    """Tables as metadata, each with the number of its guard, and the sections of the guards."""
    by_k, guards = dict(tunings.by_k), dict(tunings.guards)  # searches may add to them meanwhile
    different = list(dict.fromkeys(guards[k] for k in by_k if k in guards))
    tables = [{name: _plain(value) for name, value in tuning._asdict().items()}
              | ({"guard": different.index(guards[k])} if k in guards else {})
              for k, tuning in by_k.items()]
    sections: dict[str, npt.NDArray[Any]] = {}
    for number, guard in enumerate(different):
        sections |= guard.arrays.sections(f"{prefix}guards.{number}")
    return tables, sections


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value if isfinite(value) else None


def tables_from(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], prefix: str,
                dim: int, spec: IndexSpec,
                partitioned: bool) -> tuple[dict[int, Tuning], dict[int, Guard]]:
    """Tables and guards by k; FormatError for what no index could have written."""
    tunings: dict[int, Tuning] = {}
    guards: dict[int, Guard] = {}
    by_number: dict[int, Guard] = {}
    key = f"{prefix}tunings"
    try:
        for fields in metadata.get(key, []):
            tuning, number = _tuning_of(fields, partitioned), fields.get("guard")
            if tuning.k in tunings or not (number is None or _is_int(number)):
                raise ValueError(number)
            tunings[tuning.k] = tuning
            if number is not None:
                if number not in by_number:
                    by_number[number] = _guard_of(f"{prefix}guards.{number}", arrays, dim, spec)
                guards[tuning.k] = by_number[number]
    except FormatError:
        raise
    except (TypeError, ValueError, OverflowError, KeyError, IndexError, AttributeError):
        raise FormatError(f"metadata: {key!r} can't be {checks.shown(metadata[key])}") from None
    return tunings, guards


def _guard_of(name: str, arrays: Mapping[str, npt.NDArray[Any]], dim: int,
              spec: IndexSpec) -> Guard:
    try:
        return Guard(GuardArrays.from_sections(name, arrays), dim, spec.metric.scale_free,
                     default_isa())
    except (TypeError, ValueError) as error:
        raise FormatError(f"{name!r} is no guard of this index: {error}") from None


def _tuning_of(fields: Mapping[str, Any], partitioned: bool) -> Tuning:
    """A table, whose columns have a number for each effort, or none at all."""
    columns = {name: tuple(float(_NULLS[name] if value is None else value)
                           for value in fields[name]) for name in _COLUMNS}
    tuning = Tuning(fields["k"], target=checks.to_float("target", fields["target"]),
                    sampled=fields["sampled"], extends=fields["extends"], **columns)
    efforts, n = tuning.efforts, len(tuning.efforts)
    if not (_is_int(tuning.k) and 1 <= tuning.k < 2**63 and 0.0 <= tuning.target <= 1.0
            and not (tuning.rows if partitioned else tuning.deviations)
            and efforts[0] >= 0.0 and efforts[-1] == inf
            and all(a < b for a, b in pairwise(efforts))
            and len(tuning.recalls) == len(tuning.costs) == n
            and tuning.recalls[-1] == 1.0 and all(0.0 <= v <= 1.0 for v in tuning.recalls)
            and all(0.0 <= v < inf for name in _COLUMNS[3:] if name != "predicted_thresholds"
                    for v in columns[name])
            and all(len(columns[name]) in (0, n) for name in _COLUMNS[4:])
            and not any(map(isinf, tuning.predicted_thresholds))
            and len(tuning.late) == len(tuning.late_spread)
            and _is_int(tuning.sampled) and bool(tuning.late) <= tuning.sampled < 2**31
            and isinstance(tuning.extends, bool)
            and not (tuning.extends and (partitioned or not tuning.late))):
        raise ValueError(tuning.k)
    return tuning


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
