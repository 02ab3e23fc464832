"""One tuning for all shards: which recall to ask of each, so that the merged answer reaches what
was asked for. Knows nothing of Ray, nor how shards are asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

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


class SharedTunings:
    """The tunings of a sharded index, kept in its folder: all clients ask shards for the same."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[tuple[str, int], SharedTuning] = {}

    def of(self, kind: str, k: int, search: Search, *, anew: bool = False) -> SharedTuning | None:
        """The tuning of a search and k, measured if nobody did, or `anew`, and kept; None if there
        are no queries to measure with.

        Shards are asked for more and more, until all is found: `search` takes queries and what to
        ask of each shard, None for an exact answer.
        """
        if anew or (kind, k) not in self._known:
            if not self._storage.exists(SAMPLE):
                return None
            content, name = self._storage.read(SAMPLE), f"tunings/{kind}-{k}.json"
            digest = hashlib.sha256(content).hexdigest()
            made = None if anew else self._read(name, digest)
            if made is None:
                sample = self._storage.read_rows(SAMPLE)
                queries = sample[:: -(-len(sample) // _QUERIES)]
                truth = search(queries, None)
                recalls = [share_found((truth if share == 1.0 else search(queries, share)).ids,
                                       truth.ids) for share in _ASKED]
                made = SharedTuning(k, _ASKED, tuple(recalls), len(queries))
                self._storage.write_json(name, {**made._asdict(), "sample": digest})
            self._known[kind, k] = made
        return self._known[kind, k]

    def forget(self) -> None:
        """Read again what others may have measured since."""
        self._known.clear()

    def _read(self, name: str, digest: str) -> SharedTuning | None:
        """What a file says; None, to be measured anew, if it isn't what was written, or of another
        sample."""
        try:
            fields = json.loads(self._storage.read(name))
            asked, recalls = (tuple(map(float, fields[name])) for name in ("asked", "recalls"))
            whole = len(asked) == len(recalls) and fields["sample"] == digest and all(
                0.0 <= share <= 1.0 for share in asked + recalls)
            made = SharedTuning(int(fields["k"]), asked, recalls, int(fields["sampled"]))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return made if whole else None
