"""Logs of feedback as columns, data frames or sparse matrices, checked; and their folds."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import ids
from farann.adapters.posneg.ids import Ids
from farann.contract import checks

FOLDS = 5  # by default
# With fewer labels of a kind each fold gets its share: random folds may leave none to train on.
_FEW_OF_A_KIND = 32
# What columns of data frames may be called: user, item, label, and perhaps the time.
_COLUMN_NAMES = (("user", "user_id", "userId"), ("item", "item_id", "itemId", "movieId"),
                 ("label", "rating", "liked"), ("time", "timestamp"))


class Log(NamedTuple):
    """Who liked or disliked what, (n,) each, and perhaps when."""

    users: Ids
    items: Ids
    liked: BoolArray
    times: Float64Array | None = None

    def take(self, rows: Int64Array) -> Log:
        """Some of it."""
        return Log(self.users[rows], self.items[rows], self.liked[rows])


def read(users: Any, items: Any, labels: Any, times: Any = None) -> Log:
    """Check a log: three columns, or a data frame or a sparse matrix in the place of `users`."""
    if items is None and labels is None:
        if hasattr(users, "tocoo"):
            matrix = users.tocoo()
            users, items, labels = matrix.row, matrix.col, matrix.data
            if not np.all(labels):
                raise ValueError("users: a stored 0 of a sparse matrix is no label: a dislike is "
                                 "-1; eliminate_zeros() leaves out what is neither")
        else:
            users, items, labels, dates = _columns(users)
            times = dates if times is None else times
    elif items is None or labels is None:
        raise TypeError(f"{'items' if items is None else 'labels'}: expected one for each user, or "
                        "in the place of users a data frame or a sparse matrix alone, got None")
    who, what = ids.checked("users", users), ids.checked("items", items)
    liked = _likes(labels, who, what)
    return Log(who, what, liked, None if times is None else _dates(times, len(liked)))


def _dates(times: Any, n: int) -> Float64Array:
    """Numbers, or dates of any kind as numbers."""
    when = np.asarray(times) if hasattr(times, "dtype") else times
    of_objects = when.dtype.kind == "O" and when.ndim == 1 if isinstance(when, np.ndarray) else (
        isinstance(when, list | tuple))
    if of_objects and all(isinstance(one, datetime.datetime) for one in when):
        when = [one.timestamp() for one in when]
    when = checks.to_array("times", when)
    if when.dtype.kind == "M":
        when = np.where(np.isnat(when), np.nan, when.astype("datetime64[us]").astype(np.float64))
    dates = checks.to_numbers("times", when)
    if dates.shape != (n,) or not np.isfinite(dates).all():
        raise ValueError(f"times: expected {n} finite numbers or dates, got {checks.shown(times)}")
    return dates


def _columns(frame: Any) -> list[Any]:
    """The columns of a data frame, or of a dict of arrays; None for the time if it isn't there."""
    names = list(frame) if isinstance(frame, Mapping) else None
    if names is None and hasattr(frame, "__len__"):  # a lazy frame has none, and no columns to take
        names = getattr(frame, "column_names", getattr(frame, "columns", None))
    if names is None:
        raise TypeError("users: expected three columns, users, items and labels, or one data frame "
                        f"or sparse matrix, got {checks.shown(frame)} alone")
    picked = [next((name for name in several if name in names), None) for several in _COLUMN_NAMES]
    if None in picked[:3]:
        raise ValueError(f"users: expected columns user, item and label (or rating), got "
                         f"{', '.join(map(str, names))}; rename them, or give three columns")
    return [None if name is None else np.asarray(frame[name]) for name in picked]


