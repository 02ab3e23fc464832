"""A ranker as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.calibration import Calibration, Curve, Linear, Steps
from farann.adapters.posneg.fusion import Fusion
from farann.adapters.posneg.intercepts import Personal
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.scoring import Model, Pair
from farann.contract import checks
from farann.contract.errors import FormatError
from farann.io import container
from farann.store.ids import distinct

_KIND = "posneg ranker"
_SIDES = ("positive", "negative")
_NUMBERS = ("item_weight", "unknown")
_SETTINGS = ("calibration", "fusion", "weight", "normalize", "item_prior", "missing", "veto",
             "rank_constant")


class Content(NamedTuple):
    """What a file holds: arguments for a ranker, and what fit found."""

    settings: dict[str, Any]
    sides: list[tuple[Float32Array, Ids, str]]
    model: Callable[[Fusion, Ids], Model | None]


def write(path: str | os.PathLike[str], settings: Mapping[str, Any], ids: Ids, pair: Pair,
          model: Model | None) -> None:
    """Write everything but what can be made again."""
    metadata: dict[str, Any] = {"kind": _KIND, **settings, "fitted": None}
    if not isinstance(metadata["calibration"], str):
        if not _is_logistic(metadata["calibration"]):
            raise TypeError("calibration: expected one by name or a LogisticRegression to save, "
                            f"got {metadata['calibration']!r}; pickle can hold others")
        metadata["calibration"] = "platt"
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, side in zip(_SIDES, pair[:2], strict=True):
        arrays[f"{name}.rows"] = side.rows
        arrays |= naming.sections(f"{name}.ids", ids[side.items])
        metadata[f"{name}_metric"] = side.metric
    if model is not None:
        fitted: dict[str, Any] = {
            "weight": model.fusion.weight,
            "probability": None if model.probability is None else list(model.probability),
            "veto": model.veto,
        }
        if model.personal is not None:
            fitted["personal"] = list(model.personal.line)
            arrays |= personal_sections(model.personal)
        for name, calibration in zip(_SIDES, (model.positive, model.negative), strict=True):
            fitted[name] = {key: float(getattr(calibration, key)) for key in _NUMBERS}
            if isinstance(calibration.curve, Linear):
                fitted[name]["line"] = list(calibration.curve)
            elif isinstance(calibration.curve, Steps):
                arrays[f"{name}.steps"] = np.vstack(calibration.curve)
        arrays["items"], metadata["fitted"] = model.items, fitted
    container.write_file(path, metadata, arrays)


def _is_logistic(estimator: Any) -> bool:
    return any(kind.__name__ == "LogisticRegression" for kind in type(estimator).__mro__)


def read(path: str | os.PathLike[str]) -> Content:
    """Read a file and trust nothing in it."""
    metadata, arrays = container.read_file(path)
    try:
        return _content(metadata, arrays)
    except FormatError as error:
        raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _content(metadata: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Content:
    if metadata.get("kind") != _KIND:
        raise FormatError("the file holds no PosNegRanker")
    missing = [key for key in (*_SETTINGS, "fitted") if key not in metadata]
    if missing:
        raise FormatError(f"metadata: {missing[0]!r} is missing")
    settings = {key: metadata[key] for key in _SETTINGS}
    sides = []
    for name in _SIDES:
        rows, ids = array_of(arrays, f"{name}.rows", np.float32, 2), ids_of(arrays, f"{name}.ids")
        if len(rows) != len(ids) or not rows.size:
            raise FormatError(f"section '{name}.ids' does not fit '{name}.rows'")
        metric = metadata.get(f"{name}_metric")
        if metric not in ("dot", "cosine", "l2"):
            raise FormatError(f"metadata: '{name}_metric' can't be {metric!r}")
        sides.append((rows, ids, metric))

    def model(fusion: Fusion, all_ids: Ids) -> Model | None:
        return _model(metadata["fitted"], arrays, fusion, len(all_ids))

    return Content(settings, sides, model)


def _model(fitted: Any, arrays: Mapping[str, npt.NDArray[Any]], fusion: Fusion,
           size: int) -> Model | None:
    if fitted is None:
        return None
    items = array_of(arrays, "items", np.float64, 1)
    if len(items) != size:
        raise FormatError("section 'items' does not fit the ids")
    try:
        calibrations = [_calibration(fitted[name], arrays, name) for name in _SIDES]
        line = fitted["probability"]
        probability = None if line is None else line_of("probability", line)
        weight = checks.to_finite("weight", fitted["weight"])
        # Files of before have none of these.
        veto, personal = fitted.get("veto"), None
        veto = None if veto is None else checks.to_finite("veto", veto)
        if fitted.get("personal") is not None:
            personal = personal_of(fitted["personal"], arrays)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"metadata: 'fitted' is not what fit finds: {error}") from None
    if not 0 <= weight <= 1:
        raise FormatError(f"metadata: the weight can't be {weight}")
    return Model(calibrations[0], calibrations[1], fusion._replace(weight=weight), items,
                 probability, veto, personal)


def _calibration(numbers: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]],
                 name: str) -> Calibration:
    curve: Curve
    if "line" in numbers:
        curve = line_of("line", numbers["line"])
    else:
        steps: Float64Array = array_of(arrays, f"{name}.steps", np.float64, 2)
        ordered = len(steps) == 2 and steps.shape[1] > 0 and (np.diff(steps, axis=1) >= 0).all()
        if not ordered or not (steps[1] > 0).all() or not (steps[1] < 1).all():
            raise FormatError(f"section '{name}.steps' is no isotonic regression")
        curve = Steps(steps[0], steps[1])
    return Calibration(curve, *(checks.to_finite(key, numbers[key]) for key in _NUMBERS))


def line_of(name: str, numbers: Any) -> Linear:
    """Two finite numbers as a line."""
    slope, intercept = numbers
    return Linear(checks.to_finite(name, slope), checks.to_finite(name, intercept))


def ids_of(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Ids:
    """Ids that must be there."""
    ids = naming.read(name, arrays)
    if ids is None:
        raise FormatError(f"section {name!r} is missing or of another type")
    return ids


def personal_sections(personal: Personal) -> dict[str, npt.NDArray[Any]]:
    """Users' own log-odds, and what they are called."""
    named = {} if personal.ids is None else naming.sections("users.ids", personal.ids)
    return {"users": personal.own, **named}


def personal_of(line: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Personal:
    """The same from a file."""
    own, ids = array_of(arrays, "users", np.float64, 1), naming.read("users.ids", arrays)
    if ids is not None and (len(ids) != len(own) or len(distinct(ids)) < len(ids)):
        raise FormatError("section 'users.ids' does not fit 'users'")
    return Personal(line_of("personal", line), own, ids)


def array_of(arrays: Mapping[str, npt.NDArray[Any]], name: str, dtype: Any,
           ndim: int) -> npt.NDArray[Any]:
    """A section that must be there, of this type and of finite numbers."""
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != ndim:
        raise FormatError(f"section {name!r} is missing or of another type")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"section {name!r} has numbers that are not finite")
    return array
