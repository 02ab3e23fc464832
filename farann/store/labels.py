"""Strings that rows are called by: numbers of strings, and strings of numbers, in little memory.

A string keeps its number until the index is built anew. The strings lie in one block of bytes in
the order of their numbers. They are found through hash tables of numbers: a string's hash names a
bucket, which lists the numbers of some four strings with eight more bits of their hashes. Beside
the bytes a string takes 10 bytes, or 14 in blocks of 4 GiB and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Int64Array, UInt8Array
from farann.contract import FormatError
from farann.contract.strings import MOST_ID_BYTES, SPARE, Strings
from farann.store.ids import IdMap, appended, distinct

_A_BUCKET = 4  # mean strings of a bucket, at least; up to twice that
_MOST_RECENT = 4096  # strings in the dict; beyond, they get a table
_STRINGS_AT_ONCE = 1 << 18  # strings that are hashed or copied at a time, for the memory of this
_MORE = 1 / 8  # spare room of longer arrays, as a share of what there is: many strings take much
_FEW_STRINGS = 16  # strings up to which a Python loop takes less time than numpy
# Bits of a word of four bytes that belong to a string with 0 to 4 bytes left.
_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)


class _Table(NamedTuple):
    """A hash table of the strings with the numbers first, first + 1, ..."""

    first: int
    starts: npt.NDArray[np.uint32]  # of buckets
    numbers: npt.NDArray[Any]  # less the first, bucket after bucket
    prints: UInt8Array  # more bits of their hashes

    @property
    def stop(self) -> int:
        """The number after the last."""
        return self.first + len(self.numbers)

    @property
    def bits(self) -> int:
        """The number of a hash's bits that name a bucket."""
        return len(self.starts).bit_length() - 1

    def candidates(self, value: int) -> list[int]:
        """Numbers of strings that may have a hash."""
        bucket = value >> (32 - self.bits)
        start, stop = int(self.starts[bucket]), int(self.starts[bucket + 1])
        return [self.first + int(self.numbers[start + i])
                for i, bits in enumerate(self.prints[start:stop].tolist()) if bits == value & 255]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.starts.nbytes + self.numbers.nbytes + self.prints.nbytes


class _Lookup(NamedTuple):
    """The tables that strings are found by."""

    tables: tuple[_Table, ...]
    recent: dict[bytes, int]  # numbers of those that are in no table
    covered: int  # how many strings these have


class Labels:
    """Strings by number and numbers by string; each string once. Never changes: `grown` and `kept`
    make others, which share what stays the same."""

    def __init__(self) -> None:
        self._ends: npt.NDArray[Any] = np.empty(0, np.uint32)  # with spare room at the end
        self._octets: UInt8Array = np.zeros(SPARE, np.uint8)  # likewise
        self._count = 0
        # Made when it is first asked for; two threads may make the same, and either will do.
        self._lookup = _Lookup((), {}, 0)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tables = sum(table.nbytes for table in self._lookup.tables)
        recent = 150 * len(self._lookup.recent)
        return self._ends.nbytes + self._octets.nbytes + tables + recent

    @property
    def strings(self) -> Strings:
        """All strings, in the order of their numbers."""
        ends = self._ends[: self._count]
        return Strings(ends, self._octets[: (int(ends[-1]) if len(ends) else 0) + SPARE])

    def taken(self, numbers: Int64Array) -> Strings:
        """Some strings, in this order."""
        return self.strings.of(numbers)

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
        if strings.n <= _FEW_STRINGS:
            return self._few_numbers_of(strings)
        tables, recent, _ = self._covering()
        for at in range(0, strings.n, _STRINGS_AT_ONCE):
            part = np.arange(at, min(at + _STRINGS_AT_ONCE, strings.n))
            hashes = _hashes_of(strings, at, at + _STRINGS_AT_ONCE)
            for table in tables:
                self._find(table, strings, part, hashes, numbers)
        if recent:
            left = np.flatnonzero(numbers < 0)
            for i, text in zip(left.tolist(), _texts_of(strings, left), strict=True):
                numbers[i] = self._one_of([recent.get(text, -1)], text)
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
        used, more = self._used, int(strings.ends[-1])
        new._count = self._count + strings.n
        dtype = np.uint32 if used + more < 2**32 else np.uint64
        new._ends = appended(self._ends.astype(dtype, copy=False), self._count,
                             strings.ends + used, _MORE)
        new._octets = appended(self._octets, used, strings.octets[: more + SPARE], _MORE, SPARE)
        return new

    def kept(self, numbers: Int64Array) -> Labels:
        """These strings alone, in this order, as numbers 0, 1, ..."""
        return Labels().grown(self.taken(numbers))

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

    @property
    def _used(self) -> int:
        return int(self._ends[self._count - 1]) if self._count else 0

    def _covering(self) -> _Lookup:
        """Tables of all strings but the most recent few, and a dict of these."""
        tables, recent, covered = made = self._lookup
        if covered == self._count:
            return made
        n = self._count - (tables[-1].stop if tables else 0)
        if n > _MOST_RECENT:
            # A table takes in those before it that are not much larger, so that there are few.
            while tables and len(tables[-1].numbers) < 2 * n:
                n += len(tables[-1].numbers)
                tables = tables[:-1]
            made = _Lookup((*tables, _table_of(self.strings, self._count - n)), {}, self._count)
        else:
            for number in range(covered, self._count):
                recent[self._octets_of(number)] = number
            made = _Lookup(tables, recent, self._count)
        self._lookup = made
        return made

    def _octets_of(self, number: int) -> bytes:
        start = int(self._ends[number - 1]) if number else 0
        return self._octets[start : int(self._ends[number])].tobytes()

    def _one_of(self, candidates: list[int], text: bytes) -> int:
        """The number among these that a string has, -1 for none. Labels that grew from these
        write to the dict and the block, too, behind what these see."""
        return next((number for number in candidates if 0 <= number < self._count
                     and self._octets_of(number) == text), -1)

    def _few_numbers_of(self, strings: Strings) -> Int64Array:
        """Numbers of a few strings, in a loop: numpy takes some microseconds a step."""
        tables, recent, _ = self._covering()
        numbers, block = np.full(strings.n, -1, np.int64), strings.octets.tobytes()
        ends = strings.ends.tolist()
        for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if strings.missing is None or not strings.missing[i]:
                text = block[start:end]
                candidates = [recent.get(text, -1)]
                for table in tables:
                    candidates += table.candidates(hash(text) & 0xFFFFFFFF)
                numbers[i] = self._one_of(candidates, text)
        return numbers

    def _find(self, table: _Table, strings: Strings, part: Int64Array,
              hashes: npt.NDArray[np.uint32], numbers: Int64Array) -> None:
        """Numbers of the strings that a table has."""
        buckets = hashes >> np.uint32(32 - table.bits)
        starts = table.starts[buckets].astype(np.int64)
        lengths = table.starts[buckets + 1].astype(np.int64) - starts
        stops = np.cumsum(lengths)
        asking = np.repeat(np.arange(len(part)), lengths)
        places = np.arange(len(asking)) + np.repeat(starts - (stops - lengths), lengths)
        alike = table.prints[places] == (hashes & np.uint32(255)).astype(np.uint8)[asking]
        asking = asking[alike]
        candidates = table.first + table.numbers[places[alike]].astype(np.int64)
        equal = self._equal(strings, part[asking], candidates)
        numbers[part[asking[equal]]] = candidates[equal]

    def _equal(self, strings: Strings, which: Int64Array,
               numbers: Int64Array) -> BoolArray:
        """Whether strings are those with the numbers, pair by pair."""
        starts, ends = self.strings.spans(numbers)
        own_starts, own_ends = strings.spans(which)
        lengths = ends - starts
        equal: BoolArray = lengths == own_ends - own_starts
        # The 32-bit words that begin at each byte.
        mine, theirs = (np.ndarray((len(octets) - 3,), "<u4", octets, 0, (1,))
                        for octets in (self._octets, strings.octets))
        left, at = np.flatnonzero(equal), 0
        while len(left):
            mask = _MASKS[np.minimum(lengths[left] - at, 4)]
            differ = (mine[starts[left] + at] ^ theirs[own_starts[left] + at]) & mask
            equal[left[differ != 0]] = False
            at += 4
            left = left[(differ == 0) & (lengths[left] > at)]
        return equal


