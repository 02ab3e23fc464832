"""faiss Panorama: flat, exact, and in lists; both stop reading a row when it can't win any more."""

from __future__ import annotations

import numpy as np

from ._faiss import Faiss
from .base import Profile, Rows, Setting
from .faiss_ivf import FaissIvfFlat

_BLOCK = 65536


class _Panorama(Faiss):
    """Rows are rotated to their principal axes, without centering.

    Panorama bounds what is left of a product by the lengths of what is left of row and query, so
    the first coordinates should have most of the length. faiss's own ``PCA`` step centers the
    rows, which changes inner products (and their order): a rotation changes none.
    """

    def turn(self, reduced: Rows) -> None:
        self._axes = _principal_axes(reduced)
        for at in range(0, len(reduced), _BLOCK):
            reduced[at : at + _BLOCK] = reduced[at : at + _BLOCK] @ self._axes

    def asked(self, queries: Rows) -> Rows:
        return super().asked(queries) @ self._axes


class FaissPanorama(_Panorama):
    name = "faiss-panorama"
    title = "faiss Flat Panorama"
    exact = True

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        return [Setting({"levels": levels}) for levels in profile.pick([8], [4, 8, 16])]

    def factory(self, dim: int) -> str:
        kind = "L2" if self.by_l2 else "IP"
        return f"Flat{kind}Panorama{self.parameters['levels']}"


class FaissIvfPanorama(_Panorama, FaissIvfFlat):
    name = "faiss-ivf-panorama"
    title = "faiss IVF Flat Panorama"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        return [Setting({**setting.build, "levels": 8}, setting.searches)
                for setting in super().sweep(profile)]

    def factory(self, dim: int) -> str:
        return f"IVF{self.parameters['nlist']},FlatPanorama{self.parameters['levels']}"


def _principal_axes(rows: Rows) -> Rows:
    """Orthonormal columns, those of most squared length first."""
    squares = np.zeros((rows.shape[1],) * 2)
    for at in range(0, len(rows), _BLOCK):
        block = rows[at : at + _BLOCK].astype(np.float64)
        squares += block.T @ block
    return np.ascontiguousarray(np.linalg.eigh(squares)[1][:, ::-1], dtype=np.float32)
