"""One tuning for all shards: which recall to ask of each, so that the merged answer reaches what
was asked for. Knows nothing of Ray, nor how shards are asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from farann._types import Float32Array
from farann.adapters.ray.storage import Storage
from farann.results import Hits, share_found
from farann.tuning.table import missing_at

# Queries that all shards are tuned by, and how many of them the merged answers are measured with.
SAMPLE = "sample.npy"
_QUERIES = 1_024
# What shards are asked for. The best rows of all are among the best of their shards, which may be
# found more often than the last of these: then less does.
_ASKED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)

Search = Callable[[Float32Array, float | None], Hits]


class SharedTuning(NamedTuple):
    """What merged answers reach, by the recall that each shard is asked for; `print` shows a table.

    Attributes
    ----------
    k : int
    asked : tuple of float
        Of each shard, of its own k best.
    recalls : tuple of float
        The share of the k best of all rows that was found then.
    sampled : int
        Queries that this is of.
    """

    k: int
    asked: tuple[float, ...]
    recalls: tuple[float, ...]
    sampled: int

    def asked_for(self, recall: float) -> float:
        """The least that is to be asked of each shard for a recall of the merged answer.

        Parameters
        ----------
        recall : float
            Between 0 and 1.

        Returns
        -------
        float
            One of `asked`; 1 where nothing less does.
        """
        wanted = 1.0 - missing_at(recall)
        best = 1.0
        for asked, reached in zip(reversed(self.asked), reversed(self.recalls), strict=True):
            if reached < wanted:
                break
            best = asked
        return best

    def __str__(self) -> str:
        lines = [f"{'asked of shards':>15}  {'recall@' + str(self.k):>10}"]
        lines += [f"{asked:>15g}  {reached:>10.4f}"
                  for asked, reached in zip(self.asked, self.recalls, strict=True)]
        return "\n".join(lines)


def measured(search: Search, k: int, sample: Float32Array) -> SharedTuning:
    """Ask shards for more and more, by queries of the sample, until all is found.

    `search` takes queries and what to ask of each shard, None for an exact answer.
    """
    queries = sample[:: -(-len(sample) // _QUERIES)]
    truth = search(queries, None)
    asked, recalls = [], []
    for share in _ASKED:
        found = truth if share == 1.0 else search(queries, share)
        asked.append(share)
        recalls.append(share_found(found.ids, truth.ids))
    return SharedTuning(k, tuple(asked), tuple(recalls), len(queries))


class SharedTunings:
    """The tunings of a sharded index, kept in its folder: all clients ask shards for the same."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[tuple[str, int], SharedTuning] = {}

    def of(self, kind: str, k: int, search: Search) -> SharedTuning | None:
        """The tuning of a search and k, measured if nobody did; None if there is no sample."""
        if (kind, k) not in self._known:
            if not self.has_sample():
                return None
            kept = self._read(kind, k)
            self._known[kind, k] = kept or self.measure(kind, k, search)
        return self._known[kind, k]

    def measure(self, kind: str, k: int, search: Search) -> SharedTuning:
        """Measure a tuning, and keep it."""
        made = measured(search, k, self._storage.read_rows(SAMPLE))
        fields = {**made._asdict(), "sample": self._digest()}
        self._storage.write(_name(kind, k), json.dumps(fields, indent=1).encode())
        self._known[kind, k] = made
        return made

    def has_sample(self) -> bool:
        """Whether there are queries to measure with."""
        return self._storage.exists(SAMPLE)

    def replace_sample(self, sample: Float32Array) -> None:
        """Tune by other queries from now on."""
        self._storage.write_rows(SAMPLE, sample)
        self.forget()

    def forget(self) -> None:
        """Read again what others may have measured since."""
        self._known.clear()

    def _read(self, kind: str, k: int) -> SharedTuning | None:
        name = _name(kind, k)
        if not self._storage.exists(name):
            return None
        try:
            fields = json.loads(self._storage.read(name))
            if fields.pop("sample") != self._digest():
                return None  # of another sample
            return _from_fields(fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # measured anew, as it isn't what was written

    def _digest(self) -> str:
        return self._storage.digest(SAMPLE)


def _from_fields(fields: dict[str, Any]) -> SharedTuning:
    asked, recalls = (tuple(float(share) for share in fields[name])
                      for name in ("asked", "recalls"))
    if len(asked) != len(recalls) or not all(0.0 <= share <= 1.0 for share in asked + recalls):
        raise ValueError("asked, recalls: expected as many shares")
    return SharedTuning(int(fields["k"]), asked, recalls, int(fields["sampled"]))


def _name(kind: str, k: int) -> str:
    return f"tunings/{kind}-{k}.json"
