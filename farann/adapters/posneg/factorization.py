"""Small models of a log: what `cross_fit` may train where there are no retrieval models yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Rng
from farann.adapters.posneg import naming
from farann.adapters.posneg.calibration import expit, log_odds_of, sklearn_module
from farann.adapters.posneg.signed import SignedModel
from farann.contract import checks

Embeddings = tuple[Float32Array, Float32Array]
# Feedback whose outer products are made at a time.
_BLOCK = 1 << 14


class Factorization:
    """Trains a model of likes, one of dislikes and one of both by factorizing a log.

    For `cross_fit`, which calls it with some of the log. The first two are those of
    `least_squares`, the third is that of `logistic`.

    Parameters
    ----------
    n_users : int
        Users are numbers from 0 to below it.
    dim : int
        Of the embeddings; that of both kinds has one more, for the items' biases.
    seed : int
        For where the factors start.
    rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
        In the place of `seed` (SPEC 7).

    Examples
    --------
    >>> from farann.adapters.posneg import Factorization
    >>> train = Factorization(3, dim=2)
    >>> for model, users in train([0, 0, 1, 1, 2], [7, 8, 7, 9, 9], [1, 0, 1, 0, 1]):
    ...     print(model, users.shape)
    <SignedModel 'positive': 2 items of 2 dimensions, 'dot'> (3, 2)
    <SignedModel 'negative': 2 items of 2 dimensions, 'dot'> (3, 2)
    <SignedModel 'signed': 3 items of 3 dimensions, 'dot'> (3, 3)
    """

    def __init__(self, n_users: int, *, dim: int = 16, seed: int = 0, rng: Rng = None) -> None:
        self._n_users = checks.to_int("n_users", n_users, 1)
        self._dim = checks.to_int("dim", dim, 1)
        self._seed = checks.to_seed(seed, rng)

    def __call__(self, users: npt.ArrayLike, items: npt.ArrayLike, liked: npt.ArrayLike
                 ) -> list[tuple[SignedModel, Float32Array]]:
        """Models of the items of this feedback, each with its embeddings of all users.

        A model of one kind has the items with feedback of that kind alone.
        """
        who, ids = checks.to_ids("users", users), naming.fresh("items", items, again=True)
        good = np.asarray(liked, np.bool_)
        if not len(who) == len(ids) == len(good):
            raise ValueError(f"liked: expected as many as users and items, got {len(good)} for "
                             f"{len(who)} and {len(ids)}")
        if len(who) and not 0 <= int(who.min()) <= int(who.max()) < self._n_users:
            raise ValueError(f"users: expected numbers below {self._n_users}, got "
                             f"{who.min() if who.min() < 0 else who.max()}")
        if good.all() or not good.any():
            raise ValueError("liked: expected likes and dislikes to learn from, got one kind only")
        models = []
        for sign, which in ((1, good), (-1, ~good)):
            known, what = np.unique(ids[which], return_inverse=True)
            rows, columns = least_squares(who[which], what, np.ones(len(what)),
                                          (self._n_users, len(known)), self._seed, dim=self._dim)
            models.append((SignedModel(columns, sign, ids=known), rows))
        known, what = np.unique(ids, return_inverse=True)
        rows, columns = logistic(who, what, good, (self._n_users, len(known)), self._seed,
                                 dim=self._dim)
        return [*models, (SignedModel(columns, "both", ids=known), rows)]


def least_squares(users: Int64Array, items: Int64Array, targets: Float64Array,
                  shape: tuple[int, int], seed: int = 0, *, dim: int = 16,
                  confidence: float = 20.0, penalty: float = 100.0, rounds: int = 10
                  ) -> Embeddings:
    """Factors of a matrix that is `targets` where there is feedback and weakly 0 elsewhere.

    Alternating least squares of Hu, Koren and Volinsky, "Collaborative filtering for implicit
    feedback datasets" (ICDM 2008).
    """
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
    csr_matrix = sklearn_module("sparse", "scipy").csr_matrix
    dim = given.shape[1]
    everywhere = given.T @ given + penalty * np.eye(dim)
    starts = np.searchsorted(rows, np.arange(len(solved) + 1))
    first = 0
    while first < len(solved):
        last = int(np.searchsorted(starts, starts[first] + _BLOCK, "right")) - 1
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


def logistic(users: Int64Array, items: Int64Array, liked: BoolArray, shape: tuple[int, int],
             seed: int = 0, *, dim: int = 16, penalty: float = 4.0, steps: int = 100,
             rate: float = 0.1) -> Embeddings:
    """Log-odds of a like as a product of factors, with biases, by both kinds of feedback.

    Maximum likelihood with a normal prior, by Adam on all feedback at once (Kingma and Ba, ICLR
    2015). The last coordinate of an item is its bias; a user's bias orders no list.
    """
    csr_matrix = sklearn_module("sparse", "scipy").csr_matrix
    random = np.random.default_rng(seed)
    rows = np.arange(len(users))
    of_users, of_items = (csr_matrix((np.ones(len(rows)), (who, rows)), (count, len(rows)))
                          for who, count in zip((users, items), shape, strict=True))
    parts = [random.normal(0, 0.1, (count, dim)) for count in shape]
    parts += [np.zeros(count) for count in shape]
    # Of feedback of one kind the log-odds are as if one more of the other kind were there.
    least = 1.0 / (len(liked) + 1)
    base = log_odds_of(float(np.clip(liked.mean(), least, 1.0 - least)))
    moments = [(np.zeros_like(part), np.zeros_like(part)) for part in parts]
    for step in range(1, steps + 1):
        left, right, user, item = parts
        at_users, at_items = left[users], right[items]
        score = np.einsum("id,id->i", at_users, at_items) + user[users] + item[items] + base
        slack = expit(score) - liked
        slopes = [of_users @ (slack[:, np.newaxis] * at_items),
                  of_items @ (slack[:, np.newaxis] * at_users),
                  of_users @ slack, of_items @ slack]
        for part, slope, (mean, square) in zip(parts, slopes, moments, strict=True):
            pull = slope + penalty * part
            mean[:] += 0.1 * (pull - mean)
            square[:] += 0.001 * (pull**2 - square)
            part[:] -= (rate / (1 - 0.9**step) * mean
                        / (np.sqrt(square / (1 - 0.999**step)) + 1e-8))
    ones = np.ones((shape[0], 1))
    return (np.hstack([parts[0], ones]).astype(np.float32),
            np.hstack([parts[1], parts[3][:, np.newaxis]]).astype(np.float32))
