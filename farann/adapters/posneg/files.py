"""A fitted ranker as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array
from farann.adapters.posneg import ids
from farann.adapters.posneg.learning import RECORD, THIS, Learned
from farann.adapters.posneg.models import Models
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
    container.write_file(path, {
        "kind": _KIND, "models": [list(model) for model in zip(
            models.names, models.signs, models.metrics, models.dims, strict=True)],
        "intercept": learned.intercept, "order": list(learned.order),
        "trainer": content.trainer}, {
        "ids": ids.section(models.ids), "user_ids": ids.section(models.user_ids),
        "seen": content.seen, **{name: getattr(part, name) for part, name in (
            *((models, name) for name in ("rows", "people", "means", "spreads")),
            *((learned, name) for name in ("liking", "showing", "users", "shares", "aucs")))}})


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
    names, signs, metrics, dims = zip(*(_model(*model) for model in metadata["models"]),
                                      strict=True)
    item_ids, user_ids = ids.read("ids", arrays), ids.read("user_ids", arrays)
    m, n, n_users, dim = len(names), len(item_ids), len(user_ids), sum(dims) + len(dims) + 2
    if len(set(names)) < m or not n:
        raise FormatError(f"expected items, and each name once, got {n} and {names}")
    models = Models(
        names, signs, metrics, dims, _array(arrays, "rows", np.float32, (n, dim)),
        _array(arrays, "people", np.float32, (n_users, dim)),
        _array(arrays, "means", np.float64, (m,)), _array(arrays, "spreads", np.float64, (m,)),
        item_ids, user_ids)
    seen = _array(arrays, "seen", np.int64, (None,))
    if (models.spreads <= 0).any() or (np.diff(seen, prepend=-1) <= 0).any() or (
            seen >= n * n_users).any():
        raise FormatError("sections 'spreads' and 'seen' hold numbers that can't be")
    order, trainer = metadata["order"], metadata["trainer"]
    if not isinstance(order, list) or len(order) != 2 or any(
            name not in (*names, THIS, RECORD) for name in order):
        raise FormatError(f"metadata: an order can't be {order!r}")
    if not isinstance(trainer, bool):
        trainer = {key: checks.to_int(key, trainer[key], low) for key, low in
                   (("dim", 1), ("seed", 0))}
    return Content(models, Learned(
        _array(arrays, "liking", np.float64, (m + 2,)),
        _array(arrays, "showing", np.float64, (m + 2,)),
        checks.to_finite("intercept", metadata["intercept"]),
        _array(arrays, "users", np.float64, (n_users,)),
        _array(arrays, "shares", np.float64, (m,)),
        _array(arrays, "aucs", np.float64, (m,), finite=False),
        (order[0], order[1])),
        seen, trainer)


def _model(name: Any, sign: Any, metric: Any, dim: Any) -> tuple[str, Any, str, int]:
    if not isinstance(name, str) or isinstance(sign, (bool, float)) or metric not in (
            "dot", "cosine") or sign not in (1, -1, "both"):
        raise FormatError(f"metadata: a model can't be {name!r}, {sign!r}, {metric!r}")
    return name, sign, metric, checks.to_int("dim", dim, 1)


def _array(arrays: Arrays, name: str, dtype: Any, shape: tuple[int | None, ...], *,
           finite: bool = True) -> npt.NDArray[Any]:
    """A section of numbers; in its shape None stands for any size."""
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != len(shape) or any(
            want not in (None, size) for size, want in zip(array.shape, shape, strict=True)):
        raise FormatError(f"section {name!r} is missing, empty, or of another type or shape")
    if finite and not np.isfinite(array).all():
        raise FormatError(f"section {name!r} has numbers that are not finite")
    return array
