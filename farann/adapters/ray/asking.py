"""What questions to all shards share. Knows nothing of Ray: how shards are asked is left to whoever
inherits this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array
from farann.adapters.ray.storage import Manifest, ShardError, Storage
from farann.contract import checks
from farann.contract.metric_traits import traits_of
from farann.contract.strings import texts_of
from farann.index import Index
from farann.search.filters import Filter
from farann.store.groups import to_labels


class Partial(NamedTuple):
    """An answer of those shards that could be asked, where ``allow_partial=True``.

    Attributes
    ----------
    answer : Hits, BeyondHits or array
        Exact over the rows of these shards.
    missing : tuple of str
        The shards that are missing in it; empty where the answer is whole.
    """

    answer: Any
    missing: tuple[str, ...]


class Lost(NamedTuple):
    """In the place of what a shard answers: it can't be asked."""

    shard: str
    error: BaseException


def taken(answers: list[Any], allow_partial: bool = False) -> tuple[list[Any], tuple[str, ...]]:
    """Answers of shards but for those that are missing, and which these are; ShardError where none
    may be, or all are. An error in the place of an answer is raised."""
    lost = [answer for answer in answers if isinstance(answer, Lost)]
    for error in (answer for answer in answers if isinstance(answer, Exception)):
        raise error
    if lost and (not allow_partial or len(lost) == len(answers)):
        # Errors of shards name themselves, and of a file that all of them read say the same.
        told = dict.fromkeys(str(error) if isinstance(error, ShardError) else f"{shard}: {error}"
                             for shard, error in lost)
        raise ShardError("; ".join(told)) from lost[0].error
    return ([answer for answer in answers if not isinstance(answer, Lost)],
            tuple(answer.shard for answer in lost))


class Asking:
    """Shards of one index, and what they are asked with, checked."""

    def __init__(self, storage: Storage, manifest: Manifest, n_changes: int) -> None:
        self._storage, self.manifest = storage, manifest
        self._at = n_changes  # changes that answers must know of
        self._traits = traits_of(manifest.metric)
        self._strings = isinstance(manifest.shards[0].first_id, str)  # as ids

    def _send(self, method: str, args: tuple[Any, ...], shards: Sequence[int]) -> list[Any]:
        """What a method of each shard returns; `Lost`, or an error that it raises."""
        raise NotImplementedError

    def _ask(self, method: str, *args: Any,
             allow_partial: bool = False) -> tuple[list[Any], tuple[str, ...]]:
        """What all shards answer, but for those that are missing, and which these are."""
        n = len(self.manifest.shards) + (self._at > 0)
        return taken(self._send(method, args, range(n)), allow_partial)

    def _fill(self, places: npt.NDArray[Any], ids: npt.NDArray[Any], method: str, *args: Any,
              allow_partial: bool = False) -> tuple[str, ...]:
        """Fill a place for each id with what its shard has; KeyError if an id is in no shard. Gives
        the shards that are missing."""
        parts, missing = self._ask(method, *args, ids, allow_partial=allow_partial)
        found = np.zeros(len(ids), np.bool_)
        for here, part in parts:
            places[here], found = part, found | here
        if not missing:
            check_found(ids, found)
        return missing

    def reconstruct(self, ids: Any) -> Float32Array:
        """The stored rows of some ids, (n, dim) float32; KeyError if one is in no shard."""
        wanted = self._to_ids("ids", ids)
        rows = np.empty((len(wanted), self.manifest.dim), np.float32)
        self._fill(rows, wanted, "reconstruct")
        return rows

    def _index(self) -> Index:
        """An index of a few rows, like those of shards."""
        return Index(self.manifest.dim, self.manifest.metric, codes="float32", threads=1)

    def _vectors(self, name: str, given: npt.ArrayLike, *, single: bool = True) -> Float32Array:
        """Vectors; where one may come alone it stays alone."""
        array = checks.to_array(name, given)
        vectors = checks.to_vectors(name, array, self.manifest.dim, single=single,
                                    normalized=self._traits.normalized)
        return vectors[0] if array.ndim == len(vectors) == 1 else vectors

    def _to_ids(self, name: str, ids: Any) -> npt.NDArray[Any]:
        """Ids of the kind that the index has as an array, int64 or of objects; one may come
        alone."""
        if not self._strings:
            return checks.to_ids(name, ids, single=True)
        texts = texts_of(name, [ids] if isinstance(ids, str) else ids, padding=False)
        return np.array(texts, object)

    def _to_filters(self, **filters: Any) -> dict[str, Any]:
        """Those that there are; refused where they can't be cut by shard."""
        given = {name: value for name, value in filters.items() if value is not None}
        if isinstance(given.get("allowed"), Filter):
            raise ValueError("allowed: expected ids, got a Filter, which belongs to one index")
        if "allowed" in given:
            if np.asarray(given["allowed"]).dtype == np.bool_:
                raise ValueError("allowed: expected ids, got a mask, which is for the rows of one "
                                 "index; pass the ids that it marks")
            given["allowed"] = self._to_ids("allowed", given["allowed"])
        return given


def check_found(ids: npt.NDArray[Any], found: BoolArray) -> None:
    """KeyError for the first id that is in no shard."""
    if not found.all():
        raise KeyError(f"id {ids[~found][0]!r} is in no shard")


def to_label_array(groups: Any) -> npt.NDArray[Any]:
    """Labels of groups as an array, int64 or of objects."""
    labels = to_labels("groups", groups)
    return np.array(labels, object) if isinstance(labels, list) else labels
