"""Photographs as vectors: gradient histograms around points (as SIFT's), and patches of pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..fetch import Unavailable, unpack_debian

Floats = NDArray[np.float32]
_PACKAGE = "mate-backgrounds"
_PHOTOS = Path("usr/share/backgrounds/mate/nature")
_BINS, _CELLS, _CELL = 8, 4, 4  # directions; cells along a side; pixels along a cell's side
_LARGEST = 0.2  # of a descriptor of unit norm, before its norm is made 1 again
_UNIT = 512.0  # of the integers that descriptors are kept as
_SIDE = 4  # of a patch
_LEAST_CONTRAST = 4.0  # deviation of a patch's pixels, of 255: flat ones have no direction


def descriptors(folder: Path, count: int) -> Floats:
    """That many descriptors of 128 dimensions, around points where there is something to see."""
    return _gathered(photographs(folder), count, describe)


def patches(folder: Path, count: int) -> Floats:
    """That many patches of 4 x 4 pixels less their mean, 16 dimensions, none of them flat."""
    return _gathered(photographs(folder), count, cut)


def photographs(folder: Path) -> list[Floats]:
    """Gray photographs, in order of their names."""
    try:
        from PIL import Image
    except ImportError:
        raise Unavailable("photographs: Pillow is not installed") from None
    paths = sorted((unpack_debian(_PACKAGE, folder, "photographs") / _PHOTOS).glob("*.jpg"))
    if not paths:
        raise Unavailable(f"photographs: {_PACKAGE} has none at {_PHOTOS}")
    return [np.asarray(Image.open(path).convert("L"), dtype=np.float32) for path in paths]


def _gathered(photographs: list[Floats], count: int,
              take: Callable[[Floats, int, np.random.Generator], Floats]) -> Floats:
    """As many of each photograph, together in random order."""
    random = np.random.default_rng(7)
    each = -(-count // len(photographs))
    parts = [take(photograph, each, random) for photograph in photographs]
    return np.ascontiguousarray(random.permutation(np.vstack(parts))[:count])


def describe(gray: Floats, count: int, random: np.random.Generator) -> Floats:
    """Descriptors around random points, those of more gradient than the median point.

    A descriptor has 4 x 4 cells of 4 x 4 pixels, and in each a histogram of gradients over 8
    directions; it is cut off at 0.2 of its norm, as Lowe's are, and kept as integers.
    """
    down, right = np.gradient(gray)
    length = np.hypot(down, right)
    turn = np.arctan2(down, right) / (2 * np.pi) * _BINS % _BINS
    low = np.floor(turn).astype(np.int64)
    share = turn - low
    planes = []
    for direction in range(_BINS):  # a gradient counts for the two directions beside its own
        weight = np.where(low % _BINS == direction, 1 - share, 0)
        weight += np.where((low + 1) % _BINS == direction, share, 0)
        planes.append(_box_sums(length * weight, _CELL))
    whole = _CELLS * _CELL
    energy = _box_sums(length, whole)
    tops, lefts = _chosen(energy > np.median(energy), count, random)
    cells = [
        planes[direction][tops + _CELL * row, lefts + _CELL * column]
        for row in range(_CELLS)
        for column in range(_CELLS)
        for direction in range(_BINS)
    ]
    found = np.stack(cells, axis=1)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found = np.minimum(found, _LARGEST)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.rint(_UNIT * found).astype(np.float32)


def cut(gray: Floats, count: int, random: np.random.Generator) -> Floats:
    """Patches at random places, less their mean, where the contrast is enough."""
    area = _SIDE * _SIDE
    mean = _box_sums(gray, _SIDE) / area
    variance = _box_sums(gray * gray, _SIDE) / area - mean * mean
    tops, lefts = _chosen(variance > _LEAST_CONTRAST**2, count, random)
    pixels = [gray[tops + row, lefts + column] for row in range(_SIDE) for column in range(_SIDE)]
    found = np.stack(pixels, axis=1)
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def _chosen(allowed: NDArray[np.bool_], count: int,
            random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of random places among those allowed, none of them twice."""
    places = np.flatnonzero(allowed)
    if len(places) < count:
        raise ValueError(f"places must be at least {count}, got {len(places)}")
    chosen = random.choice(places, size=count, replace=False)
    tops, lefts = np.unravel_index(chosen, allowed.shape)
    return np.asarray(tops, dtype=np.int64), np.asarray(lefts, dtype=np.int64)


def _box_sums(values: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Sums over all squares of that side; [i, j] is the one whose first corner is there."""
    sums = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side]
            + sums[:-side, :-side])
    return np.asarray(np.maximum(sums, 0))  # rounding may leave less than nothing
