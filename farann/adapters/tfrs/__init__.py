"""Furthest retrieval for TensorFlow Recommenders: layers and the metric that fits them.

The layers keep the contract of ``tensorflow_recommenders.layers.factorized_top_k.TopK`` and return
scores in descending order, larger meaning further: negated dot products under ``metric="dot"``,
negated cosines under ``"cosine"``, distances under ``"l2"``. So they go where TFRS's own layers
go, but retrieve what a model likes least. `BruteForceFusion` ranks by any number of models,
`BruteForcePosNeg` by one of likes and one of dislikes.
"""

import importlib.util

_INSTALL = "pip install tensorflow tf-keras tensorflow-recommenders"

for _name in ("tensorflow", "tf_keras", "tensorflow_recommenders"):
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"farann.adapters.tfrs needs {_name}, which is not installed: {_INSTALL}", name=_name)

import tensorflow as tf  # noqa: E402

if tf.keras.Model.__module__.startswith("keras."):
    raise ImportError(
        "TensorFlow Recommenders needs Keras 2, but tensorflow.keras is Keras 3. Set the "
        "environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is imported, in the shell "
        "or with os.environ")

from farann.adapters.tfrs.brute_force import (  # noqa: E402
    BruteForceFurthest,
    StreamingFurthest,
)
from farann.adapters.tfrs.furthest import Furthest  # noqa: E402
from farann.adapters.tfrs.fusion import BruteForceFusion, BruteForcePosNeg  # noqa: E402
from farann.adapters.tfrs.metric import FactorizedBottomK  # noqa: E402

__all__ = [
    "BruteForceFurthest",
    "BruteForceFusion",
    "BruteForcePosNeg",
    "FactorizedBottomK",
    "Furthest",
    "StreamingFurthest",
]
