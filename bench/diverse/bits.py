"""Diverse fingerprints by RDKit and by farann: python -m bench.diverse.bits

Fingerprints are made up: families of molecules that share most of their 30 to 70 bits of 2,048.
RDKit measures by Tanimoto, farann by cosines, so that the picks are not the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann

DIM = 2048
Bits = NDArray[np.uint8]


def fingerprints(n: int) -> Bits:
    """Rows (n, 2048) of 0 and 1, some 20 to a family."""
    rng = np.random.default_rng(0)
    popular = 1.0 / np.arange(1, DIM + 1) ** 0.7
    popular /= popular.sum()
    families = np.zeros((n // 20, DIM), np.uint8)
    for family in families:
        family[rng.choice(DIM, rng.integers(30, 70), replace=False, p=popular)] = 1
    rows = families[rng.integers(0, len(families), n)]
    for row in rows:
        row[rng.choice(DIM, 8, p=popular)] ^= 1
    return rows


def best_of(runs: int, function: Callable[[], Any]) -> float:
    """The least CPU seconds of the process in some runs."""
    seconds = []
    with threadpool_limits(1):
        for _ in range(runs):
            began = time.process_time()
            function()
            seconds.append(time.process_time() - began)
    return min(seconds)


def covered(rows: Bits, picks: list[int]) -> float:
    """The mean Tanimoto similarity of all rows to the pick that each is most similar to."""
    wide = rows.astype(np.float32)
    both, ones = wide @ wide[picks].T, wide.sum(axis=1)
    return float((both / (ones[:, None] + ones[picks] - both)).max(axis=1).mean())


def main() -> None:
    """Print the CPU seconds of each, by the number of picks, and how well picks cover the rows."""
    from rdkit.DataStructs import CreateFromBitString
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = fingerprints(parser.parse_args().rows)
    vectors = [CreateFromBitString("".join(map(str, row))) for row in rows]
    index = farann.Index(metric="cosine", dtype="uint8", threads=1)
    index.add(rows)
    picker = MaxMinPicker()
    ways: dict[str, Callable[[int], Any]] = {
        "RDKit LazyBitVectorPick": lambda k: list(
            picker.LazyBitVectorPick(vectors, len(vectors), k, [0])),
        "farann, an index of uint8": lambda k: index.select_diverse(k, start=0).ids}
    for k in 100, 500, 2000:
        for name, way in ways.items():
            print(f"{k} picks: {name}, {best_of(5, partial(way, k)):.3f} s, mean similarity of a "
                  f"row to its nearest pick {covered(rows, way(k)):.3f}")


if __name__ == "__main__":
    main()
