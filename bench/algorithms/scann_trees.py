"""ScaNN: brute force, and trees with asymmetric hashing and reordering."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Profile, Rows, Setting


class _Scann(Algorithm):
    library = "ScaNN"
    package = "scann"
    modules = ("scann",)

    @abstractmethod
    def score(self, builder: Any, rows: int) -> Any:
        """Choose partitions and scoring on ScaNN's builder."""

    def build(self, rows: Rows) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        made = self.reduce(rows, 2)
        builder = scann_ops_pybind.builder(made.rows, self.k,
                                           "squared_l2" if made.by_l2 else "dot_product")
        builder.set_n_training_threads(self.threads)
        self._searcher: Any = self.score(builder, len(rows)).build()
        self._options: dict[str, int] = {}
        del made.rows  # ScaNN keeps its own copy

    def kernels(self) -> list[str]:
        return []  # it chooses by itself, without telling; it has no BLAS

    def set_threads(self, threads: int) -> None:
        super().set_threads(threads)
        if threads > 1:
            self._searcher.set_num_threads(threads)

    def find(self, asked: Rows) -> NDArray[np.integer]:
        if self.threads == 1:
            ids, _ = self._searcher.search_batched(asked, self.k, **self._options)
        else:
            share = -(-len(asked) // self.threads)
            ids, _ = self._searcher.search_batched_parallel(asked, self.k, **self._options,
                                                            batch_size=min(share, 256))
        return np.asarray(ids).astype(np.int64)

    def find_one(self, asked: Rows) -> NDArray[np.integer]:
        ids, _ = self._searcher.search(asked, self.k, **self._options)
        return np.asarray(ids).astype(np.int64)


class ScannBrute(_Scann):
    name = "scann-brute"
    title = "ScaNN brute force"
    exact = True

    def score(self, builder: Any, rows: int) -> Any:
        return builder.score_brute_force()


class ScannTree(_Scann):
    name = "scann-tree"
    title = "ScaNN tree + AH + reorder"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        root = max(1, int(2 * math.sqrt(profile.rows)))  # as its documentation advises
        # In a full run also fewer and more, but no leaves of fewer than 16 rows.
        counts = {root, *profile.pick([], [n for n in (1000, 2000) if 16 * n <= profile.rows])}
        return [Setting({"leaves": leaves, "soar": soar}, cls._searches(profile, leaves))
                for leaves in sorted(counts)
                for soar in ((False,) if profile.nearest and profile.metric == "l2"  # it refuses
                             else (False, True))]

    @classmethod
    def _searches(cls, profile: Profile, leaves: int) -> list[dict[str, Any]]:
        probed = profile.pick([10, 40, 150], [5, 10, 20, 40, 80, 120, 200, 400])
        counts = sorted({min(count, leaves) for count in probed})
        searches = [{"leaves": count, "reorder": 200} for count in counts]
        if profile.full:  # few candidates cost less, the highest recall needs more of them
            searches += [{"leaves": count, "reorder": 60} for count in counts[1:-1]]
            searches += [{"leaves": count, "reorder": 500} for count in counts[-2:]]
        return searches

    def score(self, builder: Any, rows: int) -> Any:
        return (
            builder.tree(num_leaves=self.parameters["leaves"],
                         num_leaves_to_search=min(100, self.parameters["leaves"]),
                         training_sample_size=rows,
                         soar_lambda=1.5 if self.parameters["soar"] else None,
                         overretrieve_factor=2.0 if self.parameters["soar"] else None)
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(200)
        )

    def configure(self, search: Mapping[str, Any]) -> None:
        self._options = {"leaves_to_search": search["leaves"],
                         "pre_reorder_num_neighbors": search["reorder"]}
