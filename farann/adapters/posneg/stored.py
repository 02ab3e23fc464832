"""A ranker of two models in files, pickles and copies."""

from __future__ import annotations

import os
from typing import Any, Self

from farann.adapters.posneg import ranker_file, retrieval
from farann.adapters.posneg.fusion import Fusion
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.scoring import Model, Pair
from farann.adapters.posneg.sides import Side
from farann.contract.errors import FormatError
from farann.index import Index
from farann.runtime import pool


class Stored:
    """The part of `PosNegRanker` that writes and reads it."""

    _calibration: Any
    _fusion: Fusion
    _weight: float | str
    _normalize: str | None
    _item_prior: float | None
    _missing: str
    _veto: float | tuple[str, float] | None
    _threads: int | None
    _ids: Ids
    _pair: Pair
    _model: Model | None
    _lock: Any
    _joint: tuple[Model, retrieval.Joint] | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ranker, with both models' rows, to a file that is replaced whole or not.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError
            If it was calibrated by an estimator other than scikit-learn's LogisticRegression,
            which a file without code can't hold.
        """
        ranker_file.write(path, self._settings(), self._ids, self._pair, self._model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a ranker from a file.

        Raises
        ------
        FormatError
            If the file is no ranker, is truncated or altered, or of a newer version.
        """
        content = ranker_file.read(path)
        try:
            return cls._made_of(content)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{os.fsdecode(path)}: {error}") from None

    @classmethod
    def _made_of(cls, content: ranker_file.Content) -> Self:
        indexes = []
        for rows, ids, metric in content.sides:
            index = Index(rows.shape[1], metric, codes="float32")
            index.add(rows, ids)
            indexes.append(index)
        ranker: Self = cls(*indexes, **content.settings)
        ranker._model = content.model(ranker._fusion, ranker._ids)
        return ranker

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items()
                if name not in ("_lock", "_joint", "_pair")} | {
                    "sides": [(side.rows, side.items, side.metric) for side in self._pair[:2]]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        sides = [Side(rows, items, len(state["_ids"]), metric, state["_threads"])
                 for rows, items, metric in state.pop("sides")]
        self.__dict__.update(state)
        self._pair = Pair(sides[0], sides[1], self._normalize)
        self._lock, self._joint = pool.fresh_lock(self), None

    def _settings(self) -> dict[str, Any]:
        return {"calibration": self._calibration, "fusion": self._fusion.name,
                "weight": self._weight, "normalize": self._normalize,
                "item_prior": self._item_prior, "missing": self._missing, "veto": self._veto,
                "rank_constant": self._fusion.rank_constant}
