"""The trainer by default: small models of a log, in numpy and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Int64Array, Rng
from farann.adapters.posneg.ids import checked
from farann.adapters.posneg.models import SignedModel
from farann.contract import checks

Embeddings = tuple[Float32Array, Float32Array]
# Penalties and rounds. The smaller penalty lists more likes where people keep to groups of items
# (lecturers), the larger one elsewhere; of dislikes the larger one orders as well or better on the
# sets of design. "fine" goes on where "positive" ends; "negative" gains nothing after 5 rounds.
_LEAST_SQUARES: tuple[tuple[str, int, float, int], ...] = (
    ("positive", 1, 100.0, 10), ("fine", 1, 30.0, 5), ("negative", -1, 100.0, 5))
_ROWS_AT_ONCE = 1 << 13  # users or items that least squares solve at a time: 20 MiB


class Factorization:
    """Train small models of a log of likes and dislikes; the default of `FusionRanker`.

    They are factorizations by least squares (Hu, Koren and Volinsky, ICDM 2008) of likes, with a
    large and a small penalty, and of dislikes, a logistic factorization of both, and a graph
    convolution that puts a user's likes above their dislikes (LightGCN: He et al., SIGIR 2020).

    Parameters
    ----------
    dim : int
        Of the embeddings. The logistic factorization has one more, for the items' biases.
    seed, rng
        For where factors start and which negatives are drawn, as in `Index`.

    Examples
    --------
    >>> from farann.adapters.posneg import Factorization
    >>> train = Factorization(dim=2)
    >>> for model in train(["a", "a", "b", "b", "c"], [7, 8, 7, 9, 9], [1, 0, 1, 0, 1]):
    ...     print(model)
    <SignedModel 'positive': 2 items, 3 users, 2 dimensions, 'dot'>
    <SignedModel 'fine': 2 items, 3 users, 2 dimensions, 'dot'>
    <SignedModel 'negative': 2 items, 3 users, 2 dimensions, 'dot'>
    <SignedModel 'logistic': 3 items, 3 users, 3 dimensions, 'dot'>
    <SignedModel 'graph': 3 items, 3 users, 2 dimensions, 'dot'>
    """

    def __init__(self, dim: int = 16, *, seed: int = 0, rng: Rng = None) -> None:
        self.dim, self.seed = checks.to_int("dim", dim, 1), checks.to_seed(seed, rng)

    def __call__(self, users: npt.ArrayLike, items: npt.ArrayLike, liked: npt.ArrayLike
                 ) -> list[SignedModel]:
        """Train the models on some feedback.

        Parameters
        ----------
        users, items, liked : array_like of int or str, and of bool (n,)

        Returns
        -------
        list of SignedModel
            Those of likes and of dislikes have only items with such labels.
        """
        people, who = np.unique(checked("users", users), return_inverse=True)
        every, what = np.unique(checked("items", items), return_inverse=True)
        good = np.asarray(liked, np.bool_)
        if not len(who) == len(what) == len(good):
            raise ValueError(f"liked: expected as many as users and items, got {len(good)} for "
                             f"{len(who)} and {len(what)}")
        if good.all() or not good.any():
            raise ValueError("liked: expected likes and dislikes to learn from, got one kind only")
        shape, dim, seed = (len(people), len(every)), self.dim, self.seed
        models: list[tuple[str, int | str, npt.NDArray[Any], Embeddings]] = []
        for name, sign, penalty, rounds in _LEAST_SQUARES:
            rows = good == (sign == 1)
            known, column = np.unique(what[rows], return_inverse=True)
            before = models[-1][3] if models and models[-1][1] == sign else None
            models.append((name, sign, every[known], least_squares(
                who[rows], column, (len(people), len(known)), seed, dim=dim, penalty=penalty,
                rounds=rounds, start=before)))
        models += [("logistic", "both", every, logistic(who, what, good, shape, seed, dim=dim)),
                   ("graph", "both", every, graph_convolution(who, what, good, shape, seed,
                                                              dim=dim))]
        return [SignedModel(columns, rows, sign, name=name, ids=ids, user_ids=people)
                for name, sign, ids, (rows, columns) in models]


def least_squares(users: Int64Array, items: Int64Array, shape: tuple[int, int], seed: int = 0, *,
                  dim: int = 16, confidence: float = 20.0, penalty: float = 100.0,
                  rounds: int = 10, start: Embeddings | None = None) -> Embeddings:
    """Factorize a matrix that is 1 where there is feedback and weakly 0 elsewhere."""
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(seed)
    left, right = (random.normal(0, 0.1, (count, dim)).astype(np.float32) if start is None
                   else start[side].copy() for side, count in enumerate(shape))
    by_user = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    by_item = by_user.T.tocsr()
    for _ in range(rounds):
        _solve(left, right, by_user, confidence, penalty)
        _solve(right, left, by_item, confidence, penalty)
    return left, right


def _solve(solved: Float32Array, others: Float32Array, feedback: Any, confidence: float,
           penalty: float) -> None:
    """One side by the other, for rows of feedback."""
    dim = others.shape[1]
    one, two = np.triu_indices(dim)
    place = np.empty((dim, dim), np.intp)  # of each cell of a symmetric matrix in its upper half
    place[one, two] = place[two, one] = np.arange(len(one))
    everywhere = (others.T @ others + penalty * np.eye(dim, dtype=np.float32))[one, two]
    outer = np.float32(confidence) * others[:, one] * others[:, two]
    for first in range(0, len(solved), _ROWS_AT_ONCE):
        mine = feedback[first : first + _ROWS_AT_ONCE]
        halves = mine @ outer
        halves += everywhere
        wanted = (1.0 + confidence) * (mine @ others)
        solved[first : first + _ROWS_AT_ONCE] = np.linalg.solve(
            halves[:, place], wanted[:, :, np.newaxis])[:, :, 0]


class _Adam:
    """Gradient steps of Kingma and Ba, "Adam" (ICLR 2015), on several arrays in place."""

    def __init__(self, parts: list[Float32Array], rate: float) -> None:
        self._parts, self._rate, self._step = parts, rate, 0
        self._moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]

    def step(self, slopes: list[Float32Array], penalty: float) -> None:
        """Step against the gradient of the loss; the penalty is half the squares times a factor."""
        self._step += 1
        for part, slope, (mean, square) in zip(self._parts, slopes, self._moments, strict=True):
            pull = slope + penalty * part
            mean[:] += 0.1 * (pull - mean)
            square[:] += 0.001 * (pull**2 - square)
            part[:] -= (self._rate / (1 - 0.9**self._step) * mean
                        / (np.sqrt(square / (1 - 0.999**self._step)) + 1e-8))


def logistic(users: Int64Array, items: Int64Array, liked: BoolArray, shape: tuple[int, int],
             seed: int = 0, *, dim: int = 16, penalty: float = 4.0, steps: int = 40,
             rate: float = 0.15) -> Embeddings:
    """Factorize the log-odds of a like; the last coordinate of an item is its bias."""
    from scipy.sparse import csr_matrix
    from scipy.special import expit

    random = np.random.default_rng(seed)
    order = np.argsort(users, kind="stable")
    users, items = users[order].astype(np.int32), items[order].astype(np.int32)  # taken faster
    target = liked[order].astype(np.float32)
    starts = np.searchsorted(users, np.arange(shape[0] + 1))
    # The last two columns are the biases of users, and of items, beside ones.
    parts = [random.normal(0, 0.1, (count, dim + 2)).astype(np.float32) for count in shape]
    left, right = parts
    free = np.ones((2, dim + 2), np.float32)
    for part, bias, one in ((left, dim, dim + 1), (right, dim + 1, dim)):
        part[:, bias], part[:, one] = 0.0, 1.0
    free[0, dim + 1] = free[1, dim] = 0.0
    share = liked.mean()
    base, adam = np.float32(np.log(share / (1.0 - share))), _Adam(parts, rate)
    for _ in range(steps):
        slack = expit(np.einsum("id,id->i", left.take(users, 0), right.take(items, 0))
                      + base) - target
        pulls = csr_matrix((slack, items, starts), shape)
        adam.step([(pulls @ right + penalty * left) * free[0],
                   (pulls.T @ left + penalty * right) * free[1]], 0.0)
    return np.delete(left, dim, axis=1), np.delete(right, dim, axis=1)


def graph_convolution(users: Int64Array, items: Int64Array, liked: BoolArray,
                      shape: tuple[int, int], seed: int = 0, *, dim: int = 16, layers: int = 2,
                      penalty: float = 1.0, steps: int = 40, rate: float = 0.05) -> Embeddings:
    """Smooth embeddings along likes, so that a user's likes score above their dislikes.

    The other item of a pair is any item for a user who has no dislikes.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.special import expit

    random = np.random.default_rng(seed)
    order = np.argsort(users, kind="stable")
    users, items, liked = users[order].astype(np.int32), items[order].astype(np.int32), liked[order]
    who, what = users[liked], items[liked]
    starts = np.searchsorted(who, np.arange(shape[0] + 1))
    likes = csr_matrix((np.ones(len(who), np.float32), what, starts), shape)
    by_user, by_item = (1.0 / np.sqrt(np.maximum(np.asarray(likes.sum(axis=axis)).ravel(), 1.0))
                        for axis in (1, 0))
    forth = (diags(by_user) @ likes @ diags(by_item)).astype(np.float32).tocsr()
    back = forth.T.tocsr()

    def smoothed(left: Float32Array, right: Float32Array) -> list[Float32Array]:
        total = [left.copy(), right.copy()]
        for _ in range(layers):
            left, right = forth @ right, back @ left
            total[0] += left
            total[1] += right
        return [part / np.float32(layers + 1) for part in total]

    first = np.searchsorted(users[~liked], np.arange(shape[0]))[who]
    count = np.bincount(users[~liked], minlength=shape[0])[who]
    disliked = np.append(items[~liked], 0)
    parts = [random.normal(0, 0.1, (size, dim)).astype(np.float32) for size in shape]
    adam = _Adam(parts, rate)
    for _ in range(steps):
        left, right = smoothed(*parts)
        drawn = disliked[first * (count > 0) + (random.random(len(who)) * count).astype(int)]
        other = np.where(count > 0, drawn, random.integers(0, shape[1], len(who), np.int32))
        slack = -expit(np.einsum("id,id->i", left.take(who, 0),
                                 right.take(other, 0) - right.take(what, 0)))
        pulls = [csr_matrix((times * slack, column, starts), shape)
                 for times, column in ((1.0, what), (-1.0, other))]
        # Smoothing is linear and symmetric, so gradients are smoothed in the same way.
        adam.step(smoothed(pulls[0] @ right + pulls[1] @ right,
                           pulls[0].T @ left + pulls[1].T @ left), penalty)
    left, right = smoothed(*parts)
    return left, right
