"""A ranker of several models as the sections of a file, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Int64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.blend import About, Blend, Exposure, ModelReport
from farann.adapters.posneg.calibration import Calibration, Linear
from farann.adapters.posneg.options import item_prior_of
from farann.adapters.posneg.ranker_file import (
    array_of,
    ids_of,
    line_of,
    personal_of,
    personal_sections,
)
from farann.adapters.posneg.sides import Side
from farann.adapters.posneg.signed import SIGNS, Members, SignedModel, members_of
from farann.contract import checks
from farann.contract.errors import FormatError
from farann.io import container

_KIND = "fusion ranker"
Arrays = Mapping[str, npt.NDArray[Any]]


def write(path: str | os.PathLike[str], members: Members, item_prior: float | None,
          blend: Blend | None) -> None:
    """Write everything but what can be made again."""
    metadata: dict[str, Any] = {
        "kind": _KIND, "names": list(members.names), "signs": list(members.signs),
        "metrics": [side.metric for side in members.sides], "item_prior": item_prior,
        "fitted": None}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for m, side in enumerate(members.sides):
        arrays[f"rows.{m}"] = side.rows
        arrays |= naming.sections(f"ids.{m}", members.ids[side.items])
    if blend is not None:
        metadata["fitted"] = _numbers(blend)
        arrays |= _arrays("about", blend.about)
        arrays["weights"] = blend.weights
        if blend.personal is not None:
            arrays |= personal_sections(blend.personal)
        if blend.exposure is not None:
            arrays |= _arrays("exposure", blend.exposure.about)
            arrays["exposure.weights"] = blend.exposure.weights
    container.write_file(path, metadata, arrays)


def _numbers(blend: Blend) -> dict[str, Any]:
    return {
        "lines": [[*_linear(line), line.unknown] for line in blend.lines],
        "chance": list(blend.chance),
        "personal": None if blend.personal is None else list(blend.personal.line),
        "preference": None if blend.exposure is None else blend.exposure.preference,
        # JSON has no NaN.
        "reports": [[None if isinstance(x, float) and np.isnan(x) else x for x in report[2:]]
                    for report in blend.reports],
    }


def _linear(line: Calibration) -> Linear:
    assert line.linear is not None
    return line.linear


def _arrays(name: str, about: About) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}.record": about.record, f"{name}.coefficients": about.coefficients,
            f"{name}.centers": about.centers}


def read(path: str | os.PathLike[str], threads: int | None
         ) -> tuple[Members, float | None, Blend | None]:
    """Read a file and trust nothing in it."""
    metadata, arrays = container.read_file(path)
    try:
        return _content(metadata, arrays, threads)
    except (TypeError, ValueError, KeyError) as error:  # FormatError is one of them
        raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _content(metadata: dict[str, Any], arrays: Arrays, threads: int | None
             ) -> tuple[Members, float | None, Blend | None]:
    if metadata.get("kind") != _KIND:
        raise FormatError("the file holds no FusionRanker")
    lists = [metadata.get(key) for key in ("names", "signs", "metrics")]
    if not all(isinstance(one, list) and one and len(one) == len(lists[0] or []) for one in lists):
        raise FormatError("metadata: 'names', 'signs' and 'metrics' don't fit")
    models = []
    for m, (name, sign, metric) in enumerate(zip(*(one or [] for one in lists), strict=True)):
        if sign not in SIGNS or isinstance(sign, (bool, float)):
            raise FormatError(f"metadata: a sign can't be {sign!r}")
        rows = array_of(arrays, f"rows.{m}", np.float32, 2)
        models.append(SignedModel(rows, sign, name=name, metric=metric,
                                  ids=ids_of(arrays, f"ids.{m}")))
    members = members_of(models, threads)
    if "item_prior" not in metadata or "fitted" not in metadata:
        raise FormatError("metadata: 'item_prior' or 'fitted' is missing")
    return members, item_prior_of(metadata["item_prior"]), _blend(metadata["fitted"], arrays,
                                                                  members)


def _blend(fitted: Any, arrays: Arrays, members: Members) -> Blend | None:
    if fitted is None:
        return None
    try:
        lines = tuple(_line(numbers) for numbers in fitted["lines"])
        chance = line_of("chance", fitted["chance"])
        reports = tuple(_report(name, sign, given) for name, sign, given in
                        zip(members.names, members.signs, fitted["reports"], strict=True))
        personal = exposure = None
        if fitted["personal"] is not None:
            personal = personal_of(fitted["personal"], arrays)
        if fitted["preference"] is not None:
            about = _about(arrays, "exposure", members)
            exposure = Exposure(_weights(arrays, "exposure.weights", members),
                                about.of(members), about,
                                checks.to_finite("preference", fitted["preference"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"metadata: 'fitted' is not what fit finds: {error}") from None
    if len(lines) != len(members.sides):
        raise FormatError("metadata: 'lines' does not fit the models")
    about = _about(arrays, "about", members)
    return Blend(lines, _weights(arrays, "weights", members), about.of(members),
                 about, chance, personal, exposure, reports)


def _line(numbers: Any) -> Calibration:
    slope, intercept, unknown = numbers
    return Calibration(line_of("lines", (slope, intercept)),
                       unknown=checks.to_finite("lines", unknown))


def _report(name: str, sign: int | str, given: Any) -> ModelReport:
    *numbers, dropped = given
    values = [float("nan") if x is None else checks.to_float("reports", x) for x in numbers]
    weight, gain, error, auc = values
    if not isinstance(dropped, str) or not np.isfinite(weight) or (bool(dropped) != (weight == 0)):
        raise ValueError(f"a report can't be {given!r}")
    return ModelReport(name, sign, weight, gain, error, auc, dropped)


def _weights(arrays: Arrays, name: str, members: Members) -> npt.NDArray[np.float64]:
    weights = array_of(arrays, name, np.float64, 1)
    if len(weights) != len(members.sides):
        raise FormatError(f"section {name!r} does not fit the models")
    return weights


def _about(arrays: Arrays, name: str, members: Members) -> About:
    record, coefficients, centers = (array_of(arrays, f"{name}.{part}", np.float64, 1)
                                     for part in ("record", "coefficients", "centers"))
    m = len(members.sides)
    if len(record) != len(members.ids) or len(coefficients) != 1 + m or len(centers) != m:
        raise FormatError(f"section '{name}.record' does not fit the ids")
    return About(record, coefficients, centers)


def members_again(members: Members, sides: Sequence[tuple[Float32Array, Int64Array, str]],
                  threads: int | None) -> Members:
    """Models whose rows and items were taken apart."""
    return members._replace(sides=tuple(
        Side(rows, items, len(members.ids), metric, threads) for rows, items, metric in sides))
