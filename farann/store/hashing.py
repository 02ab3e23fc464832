"""Hashes of strings, many at once, and strings as words of four bytes."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array, UInt8Array
from farann.contract.strings import Strings

# Random numbers that strings are hashed with, so that nobody can choose strings with one hash.
_key_bytes = os.urandom(8 * 1024)
_KEYS = np.frombuffer(_key_bytes, np.uint64) | np.uint64(1)


def hashes_of(strings: Strings, which: Int64Array) -> npt.NDArray[np.uint32]:
    """Hashes of some strings: the upper half of a sum of words times random numbers [1].

    [1] D. Lemire and O. Kaser, Strongly universal string hashing is fast, The Computer Journal
    57 (2014).
    """
    ends = strings.ends[which].astype(np.int64)
    starts = np.where(which > 0, strings.ends[which - 1], 0).astype(np.int64)
    lengths, words = ends - starts, words_of(strings.octets)
    sums = (lengths.astype(np.uint64) + np.uint64(1)) * _KEYS[0]
    left, at = np.flatnonzero(lengths > 0), 0
    while len(left):
        masked = (words[starts[left] + at] & masks_for(lengths[left] - at)).astype(np.uint64)
        key = _key(at // 4 + 1)
        sums[left] += masked * key
        at += 4
        left = left[lengths[left] > at]
    hashes: npt.NDArray[np.uint32] = (sums >> np.uint64(32)).astype(np.uint32)
    return hashes


def hash_of(text: bytes) -> int:
    """The hash of one string."""
    total = (len(text) + 1) * int(_KEYS[0])
    for at in range(0, len(text), 4):
        total += int.from_bytes(text[at : at + 4], "little") * int(_key(at // 4 + 1))
    return (total >> 32) & 0xFFFFFFFF


def _key(i: int) -> np.uint64:
    """The random number of a word; more of them as they are asked for."""
    global _KEYS
    if i >= len(_KEYS):
        more = np.random.default_rng(np.frombuffer(_key_bytes, np.uint64))
        _KEYS = np.concatenate([_KEYS[:1024], more.integers(
            0, 2**64, 1 << 15, np.uint64, endpoint=False) | np.uint64(1)])
    key: np.uint64 = _KEYS[i]
    return key


def words_of(octets: UInt8Array) -> npt.NDArray[np.uint32]:
    """The 32-bit words that begin at each byte."""
    return np.ndarray((len(octets) - 3,), "<u4", octets, 0, (1,))


def masks_for(left: Int64Array) -> npt.NDArray[np.uint32]:
    """Masks of the bits of a word that belong to a string with `left` bytes left."""
    masks: npt.NDArray[np.uint32] = _MASKS[np.minimum(left, 4)]
    return masks


_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
