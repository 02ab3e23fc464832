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


class MlpackKfn(Algorithm):
    name = "mlpack-kfn"
    title = "mlpack kfn"
    library = "mlpack"
    package = "mlpack"
    modules = ("mlpack",)
    exact = True
    nearest_metrics = ()
    stale_blas = True
    # Furthest among unit rows is lowest cosine; a dot product is no distance.
    metrics = ("l2", "cosine")

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        ways = [("dual_tree", "kd")]
        if profile.dim <= _WIDEST_BALL:
            ways.append(("single_tree", "ball"))
        ways += profile.pick([], [("naive", "kd")])
        return [Setting({"search": search, "tree": tree}) for search, tree in ways]

    def build(self, rows: Rows) -> None:
        import mlpack

        output = mlpack.kfn(reference=self._prepared(rows), tree_type=self.parameters["tree"],
                            algorithm=self.parameters["search"], copy_all_inputs=True)
        self._model: Any = output["output_model"]

    def find(self, asked: Rows) -> NDArray[np.integer]:
        import mlpack

        output = mlpack.kfn(input_model=self._model, query=self._prepared(asked), k=self.k,
                            algorithm=self.parameters["search"],
                            copy_all_inputs=self.parameters["search"] == "dual_tree")
        return np.asarray(output["neighbors"]).astype(np.int64)

    def _prepared(self, vectors: Rows) -> NDArray[np.float64]:
        wide = vectors.astype(np.float64)
        if self.metric == "cosine":
            wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        return wide
