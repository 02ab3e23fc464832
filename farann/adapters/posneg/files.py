"""A fitted ranker as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farann.adapters.posneg import ids
from farann.adapters.posneg.models import Models
from farann.adapters.posneg.regression import Exposure, Learned, ModelReport
from farann.contract import checks
from farann.contract.errors import FormatError
from farann.io import container

_KIND = "likes and dislikes"
Arrays = Mapping[str, npt.NDArray[Any]]


def write(path: str | os.PathLike[str], models: Models, learned: Learned) -> None:
    """Write everything but what can be made again."""
    exposure = learned.exposure
    metadata: dict[str, Any] = {
        "kind": _KIND, "names": list(models.names), "signs": list(models.signs),
        "metrics": list(models.metrics), "intercept": learned.intercept,
        "preference": None if exposure is None else exposure.preference,
        # JSON has no NaN.
        "reports": [[None if np.isnan(number) else number for number in report[2:]]
                    for report in learned.reports]}
    arrays: dict[str, npt.NDArray[Any]] = {
        **ids.sections("ids", models.ids), **ids.sections("user_ids", models.user_ids),
        "has": models.has.astype(np.uint8), "centers": learned.centers,
        "weights": learned.weights, "record": learned.record, "items": learned.items,
        "users": learned.users}
    for m, (items, users) in enumerate(zip(models.items, models.users, strict=True)):
        arrays |= {f"items.{m}": np.ascontiguousarray(items), f"users.{m}": users}
    if exposure is not None:
        arrays |= {"exposure.weights": exposure.weights, "exposure.items": exposure.items}
    container.write_file(path, metadata, arrays)


def read(path: str | os.PathLike[str]) -> tuple[Models, Learned]:
    """Read a file and trust nothing in it."""
    metadata, arrays = container.read_file(path)
    try:
        return _content(metadata, arrays)
    except (TypeError, ValueError, KeyError) as error:  # FormatError is one of them
        raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _content(metadata: dict[str, Any], arrays: Arrays) -> tuple[Models, Learned]:
    if metadata.get("kind") != _KIND:
        raise FormatError("the file holds no FusionRanker")
    names, signs, metrics, reports = (_listed(metadata, key)
                                      for key in ("names", "signs", "metrics", "reports"))
    m = len(names)
    if not m or not len(signs) == len(metrics) == len(reports) == m or len({*map(str, names)}) < m:
        raise FormatError("metadata: 'names', 'signs', 'metrics' and 'reports' don't fit")
    for name, sign, metric in zip(names, signs, metrics, strict=True):
        if not isinstance(name, str) or metric not in ("dot", "cosine") \
                or isinstance(sign, (bool, float)) or sign not in (1, -1, "both"):
            raise FormatError(f"metadata: a model can't be {name!r}, {sign!r}, {metric!r}")
    item_ids, user_ids = ids.read("ids", arrays), ids.read("user_ids", arrays)
    n, n_users = len(item_ids), len(user_ids)
    if not n:
        raise FormatError("section 'ids' is empty")
    items = tuple(_array(arrays, f"items.{i}", np.float32, (n, -1)) for i in range(m))
    users = tuple(_array(arrays, f"users.{i}", np.float32, (n_users, each.shape[1]))
                  for i, each in enumerate(items))
    models = Models(tuple(names), tuple(signs), tuple(metrics), items, users,
                    _array(arrays, "has", np.uint8, (n, m)).astype(np.bool_), item_ids, user_ids)
    exposure, preference = None, metadata["preference"]
    if preference is not None:
        exposure = Exposure(_array(arrays, "exposure.weights", np.float64, (m,)),
                            _array(arrays, "exposure.items", np.float64, (n,)),
                            checks.to_finite("preference", preference))
    learned = Learned(
        _array(arrays, "centers", np.float64, (m,)), _array(arrays, "weights", np.float64, (m,)),
        checks.to_finite("intercept", metadata["intercept"]),
        _array(arrays, "record", np.float64, (n,)), _array(arrays, "items", np.float64, (n,)),
        _array(arrays, "users", np.float64, (n_users,)), exposure,
        tuple(_report(*each) for each in zip(names, signs, reports, strict=True)))
    return models, learned


def _listed(metadata: dict[str, Any], key: str) -> list[Any]:
    found = metadata.get(key)
    if not isinstance(found, list):
        raise FormatError(f"metadata: {key!r} is no list")
    return found


def _array(arrays: Arrays, name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A section of finite numbers; -1 in its shape stands for any size from 1."""
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != len(shape) \
            or any(size != want and (want >= 0 or not size)
                   for size, want in zip(array.shape, shape, strict=True)):
        raise FormatError(f"section {name!r} is missing, or of another type or shape")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"section {name!r} has numbers that are not finite")
    return array


def _report(name: str, sign: int | str, given: Any) -> ModelReport:
    if not isinstance(given, list) or len(given) != 3:
        raise FormatError(f"metadata: a report can't be {given!r}")
    weight, share, auc = (float("nan") if number is None else checks.to_finite("reports", number)
                          for number in given)
    return ModelReport(name, sign, weight, share, auc)
