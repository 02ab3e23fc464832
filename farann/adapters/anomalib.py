"""The coreset of PatchCore for anomalib, selected without a pass over all rows for each pick."""

from __future__ import annotations

from typing import Any

import numpy as np

from farann.index import Index


class KCenterGreedy:
    """Select a coreset, with the arguments and methods of anomalib's ``KCenterGreedy``.

    PatchCore uses it when it stands in the place of anomalib's own::

        from anomalib.models.image.patchcore import torch_model
        from farann.adapters.anomalib import KCenterGreedy

        torch_model.KCenterGreedy = KCenterGreedy

    Parameters
    ----------
    embedding : torch.Tensor (n, dim)
        On any device; the selection runs on the CPU.
    sampling_ratio : float
        The share of the rows to select.

    Notes
    -----
    anomalib begins with a random row and measures distances after a random projection to a few
    hundred dimensions. Here the first row is the one furthest from the mean, distances are those of
    all dimensions, and the same rows give the same coreset.
    """

    def __init__(self, embedding: Any, sampling_ratio: float) -> None:
        self.embedding = embedding
        self.coreset_size = int(len(embedding) * sampling_ratio)
        if self.coreset_size <= 0:
            raise ValueError("sampling_ratio: expected a share that is a row or more of "
                             f"{len(embedding)}, got {sampling_ratio}")

    def select_coreset_idxs(self) -> list[int]:
        """Positions of the selected rows, in the order of their selection."""
        index = Index()
        index.add(np.asarray(self.embedding.detach().cpu().float().flatten(1)))
        picks: list[int] = index.select_diverse(self.coreset_size, progress=True).ids.tolist()
        return picks

    def sample_coreset(self) -> Any:
        """The selected rows, on the device of all rows."""
        return self.embedding[self.select_coreset_idxs()]
