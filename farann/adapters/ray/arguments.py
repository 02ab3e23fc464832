"""Ids, labels and filters of questions to all shards, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann.contract import checks
from farann.search.filters import Filter
from farann.store.groups import to_labels


def to_ids(ids: Any) -> npt.NDArray[Any]:
    """Ids as an array, int64 or of objects."""
    array = np.atleast_1d(np.asarray(list(ids) if isinstance(ids, (set, frozenset)) else ids))
    if array.dtype.kind in "UO":
        return np.array([str(id) for id in array.tolist()], object)
    return checks.to_ids("ids", array)


def to_label_array(groups: Any) -> npt.NDArray[Any]:
    """Labels of groups as an array, int64 or of objects."""
    labels = to_labels("groups", groups)
    return np.array(labels, object) if isinstance(labels, list) else labels


def check_found(ids: npt.NDArray[Any], found: npt.NDArray[np.bool_]) -> None:
    if not found.all():
        raise KeyError(f"id {ids[~found][0]!r} is in no shard")


def to_filters(**filters: Any) -> dict[str, Any]:
    """Those that there are; refused where they can't be cut by shard."""
    given = {name: value for name, value in filters.items() if value is not None}
    allowed = given.get("allowed")
    if isinstance(allowed, Filter):
        raise ValueError("allowed: expected ids, got a Filter, which belongs to one index")
    if allowed is not None:
        array = np.asarray(list(allowed) if isinstance(allowed, (set, frozenset)) else allowed)
        if array.dtype == np.bool_:
            raise ValueError("allowed: expected ids, got a mask, which is for the rows of one "
                             "index; pass the ids that it marks")
        given["allowed"] = array
    return given
