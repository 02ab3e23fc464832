"""Ways of farthest-point sampling: each takes rows, how many and the first, gives positions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

import farann

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Method = Callable[[Floats, int, int], Positions]


def _farann(rows: Floats, k: int, start: int) -> Positions:
    return farann.select_diverse(rows, k, start=start, threads=1).ids


def _numpy(rows: Floats, k: int, start: int) -> Positions:
    """One matrix-vector product a pick."""
    squares = np.einsum("ij,ij->i", rows, rows)
    least = np.full(len(rows), np.inf, np.float32)
    picks = np.empty(k, np.int64)
    for i in range(k):
        picks[i] = start
        distances = squares - 2.0 * (rows @ rows[start]) + squares[start]
        np.minimum(least, distances, out=least)
        start = int(least.argmax())
    return picks


def _fpsample(rows: Floats, k: int, start: int) -> Positions:
    """A pass over all rows a pick, compiled."""
    import fpsample

    return np.asarray(fpsample.fps_sampling(rows, k, start_idx=start), np.int64)


def _fpsample_buckets(rows: Floats, k: int, start: int) -> Positions:
    """A k-d tree with buckets, for few dimensions."""
    import fpsample

    return np.asarray(fpsample.bucket_fps_kdline_sampling(rows, k, h=7, start_idx=start), np.int64)


def _skmatter(rows: Floats, k: int, start: int) -> Positions:
    from skmatter.sample_selection import FPS

    return np.asarray(FPS(n_to_select=k, initialize=start).fit(rows).selected_idx_, np.int64)


def _rdkit(rows: Floats, k: int, start: int) -> Positions:
    """MaxMin on distances that Python computes one by one."""
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    def distance(i: int, j: int) -> float:
        return float(np.linalg.norm(rows[i] - rows[j]))

    picked = MaxMinPicker().LazyPick(distance, len(rows), k, firstPicks=[start])
    return np.array(list(picked), np.int64)


def _pyversity(rows: Floats, k: int, start: int) -> Positions:
    """MMR of rows without relevance: farthest-point sampling by cosines."""
    import pyversity

    relevance = np.zeros(len(rows), np.float32)
    relevance[start] = 1.0
    found = pyversity.diversify(rows, relevance, k, strategy="mmr", diversity=1.0)
    return np.asarray(found.indices, np.int64)


def _anomalib(rows: Floats, k: int, start: int) -> Positions:
    """The selection of PatchCore in torch; it begins with a random row.

    Its random projection isn't asked for, by rows of three dimensions. The packages above the class
    import every model of anomalib and what these need, so that they are taken as folders alone.
    """
    import torch

    spec = find_spec("anomalib")
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name in ("anomalib", "anomalib.models", "anomalib.models.components"):
        if name not in sys.modules:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = spec  # it is looked for again
            sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
    projection = ModuleType("anomalib.models.components.dimensionality_reduction")
    projection.SparseRandomProjection = lambda eps: None  # type: ignore[attr-defined]
    sys.modules[projection.__name__] = projection
    sampling = import_module("anomalib.models.components.sampling.k_center_greedy")
    sampling.tqdm = lambda steps, desc: steps  # type: ignore[attr-defined]
    torch.manual_seed(start)
    torch.set_num_threads(1)
    sampler = sampling.KCenterGreedy(torch.from_numpy(rows[:, np.newaxis]), (k + 0.5) / len(rows))
    return np.asarray(sampler.select_coreset_idxs(), np.int64)


def _apricot(rows: Floats, k: int, start: int) -> Positions:
    """Facility location by similarities of all pairs, lazily: it covers by the mean, not the
    furthest row."""
    from apricot import FacilityLocationSelection

    chosen = FacilityLocationSelection(k, metric="euclidean", optimizer="lazy",
                                       initial_subset=[start])
    return np.append(start, chosen.fit(rows).ranking)[:k]


def _submodlib(rows: Floats, k: int, start: int) -> Positions:
    """The least distance of two that were chosen, by similarities of all pairs."""
    from submodlib.functions.disparityMin import DisparityMinFunction

    function = DisparityMinFunction(n=len(rows), mode="dense", data=rows, metric="euclidean")
    found = function.maximize(k, optimizer="NaiveGreedy", show_progress=False)
    return np.array([row for row, _ in found], np.int64)


METHODS: dict[str, tuple[str, Method]] = {"farann": ("farann", _farann),
                                          "numpy GEMV": ("numpy", _numpy),
                                          "fpsample": ("fpsample", _fpsample),
                                          "fpsample buckets": ("fpsample", _fpsample_buckets),
                                          "skmatter FPS": ("skmatter", _skmatter),
                                          "RDKit MaxMin": ("rdkit", _rdkit),
                                          "pyversity MMR": ("pyversity", _pyversity),
                                          "anomalib KCenterGreedy": ("anomalib", _anomalib),
                                          "apricot facility location": ("apricot", _apricot),
                                          "submodlib DisparityMin": ("submodlib", _submodlib)}
# What begins with another row, or chooses by something else than the distance to the nearest pick.
OTHER_PICKS = {"fpsample buckets", "anomalib KCenterGreedy", "apricot facility location",
               "submodlib DisparityMin"}
MOST_DIM = {"fpsample buckets": 8}  # what its k-d tree takes
# What asks for all pairs gets the first rows alone.
MOST_ROWS = {"apricot facility location": 5000, "submodlib DisparityMin": 5000}


def available(dim: int) -> dict[str, Method]:
    """The ways whose library is installed, for rows of a dimension."""
    return {name: method for name, (module, method) in METHODS.items()
            if find_spec(module) is not None and dim <= MOST_DIM.get(name, dim)}


def radius(rows: Floats, picks: Positions) -> float:
    """The largest distance of a pick to the picks before it that the last one has, in float64."""
    wide = rows[picks].astype(np.float64)
    return float(np.linalg.norm(wide[:-1] - wide[-1], axis=1).min())
