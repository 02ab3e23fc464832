"""The trainer by default: five small models of a log, in numpy and scipy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg.ids import checked
from farann.adapters.posneg.models import SignedModel
from farann.contract import checks

Embeddings = tuple[Float32Array, Float32Array]
# Labels whose outer products are made at a time in least squares: 32 MiB at 16 dimensions.
_LABELS_AT_ONCE = 1 << 14
# Dimensions that are kept of the item regression: with 32 AUC falls by .001 on MovieLens 100K.
_REGRESSION_DIM = 64


class Factorization:
    """Train five models of a log of likes and dislikes; the default of `FusionRanker`.

    They are factorizations of likes and of dislikes by least squares (Hu, Koren and Volinsky,
    ICDM 2008), a logistic factorization of both, a regression of each item's labels on all others
    (EASE: Steck, WWW 2019), and a graph convolution that puts a user's likes above their dislikes
    (LightGCN: He et al., SIGIR 2020).

    Parameters
    ----------
    dim : int
        Of the embeddings. The logistic factorization has one more, for the items' biases, and
        the regression keeps 64.
    max_bytes : int
        Memory that the item regression may take. It needs 32 bytes times the number of items
        squared, or 24 times users times items if there are fewer users than items, and is left
        out, with a warning, where that is more.
    seed, rng
        For where factors start and which negatives are drawn, as in `Index`.

    Examples
    --------
    >>> from farann.adapters.posneg import Factorization
    >>> train = Factorization(dim=2)
    >>> for model in train(["a", "a", "b", "b", "c"], [7, 8, 7, 9, 9], [1, 0, 1, 0, 1]):
    ...     print(model)
    <SignedModel 'positive': 2 items, 3 users, 2 dimensions, 'dot'>
    <SignedModel 'negative': 2 items, 3 users, 2 dimensions, 'dot'>
    <SignedModel 'logistic': 3 items, 3 users, 3 dimensions, 'dot'>
    <SignedModel 'regression': 3 items, 3 users, 3 dimensions, 'dot'>
    <SignedModel 'graph': 3 items, 3 users, 2 dimensions, 'dot'>
    """

    def __init__(self, dim: int = 16, *, max_bytes: int = 1 << 30, seed: int = 0,
                 rng: Rng = None) -> None:
        self._dim = checks.to_int("dim", dim, 1)
        self._max_bytes = checks.to_int("max_bytes", max_bytes, 0)
        self._seed = checks.to_seed(seed, rng)

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
        ids, what = np.unique(checked("items", items), return_inverse=True)
        good = np.asarray(liked, np.bool_)
        if not len(who) == len(what) == len(good):
            raise ValueError(f"liked: expected as many as users and items, got {len(good)} for "
                             f"{len(who)} and {len(what)}")
        if good.all() or not good.any():
            raise ValueError("liked: expected likes and dislikes to learn from, got one kind only")
        shape, dim, seed = (len(people), len(ids)), self._dim, self._seed
        models = []
        for sign, which in ((1, good), (-1, ~good)):
            known, column = np.unique(what[which], return_inverse=True)
            rows, columns = least_squares(who[which], column, np.ones(len(column)),
                                          (len(people), len(known)), seed, dim=dim)
            models.append(SignedModel(columns, rows, sign, ids=ids[known], user_ids=people))
        trained = {"logistic": logistic(who, what, good, shape, seed, dim=dim)}
        needed = regression_bytes(shape)
        if needed <= self._max_bytes:
            trained["regression"] = item_regression(who, what, good, shape)
        else:
            warnings.warn(f"the item regression is left out: it needs {needed:,} bytes for "
                          f"{shape[0]:,} users and {shape[1]:,} items, and max_bytes is "
                          f"{self._max_bytes:,}", UserWarning, stacklevel=2)
        trained["graph"] = graph_convolution(who, what, good, shape, seed, dim=dim)
        return models + [SignedModel(columns, rows, "both", name=name, ids=ids, user_ids=people)
                         for name, (rows, columns) in trained.items()]


def least_squares(users: Int64Array, items: Int64Array, targets: Float64Array,
                  shape: tuple[int, int], seed: int = 0, *, dim: int = 16,
                  confidence: float = 20.0, penalty: float = 100.0, rounds: int = 10
                  ) -> Embeddings:
    """Factorize a matrix that is `targets` where there is feedback and weakly 0 elsewhere."""
    random = np.random.default_rng(seed)
    left, right = (random.normal(0, 0.1, (count, dim)) for count in shape)
    by_user, by_item = (np.argsort(rows, kind="stable") for rows in (users, items))
    for _ in range(rounds):
        _solve(left, right, users[by_user], items[by_user], targets[by_user], confidence, penalty)
        _solve(right, left, items[by_item], users[by_item], targets[by_item], confidence, penalty)
    return left.astype(np.float32), right.astype(np.float32)


def _solve(solved: Float64Array, given: Float64Array, rows: Int64Array, columns: Int64Array,
           targets: Float64Array, confidence: float, penalty: float) -> None:
    """One side by the other, for feedback in the order of rows."""
    from scipy.sparse import csr_matrix

    dim = given.shape[1]
    everywhere = given.T @ given + penalty * np.eye(dim)
    starts = np.searchsorted(rows, np.arange(len(solved) + 1))
    first = 0
    while first < len(solved):
        last = int(np.searchsorted(starts, starts[first] + _LABELS_AT_ONCE, "right")) - 1
        last = min(max(last, first + 1), len(solved))
        mine = slice(starts[first], starts[last])
        used, at = np.unique(columns[mine], return_inverse=True)
        outer = (given[used, :, np.newaxis] * given[used, np.newaxis]).reshape(len(used), -1)
        of = csr_matrix((np.ones(len(at)), at, starts[first : last + 1] - starts[first]),
                        (last - first, len(used)))
        matrix = everywhere + confidence * (of @ outer).reshape(-1, dim, dim)
        of.data[:] = (1.0 + confidence) * targets[mine]
        solved[first:last] = np.linalg.solve(matrix, (of @ given[used])[:, :, np.newaxis])[:, :, 0]
        first = last


class _Adam:
    """Gradient steps of Kingma and Ba, "Adam" (ICLR 2015), on several arrays in place."""

    def __init__(self, parts: list[npt.NDArray[Any]], rate: float) -> None:
        self._parts, self._rate, self._step = parts, rate, 0
        self._moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]

    def step(self, slopes: list[npt.NDArray[Any]], penalty: float) -> None:
        """Step against the gradient of the loss; the penalty is half the squares times a factor."""
        self._step += 1
        for part, slope, (mean, square) in zip(self._parts, slopes, self._moments, strict=True):
            pull = slope + penalty * part
            mean[:] += 0.1 * (pull - mean)
            square[:] += 0.001 * (pull**2 - square)
            part[:] -= (self._rate / (1 - 0.9**self._step) * mean
                        / (np.sqrt(square / (1 - 0.999**self._step)) + 1e-8))


def logistic(users: Int64Array, items: Int64Array, liked: BoolArray, shape: tuple[int, int],
             seed: int = 0, *, dim: int = 16, penalty: float = 4.0, steps: int = 100,
             rate: float = 0.1) -> Embeddings:
    """Factorize the log-odds of a like; the last coordinate of an item is its bias."""
    from scipy.sparse import csr_matrix
    from scipy.special import expit

    random = np.random.default_rng(seed)
    rows = np.arange(len(users))
    of_users, of_items = (csr_matrix((np.ones(len(rows)), (who, rows)), (count, len(rows)))
                          for who, count in zip((users, items), shape, strict=True))
    parts = [random.normal(0, 0.1, (count, dim)) for count in shape]
    parts += [np.zeros(count) for count in shape]
    left, right, user, item = parts
    share = liked.mean()
    base, adam = np.log(share / (1.0 - share)), _Adam(parts, rate)
    for _ in range(steps):
        at_users, at_items = left[users], right[items]
        score = np.einsum("id,id->i", at_users, at_items) + user[users] + item[items] + base
        slack = expit(score) - liked
        adam.step([of_users @ (slack[:, np.newaxis] * at_items),
                   of_items @ (slack[:, np.newaxis] * at_users),
                   of_users @ slack, of_items @ slack], penalty)
    return (np.column_stack([left, np.ones(shape[0])]).astype(np.float32),
            np.column_stack([right, item]).astype(np.float32))


def regression_bytes(shape: tuple[int, int]) -> int:
    """Memory of `item_regression`: by items squared, or users times items if that is less."""
    users, items = shape
    return 24 * users * items if users < items else 32 * items * items


def item_regression(users: Int64Array, items: Int64Array, liked: BoolArray,
                    shape: tuple[int, int], *, penalty: float = 100.0,
                    dim: int = _REGRESSION_DIM) -> Embeddings:
    """Predict each item's labels (1 and -1) from those of all other items, by ridge regression.

    By the smaller of both Gram matrices, in the dimensions that hold most of the predictions.
    """
    from scipy.linalg import eigh
    from scipy.sparse import csr_matrix

    rated = csr_matrix((np.where(liked, 1.0, -1.0), (users, items)), shape)
    by_users = shape[0] < shape[1]
    gram = (rated @ rated.T if by_users else rated.T @ rated).toarray()
    dim, last = min(dim, *shape), len(gram) - 1
    if by_users:
        labels = rated.toarray()
        pulled = np.linalg.solve(gram + penalty * np.eye(len(gram)), labels)
        scores = labels - pulled * (penalty / (1.0 - np.einsum("ui,ui->i", labels, pulled)))
        left = eigh(scores @ scores.T, subset_by_index=[last - dim + 1, last])[1]
        return left.astype(np.float32), (scores.T @ left).astype(np.float32)
    inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
    weights = np.eye(len(gram)) - inverse / np.diag(inverse)
    right = eigh(weights.T @ gram @ weights, subset_by_index=[last - dim + 1, last])[1]
    return (rated @ (weights @ right)).astype(np.float32), right.astype(np.float32)


def graph_convolution(users: Int64Array, items: Int64Array, liked: BoolArray,
                      shape: tuple[int, int], seed: int = 0, *, dim: int = 16, layers: int = 2,
                      penalty: float = 1.0, steps: int = 40, rate: float = 0.05) -> Embeddings:
    """Smooth embeddings along likes, so that a user's likes score above their dislikes.

    The other item of a pair is any item for a user who has no dislikes.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.special import expit

    random = np.random.default_rng(seed)
    who, what = users[liked], items[liked]
    likes = csr_matrix((np.ones(len(who), np.float32), (who, what)), shape)
    by_user, by_item = (1.0 / np.sqrt(np.maximum(np.asarray(likes.sum(axis=axis)).ravel(), 1.0))
                        for axis in (1, 0))
    forth = (diags(by_user) @ likes @ diags(by_item)).astype(np.float32).tocsr()
    back = forth.T.tocsr()

    def smoothed(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        total = [left.copy(), right.copy()]
        for _ in range(layers):
            left, right = forth @ right, back @ left
            total[0] += left
            total[1] += right
        return [part / (layers + 1) for part in total]

    others = np.flatnonzero(~liked)
    others = others[np.argsort(users[others], kind="stable")]
    first = np.searchsorted(users[others], np.arange(shape[0]))
    count = np.bincount(users[others], minlength=shape[0])[who]
    disliked = np.append(items[others], 0)
    parts = [random.normal(0, 0.1, (size, dim)).astype(np.float32) for size in shape]
    adam = _Adam(parts, rate)
    for _ in range(steps):
        left, right = smoothed(*parts)
        drawn = disliked[first[who] * (count > 0) + (random.random(len(who)) * count).astype(int)]
        other = np.where(count > 0, drawn, random.integers(0, shape[1], len(who)))
        slack = -expit(np.einsum("id,id->i", left[who], right[other] - right[what]))
        pairs = csr_matrix((np.concatenate([slack, -slack]),
                            (np.tile(who, 2), np.concatenate([what, other]))), shape)
        # Smoothing is linear and symmetric, so gradients are smoothed in the same way.
        adam.step(smoothed(pairs @ right, pairs.T @ left), penalty)
    left, right = smoothed(*parts)
    return left, right
