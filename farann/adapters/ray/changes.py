"""Rows that were added and ids that were removed since a sharded index was built.

Each change is a file with the next number, written before any shard sees it, so that a shard that
was restarted reads them all again. It has the form of index files, whose checksums find damage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array
from farann.adapters.ray.manifest import ShardError
from farann.adapters.ray.storage import Storage
from farann.contract.errors import FormatError
from farann.io.container import read_bytes, write_bytes

FOLDER = "changes"
_NAME = re.compile(rf"{FOLDER}/(\d{{12}})\.change")


class Change(NamedTuple):
    """Rows with their ids and labels of groups, or, without rows, ids to remove."""

    ids: npt.NDArray[Any]
    rows: Float32Array | None
    groups: npt.NDArray[Any] | None
    token: str  # of the call that made it, which may be repeated

    def to_bytes(self, number: int) -> bytes:
        """The content of the file with this number."""
        arrays = {"ids": _packed(self.ids)}
        if self.rows is not None:
            arrays["rows"] = self.rows
        if self.groups is not None:
            arrays["groups"] = _packed(self.groups)
        return write_bytes({"change": number, "kind": "remove" if self.rows is None else "add",
                            "token": self.token}, arrays)

    @classmethod
    def from_bytes(cls, content: bytes, number: int) -> Change:
        """Read it again; FormatError for what isn't the change with this number."""
        fields, arrays = read_bytes(content)
        kind = fields.get("kind")
        if fields.get("change") != number or kind not in ("add", "remove") or (
                arrays.keys() - {"groups"} != ({"ids", "rows"} if kind == "add" else {"ids"})):
            raise FormatError(f"expected change {number}, got one with "
                              f"{ {**fields, 'arrays': sorted(arrays)} }")
        groups = _unpacked(arrays["groups"]) if "groups" in arrays else None
        return cls(_unpacked(arrays["ids"]), arrays.get("rows"), groups, fields["token"])


def _packed(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers, or strings as bytes."""
    if labels.dtype != object:
        return labels
    return np.frombuffer(json.dumps(labels.tolist()).encode(), np.uint8)


def _unpacked(kept: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array(json.loads(kept.tobytes()), object) if kept.dtype == np.uint8 else kept


def count(storage: Storage) -> int:
    """How many changes there are."""
    found = [_NAME.fullmatch(name) for name in storage.names(FOLDER)]
    return max((int(match[1]) for match in found if match), default=0)


def read(storage: Storage, first: int, last: int) -> Iterator[Change]:
    """The changes with the numbers first .. last; ShardError for one that was damaged or is
    gone."""
    for number in range(first, last + 1):
        name = _name(number)
        try:
            yield Change.from_bytes(storage.read(name), number)
        except FileNotFoundError:
            raise ShardError(f"{name} of {storage.uri}: the file is not there, but a later change "
                             "is; restore it, or build the index again") from None
        except FormatError as error:
            raise ShardError(f"{name} of {storage.uri}: the file was changed or damaged: {error}; "
                             "restore it, or build the index again") from None


def append(storage: Storage, number: int, change: Change) -> None:
    """Write the change with a number; FileExistsError if somebody else did."""
    storage.write(_name(number), change.to_bytes(number), new=True)


def _name(number: int) -> str:
    return f"{FOLDER}/{number:012d}.change"
