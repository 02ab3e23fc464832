"""Identifiers as arrays that any file can hold: HDF5 has no strings with zero bytes in them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

IdArray = npt.NDArray[Any]
_PARTS = ("numbers", "bytes", "ends", "is_text", "width")


def checked(name: str, ids: IdArray) -> IdArray:
    """Ids of a type that `pack` takes: numbers, or strings of text or bytes."""
    if ids.dtype.kind == "T":  # numpy's strings of any length
        ids = ids.astype(object)
    if ids.dtype.kind not in "biufSUO" or (ids.dtype == object and not all(
            isinstance(one, str | bytes) for one in ids.ravel().tolist())):
        raise TypeError(f"{name}: expected numbers of at most 64 bits or strings, got "
                        f"{'other objects' if ids.dtype == object else ids.dtype}")
    return ids


def pack(ids: IdArray) -> dict[str, IdArray]:
    """Numbers as they are; strings as bytes, where each ends, and which are text.

    Examples
    --------
    >>> pack(np.array([b"ab", b"", b"c"], object))
    {'bytes': array([97, 98, 99], dtype=uint8), 'ends': array([2, 2, 3])}
    """
    if ids.dtype.kind not in "OSU":
        return {"numbers": ids}
    values = ids.tolist()
    texts = [one.encode(errors="surrogatepass") if isinstance(one, str) else bytes(one)
             for one in values]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    parts: dict[str, IdArray] = {"bytes": np.frombuffer(b"".join(texts), np.uint8),
                                 "ends": np.cumsum(lengths)}
    is_text = np.array([isinstance(one, str) for one in values])
    if is_text.any():
        parts["is_text"] = is_text
    if ids.dtype != object:
        parts["width"] = np.array([ids.dtype.itemsize])
    return parts


def unpack(parts: Mapping[str, IdArray]) -> IdArray:
    """Unpack ids, of the type that they had.

    Examples
    --------
    >>> unpack(pack(np.array([b"ab", "", "c"], object)))
    array([b'ab', '', 'c'], dtype=object)
    >>> unpack(pack(np.array(["ab", "c"])))
    array(['ab', 'c'], dtype='<U2')
    """
    if "numbers" in parts:
        return np.asarray(parts["numbers"])
    content, ends = np.asarray(parts["bytes"]).tobytes(), np.asarray(parts["ends"]).tolist()
    is_text = np.asarray(parts.get("is_text", np.zeros(len(ends), np.bool_))).tolist()
    ids = np.empty(len(ends), object)
    for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        one = content[start:end]
        ids[i] = one.decode(errors="surrogatepass") if is_text[i] else one
    if "width" in parts:
        width = int(np.asarray(parts["width"])[0])
        return ids.astype(f"U{width // 4}" if any(is_text) else f"S{width}")
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
