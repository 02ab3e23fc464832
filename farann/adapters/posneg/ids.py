"""Ids of items and users: integers, or strings as an array of objects; always of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array, Int64Array
from farann.contract import checks
from farann.contract.errors import FormatError
from farann.contract.strings import MOST_BYTES, SPARE, Strings, are_strings, packed, texts_of

# int64, or objects that are strings.
Ids: TypeAlias = npt.NDArray[Any]


def checked(name: str, given: Any) -> Ids:
    """Check ids of either kind, which may come more than once."""
    if not are_strings(given):
        return checks.to_ids(name, given)
    texts = texts_of(name, given, padding=False)
    packed(name, texts)  # what a file can't hold is refused
    return _objects(texts)


def of_rows(name: str, given: npt.ArrayLike | None, n: int) -> Ids:
    """Check the ids of n rows, each once; by default they count from 0."""
    if given is None:
        return np.arange(n)
    if not are_strings(given):
        return checks.to_new_ids(name, given, n)
    ids = checked(name, given)
    if len(ids) != n:
        raise ValueError(f"{name}: expected {n} ids, one a row, got {len(ids)}")
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise ValueError(f"{name}: expected each id once, got {twice[0]!r} twice")
    return ids


def union(name: str, several: Sequence[Ids]) -> Ids:
    """All ids in ascending order; those of both kinds are refused."""
    if len({ids.dtype == object for ids in several}) > 1:
        raise TypeError(f"{name}: expected integer ids or strings everywhere, got both")
    return np.unique(np.concatenate(several))


def places(ids: Ids, wanted: Ids) -> Int64Array:
    """Places among ascending ids, -1 where there is none."""
    if not len(ids):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)


def known(name: str, given: Any, ids: Ids) -> Int64Array:
    """Places of ids that must all be among the ascending ones.

    Raises
    ------
    TypeError
        For integers where ids are strings, and the other way round.
    KeyError
        If an id is unknown.
    """
    wanted = checked(name, given)
    if len(wanted) and (wanted.dtype == object) != (ids.dtype == object):
        expected = "strings" if ids.dtype == object else "integers"
        raise TypeError(f"{name}: expected {expected}, as the models' ids are, got "
                        f"{checks.shown(wanted[0])}")
    at = places(ids, wanted)
    if (at < 0).any():
        raise KeyError(f"{name}: {wanted[at < 0][0]!r} is in no model")
    return at


def by_id(ids: Ids, values: Float64Array, wanted: Ids, other: float) -> Float64Array:
    """Values of ascending ids for other ones; `other` where there is none."""
    at = places(ids, wanted)
    return np.where(at < 0, other, values[at])


def sections(name: str, ids: Ids) -> dict[str, npt.NDArray[Any]]:
    """Ids as sections of a file."""
    if ids.dtype != object:
        return {name: ids}
    strings = packed(name, ids.tolist())
    return {f"{name}.ends": strings.ends, f"{name}.bytes": strings.octets[: -SPARE or None]}


def read(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Ids:
    """Ids of a file's sections, which must be ascending."""
    ids = arrays.get(name)
    if ids is None:
        ids = _texts(name, arrays.get(f"{name}.ends"), arrays.get(f"{name}.bytes"))
    elif ids.dtype != np.int64 or ids.ndim != 1:
        raise FormatError(f"section {name!r} is of another type")
    if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
        raise FormatError(f"section {name!r} is not in ascending order")
    return ids


def _texts(name: str, ends: npt.NDArray[Any] | None, octets: npt.NDArray[Any] | None) -> Ids:
    if ends is None or octets is None or ends.dtype != np.int64 or octets.dtype != np.uint8 \
            or ends.ndim != 1 or octets.ndim != 1:
        raise FormatError(f"section {name!r} is missing or of another type")
    lengths = np.diff(ends, prepend=0)
    if (lengths < 0).any() or (lengths > MOST_BYTES).any() \
            or (int(ends[-1]) if len(ends) else 0) != len(octets):
        raise FormatError(f"section '{name}.ends' does not fit '{name}.bytes'")
    strings = Strings(ends, np.append(octets, np.zeros(SPARE, np.uint8)))
    try:
        return _objects([strings.text(i) for i in range(len(ends))])
    except UnicodeDecodeError:
        raise FormatError(f"section '{name}.bytes' is no UTF-8") from None


def _objects(texts: Sequence[Any]) -> Ids:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found
