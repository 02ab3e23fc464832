"""A fitted ranker as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array
from farann.adapters.posneg import ids
from farann.adapters.posneg.models import Models
from farann.adapters.posneg.regression import (
    AVERAGE,
    RECORD,
    THIS,
    Exposure,
    Learned,
    ModelReport,
)
from farann.contract import FormatError, checks
from farann.io import container

_KIND = "likes and dislikes"
Arrays = Mapping[str, npt.NDArray[Any]]


class Content(NamedTuple):
    """All parts of a ranker that can't be derived from others."""

    models: Models
    learned: Learned
    seen: Int64Array  # user * n_items + item, ascending
    trainer: dict[str, int] | bool  # options of `Factorization`; else whether there was another


def write(path: str | os.PathLike[str], content: Content) -> None:
    """Write a ranker."""
    models, learned = content.models, content.learned
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids": ids.section(models.ids), "user_ids": ids.section(models.user_ids),
        "has": models.has.astype(np.uint8), "spreads": models.spreads, "seen": content.seen,
        "centers": learned.centers, "weights": learned.weights, "record": learned.record,
        "popular": learned.popular, "users": learned.users,
        "exposure": np.append(*learned.exposure),
        "reports": np.array([report[2:] for report in learned.reports], np.float64)}
    for m, (items, users) in enumerate(zip(models.items, models.users, strict=True)):
        arrays |= {f"items.{m}": items, f"users.{m}": users}
    container.write_file(path, {
        "kind": _KIND, "models": [list(model) for model in zip(
            models.names, models.signs, models.metrics, strict=True)],
        "intercept": learned.intercept, "trust": learned.trust, "order": list(learned.order),
        "trainer": content.trainer}, arrays)


def read(path: str | os.PathLike[str]) -> Content:
    """Read a file and trust nothing in it."""
    metadata, arrays = container.read_file(path)
    try:
        return _content(metadata, arrays)
    except (TypeError, ValueError, KeyError) as error:  # FormatError is one of them
        raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _content(metadata: dict[str, Any], arrays: Arrays) -> Content:
    if metadata.get("kind") != _KIND:
        raise FormatError("the file holds no FusionRanker")
    names, signs, metrics = zip(*(_model(*model) for model in metadata["models"]), strict=True)
    m = len(names)
    item_ids, user_ids = ids.read("ids", arrays), ids.read("user_ids", arrays)
    n, n_users = len(item_ids), len(user_ids)
    if len(set(names)) < m or not n:
        raise FormatError(f"expected items, and each name once, got {n} and {names}")
    items = tuple(_array(arrays, f"items.{i}", np.float32, (n, -1)) for i in range(m))
    users = tuple(_array(arrays, f"users.{i}", np.float32, (n_users, each.shape[1]))
                  for i, each in enumerate(items))
    has = _array(arrays, "has", np.uint8, (n, m)).astype(np.bool_)
    spreads = _array(arrays, "spreads", np.float64, (m,))
    seen = _array(arrays, "seen", np.int64, (None,))
    if (spreads <= 0).any() or (np.diff(seen, prepend=-1) <= 0).any() or (
            seen >= n * n_users).any():
        raise FormatError("sections 'spreads' and 'seen' hold numbers that can't be")
    order, trainer = metadata["order"], metadata["trainer"]
    if not isinstance(order, list) or len(order) != 2 or any(
            name not in (*names, THIS, AVERAGE, RECORD) for name in order):
        raise FormatError(f"metadata: an order can't be {order!r}")
    if not isinstance(trainer, bool):
        trainer = {key: checks.to_int(key, trainer[key], low) for key, low in
                   (("dim", 1), ("seed", 0))}
    exposure = _array(arrays, "exposure", np.float64, (m + 1,))
    reports = _array(arrays, "reports", np.float64, (m, 3), finite=False)
    models = Models(names, signs, metrics, items, users, has, spreads, item_ids, user_ids)
    return Content(models, Learned(
        _array(arrays, "centers", np.float64, (m,)), _array(arrays, "weights", np.float64, (m,)),
        checks.to_finite("trust", metadata["trust"]),
        checks.to_finite("intercept", metadata["intercept"]),
        _array(arrays, "record", np.float64, (n,)), _array(arrays, "popular", np.float64, (n,)),
        _array(arrays, "users", np.float64, (n_users,)),
        Exposure(exposure[:m], float(exposure[m])),
        tuple(map(ModelReport, names, signs, *reports.T.tolist())), (order[0], order[1])),
        seen, trainer)


def _model(name: Any, sign: Any, metric: Any) -> tuple[str, Any, str]:
    if not isinstance(name, str) or isinstance(sign, (bool, float)) or metric not in (
            "dot", "cosine") or sign not in (1, -1, "both"):
        raise FormatError(f"metadata: a model can't be {name!r}, {sign!r}, {metric!r}")
    return name, sign, metric


def _array(arrays: Arrays, name: str, dtype: Any, shape: tuple[int | None, ...], *,
           finite: bool = True) -> npt.NDArray[Any]:
    """A section of numbers; in its shape -1 stands for any size but 0, None for any."""
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != len(shape) or any(
            want is not None and (want not in (-1, size) or (want, size) == (-1, 0))
            for size, want in zip(array.shape, shape, strict=True)):
        raise FormatError(f"section {name!r} is missing, empty, or of another type or shape")
    if finite and not np.isfinite(array).all():
        raise FormatError(f"section {name!r} has numbers that are not finite")
    return array
