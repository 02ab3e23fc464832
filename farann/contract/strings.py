"""Strings as one block of UTF-8 bytes, and checks of ids that are strings."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array, UInt8Array
from farann.contract.checks import shown, to_array

MOST_ID_BYTES = 65_535  # most bytes of an id
SPARE = 8  # bytes of padding behind all strings, so that they can be read in words
_BYTES_AT_ONCE = 1 << 17  # bytes of strings that are copied at a time: each takes 16 more meanwhile
# Lists in lists that ids may be in: questions, sets, ids. Python ends recursion at 1000.
_DEEPEST = 3


class Strings(NamedTuple):
    """Strings one after the other: where each ends, and bytes with `SPARE` more behind them."""

    ends: Int64Array
    octets: UInt8Array
    missing: npt.NDArray[np.bool_] | None = None  # which are padding; None for none

    @property
    def n(self) -> int:
        """The number of strings."""
        return len(self.ends)

    def spans(self, which: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The bytes where some of them begin and end."""
        ends = self.ends[which].astype(np.int64)
        return np.where(which > 0, self.ends[which - 1], 0).astype(np.int64), ends

    def of(self, which: Int64Array) -> Strings:
        """Some of them, in this order."""
        starts, ends = self.spans(which)
        lengths = ends - starts
        stops = np.cumsum(lengths)
        octets = np.zeros((int(stops[-1]) if len(stops) else 0) + SPARE, np.uint8)
        part = slice(0, 0)
        while part.stop < len(which):
            begin = int(stops[part.stop] - lengths[part.stop])
            part = slice(part.stop, int(stops.searchsorted(begin + _BYTES_AT_ONCE)))
            at_bytes = np.repeat(starts[part] - (stops[part] - lengths[part]), lengths[part])
            at_bytes += np.arange(begin, begin + len(at_bytes))
            octets[begin : begin + len(at_bytes)] = self.octets[at_bytes]
        return Strings(stops, octets)

    def text(self, i: int) -> str:
        """Decode one string."""
        start = int(self.ends[i - 1]) if i else 0
        return self.octets[start : int(self.ends[i])].tobytes().decode()


def packed(name: str, texts: Sequence[str | None]) -> Strings:
    """Strings, with None for padding, as one block; ValueError for what isn't UTF-8 or too long."""
    missing = None
    if None in texts:
        missing = np.array([text is None for text in texts])
        texts = [text or "" for text in texts]
    present: Sequence[str] = texts  # type: ignore[assignment]
    joined = "".join(present)
    if joined.isascii():
        octets = joined.encode()
        lengths = np.fromiter(map(len, present), np.int64, len(present))
    else:
        try:
            parts = [text.encode() for text in present]
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: expected strings that UTF-8 can hold, got "
                             f"{shown(error.object)}") from None
        octets = b"".join(parts)
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    if len(lengths) and lengths.max() > MOST_ID_BYTES:
        raise ValueError(f"{name}: expected strings of at most {MOST_ID_BYTES} bytes, got one of "
                         f"{lengths.max()}")
    block = np.zeros(len(octets) + SPARE, np.uint8)
    block[: len(octets)] = np.frombuffer(octets, np.uint8)
    return Strings(np.cumsum(lengths), block, missing)


def are_strings(value: Any, most: int = _DEEPEST) -> bool:
    """Whether ids are strings, by the first that is no padding, at most `most` lists deep."""
    if isinstance(value, str):
        return True
    if hasattr(value, "to_pylist"):  # of pyarrow, whose elements are its own
        return "string" in str(getattr(value, "type", ""))
    if isinstance(value, np.ndarray) and value.dtype.kind in "UT":
        return True
    kind = getattr(getattr(value, "dtype", None), "kind", "O")
    if kind != "O":
        return False
    if isinstance(value, np.ndarray):
        value = value.ravel()
    if hasattr(value, "__next__"):  # it can be gone through but once
        return False
    try:
        first = next((one for one in value if one is not None and not _is_empty(one)), None)
    except TypeError:
        return False
    nested = isinstance(first, (list, tuple, Set, np.ndarray))
    return isinstance(first, str) or (nested and most > 1 and are_strings(first, most - 1))


def _is_empty(one: Any) -> bool:
    return isinstance(one, (list, tuple, Set, np.ndarray)) and len(one) == 0


def to_strings(name: str, value: Any, *, single: bool = False, padding: bool = False) -> Strings:
    """Check ids that are strings, or with `single` perhaps one, and with `padding` perhaps None."""
    if isinstance(value, str) and single:
        return packed(name, [value])
    return packed(name, texts_of(name, value, padding=padding))


def texts_of(name: str, value: Any, *, padding: bool) -> list[str | None]:
    """The strings of a sequence or an array of one dimension, which must have nothing else."""
    if isinstance(value, (list, tuple, Set)):  # numpy would make strings of numbers among them
        listed: list[Any] = list(value)
    elif isinstance(value, str):
        raise TypeError(f"{name}: expected a list of strings, got one string, {shown(value)}; "
                        "write [...] around it")
    elif hasattr(value, "to_list"):  # numpy would cut zeros off the strings of polars
        listed = value.to_list()
    else:
        array = to_array(name, value)
        if array.ndim == 0 or (array.size and array.dtype.kind not in "OUT"):
            raise TypeError(f"{name}: expected strings, as the index has string ids, got "
                            f"{shown(value) if array.ndim == 0 else f'an array of {array.dtype}'}")
        if array.ndim != 1:
            raise ValueError(f"{name}: expected shape (n,), got {array.shape}")
        listed = array.tolist()
    kinds = set(map(type, listed)) - {str, *([type(None)] if padding else [])}
    if not kinds:
        return listed
    wrong = [kind for kind in kinds if not issubclass(kind, str)]
    if wrong:
        one = next(one for one in listed if type(one) in wrong)
        raise TypeError(f"{name}: expected strings alone, got {shown(one)}")
    # str() of a subclass, such as a member of an enum, may differ from the string it is equal to.
    return [None if one is None else str.__str__(one) for one in listed]
