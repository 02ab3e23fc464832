"""Options of a ranker, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann.adapters.posneg.calibration import CALIBRATIONS
from farann.adapters.posneg.fusion import FUSIONS, Fusion
from farann.contract import checks

# Less average feedback than that beside an item's own leaves its log-odds without bounds.
_LEAST_PRIOR = 1e-6
NORMALISATIONS = (None, "minmax", "zmuv", "softmax", "rank")


class Options(NamedTuple):
    """How a ranker was asked to rank."""

    fusion: Fusion
    weight: float | str
    item_prior: float | None
    veto: float | tuple[str, float] | None


def check_options(*, calibration: Any, fusion: str, weight: float | str | None,
                  normalize: str | None, item_prior: float | None, missing: str,
                  veto: Any, rank_constant: float) -> Options:
    """Check the arguments of `PosNegRanker`; see there."""
    checks.to_choice("fusion", fusion, FUSIONS)
    checks.to_choice("normalize", normalize, NORMALISATIONS)
    checks.to_choice("missing", missing, ("prior", "drop"))
    if isinstance(calibration, str):
        checks.to_choice("calibration", calibration, CALIBRATIONS)
    elif not hasattr(calibration, "fit") or isinstance(calibration, type):
        raise TypeError(f"calibration: expected one of {CALIBRATIONS} or a scikit-learn "
                        f"estimator, got {checks.shown(calibration)}")
    # An estimator may compare in ways of its own.
    calibrated = not (isinstance(calibration, str) and calibration == "none")
    if weight is None:
        weight = "fit" if fusion == "logit" and calibrated else 0.5
    fitted = isinstance(weight, str) and weight == "fit"
    if not fitted:
        weight = between("weight", weight, 0.0, 1.0)
    prior = item_prior_of(item_prior)
    rank_constant = checks.to_finite("rank_constant", rank_constant)
    if rank_constant < 0:
        raise ValueError(f"rank_constant: expected 0 or more, got {rank_constant}")
    if veto is None and fusion == "veto":
        veto = ("lift", 1.0) if calibrated else 0.5
    if fusion == "product" and not (calibrated or normalize in ("minmax", "rank")):
        raise ValueError("fusion: 'product' needs numbers between 0 and 1; expected a "
                         "calibration, or normalize='minmax' or 'rank'")
    return Options(Fusion(fusion, 0.5 if fitted else float(weight), calibrated, rank_constant),
                   weight, prior, _veto(veto, calibrated))


def _veto(value: Any, calibrated: bool) -> float | tuple[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)):
        return checks.to_finite("veto", value)
    if len(value) != 2 or value[0] not in ("quantile", "lift"):
        raise ValueError("veto: expected a number, ('quantile', q) or ('lift', x), got "
                         f"{checks.shown(value)}")
    if not calibrated:
        raise ValueError(f"veto: without calibration expected a number, got {value[0]!r}")
    if value[0] == "quantile":
        return "quantile", between("veto", value[1], 0.0, 1.0)
    times = checks.to_finite("veto", value[1])
    if times <= 0:
        raise ValueError(f"veto: expected a lift above 0, got {times:g}")
    return "lift", times


def item_prior_of(value: float | None) -> float | None:
    """A checked `item_prior`."""
    if value is None:
        return None
    prior = checks.to_float("item_prior", value)
    if not _LEAST_PRIOR <= prior < np.inf:
        raise ValueError(f"item_prior: expected a number of {_LEAST_PRIOR:g} or more, or None, "
                         f"got {prior:g}")
    return prior


def preference_of(exposure: Any) -> float:
    """A checked `exposure`."""
    number = checks.to_finite("exposure", exposure)
    if number < 0:
        raise ValueError(f"exposure: expected a number of 0 or more, got {number:g}")
    return number


def between(name: str, value: Any, low: float, high: float) -> float:
    """A number in a range, given as so called."""
    number = checks.to_float(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {number:g}")
    return number
