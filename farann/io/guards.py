"""Guards of an index as the sections of a file, and back; docs/format.md describes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farann.contract import FormatError, checks
from farann.contract.index_spec import IndexSpec
from farann.runtime.pool import default_isa
from farann.tuning.guard import Guard, GuardArrays, width_of

# Types and shapes of the sections, each with one entry a guard.
_SECTIONS = {"centre": np.float32, "scale": np.float64, "points": np.float32,
             "reaches": np.float32, "axes": np.float32}


def guards_of(guards: Mapping[int, Guard], tuned: Collection[int],
              prefix: str = "") -> tuple[list[list[int]], dict[str, npt.NDArray[Any]]]:
    """Pairs of k and the number of its guard, and the sections, by names with a prefix."""
    by_k = {k: guard for k, guard in list(guards.items()) if k in tuned}
    different = list(dict.fromkeys(by_k.values()))
    if not different:
        return [], {}
    most = max(len(guard.arrays.points) for guard in different)
    filled = [_filled(guard.arrays, most) for guard in different]
    sections = {f"{prefix}guards.{name}": np.array([getattr(one, name) for one in filled], dtype)
                for name, dtype in _SECTIONS.items()}
    return [[k, different.index(guard)] for k, guard in by_k.items()], sections


def _filled(arrays: GuardArrays, most: int) -> GuardArrays:
    """Pad the points to `most`; no query is near those that are added."""
    more = most - len(arrays.points)
    return arrays._replace(
        points=np.pad(arrays.points, ((0, more), (0, 0))),
        reaches=np.pad(arrays.reaches, (0, more), constant_values=-np.finfo(np.float32).max))


def guards_from(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]],
                tuned: Collection[int], dim: int, spec: IndexSpec,
                prefix: str = "") -> dict[int, Guard]:
    """Guards by k; none in files that are older."""
    by_k = metadata.get(f"{prefix}guards", [])
    if not (isinstance(by_k, list) and all(_is_pair(pair) for pair in by_k)
            and len({k for k, _ in by_k}) == len(by_k) and all(k in tuned for k, _ in by_k)):
        raise FormatError(f"metadata: '{prefix}guards' can't be {checks.shown(by_k)}")
    if not by_k:
        return {}
    parts: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in _SECTIONS.items():
        array = arrays.get(f"{prefix}guards.{name}")
        if array is None:
            raise FormatError(f"section '{prefix}guards.{name}' is missing")
        if array.dtype != dtype:
            raise FormatError(f"section '{prefix}guards.{name}': expected {np.dtype(dtype)}, "
                              f"got {array.dtype}")
        parts[name] = array
    n, width = len({number for _, number in by_k}), width_of(dim)
    points = parts["points"].shape[1] if parts["points"].ndim == 3 else 0
    shapes = {"centre": (n, width), "scale": (n,), "points": (n, points, width),
              "reaches": (n, points), "axes": (n, width, width)}
    for name, shape in shapes.items():
        if parts[name].shape != shape:
            raise FormatError(f"section '{prefix}guards.{name}': expected the shape {shape}, "
                              f"got {parts[name].shape}")
    if {number for _, number in by_k} != set(range(n)):
        raise FormatError(f"metadata: '{prefix}guards' can't be {checks.shown(by_k)}")
    scale_free = spec.metric.scale_free
    try:
        guards = [Guard(GuardArrays(parts["centre"][i], float(parts["scale"][i]),
                                    parts["points"][i], parts["reaches"][i], parts["axes"][i]),
                        dim, scale_free, default_isa()) for i in range(n)]
    except (TypeError, ValueError) as error:
        raise FormatError(f"the guards are not those of this index: {error}") from None
    return {k: guards[number] for k, number in by_k}


def _is_pair(pair: Any) -> bool:
    return (isinstance(pair, list) and len(pair) == 2
            and all(isinstance(value, int) and not isinstance(value, bool) for value in pair))
