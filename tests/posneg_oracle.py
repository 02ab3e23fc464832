"""The oracle of the PosNeg ranker: every fused score in float64, in the most obvious numpy.

It takes a fitted ranker's numbers, and shares no code with how the ranker searches.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import inside
import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import PosNegRanker

Float64 = NDArray[np.float64]


class Item(NamedTuple):
    """One item with all that decides where it stands."""

    fused: float
    similarity: float
    id: int
    positive: float
    negative: float


def similarity(query: NDArray[Any], row: NDArray[Any], metric: str) -> float:
    """Dot product, cosine or minus the distance, in float64."""
    q, x = query.astype(np.float64), row.astype(np.float64)
    if metric == "l2":
        return float(-np.sqrt(((q - x) ** 2).sum()))
    dot = float((q * x).sum())
    return dot / float(np.linalg.norm(q) * np.linalg.norm(x)) if metric == "cosine" else dot


def normalised(value: float, every: Float64, kind: str | None) -> float:
    """One similarity among all of its query's."""
    if kind is None:
        return value
    if kind == "minmax":
        return float((value - every.min()) / ((every.max() - every.min()) or 1.0))
    if kind == "zmuv":
        return float((value - every.mean()) / (every.std() or 1.0))
    if kind == "softmax":
        return value - float(np.log(np.exp(every).sum()))
    return float((every <= value).mean())


def expit(x: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -x)))


def fuse(name: str, w: float, liked: float, disliked: float, lists: int, calibrated: bool) -> float:
    """Fused score of an item by its two log-odds, for fusions that don't look at ranks."""
    p, n = (expit(liked), expit(disliked)) if calibrated else (liked, disliked)
    return {
        "logit": w * liked - (1 - w) * disliked,
        "convex": w * p + (1 - w) * (1 - n),
        "product": p ** (2 * w) * (1 - n) ** (2 * (1 - w)) if name == "product" else 0.0,
        "combsum": 2 * (w * p + (1 - w) * (1 - n)),
        "combmnz": lists * 2 * (w * p + (1 - w) * (1 - n)),
        "veto": p,
    }[name]


def everything(ranker: PosNegRanker, sides: list[dict[int, NDArray[Any]]], metric: str,
               queries: tuple[NDArray[Any], NDArray[Any]], allowed: set[int] | None = None,
               excluded: AbstractSet[int] = frozenset()) -> list[Item]:
    """All items of one query, best first; `sides` are each model's rows by id."""
    model, fusion = inside.model_of(ranker), inside.fusion_of(ranker)
    assert model is not None
    raw = [{i: similarity(query, row, metric) for i, row in rows.items()}
           for query, rows in zip(queries, sides, strict=True)]
    every = [np.array(list(values.values())) for values in raw]
    own = dict(zip(ranker.ids.tolist(), model.items.tolist(), strict=True))
    pool = [i for i in ranker.ids.tolist()
            if i not in excluded and (allowed is None or i in allowed)]
    log_odds: list[dict[int, float]] = []
    for values, population, calibration in zip(raw, every, (model.positive, model.negative),
                                               strict=True):
        found = {}
        for i in pool:
            base = calibration.unknown
            if i in values:
                z = normalised(values[i], population, inside.normalization_of(ranker))
                base = float(calibration.curve(np.array([z]))[0])
            found[i] = base + calibration.item_weight * own[i]
        log_odds.append(found)
    liked, disliked = log_odds
    w, calibrated = model.fusion.weight, fusion.calibrated
    items = []
    for i in pool:
        lists = int(i in raw[0]) + int(i in raw[1])
        if fusion.name in ("rrf", "isr", "borda"):
            fused = 0.0
            for share, value, sign, known in ((w, liked, 1, raw[0]), (1 - w, disliked, -1, raw[1])):
                listed = [j for j in pool if j in known]
                rank = 1 + sum(sign * value[j] > sign * value[i]
                               or (value[j] == value[i] and j < i) for j in listed)
                if fusion.name == "rrf":
                    points = 1 / (fusion.rank_constant + rank) if i in known else 0.0
                elif fusion.name == "isr":
                    points = lists / rank**2 if i in known else 0.0
                elif i in known:
                    points = (len(pool) - rank + 1) / len(pool)
                else:
                    points = (len(pool) - len(listed) + 1) / 2 / len(pool)
                fused += 2 * share * points
        else:
            fused = fuse(fusion.name, w, liked[i], disliked[i], lists, calibrated)
        chance = expit(disliked[i]) if calibrated else disliked[i]
        good = expit(liked[i]) if calibrated else liked[i]
        veto = inside.veto_of(ranker)
        if veto is None or chance <= veto:
            items.append(Item(fused, raw[0].get(i, -np.inf), i, good, chance))
    return sorted(items, key=lambda item: (-item.fused, -item.similarity, item.id))


def assert_best(scores: Float64, ids: NDArray[np.int64], expected: list[Item], *,
                exact: bool = False) -> None:
    """The answer has the k best values; ids may differ only where values agree to rounding."""
    real = ids >= 0
    k = min(len(ids), len(expected))
    assert real.sum() == k and real[:k].all()
    assert np.isnan(scores[k:]).all()
    assert len(set(ids[:k].tolist())) == k
    if exact:
        assert ids[:k].tolist() == [item.id for item in expected[:k]]
    by_id = {item.id: item.fused for item in expected}
    best = np.array([item.fused for item in expected[:k]])
    scale = 1e-9 * (1 + np.abs(best))
    assert (np.abs(scores[:k] - best) <= scale).all()
    mine = np.array([by_id[i] for i in ids[:k].tolist()])
    assert (np.abs(mine - best) <= scale).all()
    assert (np.diff(scores[:k]) <= 0).all()