def _likes(labels: Any, users: Ids, items: Ids) -> BoolArray:
    """Labels of 1 for likes and 0, or -1, for dislikes; which are likes."""
    values, n = checks.to_array("labels", labels), len(users)
    if not n or len(items) != n or values.shape != (n,):
        raise ValueError("users: expected as many as items and labels, one or more, got "
                         f"{n} for {len(items)} items and labels of shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"labels: expected 0 and 1, got {checks.what_is(values)}")
    kinds = set(np.unique(values).tolist())
    if not kinds <= {0, 1} and not kinds <= {-1, 1}:
        what = ("0 beside 1 and -1 is no label: give the rows where labels != 0 alone"
                if kinds == {-1, 0, 1} else
                "of ratings from 1 to 5, say, give the rows where (ratings >= 4) | (ratings <= 2) "
                "alone, with labels=ratings >= 4, and so leave out what was neither liked nor "
                "disliked")
        raise ValueError("labels: expected 0 and 1, or -1 and 1, got "
                         f"{', '.join(f'{kind:g}' for kind in sorted(kinds)[:5])}; {what}")
    return np.asarray(values == 1, np.bool_)


def weights(values: npt.ArrayLike | None, n: int) -> Float64Array:
    """Check weights of labels; by default all are 1."""
    if values is None:
        return np.ones(n)
    weight = checks.to_numbers("sample_weight", values)
    if weight.shape != (n,) or not np.isfinite(weight).all() or (weight < 0).any() \
            or not weight.any():
        raise ValueError(f"sample_weight: expected {n} finite numbers of 0 or more, not all 0, got "
                         f"{checks.shown(weight)}")
    return np.asarray(weight / weight.max())  # else sums overflow


def folds(cv: Any, log: Log, weight: Float64Array, random: np.random.Generator, *, trained: bool
          ) -> list[tuple[Int64Array, Int64Array]]:
    """Rows to train on, with labels of both kinds if models are trained, and rows held out."""
    n = len(log.liked)
    if cv is not None and not isinstance(cv, (int, np.integer)):
        pairs = _given(cv, n)
    else:
        count = FOLDS if cv is None else checks.to_int("cv", cv, 2, max(2, n))
        pairs = (_shuffled(count, log, random) if log.times is None else
                 _later(count, log, log.times, trained))
    if not pairs:
        raise ValueError("times: expected users with two labels or more, and both likes and "
                         "dislikes before the last of them, got none; leave times out")
    held = np.concatenate([rest[weight[rest] > 0] for _, rest in pairs])
    for rows, where in [(held, f"in {len(held)} rows that are held out and have weight"), *(
            (some, f"to train on in fold {number} of {len(pairs)}; it takes more labels of both "
             "kinds") for number, (some, _) in enumerate(pairs, 1) if trained)]:
        if not _both(log.liked[rows]):
            raise ValueError("labels: expected likes and dislikes to learn from, got only "
                             f"{'likes' if log.liked[rows].all() else 'dislikes'} {where}")
    return pairs


def _both(liked: BoolArray) -> bool:
    return bool(liked.any() and not liked.all())


def _shuffled(count: int, log: Log, random: np.random.Generator
              ) -> list[tuple[Int64Array, Int64Array]]:
    n = len(log.liked)
    fold = random.permutation(n)
    if min(log.liked.sum(), (~log.liked).sum()) < _FEW_OF_A_KIND:
        fold[np.lexsort((fold, log.liked))] = np.arange(n)
    return [(np.flatnonzero(fold % count != one), np.flatnonzero(fold % count == one))
            for one in range(min(count, n))]


def _later(count: int, log: Log, times: Float64Array, trained: bool
           ) -> list[tuple[Int64Array, Int64Array]]:
    """Each user's second half in parts, each with what all users rated before: of both kinds, if
    models are trained on that."""
    users = np.unique(log.users, return_inverse=True)[1]
    order = np.lexsort((times, users))
    share = np.empty(len(users))
    share[order] = ((np.arange(len(users)) - np.searchsorted(users[order], users[order]) + 0.5)
                    / np.bincount(users)[users[order]])
    fold = np.ceil(2 * count * (share - 0.5)).astype(np.int64)  # 0 and less: always trained on
    parts = [(np.flatnonzero(fold < one), np.flatnonzero(fold == one))
             for one in range(1, count + 1)]
    return [part for part in parts if len(part[0]) and len(part[1])
            and (_both(log.liked[part[0]]) or not trained)]


def _given(cv: Any, n: int) -> list[tuple[Int64Array, Int64Array]]:
    if not isinstance(cv, (list, tuple)) or not cv or any(
            not isinstance(pair, Sequence) or len(pair) != 2 for pair in cv):
        raise TypeError("cv: expected a number of folds, or a list of pairs of rows to train on "
                        f"and rows held out, got {checks.shown(cv)}; list(splitter.split(X)) "
                        "makes one of a scikit-learn splitter")
    pairs = []
    for i, pair in enumerate(cv):
        some, rest = (checks.to_ids(f"cv[{i}]", rows, what="numbers of rows") for rows in pair)
        if not len(some) or not len(rest) or np.isin(rest, some).any() \
                or min(some.min(), rest.min()) < 0 or max(some.max(), rest.max()) >= n:
            raise ValueError(f"cv[{i}]: expected numbers of rows from 0 to {n - 1} to train on, "
                             f"and others that are held out, got {checks.shown(pair)}")
        pairs.append((some, rest))
    return pairs
