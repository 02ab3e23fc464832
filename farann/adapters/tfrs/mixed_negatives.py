"""Negatives drawn from a catalogue, beside those of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from farann.adapters import training
from farann.adapters.tfrs.top_k import Tensor
from farann.contract import checks


class MixedNegatives(tf.Module):
    """Adds uniformly drawn items of a catalogue to the candidates of each batch.

    In-batch negatives are items of the log, mostly popular ones: a model never learns where
    items belong that the log lacks. Negatives from all items alike teach it that [2]_. How often
    each item comes as a negative is known then, and `RetrievalTask` corrects for it [1]_.

    Parameters
    ----------
    catalogue : array (n_items,) or dict of arrays (n_items, ...)
        Features of all items, as the candidate tower takes them; each item once.
    occurrences : array (n_rows,)
        Ids in the rows that the model is trained on. An item that never comes counts as one that
        comes once.
    id : str, optional
        Which of the features, if there are several, is the id: a string or a whole number.
    uniform : int
        How many to draw for each batch; 0 for the correction alone.
    seed : int, optional
    name : str, optional

    References
    ----------
    .. [1] Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
       recommendations" (RecSys 2019).
    .. [2] Yang et al., "Mixed negative sampling for learning two-tower neural networks in
       recommendations" (WWW Companion 2020).

    Examples
    --------
    >>> import tensorflow as tf
    >>> from farann.adapters.tfrs import MixedNegatives
    >>> films = {"id": np.array(["a", "b", "c"]), "year": np.array([1984, 2001, 1972])}
    >>> mixed = MixedNegatives(films, ["a", "a", "a", "b", "a", "b"], id="id", uniform=2)
    >>> drawn = mixed({"id": tf.constant(["b", "a"]), "year": tf.constant([2001, 1984])})
    >>> drawn.ids[:2].numpy(), drawn.candidates["year"].shape
    (array([b'b', b'a'], dtype=object), TensorShape([4]))
    >>> drawn.log_q[:2].numpy().round(2)
    array([0.  , 0.41], dtype=float32)
    """

    def __init__(self, catalogue: Any, occurrences: Any, *, id: str | None = None,
                 uniform: int = 0, seed: int | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.uniform = checks.to_int("uniform", uniform, 0)
        self._key, self._seed = id, seed
        features = catalogue if isinstance(catalogue, Mapping) else {"": catalogue}
        self._catalogue = {key: tf.convert_to_tensor(each) for key, each in features.items()}
        ids = id_of(self._catalogue if isinstance(catalogue, Mapping) else catalogue, id)
        self.n_items = len(ids)
        for key, each in self._catalogue.items():
            if each.shape[:1] != ids.shape[:1] or not self.n_items:
                raise ValueError(f"catalogue: expected features of as many items, 1 or more, got "
                                 f"{key!r} of shape {each.shape} beside {self.n_items} ids")
        known, counts = np.unique(ids.numpy(), return_counts=True)
        if counts.max() > 1:
            twice = known.tolist()[counts.argmax()]
            raise ValueError(f"catalogue: expected each id once, got {twice!r} "
                             f"{counts.max()} times")
        seen, counts = np.unique(tf.convert_to_tensor(occurrences).numpy(), return_counts=True)
        if (seen.dtype == object) != (known.dtype == object):
            raise TypeError(f"occurrences: expected ids of type {ids.dtype.name}, got {seen.dtype}")
        total = max(int(counts.sum()), 1)
        # Items that only the log has are looked up as well, and those that only the catalogue has.
        every = np.union1d(known, seen)
        count = np.ones(len(every))
        count[np.searchsorted(every, seen)] = counts
        frequency = (count * self.n_items / total).astype(np.float32)
        self._frequency = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(_for_table(tf.constant(every, ids.dtype)),
                                                frequency), self.n_items / total)

    def __call__(self, candidates: Any) -> training.Drawn:
        """The candidates of a batch and drawn ones.

        Parameters
        ----------
        candidates : tensor (n, ...) or dict of such
            Features as in the catalogue. Further ones are left out.

        Returns
        -------
        Drawn
        """
        ids = id_of(candidates, self._key)
        n = tf.shape(ids)[0]
        if self.uniform:
            rows = tf.random.uniform([self.uniform], maxval=self.n_items, dtype=tf.int32,
                                     seed=self._seed)
            more = {key: tf.gather(each, rows) for key, each in self._catalogue.items()}
            given = candidates if isinstance(candidates, Mapping) else {"": candidates}
            missing = next((key for key in more if key not in given), None)
            if missing is not None:
                raise ValueError(f"candidates: expected the features of the catalogue, got none "
                                 f"of name {missing!r}")
            both = {key: tf.concat([given[key], tf.cast(each, given[key].dtype)], axis=0)
                    for key, each in more.items()}
            candidates = both if isinstance(candidates, Mapping) else both[""]
            ids = id_of(candidates, self._key)
        frequency = self._frequency.lookup(_for_table(ids))
        return training.Drawn(candidates, ids, training.relative_log_q(
            tf.math, frequency, tf.cast(n, tf.float32), float(self.uniform)))


def id_of(features: Any, key: str | None) -> Tensor:
    """The ids, (n,), among features."""
    if isinstance(features, Mapping):
        if key is None or key not in features:
            raise ValueError(f"id: expected the name of one of the features "
                             f"{', '.join(map(repr, features))}, got {key!r}")
        features = features[key]
    elif key is not None:
        raise ValueError(f"id: expected None, as features have no names, got {key!r}")
    ids = tf.convert_to_tensor(features)
    if ids.shape.rank not in (1, None) or not (ids.dtype == tf.string or ids.dtype.is_integer):
        raise ValueError("id: expected strings or whole numbers of shape (n,), got "
                         f"{ids.dtype.name} {ids.shape}")
    return ids


def _for_table(ids: Tensor) -> Tensor:
    """Ids of the types that a lookup table has."""
    return ids if ids.dtype == tf.string else tf.cast(ids, tf.int64)
