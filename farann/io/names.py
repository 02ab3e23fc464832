"""Strings and groups as the sections of a file, and back; docs/format.md describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farann.contract import FormatError
from farann.contract.strings import SPARE
from farann.io.container import ArrayChunks
from farann.store.groups import Groups
from farann.store.ids import IdMap, distinct
from farann.store.labels import Labels


def sections_of_labels(name: str, labels: Labels) -> dict[str, Any]:
    """Sections of strings."""
    ends, octets, _ = labels.strings
    used = len(octets) - SPARE  # behind them may be others, of a later index
    return {f"{name}.ends": ends, f"{name}.bytes": ArrayChunks(np.uint8, octets.shape, [
        octets[:used], np.zeros(SPARE, np.uint8)])}


def labels_from(name: str, arrays: Mapping[str, npt.NDArray[Any]], count: int | None,
                checked: bool) -> Labels | None:
    """Strings, as many as `count` says if it does; None where there are none."""
    octets, ends = arrays.get(f"{name}.bytes"), arrays.get(f"{name}.ends")
    if octets is None and ends is None:
        return None
    if octets is None or octets.dtype != np.uint8 or octets.ndim != 1:
        raise FormatError(f"section '{name}.bytes' isn't a list of bytes")
    if ends is None or ends.dtype not in (np.uint32, np.uint64) or ends.ndim != 1 or (
            count is not None and len(ends) != count):
        number = "" if count is None else f"{count} "
        raise FormatError(f"section '{name}.ends' isn't a list of {number}numbers")
    return Labels.restored(ends, octets, checked=checked, name=name)


def sections_of_groups(groups: Groups) -> dict[str, Any]:
    """Sections of the groups of all rows."""
    sections: dict[str, Any] = {"groups.numbers": groups.by_slot()}
    if isinstance(groups.names, Labels):
        return sections | sections_of_labels("groups", groups.names)
    labels = groups.labels_of(np.arange(len(groups), dtype=np.int64))
    return sections | {"groups.labels": labels}


def groups_from(arrays: Mapping[str, npt.NDArray[Any]], count: int) -> Groups | None:
    """The groups of `count` rows; None where rows have none, as in files that are older."""
    if not any(name.startswith("groups.") for name in arrays):
        return None
    numbers, labels = arrays.get("groups.numbers"), arrays.get("groups.labels")
    if numbers is None or numbers.dtype != np.int32 or numbers.shape != (count,):
        raise FormatError(f"section 'groups.numbers' isn't a list of {count} numbers of groups")
    names: Labels | IdMap | None = labels_from("groups", arrays, None, True)
    if (names is None) == (labels is None):
        raise FormatError("the labels of groups are missing, or of two kinds")
    if labels is not None:
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise FormatError("section 'groups.labels' isn't a list of integers")
        if len(distinct(labels)) < len(labels):
            raise FormatError("section 'groups.labels': a label comes twice")
        names = IdMap().grown(labels)
    assert names is not None
    if count and not (numbers.min() >= 0 and numbers.max() < len(names)):
        raise FormatError("section 'groups.numbers': there is no group with such a number")
    return Groups.restored(numbers, names)
