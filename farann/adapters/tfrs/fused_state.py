"""What a layer of two models holds: variables, and identifiers of both sides lined up."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from farann.adapters.id_arrays import IdArray
from farann.adapters.posneg import LinearLogit
from farann.adapters.posneg.calibration import Linear
from farann.adapters.posneg.linear import LinearRanker
from farann.adapters.tfrs.indexed import State


def state_of(parts: LinearRanker) -> State:
    """What the variables of a layer hold."""
    return {
        "candidates": np.hstack([parts.positive, parts.negative]),
        "dims": np.array([parts.positive.shape[1], parts.negative.shape[1]], np.int64),
        "known": parts.known,
        "item_log_odds": parts.items,
        "line": np.array([*parts.line, *parts.probability], np.float64),
    }


def parts_of(state: State, metric: str) -> LinearRanker:
    """The other way."""
    dim, line = int(state["dims"][0]), [float(number) for number in state["line"]]
    return LinearRanker(
        state["candidates"][:, :dim], state["candidates"][:, dim:], state["known"],
        state["item_log_odds"], LinearLogit(*line[:-2]), Linear(*line[-2:]), metric)


def lined_up(ids: list[IdArray]) -> tuple[IdArray, list[npt.NDArray[np.intp]]]:
    """All identifiers in the order in which they first come, and where those of each side stand."""
    every, first, place = np.unique(np.concatenate(ids), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    places = np.split(rank[place.ravel()], np.cumsum([len(one) for one in ids])[:-1])
    for at in places:
        count = np.bincount(at, minlength=len(every))
        if (count > 1).any():
            twice = every[order][count > 1][0]
            raise ValueError(f"identifiers: expected each once, got {twice!r} twice")
    return every[order], places


def numbers_of(identifiers: IdArray, wanted: Any) -> npt.NDArray[np.int64]:
    """Rows of identifiers that must all be there."""
    given = tf.convert_to_tensor(wanted)
    if given.shape.rank != 1:
        raise ValueError(f"item_ids: expected shape (n,), got {given.shape}")
    row_of = {one: row for row, one in enumerate(identifiers.tolist())}
    ids = given.numpy().tolist()
    unknown = next((one for one in ids if one not in row_of), None)
    if unknown is not None:
        raise KeyError(f"item_ids: {unknown!r} is no candidate")
    return np.array([row_of[one] for one in ids], np.int64)


def share_layers(one: Any, other: Any) -> bool:
    """Whether two models have layers in common; Keras saves these with the first alone."""
    return bool({id(part) for part in (one, *one.submodules)}
                & {id(part) for part in (other, *other.submodules)})


def copied(model: Any) -> Any:
    """A model that answers the same and shares nothing."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return tf.keras.models.load_model(f"{folder}/model.keras", compile=False, safe_mode=False)
