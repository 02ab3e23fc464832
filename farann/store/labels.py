"""Strings that rows are called by: numbers of strings, and strings of numbers, in little memory.

A string keeps its number until the index is built anew. The strings lie in one block of bytes in
the order of their numbers. They are found by binary search for their hashes. Beside the bytes a
string takes 12 bytes, or 16 in blocks of 4 GiB and more.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Int64Array, UInt8Array
from farann.contract import FormatError
from farann.contract.strings import MOST_ID_BYTES, SPARE, Strings
from farann.store.ids import appended, distinct

_FEW_KEYS = 256  # keys that are sorted again with every addition
_HASHED_AT_ONCE = 1 << 18  # strings that are hashed at a time, for the memory of this
_MORE = 1 / 8  # spare room of longer arrays, as a share of their length: strings take much
# Bits of a key that are the number of a string; the others are the first of its hash.
_NUMBER_BITS = 34
_FEW_STRINGS = 16  # strings up to which a Python loop takes less time than numpy
_DECODED_AT_ONCE = 1 << 24  # bytes of a file that are decoded at a time, to check them
_NUMBER_MASK = np.uint64((1 << _NUMBER_BITS) - 1)
UInt64Array: TypeAlias = npt.NDArray[np.uint64]


class Labels:
    """Strings by number and numbers by string; each string once. Immutable: `grown` and `subset`
    make others, which share what stays the same."""

    def __init__(self) -> None:
        self._ends: npt.NDArray[Any] = np.empty(0, np.uint32)  # with spare room at the end
        self._octets: UInt8Array = np.zeros(SPARE, np.uint8)  # likewise
        self._count = 0
        # Sorted keys of the first strings, the next, and so on. Made when they are first asked for;
        # two threads may make the same, and either will do.
        self._keys: tuple[UInt64Array, ...] = ()

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return (self._ends.nbytes + self._octets.nbytes + sum(keys.nbytes for keys in self._keys))

    @property
    def strings(self) -> Strings:
        """All strings, sorted by their numbers."""
        ends = self._ends[: self._count]
        return Strings(ends, self._octets[: (int(ends[-1]) if len(ends) else 0) + SPARE])

    def texts(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """Strings of numbers, of the same shape; None for -1."""
        flat = numbers.ravel()
        starts, ends = self.strings.spans(np.maximum(flat, 0)) if self._count else (flat, flat)
        block = self._octets.data
        made = np.empty(len(flat), object)
        try:
            made[:] = [None if number < 0 else str(block[start:end], "utf-8")
                       for number, start, end in zip(flat.tolist(), starts.tolist(), ends.tolist(),
                                                     strict=True)]
        except UnicodeDecodeError:  # of a mapped file, which isn't checked
            raise FormatError("section 'labels.bytes': an id is not valid UTF-8") from None
        return made.reshape(numbers.shape)

    def numbers_of(self, strings: Strings) -> Int64Array:
        """Numbers of some strings; -1 for those that there are not, and for padding."""
        numbers = np.full(strings.n, -1, np.int64)
        if self._count == 0 or strings.n == 0:
            return numbers
        tables = self._covering()
        if strings.n <= _FEW_STRINGS:
            texts = _texts_of(strings, 0, strings.n)
            numbers[:] = [self._number_of(text, tables) for text in texts]
        else:
            wanted = _keys_of(strings)
            for keys in tables:
                self._find(keys, strings, wanted, numbers)
        if strings.missing is not None:
            numbers[strings.missing] = -1
        return numbers

    def grown(self, strings: Strings) -> Labels:
        """Add strings, which must be new; self stays valid.

        Memory is taken before anything changes, so a MemoryError changes nothing.
        """
        new = Labels()
        new.__dict__.update(self.__dict__)
        if strings.n == 0:
            return new
        used, more = int(self._ends[self._count - 1]) if self._count else 0, int(strings.ends[-1])
        new._count = self._count + strings.n
        dtype = np.uint32 if used + more < 2**32 else np.uint64
        new._ends = appended(self._ends.astype(dtype, copy=False), self._count,
                             strings.ends + used, _MORE)
        new._octets = appended(self._octets, used, strings.octets[: more + SPARE], _MORE, SPARE)
        return new

    def subset(self, numbers: Int64Array) -> Labels:
        """These strings alone, in this order, as numbers 0, 1, ..."""
        return Labels().grown(self.strings.of(numbers))

    @classmethod
    def restored(cls, ends: npt.NDArray[Any], octets: UInt8Array, *, checked: bool,
                 name: str = "labels") -> Labels:
        """Those of a file; FormatError if they can't be. `checked` reads all bytes; sections are
        called by the name."""
        new = cls()
        used = int(ends[-1]) if len(ends) else 0
        if len(octets) != used + SPARE or octets[used:].any() or (ends[1:] < ends[:-1]).any():
            raise FormatError(f"section '{name}.ends' doesn't fit section '{name}.bytes'")
        new._ends, new._octets, new._count = ends, octets, len(ends)
        if len(ends) and int(np.diff(ends, prepend=ends[:1] * 0).max()) > MOST_ID_BYTES:
            raise FormatError(f"section '{name}.ends': an id has more than {MOST_ID_BYTES} bytes")
        if checked:
            strings = new.strings
            _check_text(strings, name)
            if repeated(strings) is not None:
                raise FormatError(f"section '{name}.bytes': an id comes twice")
        return new

    def _covering(self) -> tuple[UInt64Array, ...]:
        """Keys of all strings, in few arrays."""
        tables = self._keys
        covered = sum(map(len, tables))
        if covered < self._count:
            new = _keys_of(self.strings, covered)
            while tables and len(tables[-1]) < max(2 * len(new), _FEW_KEYS):
                tables, new = tables[:-1], np.concatenate([tables[-1], new])
            self._keys = tables = (*tables, np.sort(new))
        return tables

    def _number_of(self, text: bytes, tables: tuple[UInt64Array, ...]) -> int:
        """The number of a string, -1 for none."""
        hashed = _hashes_of([text])[0]
        for keys in tables:
            for key in keys[keys.searchsorted(hashed) :]:
                if key ^ hashed > _NUMBER_MASK:
                    break
                number = int(key & _NUMBER_MASK)
                start = int(self._ends[number - 1]) if number else 0
                if self._octets[start : int(self._ends[number])].tobytes() == text:
                    return number
        return -1

    def _find(self, keys: UInt64Array, strings: Strings, wanted: UInt64Array,
              numbers: Int64Array) -> None:
        """Find numbers by keys: that of the first with the hash, then of the next while strings
        differ."""
        at, ordered = np.empty(len(wanted), np.int64), np.sort(wanted)  # for the caches
        at[ordered & _NUMBER_MASK] = np.searchsorted(keys, ordered & ~_NUMBER_MASK)
        while len(wanted):
            nearest = keys[np.minimum(at, len(keys) - 1)]
            alike = nearest ^ wanted <= _NUMBER_MASK
            wanted, at, nearest = wanted[alike], at[alike] + 1, nearest[alike]
            which, candidates = ((some & _NUMBER_MASK).astype(np.int64)
                                 for some in (wanted, nearest))
            same = self._equal(strings, which, candidates)
            numbers[which[same]] = candidates[same]
            again = ~same & (at < len(keys))
            wanted, at = wanted[again], at[again]

    def _equal(self, strings: Strings, which: Int64Array, numbers: Int64Array) -> BoolArray:
        """Whether strings are those with the numbers, pair by pair."""
        (starts, ends), (own_starts, own_ends) = self.strings.spans(numbers), strings.spans(which)
        equal: BoolArray = ends - starts == own_ends - own_starts
        left = np.flatnonzero(equal)
        mine, theirs = self.strings.of(numbers[left]), strings.of(which[left])
        differ = np.flatnonzero(mine.octets != theirs.octets)
        equal[left[mine.ends.searchsorted(differ, "right")]] = False
        return equal


def _texts_of(strings: Strings, first: int, stop: int) -> list[bytes]:
    """The strings first .. stop, as bytes."""
    ends = strings.ends[first:stop].tolist()
    begin = int(strings.ends[first - 1]) if first else 0
    block = strings.octets[begin : ends[-1]].tobytes()
    return [block[start - begin : end - begin] for start, end in pairwise([begin, *ends])]


def _hashes_of(texts: list[bytes]) -> UInt64Array:
    """Hashes of strings as the least keys with these: Python's hashes, whose secret is drawn when
    it starts, so that nobody can choose strings with one hash."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts)).view(np.uint64)
    return hashes & ~_NUMBER_MASK


