"""A fitted ranker as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array
from farann.adapters.posneg import ids
from farann.adapters.posneg.learning import RECORD, THIS, Learned
from farann.adapters.posneg.models import Models
from farann.contract import FormatError, checks
from farann.extending import read_file, write_file

_KIND = "likes and dislikes"
# Options of `Factorization`; for any other trainer, which a file can't hold, True.
Trainer = dict[str, int] | bool
# What can't be derived: models, what was learned, and pairs that `fit` knew.
Content = tuple[Models, Learned, Int64Array]
Arrays = Mapping[str, npt.NDArray[Any]]


def write(path: str | os.PathLike[str], content: Content, trainer: Trainer) -> None:
    """Write a ranker."""
    models, learned, seen = content
    parts = {**models._asdict(), **learned._asdict(), "seen": seen}
    described = [parts.pop(name) for name in ("names", "signs", "metrics", "dims")]
    write_file(path, {
        "kind": _KIND, "models": [list(model) for model in zip(*described, strict=True)],
        "intercept": parts.pop("intercept"), "order": list(parts.pop("order")),
        "trainer": trainer}, {
        name: ids.section(part) if name in ("ids", "user_ids") else part
        for name, part in parts.items()})


def read(path: str | os.PathLike[str]) -> tuple[Content, Trainer]:
    """Read a file and trust nothing in it."""
    metadata, arrays = read_file(path)
    try:
        return _content(metadata, arrays)
    except (TypeError, ValueError, KeyError) as error:  # FormatError is one of them
        raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _content(metadata: dict[str, Any], arrays: Arrays) -> tuple[Content, Trainer]:
    if metadata.get("kind") != _KIND:
        raise FormatError("the file holds no FusionRanker")
    names, signs, metrics, dims = zip(*(_model(*model) for model in metadata["models"]),
                                      strict=True)
    item_ids, user_ids = ids.read("ids", arrays), ids.read("user_ids", arrays)
    m, n, n_users, width = len(names), len(item_ids), len(user_ids), sum(dims) + len(dims) + 2
    if len(set(names)) < m or not n:
        raise FormatError(f"expected items, and each name once, got {n} and {names}")

    def array(name: str, *shape: int | None, dtype: Any = np.float64) -> npt.NDArray[Any]:
        """A section of numbers; in its shape None stands for any size."""
        values = arrays.get(name)
        if values is None or values.dtype != dtype or values.ndim != len(shape) or any(
                want not in (None, size) for size, want in zip(values.shape, shape, strict=True)):
            raise FormatError(f"section {name!r} is missing, empty, or of another type or shape")
        if name != "aucs" and not np.isfinite(values).all():
            raise FormatError(f"section {name!r} has numbers that are not finite")
        return values

    rows, people = (array(name, size, width, dtype=np.float32)
                    for name, size in (("rows", n), ("people", n_users)))
    models = Models(names, signs, metrics, dims, rows, people, array("means", m),
                    array("spreads", m), item_ids, user_ids)
    seen, order, trainer = array("seen", None, dtype=np.int64), metadata["order"], metadata[
        "trainer"]
    if (models.spreads <= 0).any() or (np.diff(seen, prepend=-1) <= 0).any() or (
            seen >= n * n_users).any():
        raise FormatError("sections 'spreads' and 'seen' hold numbers that can't be")
    if not isinstance(order, list) or len(order) != 2 or any(
            name not in (*names, THIS, RECORD) for name in order):
        raise FormatError(f"metadata: an order can't be {order!r}")
    if not isinstance(trainer, bool):
        trainer = {key: checks.to_int(key, trainer[key], low) for key, low in
                   (("dim", 1), ("seed", 0))}
    learned = Learned(array("liking", m + 2), array("showing", m + 2), checks.to_finite(
        "intercept", metadata["intercept"]), array("users", n_users), array("shares", m),
        array("aucs", m), (order[0], order[1]))
    return (models, learned, seen), trainer


def _model(name: Any, sign: Any, metric: Any, dim: Any) -> tuple[str, Any, str, int]:
    if not isinstance(name, str) or isinstance(sign, (bool, float)) or metric not in (
            "dot", "cosine") or sign not in (1, -1, "both"):
        raise FormatError(f"metadata: a model can't be {name!r}, {sign!r}, {metric!r}")
    return name, sign, metric, checks.to_int("dim", dim, 1)
