"""The models: matrix factorization and two towers, small, in numpy.

Each gives float32 embeddings of users and items whose dot product is the score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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


def two_towers(users: Ints, items: Ints, genres: Wide, n_users: int, seed: int, *,
               dim: int = DIM, rounds: int = 20, batch: int = 1024, rate: float = 0.02,
               decay: float = 1e-4) -> Embeddings:
    """A user tower and an item tower (item and genres), trained by softmax over the batch.

    The logits are corrected by how often an item is in a batch, as in Yi et al., "Sampling-bias-
    corrected neural modeling for large corpus item recommendations" (RecSys 2019).
    """
    random = np.random.default_rng(seed)
    n_items, n_genres = genres.shape
    tables = [random.normal(0, 0.1, (count, dim)) for count in (n_users, n_items, n_genres)]
    state = [Adam(table.shape, rate) for table in tables]
    share = np.maximum(np.bincount(items, minlength=n_items), 1) / len(items)
    per_item = genres / np.maximum(genres.sum(axis=1, keepdims=True), 1.0)
    for _ in range(rounds):
        order = random.permutation(len(users))
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            user, item = users[some], items[some]
            left = tables[0][user]
            right = tables[1][item] + per_item[item] @ tables[2]
            logits = left @ right.T - np.log(share[item])
            twins = item[:, np.newaxis] == item
            np.fill_diagonal(twins, False)
            logits[twins] = -np.inf  # the same item is no negative
            chance = np.exp(logits - logits.max(axis=1, keepdims=True))
            chance /= chance.sum(axis=1, keepdims=True)
            chance[np.diag_indices(len(some))] -= 1.0
            to_left, to_right = chance @ right / len(some), chance.T @ left / len(some)
            gradients = [decay * table for table in tables]
            np.add.at(gradients[0], user, to_left)
            np.add.at(gradients[1], item, to_right)
            gradients[2] += per_item[item].T @ to_right
            for table, gradient, adam in zip(tables, gradients, state, strict=True):
                adam.step(table, gradient)
    item_rows = tables[1] + per_item @ tables[2]
    return tables[0].astype(np.float32), item_rows.astype(np.float32)


class Adam:
    """The optimizer of Kingma and Ba, "Adam" (ICLR 2015)."""

    def __init__(self, shape: tuple[int, ...], rate: float) -> None:
        self._rate, self._steps = rate, 0
        self._mean, self._square = np.zeros(shape), np.zeros(shape)

    def step(self, table: Wide, gradient: Wide) -> None:
        """Change the table in place."""
        self._steps += 1
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.01 * (gradient**2 - self._square)
        mean = self._mean / (1.0 - 0.9**self._steps)
        square = self._square / (1.0 - 0.99**self._steps)
        table -= self._rate * mean / (np.sqrt(square) + 1e-8)


def _mf(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    return factorize(ratings.users[which], ratings.items[which], np.ones(which.sum()),
                     ratings.shape, seed)


def _towers(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    return two_towers(ratings.users[which], ratings.items[which], ratings.genres,
                      ratings.shape[0], seed)


Trainer = Callable[[Ratings, NDArray[np.bool_], int], Embeddings]
MODELS: dict[str, Trainer] = {"MF": _mf, "two towers": _towers}


def signed(ratings: Ratings, which: NDArray[np.bool_], seed: int) -> Embeddings:
    """One factorization of both kinds of feedback: 1 for likes, -1 for dislikes."""
    return factorize(ratings.users[which], ratings.items[which],
                     ratings.labels[which].astype(np.float64), ratings.shape, seed)


def biases(ratings: Ratings, which: NDArray[np.bool_]) -> Wide:
    """Each item's log-odds of a like, shrunk by 4 ratings of the average kind."""
    liked = ratings.labels[which] > 0
    n_items = ratings.shape[1]
    likes = np.bincount(ratings.items[which], weights=liked, minlength=n_items)
    every = np.bincount(ratings.items[which], minlength=n_items)
    mean = liked.mean()
    odds: Wide = np.log((likes + 4 * mean) / (every - likes + 4 * (1 - mean)))
    return odds
