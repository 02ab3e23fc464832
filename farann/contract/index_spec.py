"""The settings of an index, and what follows from each: metrics, widths of codes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array
from farann.contract import checks
from farann.contract.row_types import STORED


class MetricTraits(NamedTuple):
    """The traits of a metric.

    Rows are ranked by keys, the largest first: the product of a vector that is made of the query
    and the row less the center, which may have the row's squared norm added.
    """

    name: str
    normalized: bool = False  # only directions of rows count
    adds_squared_norm: bool = False  # to keys
    scale_free: bool = True  # a query times a positive number has the same answer
    larger_is_further: bool = False  # scores

    @property
    def number(self) -> int:
        """The metric's number in the core."""
        return _core.METRICS.index(self.name)

    def query_vectors(self, queries: Float32Array, center: Float64Array,
                      nearest: bool = False) -> Float64Array:
        """Vectors (n, dim) whose products with centered rows find the furthest or nearest ones."""
        vectors, sign = queries.astype(np.float64), 1.0 if nearest else -1.0
        if self.normalized:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return sign * 2.0 * (vectors - center) if self.adds_squared_norm else sign * vectors

    def mirrored(self, queries: Float32Array) -> Float32Array:
        """Queries whose furthest rows are the nearest to these; under l2 there are none, and it is
        the nearest rows that are searched for."""
        return queries if self.adds_squared_norm else -queries


_ALL = {traits.name: traits for traits in (
    MetricTraits("l2", adds_squared_norm=True, scale_free=False, larger_is_further=True),
    MetricTraits("dot"), MetricTraits("cosine", normalized=True))}
assert tuple(_ALL) == _core.METRICS


def traits_of(name: str) -> MetricTraits:
    """The traits of the metric with this name."""
    return _ALL[name]


class CodeWidth(NamedTuple):
    """A width of codes and its consequences; other code reads these, not the number of bits.

    A code of 8 bits is kept as two nibbles. Narrower codes lack the last bits of the low nibble:
    the range of these bits is known, and its middle is used.
    """

    bits: int
    # Rounded so that likely queries see least of it, and without vectors relative to the means of
    # partitions (`quantize/coarse.py`). Others are as near as rounding gets, and are worth a
    # transform, a PCA filter, and a shorter way for few rows.
    is_coarse: bool

    @property
    def low_bits(self) -> int:
        """Bits of the low nibble that are kept."""
        return self.bits - 4

    @property
    def step(self) -> int:
        """Distance from one code to the next, in units of 8-bit codes."""
        return 1 << (8 - self.bits)

    @property
    def middle(self) -> float:
        """Middle of the values that the dropped bits may have."""
        return (self.step - 1) / 2


INT8 = CodeWidth(8, is_coarse=False)
INT4 = CodeWidth(4, is_coarse=True)
# Code widths by their names in `codes=`, `--codes` and files; None: rows are scored as float32.
CODE_WIDTHS: dict[str, CodeWidth | None] = {"int8": INT8, "int4": INT4, "float32": None}


class IndexSpec(NamedTuple):
    """The settings of an index that concern its rows."""

    metric: MetricTraits
    codes: str  # the users' name of their width
    seed: int
    cells: int | str | None = None
    vectors: bool = True  # whether coded rows stay as they came, too
    row_type: str = "float32"

    @property
    def width(self) -> CodeWidth:
        """The width of codes, if there are any."""
        return CODE_WIDTHS[self.codes] or INT8

    @property
    def stored(self) -> np.dtype[Any]:
        """The type of rows in memory."""
        return STORED[self.row_type]


def check_codes(codes: Any, cells: Any, keep_vectors: Any) -> int | str | None:
    """Check codes, cells and keep_vectors together; return `cells` as an int, a string or None."""
    checks.to_choice("codes", codes, tuple(CODE_WIDTHS))
    cells = checks.to_cells(cells)
    if cells is not None and codes == "float32":
        raise ValueError("cells: partitions need codes, and codes='float32' means none")
    checks.check_flag("keep_vectors", keep_vectors)
    if not keep_vectors and codes == "float32":
        raise ValueError("keep_vectors: without vectors there must be codes, and "
                         "codes='float32' means none")
    return cells  # type: ignore[no-any-return]
