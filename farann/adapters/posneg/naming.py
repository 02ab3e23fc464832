"""Ids of items and users: integers, or strings as an array of objects; always of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array, Int64Array
from farann.contract import checks
from farann.contract.errors import FormatError
from farann.contract.strings import MOST_BYTES, SPARE, Strings, are_strings, packed, texts_of

# int64, or objects that are strings.
Ids: TypeAlias = npt.NDArray[Any]


def are_names(ids: Ids) -> bool:
    """Whether checked ids are strings."""
    return bool(ids.dtype == object)


def new(name: str, given: Any, n: int) -> Ids:
    """Check the ids of n rows: as many, each once."""
    ids = fresh(name, given)
    if len(ids) != n:
        raise ValueError(f"{name}: expected {n} ids, one a row, got {len(ids)}")
    return ids


def fresh(name: str, given: Any, *, again: bool = False) -> Ids:
    """Check ids of either kind, each once, or with `again` perhaps more often."""
    if not are_strings(given):
        ids = checks.to_ids(name, given)
        return ids if again else checks.to_new_ids(name, ids, len(ids))
    ids = _objects(texts_of(name, given, padding=False))
    packed(name, ids.tolist())  # what a file can't hold is refused
    if again:
        return ids
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise ValueError(f"{name}: expected each id once, got {twice[0]!r} twice")
    return ids


def asked(name: str, given: Any, like: Ids, *, padding: bool = False) -> Ids:
    """Check ids of the kind that others have; with `padding`, None among strings is left out."""
    if are_names(like):
        if isinstance(given, str) or not (are_strings(given) or _is_empty(given)):
            raise TypeError(f"{name}: expected strings, as ids are here, got "
                            f"{checks.shown(given)}")
        texts = texts_of(name, given, padding=padding)
        return _objects([text for text in texts if text is not None])
    if are_strings(given):
        raise TypeError(f"{name}: expected integers, as ids are here, got strings")
    return checks.to_ids(name, given)


def listed(name: str, given: Any, n_queries: int, single: bool, like: Ids) -> list[Ids]:
    """Ids for each query: lists of them, or one for all."""
    if not are_names(like):
        if not single and checks.is_flat(given):
            return [asked(name, given, like)] * n_queries
        return list(checks.to_id_lists(name, given, n_queries, single))
    if single or checks.is_flat(given):
        return [asked(name, given, like, padding=True)] * n_queries
    return [asked(f"{name}[{i}]", one, like, padding=True)
            for i, one in enumerate(checks.to_lists(name, given, n_queries))]


def places(ids: Ids, wanted: Ids) -> Int64Array:
    """Places among sorted ids, -1 where there is none."""
    if not len(ids):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)


def rows(ids: Ids, wanted: Ids) -> Int64Array:
    """Places among ids in any order, -1 where there is none."""
    order = np.argsort(ids, kind="stable")
    at = places(ids[order], wanted)
    return np.where(at < 0, -1, order[at])


def numbers_of(ids: Ids, wanted: Ids) -> Int64Array:
    """Places of those ids that are among the sorted `ids`; the others are left out."""
    found = places(ids, wanted)
    return found[found >= 0]


def by_id(ids: Ids, values: Float64Array, wanted: Ids, other: float = 0.0) -> Float64Array:
    """Values of sorted ids for other ones; `other` where there is none."""
    at = places(ids, wanted)
    return np.where(at < 0, other, values[at])


def answers(ids: Ids, items: Int64Array) -> Ids:
    """Ids of numbers of items; -1, or None among strings, where there is none."""
    if not are_names(ids):
        return np.where(items < 0, -1, ids[items])
    found = ids[items]
    found[items < 0] = None
    return found


def alike(name: str, ids: list[Ids]) -> None:
    """Refuse ids of both kinds."""
    if len({are_names(one) for one in ids}) > 1:
        raise TypeError(f"{name}: expected integer ids or strings everywhere, got both")


def sections(name: str, ids: Ids) -> dict[str, npt.NDArray[Any]]:
    """Ids as sections of a file."""
    if not are_names(ids):
        return {name: ids}
    strings = packed(name, ids.tolist())
    return {f"{name}.ends": strings.ends, f"{name}.bytes": strings.octets[: -SPARE or None]}


def read(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Ids | None:
    """Ids of a file's sections; None if these have none of this name."""
    if name in arrays:
        ids = arrays[name]
        if ids.dtype != np.int64 or ids.ndim != 1:
            raise FormatError(f"section {name!r} is of another type")
        return ids
    ends, octets = arrays.get(f"{name}.ends"), arrays.get(f"{name}.bytes")
    if ends is None and octets is None:
        return None
    if ends is None or octets is None or ends.dtype != np.int64 or octets.dtype != np.uint8 \
            or ends.ndim != 1 or octets.ndim != 1:
        raise FormatError(f"section '{name}.ends' or '{name}.bytes' is of another type")
    lengths = np.diff(ends, prepend=0)
    if (lengths < 0).any() or (lengths > MOST_BYTES).any() \
            or (int(ends[-1]) if len(ends) else 0) != len(octets):
        raise FormatError(f"section '{name}.ends' does not fit '{name}.bytes'")
    strings = Strings(ends, np.append(octets, np.zeros(SPARE, np.uint8)))
    try:
        return _objects([strings.text(i) for i in range(len(ends))])
    except UnicodeDecodeError:
        raise FormatError(f"section '{name}.bytes' is no UTF-8") from None


def _objects(texts: list[Any]) -> Ids:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def _is_empty(given: Any) -> bool:
    if given is None or isinstance(given, Set):
        return given is not None and not given
    try:
        return all(one is None for one in given)
    except TypeError:
        return False
