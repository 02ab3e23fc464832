"""The models: matrix factorization in numpy, and the two towers of the TFRS example.

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
from scipy.sparse import csr_matrix

from ..fetch import Unavailable
from ..run import ROOT
from .feedback import Ints, Ratings

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Embeddings = tuple[Floats, Floats]
DIM = 32


def factorize(users: Ints, items: Ints, targets: Wide, shape: tuple[int, int], seed: int, *,
              dim: int = DIM, confidence: float = 20.0, penalty: float = 100.0,
              rounds: int = 12) -> Embeddings:
    """Factors of a matrix that is `targets` where there is feedback and weakly 0 elsewhere.

    Alternating least squares of Hu, Koren and Volinsky, "Collaborative filtering for implicit
    feedback datasets" (ICDM 2008).
    """
    random = np.random.default_rng(seed)
    left, right = (random.normal(0, 0.1, (count, dim)) for count in shape)
    for _ in range(rounds):
        _solve(left, right, users, items, targets, confidence, penalty)
        _solve(right, left, items, users, targets, confidence, penalty)
    return left.astype(np.float32), right.astype(np.float32)


def _solve(solved: Wide, given: Wide, rows: Ints, columns: Ints, targets: Wide,
           confidence: float, penalty: float) -> None:
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(solved) + 1))
    everywhere = given.T @ given + penalty * np.eye(given.shape[1])
    for i in range(len(solved)):
        mine = order[starts[i] : starts[i + 1]]
        seen = given[columns[mine]]
        solved[i] = np.linalg.solve(everywhere + confidence * seen.T @ seen,
                                    (1.0 + confidence) * seen.T @ targets[mine])


def _mf(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    return factorize(ratings.users[which], ratings.items[which], np.ones(which.sum()),
                     ratings.shape, seed)


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
    return factorize(ratings.users[which], ratings.items[which],
                     ratings.labels[which].astype(np.float64), ratings.shape, seed)


def logistic(ratings: Ratings, which: NDArray[np.bool_], seed: int, *, dim: int = 16,
             penalty: float = 1.0, steps: int = 400, rate: float = 0.05) -> Embeddings:
    """A signed logistic factorization: log-odds of a like of both kinds of feedback, with biases.

    Maximum likelihood with a normal prior, by Adam on all feedback at once (Kingma and Ba, ICLR
    2015). The last coordinate of an item is its bias; a user's bias orders no list.
    """
    random = np.random.default_rng(seed)
    users, items, liked = ratings.users[which], ratings.items[which], ratings.labels[which] > 0
    rows = np.arange(len(users))
    of_users, of_items = (csr_matrix((np.ones(len(rows)), (who, rows)), (count, len(rows)))
                          for who, count in zip((users, items), ratings.shape, strict=True))
    parts = [random.normal(0, 0.1, (count, dim)) for count in ratings.shape]
    parts += [np.zeros(count) for count in ratings.shape]
    base = np.log(liked.mean() / (1 - liked.mean()))
    moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]
    for step in range(1, steps + 1):
        left, right, user, item = parts
        score = np.einsum("id,id->i", left[users], right[items]) + user[users] + item[items] + base
        slack = 1 / (1 + np.exp(-score)) - liked
        slopes = [of_users @ (slack[:, np.newaxis] * right[items]),
                  of_items @ (slack[:, np.newaxis] * left[users]),
                  of_users @ slack, of_items @ slack]
        for part, slope, (mean, square) in zip(parts, slopes, moments, strict=True):
            pull = slope + penalty * part
            mean[:] += 0.1 * (pull - mean)
            square[:] += 0.001 * (pull**2 - square)
            step_size = rate / (1 - 0.9**step)
            part[:] -= step_size * mean / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    ones = np.ones((ratings.shape[0], 1))
    return (np.hstack([parts[0], ones]).astype(np.float32),
            np.hstack([parts[1], parts[3][:, np.newaxis]]).astype(np.float32))


def biases(ratings: Ratings, which: NDArray[np.bool_]) -> Wide:
    """Each item's log-odds of a like, shrunk by 4 ratings of the average kind."""
    liked = ratings.labels[which] > 0
    n_items = ratings.shape[1]
    likes = np.bincount(ratings.items[which], weights=liked, minlength=n_items)
    every = np.bincount(ratings.items[which], minlength=n_items)
    mean = liked.mean()
    odds: Wide = np.log((likes + 4 * mean) / (every - likes + 4 * (1 - mean)))
    return odds
