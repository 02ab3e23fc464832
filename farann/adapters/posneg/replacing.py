"""Models trained anew under what was learned about those before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from farann._types import Float64Array
from farann.adapters.posneg import naming
from farann.adapters.posneg.blend import About, Blend, Exposure
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.signed import Members


def replaced(blend: Blend, before: Members, after: Members) -> Blend:
    """The same blend over other rows; items that are new have no record."""
    if before.signs != after.signs:
        raise ValueError(f"models: expected signs {', '.join(map(str, before.signs))}, got "
                         + ", ".join(map(str, after.signs)))
    naming.alike("models", [before.ids, after.ids])
    about = replace(blend.about, record=by_id(before.ids, blend.about.record, after.ids))
    exposure = None
    if blend.exposure is not None:
        exposure = _exposure(blend.exposure, before, after)
    return replace(blend, about=about, items=about.of(after, about.record), exposure=exposure)


def _exposure(exposure: Exposure, before: Members, after: Members) -> Exposure:
    # What was never shown has the smallest record there may be.
    least = float(exposure.about.record.min())
    record = by_id(before.ids, exposure.about.record, after.ids, least)
    about: About = replace(exposure.about, record=record)
    return replace(exposure, about=about, items=about.of(after, record))


def by_id(ids: Ids, values: Float64Array, wanted: Ids,
          other: float = 0.0) -> Float64Array:
    """Values of sorted ids for other ones; `other` where there is none."""
    at = naming.places(ids, wanted)
    return np.where(at < 0, other, values[at])
