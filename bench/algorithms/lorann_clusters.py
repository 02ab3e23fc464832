"""LoRANN: clusters with a reduced-rank regression each, then a refinement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Profile, Rows, Setting

_LEAST_DIM = 64  # it refuses fewer
_WIDE = 200  # columns from which on its documentation advises a global dimension


class Lorann(Algorithm):
    name = "lorann"
    title = "LoRANN"
    library = "LoRANN"
    package = "lorann"
    modules = ("lorann",)

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        # Three times the root, as a power of two: 2,048 for GloVe's 400,000 rows.
        clusters = 1 << max(0, round(math.log2(max(1.0, 3 * math.sqrt(profile.rows)))))
        clusters = max(1, min(clusters, profile.rows // 16))
        probed = profile.pick([32, 128], [8, 16, 32, 64, 128, 256])
        searches = [{"clusters": count, "rerank": rerank}
                    for rerank in profile.pick([200], [100, 400])
                    for count in sorted({min(count, clusters) for count in probed})]
        return [Setting({"clusters": clusters}, searches)]

    def build(self, rows: Rows) -> None:
        import lorann

        narrow = rows.shape[1] + (self.metric == "l2" and not self.nearest) <= _LEAST_DIM
        made = self.reduce(rows, _LEAST_DIM if narrow else 32)
        reduced = None if made.dim < _WIDE else 128 if made.dim <= 1000 else 256
        self._index: Any = lorann.LorannIndex(
            data=made.rows, n_clusters=self.parameters["clusters"], global_dim=reduced,
            quantization_bits=8,
            distance=lorann.L2 if made.by_l2 else lorann.IP)  # it keeps these rows, no copy
        self._index.build(n_threads=self.threads)
        self._options = (1, 0)

    def configure(self, search: Mapping[str, Any]) -> None:
        self._options = (search["clusters"], max(search["rerank"], self.k))

    def find(self, asked: Rows) -> NDArray[np.integer]:
        found = self._index.search(asked, self.k, *self._options, n_threads=self.threads)
        return np.asarray(found).astype(np.int64)

    def find_one(self, asked: Rows) -> NDArray[np.integer]:
        return np.asarray(self._index.search(asked, self.k, *self._options)).astype(np.int64)
