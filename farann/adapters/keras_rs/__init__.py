"""Furthest retrieval for Keras-RS, on Keras 3 with TensorFlow, JAX or PyTorch.

The layers are `keras_rs.layers.Retrieval` layers that return scores in descending order, larger
meaning further: negated dot products. `BruteForceFusionRetrieval` ranks by any number of models of
likes and dislikes at once.
"""

import importlib.util

for _name in ("keras", "keras_rs"):
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"farann.adapters.keras_rs needs {_name}, which is not installed: "
            "pip install keras-rs, and one of tensorflow, jax and torch", name=_name)

from farann.adapters.keras_rs.fusion import BruteForceFusionRetrieval  # noqa: E402
from farann.adapters.keras_rs.retrieval import (  # noqa: E402
    BruteForceFurthestRetrieval,
    FurthestRetrieval,
)

__all__ = ["BruteForceFurthestRetrieval", "BruteForceFusionRetrieval", "FurthestRetrieval"]
