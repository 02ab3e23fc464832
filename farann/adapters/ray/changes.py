"""Rows that were added and ids that were removed since a sharded index was built.

Each change is a file with the next number, written before any shard sees it, so that a shard that
was restarted reads them all again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array
from farann.adapters.ray.storage import Storage

FOLDER = "changes"


class Change(NamedTuple):
    """Rows with their ids and labels of groups, or, without rows, ids to remove."""

    ids: npt.NDArray[Any]
    rows: Float32Array | None
    groups: npt.NDArray[Any] | None
    token: str  # of the call that made it, which may be repeated

    def to_bytes(self) -> bytes:
        """The content of its file."""
        content = io.BytesIO()
        arrays = {"ids": _packed(self.ids), "token": np.array(self.token)}
        if self.rows is not None:
            arrays["rows"] = self.rows
        if self.groups is not None:
            arrays["groups"] = _packed(self.groups)
        np.savez(content, **arrays)  # type: ignore[arg-type]
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Change:
        """Read it again."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            groups = _unpacked(arrays["groups"]) if "groups" in arrays else None
            return cls(_unpacked(arrays["ids"]), arrays.get("rows"), groups, str(arrays["token"]))


def _packed(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers, or strings as bytes."""
    if labels.dtype != object:
        return labels
    return np.frombuffer(json.dumps(labels.tolist()).encode(), np.uint8)


def _unpacked(kept: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array(json.loads(kept.tobytes()), object) if kept.dtype == np.uint8 else kept


def count(storage: Storage) -> int:
    """How many changes there are."""
    names = storage.names(FOLDER)
    return int(names[-1].rpartition("/")[2].partition(".")[0]) if names else 0


def read(storage: Storage, first: int, last: int) -> Iterator[Change]:
    """The changes with the numbers first .. last."""
    for number in range(first, last + 1):
        yield Change.from_bytes(storage.read(_name(number)))


def append(storage: Storage, number: int, change: Change) -> None:
    """Write the change with a number; FileExistsError if somebody else did."""
    storage.write(_name(number), change.to_bytes(), new=True)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:012d}.npz"
