"""Ids, labels and filters of questions to all shards, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann.contract import checks
from farann.contract.strings import texts_of
from farann.search.filters import Filter
from farann.store.groups import to_labels


def to_ids(name: str, ids: Any, strings: bool) -> npt.NDArray[Any]:
    """Ids of the kind that the index has as an array, int64 or of objects; one may come alone."""
    if not strings:
        return checks.to_ids(name, ids, single=True)
    return np.array(texts_of(name, [ids] if isinstance(ids, str) else ids, padding=False), object)


def to_label_array(groups: Any) -> npt.NDArray[Any]:
    """Labels of groups as an array, int64 or of objects."""
    labels = to_labels("groups", groups)
    return np.array(labels, object) if isinstance(labels, list) else labels


def check_found(ids: npt.NDArray[Any], found: npt.NDArray[np.bool_]) -> None:
    if not found.all():
        raise KeyError(f"id {ids[~found][0]!r} is in no shard")


def to_filters(strings: bool, **filters: Any) -> dict[str, Any]:
    """Those that there are; refused where they can't be cut by shard."""
    given = {name: value for name, value in filters.items() if value is not None}
    allowed = given.get("allowed")
    if isinstance(allowed, Filter):
        raise ValueError("allowed: expected ids, got a Filter, which belongs to one index")
    if allowed is not None:
        if np.asarray(allowed).dtype == np.bool_:
            raise ValueError("allowed: expected ids, got a mask, which is for the rows of one "
                             "index; pass the ids that it marks")
        given["allowed"] = to_ids("allowed", allowed, strings)
    return given
