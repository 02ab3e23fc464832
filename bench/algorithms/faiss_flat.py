"""faiss Flat: exact."""

from __future__ import annotations

from ._faiss import Faiss
from .base import Profile, Setting


class FaissFlat(Faiss):
    name = "faiss-flat"
    title = "faiss Flat"
    exact = True

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        # Products take longer with padding, single queries without it.
        own = profile.dim + (profile.metric == "l2" and not profile.nearest)
        padded = {1, cls.multiple} if own % cls.multiple else {1}
        return [Setting({"multiple": multiple}) for multiple in sorted(padded)]

    def factory(self, dim: int) -> str:
        return "Flat"
