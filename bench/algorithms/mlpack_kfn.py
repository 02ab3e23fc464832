"""mlpack: the one Python package with a furthest search of its own (l2 only).

``copy_all_inputs`` is needed when building, else mlpack permutes the caller's array. In a search
it also copies the model, at every call; only dual-tree search answers wrongly without it, so the
others are spared that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Profile, Rows, Setting

# Ball trees (4.8.0) crash on rows with constant columns, and over the 784 columns of Fashion-MNIST,
# some of them nearly constant, five minutes don't suffice.
_WIDEST_BALL = 256


class _Mlpack(Algorithm):
    library = "mlpack"
    package = "mlpack"
    modules = ("mlpack",)
    stale_blas = True
    # Furthest among unit rows is lowest cosine; a dot product is no distance.
    metrics = ("l2", "cosine")

    def _prepared(self, vectors: Rows) -> NDArray[np.float64]:
        wide = vectors.astype(np.float64)
        if self.metric == "cosine":
            wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        return wide


class MlpackKfn(_Mlpack):
    name = "mlpack-kfn"
    title = "mlpack kfn"
    exact = True

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        ways = [("dual_tree", "kd")]
        if profile.dim <= _WIDEST_BALL:
            ways.append(("single_tree", "ball"))
        ways += profile.pick([], [("naive", "kd")])
        return [Setting({"search": search, "tree": tree}) for search, tree in ways]

    def build(self, rows: Rows) -> None:
        import mlpack

        output = mlpack.kfn(
            reference=self._prepared(rows),
            tree_type=self.parameters["tree"],
            algorithm=self.parameters["search"],
            copy_all_inputs=True,
        )
        self._model: Any = output["output_model"]

    def search(self, queries: Rows) -> NDArray[np.integer]:
        import mlpack

        output = mlpack.kfn(
            input_model=self._model,
            query=self._prepared(queries),
            k=self.k,
            algorithm=self.parameters["search"],
            copy_all_inputs=self.parameters["search"] == "dual_tree",
        )
        return np.asarray(output["neighbors"]).astype(np.int64)


class MlpackApproxKfn(_Mlpack):
    """DrusillaSelect and QDAFN. Duplicate ids, which approx_kfn may return, count once."""

    name = "mlpack-approx-kfn"
    title = "mlpack approx_kfn"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        quick = [("ds", 10, 10), ("ds", 30, 30), ("qdafn", 30, 100)]
        full = [*quick, ("ds", 5, 5), ("ds", 100, 100), ("qdafn", 10, 30), ("qdafn", 100, 300)]
        return [
            Setting({"algorithm": algorithm, "tables": tables, "projections": projections})
            for algorithm, tables, projections in profile.pick(quick, full)
            if tables * projections >= profile.k and tables * projections < profile.rows
        ]

    def build(self, rows: Rows) -> None:
        import mlpack

        output = mlpack.approx_kfn(
            reference=self._prepared(rows),
            algorithm=self.parameters["algorithm"],
            num_tables=self.parameters["tables"],
            num_projections=self.parameters["projections"],
            copy_all_inputs=True,
        )
        self._model: Any = output["output_model"]

    def search(self, queries: Rows) -> NDArray[np.integer]:
        import mlpack

        output = mlpack.approx_kfn(input_model=self._model, query=self._prepared(queries), k=self.k)
        return np.asarray(output["neighbors"]).astype(np.int64)
