"""Identifiers as arrays that any file can hold: HDF5 has no strings with zero bytes in them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

IdArray = npt.NDArray[Any]
_PARTS = ("numbers", "bytes", "ends")


def pack(ids: IdArray) -> dict[str, IdArray]:
    """Numbers as they are; strings as bytes, and where each ends.

    Examples
    --------
    >>> pack(np.array(["ab", "", "c"], object))
    {'bytes': array([97, 98, 99], dtype=uint8), 'ends': array([2, 2, 3])}
    """
    if ids.dtype.kind not in "OSU":
        return {"numbers": ids}
    texts = [text.encode() if isinstance(text, str) else bytes(text) for text in ids.tolist()]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return {"bytes": np.frombuffer(b"".join(texts), np.uint8), "ends": np.cumsum(lengths)}


def unpack(parts: Mapping[str, IdArray]) -> IdArray:
    """Unpack ids; strings come as an object array of bytes.

    Examples
    --------
    >>> unpack(pack(np.array(["ab", "", "c"], object)))
    array([b'ab', b'', b'c'], dtype=object)
    """
    if "numbers" in parts:
        return np.asarray(parts["numbers"])
    content, ends = np.asarray(parts["bytes"]).tobytes(), np.asarray(parts["ends"]).tolist()
    ids = np.empty(len(ends), object)
    for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        ids[i] = content[start:end]
    return ids


def write(store: MutableMapping[str, Any], name: str, ids: IdArray) -> None:
    """Write ids into a Keras layer's part of a file."""
    for part, array in pack(ids).items():
        store[f"{name}.{part}"] = array


def read(store: Mapping[str, Any], name: str) -> IdArray | None:
    """Ids of that name, or None if there are none."""
    packed = {part: np.asarray(store[f"{name}.{part}"]) for part in _PARTS
              if f"{name}.{part}" in store}
    return unpack(packed) if packed else None
