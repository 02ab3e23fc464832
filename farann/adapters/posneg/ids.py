"""Ids of items and users: integers, or strings as an array of objects; always of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array, Int64Array
from farann.contract import FormatError, checks
from farann.contract.strings import are_strings, packed, texts_of

# int64, or objects that are strings.
Ids: TypeAlias = npt.NDArray[Any]


def checked(name: str, values: Any) -> Ids:
    """Check ids of either kind, which may come more than once."""
    if not are_strings(values):
        return checks.to_ids(name, values)
    texts = texts_of(name, values, padding=False)
    packed(name, texts)  # what a file can't hold is refused
    strings = np.empty(len(texts), object)
    strings[:] = texts
    return strings


def of_rows(name: str, values: npt.ArrayLike | None, n: int) -> Ids:
    """Check the ids of n rows, each once; by default they count from 0."""
    if values is None:
        return np.arange(n)
    if not are_strings(values):
        return checks.to_new_ids(name, values, n)
    ids = checked(name, values)
    if len(ids) != n:
        raise ValueError(f"{name}: expected {n} ids, one a row, got {len(ids)}")
    once, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{name}: expected each id once, got {once[counts > 1][0]!r} twice")
    return ids


def union(name: str, several: Sequence[Ids]) -> Ids:
    """All ids in ascending order; those of both kinds are refused."""
    if len({ids.dtype == object for ids in several}) > 1:
        raise TypeError(f"{name}: expected integer ids or strings everywhere, got both")
    return np.unique(np.concatenate(several))


def places(ids: Ids, wanted: Ids) -> Int64Array:
    """Places among ascending ids, -1 where there is none."""
    if not len(ids):
        return np.full(wanted.shape, -1)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)


def check_kind(name: str, wanted: Ids, ids: Ids) -> None:
    """Refuse integers among strings, and strings among integers."""
    if len(wanted) and (wanted.dtype == object) != (ids.dtype == object):
        expected = "strings" if ids.dtype == object else "integers"
        raise TypeError(f"{name}: expected {expected}, as the models' ids are, got "
                        f"{checks.shown(wanted.tolist()[0])}")


def known(name: str, values: Any, ids: Ids, *, all_of_them: bool = True) -> Int64Array:
    """Places of ids, of the kind of the ascending ones, among these; -1 if some may be others."""
    wanted = checked(name, values)
    check_kind(name, wanted, ids)
    at = places(ids, wanted)
    if all_of_them and (at < 0).any():
        raise KeyError(f"{name}: {wanted[at < 0].tolist()[0]!r} is in no model")
    return at


def by_id(ids: Ids, values: npt.NDArray[Any], wanted: Ids) -> Float64Array:
    """Values of ascending ids for other ones; 0 where there is none."""
    at = places(ids, wanted)
    return np.where(at < 0, 0.0, values[at])


def section(ids: Ids) -> npt.NDArray[np.uint8]:
    """Ids as a section of a file: a JSON list."""
    return np.frombuffer(json.dumps(ids.tolist()).encode(), np.uint8)


def read(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Ids:
    """Ids of a file's section, which must be ascending."""
    octets = arrays.get(name)
    if octets is None or octets.dtype != np.uint8:
        raise FormatError(f"section {name!r} is missing or of another type")
    try:
        listed = json.loads(octets.tobytes())
        ids = of_rows(name, listed, len(listed))
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"section {name!r} holds no ids: {error}") from None
    if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
        raise FormatError(f"section {name!r} is not in ascending order")
    return ids