def _keys_of(strings: Strings, first: int = 0) -> UInt64Array:
    """Keys of the strings from the first on, in the order of numbers."""
    keys = np.arange(first, strings.n, dtype=np.uint64)
    for at in range(first, strings.n, _HASHED_AT_ONCE):
        hashes = _hashes_of(_texts_of(strings, at, at + _HASHED_AT_ONCE))
        keys[at - first : at - first + len(hashes)] |= hashes
    return keys


def repeated(strings: Strings) -> str | None:
    """A string that comes twice, if there is one."""
    keys = np.sort(_keys_of(strings))
    at = np.flatnonzero(keys[1:] ^ keys[:-1] <= _NUMBER_MASK)
    alike = keys[distinct(np.concatenate([at, at + 1]))] & _NUMBER_MASK
    seen: set[str] = set()
    for i in np.sort(alike).tolist():
        text = strings.text(i)
        if text in seen:
            return text
        seen.add(text)
    return None


def _check_text(strings: Strings, name: str) -> None:
    """FormatError unless all strings are UTF-8."""
    decode = getincrementaldecoder("utf-8")().decode
    try:
        for at in range(0, len(strings.octets), _DECODED_AT_ONCE):
            decode(strings.octets[at : at + _DECODED_AT_ONCE].data)
        whole = not (strings.octets[strings.ends] & 0xC0 == 0x80).any()  # no character is cut
    except UnicodeDecodeError:
        whole = False
    if not whole:
        raise FormatError(f"section '{name}.bytes': an id is not valid UTF-8")
