"""Codes put into another form or order in the memory that they have."""

from __future__ import annotations

import numpy as np
import pytest
from codes_in_numpy import by_position
from farann import _codes, _core
from farann._rearrange import pack, permute, unpack
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

SIZES = [0, 16, 48, _codes._ROWS_AT_ONCE, _codes._ROWS_AT_ONCE + 16, 3 * _codes._ROWS_AT_ONCE - 32]


def codes_of(rng: np.random.Generator, n: int, width: int = 12) -> NDArray[np.int8]:
    return rng.integers(-127, 128, (n, width)).astype(np.int8)


@pytest.mark.parametrize("n", SIZES)
def test_pack_and_unpack(n: int, rng: np.random.Generator) -> None:
    codes = codes_of(rng, n)
    expected = np.empty_like(codes)
    _core.pack_codes(codes, np.arange(n), expected)
    packed = codes.copy()
    pack(packed)
    assert_array_equal(packed, expected)
    assert_array_equal(by_position(packed), codes)
    unpack(packed)
    assert_array_equal(packed, codes)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["as it is", "backwards", "random", "few to the front", "a cycle"])
def test_permute(n: int, kind: str, rng: np.random.Generator) -> None:
    codes = codes_of(rng, n)
    few = rng.permutation(n)[: n // 3]
    order = {
        "as it is": np.arange(n), "backwards": np.arange(n)[::-1], "random": rng.permutation(n),
        "few to the front": np.concatenate([few, np.setdiff1d(np.arange(n), few)]),
        "a cycle": np.roll(np.arange(n), 1),
    }[kind].astype(np.int64)
    moved = codes.copy()
    permute(moved, order)
    assert_array_equal(moved, codes[order])