def _texts_of(strings: Strings, which: Int64Array) -> Iterator[bytes]:
    """Some strings, as bytes."""
    starts, ends = strings.spans(which)
    begin = starts.min(initial=len(strings.octets))
    block = strings.octets[begin : ends.max(initial=0)].tobytes()
    return (block[start:end] for start, end in zip(
        (starts - begin).tolist(), (ends - begin).tolist(), strict=True))


def _hashes_of(strings: Strings, first: int, stop: int) -> npt.NDArray[np.uint32]:
    """Hashes of the strings first .. stop: Python's, whose key is drawn when it starts, so that
    nobody can choose strings with one hash."""
    parts = [np.empty(0, np.int64)]
    for at in range(first, min(stop, strings.n), _STRINGS_AT_ONCE):
        which = np.arange(at, min(at + _STRINGS_AT_ONCE, stop, strings.n))
        parts.append(np.fromiter(map(hash, _texts_of(strings, which)), np.int64, len(which)))
    return np.concatenate(parts).astype(np.uint32)


def labels_left(ids: IdMap, labels: Labels | None) -> tuple[IdMap, Labels | None]:
    """Ids of the rows that are left, as numbers of labels that have their strings alone."""
    if labels is None or len(labels) == len(ids):
        return ids, labels
    numbers = ids.ids_of(np.arange(len(ids), dtype=np.int64))
    order = np.argsort(numbers, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return IdMap.restored(ranks, len(ranks), 0), labels.kept(numbers[order])


def repeated(strings: Strings) -> str | None:
    """A string that comes twice, if there is one."""
    hashes = _hashes_of(strings, 0, strings.n)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    seen: set[str] = set()
    for i in distinct(np.concatenate([order[1:][same], order[:-1][same]])).tolist():
        text = strings.text(i)
        if text in seen:
            return text
        seen.add(text)
    return None


def _table_of(strings: Strings, first: int) -> _Table:
    n = strings.n - first
    hashes = _hashes_of(strings, first, strings.n)
    bits = max((n // _A_BUCKET).bit_length() - 1, 1)
    buckets = hashes >> np.uint32(32 - bits)
    order = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets, minlength=1 << bits)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return _Table(first, starts, order.astype(np.uint32 if n < 2**32 else np.int64),
                  hashes[order].astype(np.uint8))


def _check_text(strings: Strings, name: str) -> None:
    """FormatError unless all strings are UTF-8."""
    ends = strings.ends
    begins = ends[:-1][ends[1:] > ends[:-1]] if len(ends) else ends
    if (strings.octets[begins] & 0xC0 == 0x80).any():
        raise FormatError(f"section '{name}.bytes': an id is not valid UTF-8")
    for at in range(0, strings.n, _STRINGS_AT_ONCE):
        start = int(ends[at - 1]) if at else 0
        stop = int(ends[min(at + _STRINGS_AT_ONCE, strings.n) - 1])
        try:
            strings.octets[start:stop].tobytes().decode()
        except UnicodeDecodeError:
            raise FormatError(f"section '{name}.bytes': an id is not valid UTF-8") from None
