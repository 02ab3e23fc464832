"""The models: the factorizations of the library, and the two towers of the TFRS example.

Each gives float32 embeddings of users and items whose dot product is the score.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import factorization
from farann.adapters.posneg.factorization import least_squares

from ..fetch import Unavailable
from ..run import ROOT
from .feedback import Ints, Ratings

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Embeddings = tuple[Floats, Floats]
DIM = 32


def _mf(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    return least_squares(ratings.users[which], ratings.items[which], np.ones(which.sum()),
                         ratings.shape, seed, dim=DIM)


def towers() -> Any:
    """The module `examples/towers.py`, which has the two towers of the TFRS example.

    Raises
    ------
    Unavailable
        Without TensorFlow and TensorFlow Recommenders.
    """
    # TensorFlow reads these when it is imported: TFRS needs Keras 2, and nobody its greeting.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return import_module("towers")
    except ImportError as error:
        raise Unavailable(f"two towers need TensorFlow Recommenders: {error}") from None
    finally:
        sys.path.remove(str(ROOT / "examples"))


def missing(model: str) -> str:
    """Why a model can't be trained here, or nothing."""
    try:
        if model == "two towers":
            towers()
    except Unavailable as error:
        return str(error)
    return ""


def _towers(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    """Those of the TFRS example as it trains them: options by default, ids alone.

    All users and items are in the vocabularies, as there. Whoever has no feedback in training
    keeps the embedding that chance gave it, which is small.
    """
    example = towers()
    keras = example.tf.keras
    keras.backend.clear_session()  # else the graphs of all splits pile up
    keras.utils.set_random_seed(seed)
    names = [np.arange(count).astype(str) for count in ratings.shape]
    data = example.Ratings(names[0][ratings.users], names[1][ratings.items],
                           ratings.labels.astype(np.float32), {})
    model = example.train(data, which, example.arguments("", logq=True).parse_args([]))
    users, items = (tower(example.tf.constant(ids)).numpy() for tower, ids in
                    zip((model.user_model, model.item_model), names, strict=True))
    return users, items


Trainer = Callable[[Ratings, NDArray[np.bool_], int], Embeddings]
MODELS: dict[str, Trainer] = {"MF": _mf, "two towers": _towers}


def signed(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    """One factorization of both kinds of feedback: 1 for likes, -1 for dislikes."""
    return least_squares(ratings.users[which], ratings.items[which],
                         ratings.labels[which].astype(np.float64), ratings.shape, seed, dim=DIM)


def logistic(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    """A signed logistic factorization of both kinds of feedback."""
    return factorization.logistic(ratings.users[which], ratings.items[which],
                                  ratings.labels[which] > 0, ratings.shape, seed)


def item_regression(users: Ints, items: Ints, liked: NDArray[np.bool_], shape: tuple[int, int], *,
                    penalty: float = 100.0, dim: int = 64) -> Embeddings:
    """Each item's labels (1 and -1) by those of all other items, in the best `dim` dimensions.

    Ridge regression without an item's own label: Steck, "Embarrassingly shallow autoencoders for
    sparse data" (WWW 2019), by the smaller of both Gram matrices.
    """
    rated = np.zeros(shape)
    rated[users, items] = np.where(liked, 1.0, -1.0)
    if shape[0] < shape[1]:
        pulled = np.linalg.solve(rated @ rated.T + penalty * np.eye(shape[0]), rated)
        diagonal = (1.0 - (rated * pulled).sum(axis=0)) / penalty
    else:
        inverse = np.linalg.inv(rated.T @ rated + penalty * np.eye(shape[1]))
        pulled, diagonal = rated @ inverse, np.diag(inverse)
    scores = rated - pulled / diagonal
    wide = shape[0] < shape[1]
    vectors = np.linalg.eigh(scores @ scores.T if wide else scores.T @ scores)[1][:, -dim:]
    left, right = (vectors, scores.T @ vectors) if wide else (scores @ vectors, vectors)
    return left.astype(np.float32), right.astype(np.float32)


def biases(ratings: Ratings, which: NDArray[np.bool_]) -> Wide:
    """Each item's log-odds of a like, shrunk by 4 ratings of the average kind."""
    liked = ratings.labels[which] > 0
    n_items = ratings.shape[1]
    likes = np.bincount(ratings.items[which], weights=liked, minlength=n_items)
    every = np.bincount(ratings.items[which], minlength=n_items)
    mean = liked.mean()
    odds: Wide = np.log((likes + 4 * mean) / (every - likes + 4 * (1 - mean)))
    return odds
