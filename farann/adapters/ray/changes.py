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
    """Rows with their ids, or, without rows, ids to remove."""

    ids: npt.NDArray[Any]
    rows: Float32Array | None
    token: str  # of the call that made it, which may be repeated

    def to_bytes(self) -> bytes:
        """The content of its file."""
        ids = self.ids
        if ids.dtype == object:
            ids = np.frombuffer(json.dumps(ids.tolist()).encode(), np.uint8)
        content = io.BytesIO()
        rows = {} if self.rows is None else {"rows": self.rows}
        np.savez(content, ids=ids, token=np.array(self.token),
                 **rows)  # type: ignore[arg-type]
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Change:
        """Read it again."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            ids = arrays["ids"]
            if ids.dtype == np.uint8:
                ids = np.array(json.loads(ids.tobytes()), object)
            return cls(ids, arrays.get("rows"), str(arrays["token"]))


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
