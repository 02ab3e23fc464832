"""farann in every mode it has; a mode is an entry of ``MODES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Profile, Rows, Setting


@dataclass(frozen=True)
class Mode:
    """One index of farann and the searches on it.

    Attributes
    ----------
    keywords : dict
        Of ``farann.Index``.
    searches : tuple of dict
        Keywords of its searches, in the quick run.
    more : tuple of dict
        Searches that a full run adds, as the other steps of a sweep.
    label : str
        Modes of one label are one line in the charts.
    isa : str or None
        An instruction set that is not the best here, else the mode is left out.
    all_rows : bool
        Searches have a budget of all rows, which is what asks for all there is without vectors.
    applies : callable
        On which data, and whether in the quick run.
    """

    keywords: dict[str, Any] = field(default_factory=dict)
    searches: tuple[dict[str, Any], ...] = ({},)
    more: tuple[dict[str, Any], ...] = ()
    label: str = ""
    isa: str | None = None
    all_rows: bool = False
    applies: Callable[[Profile], bool] = lambda profile: True


def _recalls(*targets: float) -> tuple[dict[str, Any], ...]:
    return tuple({"recall": target} for target in targets)


_QUICK, _FULL = _recalls(0.8, 0.9, 0.95, 0.97, 0.99), _recalls(0.5, 0.7, 0.995)
# Fewer rows get no cells by themselves.
_ROWS_OF_CELLS = 20_000


def _furthest(profile: Profile) -> bool:
    return not profile.nearest


MODES = [
    Mode(searches=({}, *_QUICK), more=_FULL),
    Mode({"cells": "auto"}, _QUICK, _FULL, label="cells",
         applies=lambda profile: profile.rows >= _ROWS_OF_CELLS),
    Mode(isa="avx2", applies=_furthest),
    Mode(isa="avx512", applies=lambda profile: profile.full),
    Mode({"codes": "float32"}, applies=_furthest),
    Mode({"codes": "int8", "keep_vectors": False}, all_rows=True, applies=_furthest),
    Mode({"codes": "int4", "keep_vectors": False}, all_rows=True, applies=_furthest),
    Mode({"codes": "int4", "keep_vectors": False, "cells": "auto"}, all_rows=True,
         applies=lambda profile: profile.rows >= _ROWS_OF_CELLS),
]


class Farann(Algorithm):
    name = "farann"
    title = "farann"
    library = "farann"
    package = "farann"
    modules = ("farann",)
    exact = True

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        import farann

        levels = farann.isa_levels()
        return [
            Setting(
                dict(mode.keywords),
                [{"budget": profile.rows}] if mode.all_rows else
                [dict(s) for s in mode.searches + (mode.more if profile.full else ())],
                {"FARANN_ISA": mode.isa} if mode.isa else {},
                mode.label,
            )
            for mode in MODES
            if mode.applies(profile) and (mode.isa is None or mode.isa in levels[:-1])
        ]

    @classmethod
    def missing(cls) -> str | None:
        try:
            from farann import Index, isa_levels  # noqa: F401
        except ImportError as error:
            return f"farann is not built here: {error}"
        return None

    @classmethod
    def version(cls) -> str:
        import farann

        return str(farann.__version__)

    def build(self, rows: Rows) -> None:
        import farann

        self._index: Any = farann.Index(rows.shape[1], self.metric, threads=self.threads,
                                        **self.parameters)
        self._index.add(rows)
        self._index.build(queries=self.sample, nearest=self.nearest)
        self._search: dict[str, Any] = {}
        self._tuned = False

    def configure(self, search: Mapping[str, Any]) -> None:
        self._search = dict(search)
        if "recall" in search and not self._tuned:  # once, and not in the time of a search
            self._index.tune(k=self.k, nearest=self.nearest)
            self._tuned = True

    def find(self, asked: Rows) -> NDArray[np.integer]:
        way = self._index.search_nearest if self.nearest else self._index.search_furthest
        return np.asarray(way(asked, self.k, threads=self.threads, **self._search).ids)

    def find_one(self, asked: Rows) -> NDArray[np.integer]:
        return self.find(asked)  # a single query gives a single row of ids

    def claims_exact(self, search: Mapping[str, Any]) -> bool:
        loose = {"epsilon", "recall", "budget"} & search.keys()
        return not loose and self.parameters.get("keep_vectors", True)

    def kernels(self) -> list[str]:
        return [f"farann {self._index.isa}"]

    def index_bytes(self) -> int:
        return int(sum(self._index.stats()["bytes"].values()))

    def rows_scanned(self) -> float:
        last = self._index.stats()["last_search"]
        return float(last["rows_scanned"]) / max(1, int(last["queries"]))

    def set_threads(self, threads: int) -> None:
        self.threads = threads
