"""Whether shards have an id in common, by sorted keys of their ids, of which a part is read at a
time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array

# Bytes of a fixed length, uniform, and different for different ids: integers times an odd number,
# or hashes of strings.
Keys: TypeAlias = npt.NDArray[np.bytes_]
_ODD = np.uint64(0x9E3779B97F4A7C15)
_HASH = 16  # bytes: of 1e12 ids two have one hash with a chance of 1e-15
_BUCKETS = 256  # by the first byte of keys
_KEYS_COMPARED = 1 << 24  # keys of all shards that are compared at a time, some 256 MB


def keys_of(ids: npt.NDArray[Any]) -> Keys:
    """Keys of some ids, in their order."""
    if ids.dtype == object:
        return np.frombuffer(b"".join(
            hashlib.blake2b(text.encode(), digest_size=_HASH).digest() for text in ids.tolist()),
            f"S{_HASH}")
    return (ids.astype(np.uint64) * _ODD).astype(">u8").view("S8")


def packed_keys(ids: npt.NDArray[Any]) -> bytes:
    """The content of a file: where each bucket of keys begins, and the keys, sorted."""
    keys = np.sort(keys_of(ids))
    counts = np.bincount(keys.view(np.uint8).reshape(len(keys), -1)[:, 0], minlength=_BUCKETS)
    begins = np.concatenate([[keys.itemsize], np.cumsum(counts)]).astype("<i8")
    return begins.tobytes() + keys.tobytes()


def repeated(read: Sequence[Callable[[int, int], bytes]]) -> tuple[bytes, list[int]] | None:
    """A key that two of some files have, and the numbers of these files; None if there is none.

    `read` has for each file a function of the first byte and the end of what it is to read.
    """
    header = 8 * (_BUCKETS + 1)
    begins: Int64Array = np.array([np.frombuffer(one(0, header), "<i8") for one in read])
    width = int(begins[0, 0])
    begins[:, 0] = 0
    first = 0
    while first < _BUCKETS:
        # As many buckets as fit, but one at least.
        sizes = (begins[:, first + 1 :] - begins[:, first : first + 1]).sum(axis=0)
        end = first + max(int(np.searchsorted(sizes, _KEYS_COMPARED, "right")), 1)
        parts = [np.frombuffer(one(header + width * int(begin), header + width * int(stop)),
                               f"S{width}")
                 for one, begin, stop in zip(read, begins[:, first], begins[:, end], strict=True)]
        keys = np.sort(np.concatenate(parts))
        if len(twice := np.flatnonzero(keys[1:] == keys[:-1])):
            key = keys[twice[0]]
            return bytes(key), [i for i, part in enumerate(parts) if (part == key).any()]
        first = end
    return None
