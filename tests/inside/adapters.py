"""Of `farann/adapters`: documents, shards, the models of a ranker, options of a layer."""

from __future__ import annotations

from typing import Any

from farann.adapters.documents import Documents
from farann.adapters.metadata import Condition
from farann.adapters.posneg import FusionRanker
from farann.adapters.posneg.factorization import graph_convolution, least_squares
from farann.adapters.posneg.learning import Learned as _Learned
from farann.adapters.posneg.learning import regression, unseen_pairs
from farann.adapters.ray import distinct
from farann.adapters.ray.building import (
    blocks_of_files,
    build_shard,
    finish,
    record_of,
    to_plan,
)
from farann.adapters.ray.selecting import Selecting as Gathering
from farann.adapters.ray.shard import Shard
from farann.adapters.ray.storage import Storage


def learned_by(ranker: FusionRanker) -> _Learned:
    """What a fitted ranker knows."""
    assert ranker._state is not None
    return ranker._state.learned


def fused(ranker: FusionRanker) -> FusionRanker:
    """The ranker, whether or not one model ranks all items better."""
    assert ranker._state is not None
    models, learned, seen = ranker._state[:3]
    return ranker._made_of(models, learned._replace(order=("this ranker", "this ranker")), seen)


def scales_of(ranker: FusionRanker) -> tuple[Any, Any]:
    """Mean and spread of each model's scores, which are 0 and 1 to the weights."""
    assert ranker._state is not None
    return ranker._state.models.means, ranker._state.models.spreads


def items_of(ranker: FusionRanker) -> tuple[Any, Any]:
    """Record and popularity of each item."""
    assert ranker._state is not None
    record, popular = ranker._state.models.rows[:, -2:].astype(float).T
    return record, popular


def index_options(layer: Any) -> dict[str, Any]:
    """Options with which a layer makes its index."""
    options: dict[str, Any] = layer._how.of_index
    return options


def values_noted(documents: Documents[Any]) -> int:
    """How many values of groups are kept."""
    return 0 if documents._values is None else len(documents._values[1])
