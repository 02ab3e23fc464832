"""What a layout consists of: codes of rows, partitions. Each knows its own sections of a file.

A new array of one of them is a field here, which the core reads by its name and a file keeps under
it; nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from farann.contract import FormatError
from farann.quantize.nibbles import bytes_at
from farann.quantize.projection import Projection
from farann.quantize.transform import Transform


class CodeBounds(NamedTuple):
    """Bounds for all coded rows z with the inverse scale w, codes c, low nibbles l of c + 128.

    Of rows that are relative to means, the first two are bounds on what is left of them.
    """

    residual: float  # |w z - c|
    length: float    # |w z|
    low_nibble_norm: float   # |l - 7.5|
    norm: float      # |z|
    rest_step: float = 0.0  # of what the last group holds, if it isn't coordinates
    outside: float = 0.0    # |z'| of what is outside the axes
    outside_length: float = 0.0  # |w z'|
    outside_usual: float = 0.0  # |z'|, the root of its mean square


def _array(dtype: Any, ndim: int, section: str | None = None) -> Mapping[str, Any]:
    """Of a field: an array that a file keeps as a section, by its name or another."""
    return MappingProxyType({"dtype": np.dtype(dtype), "ndim": ndim, "section": section})


def _projection(ndim: int, section: str) -> Mapping[str, Any]:
    """Of a field: directions, which a file keeps as a section; a single one has one dimension."""
    return MappingProxyType({**_array(np.float64, ndim, section), "projection": True})


class _Kept(NamedTuple):
    """A field that a file keeps."""

    name: str
    section: str
    dtype: np.dtype[Any]
    ndim: int
    needed: bool  # there is none without it
    is_projection: bool


class Record:
    """Arrays, and a few values, by name; read-only."""

    @classmethod
    def from_sections(cls, of: str, sections: Mapping[str, npt.NDArray[Any]],
                      **values: Any) -> Self:
        """The record whose arrays are sections named `of` and by the field, with other values.

        FormatError if one is missing, or is none of these.
        """
        parts: dict[str, Any] = {}
        for part in cls._arrays():
            name = f"{of}.{part.section}"
            array = sections.get(name)
            if array is None:
                if part.needed:
                    raise FormatError(f"section '{name}' is missing")
            elif array.dtype != part.dtype or array.ndim != part.ndim:
                raise FormatError(f"section '{name}': expected {part.dtype} in {part.ndim} "
                                  f"dimensions, got {array.dtype} {array.shape}")
            else:
                parts[part.name] = Projection(np.atleast_2d(array)) if part.is_projection else array
        return cls(**parts, **values)

    def sections(self, of: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays as a file has them."""
        found: dict[str, npt.NDArray[Any]] = {}
        for part in self._arrays():
            value = getattr(self, part.name)
            if isinstance(value, Projection):
                value = value.directions if part.ndim == 2 else value.directions[0]
            if value is not None:
                found[f"{of}.{part.section}"] = value
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(array.nbytes) for array in self.sections("").values())

    @classmethod
    def _arrays(cls) -> list[_Kept]:
        return [_Kept(part.name, part.metadata["section"] or part.name, part.metadata["dtype"],
                      part.metadata["ndim"], part.default is not None,
                      "projection" in part.metadata)
                for part in fields(cls) if part.metadata]  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class CodeArrays(Record):
    """Codes of rows in an order; `_core.Codes` says what each array holds."""

    panels: UInt8Array = field(metadata=_array(np.uint8, 2))
    low_nibbles: UInt8Array | None = field(default=None, metadata=_array(np.uint8, 2, "lower"))
    inv_scale: Float32Array = field(metadata=_array(np.float32, 1, "weights"))
    low_nibble_norm: Float32Array | None = field(
        default=None, metadata=_array(np.float32, 1, "unknown"))
    squares: Float32Array | None = field(default=None, metadata=_array(np.float32, 1))
    signs: npt.NDArray[np.int8] = field(metadata=_array(np.int8, 2))
    slots: Int32Array | None = field(default=None, metadata=_array(np.int32, 1))
    outliers: Int64Array = field(metadata=_array(np.int64, 1))
    bounds: CodeBounds
    pca_filter: Projection | None = field(default=None, metadata=_projection(2, "basis"))
    whole: UInt8Array | None = field(default=None, metadata=_array(np.uint8, 2))
    whole_inv_scale: Float32Array | None = field(
        default=None, metadata=_array(np.float32, 1, "whole_weights"))
    whole_squares: Float32Array | None = field(default=None, metadata=_array(np.float32, 1))
    whole_bounds: CodeBounds | None = None
    # |z| of each panel at most, or of what isn't along the mean query direction.
    max_norm: Float32Array | None = field(default=None, metadata=_array(np.float32, 1, "longest"))
    # A direction that query vectors have in common, and of each panel the most along it.
    mean_query_direction: Projection | None = field(default=None, metadata=_projection(1, "lead"))
    max_along: Float32Array | None = field(default=None, metadata=_array(np.float32, 1, "along"))
    # The transform of rows before they are coded, see `Transform`.
    pca_axes: Projection | None = field(default=None, metadata=_projection(2, "axes"))

    def native(self, n_rows: int, dim: int) -> _core.Codes:
        """Make the core's codes; ValueError or TypeError if the arrays don't fit."""
        return _core.Codes(n_rows, dim, self)

    @property
    def transform(self) -> Transform:
        """The transform of rows before they were coded."""
        return Transform(self.signs, self.pca_axes)

    @property
    def n_directions(self) -> int:
        """Directions of the PCA filter; 0 where there is none."""
        return 0 if self.pca_filter is None else len(self.pca_filter)

    def bytes_at(self, positions: Int64Array) -> UInt8Array:
        """Codes + 128 at some positions of nibbles; low nibbles 0 where they aren't kept."""
        return bytes_at(positions, self.panels, self.low_nibbles)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class PartitionArrays(Record):
    """Partitions of codes; `_core.Partitions` says what each array holds."""

    starts: Int64Array = field(metadata=_array(np.int64, 1))
    panels: UInt8Array = field(metadata=_array(np.uint8, 2))
    inv_scale: Float32Array = field(metadata=_array(np.float32, 1, "weights"))
    squares: Float32Array | None = field(default=None, metadata=_array(np.float32, 1))
    step: float
    relative: bool = False  # whether codes are those of rows less the mean of their partition

    def native(self, codes: CodeArrays) -> _core.Partitions:
        """Make the core's partitions; ValueError or TypeError if they don't fit the codes."""
        return _core.Partitions(codes.transform.n_coded, len(codes.panels), self)

    def at(self, positions: Int64Array) -> Int64Array:
        """The partitions that positions of codes belong to; -1 for none."""
        numbers = np.searchsorted(self.starts, positions, side="right") - 1
        return np.where(numbers < len(self.starts) - 1, numbers, -1)

    def means(self, numbers: npt.NDArray[np.integer[Any]], dim: int) -> Float64Array:
        """The transformed means that rows of some partitions are coded relative to; 0 for -1."""
        panel, partition = numbers // 16, numbers % 16
        width = self.panels.shape[1]
        codes = self.panels.reshape(-1, width // 4, 16, 4)[panel, :, partition]
        units = np.where(numbers < 0, 0.0, 1.0 / self.inv_scale.astype(np.float64)[panel])
        means: Float64Array = units[:, None] * (codes.reshape(len(numbers), width)[:, :dim] - 128.0)
        return means


class Native(NamedTuple):
    """A layout as the core has it."""

    codes: _core.Codes | None = None
    partitions: _core.Partitions | None = None


class Layout(NamedTuple):
    """Codes of all rows of a base, and what goes with them."""

    codes: CodeArrays
    partitions: PartitionArrays | None = None

    def native(self, n_rows: int, dim: int) -> Native:
        """Make the core's layout; ValueError or TypeError if its parts don't fit."""
        codes = self.codes.native(n_rows, dim)
        partitions = None if self.partitions is None else self.partitions.native(self.codes)
        return Native(codes, partitions)


class Origins(NamedTuple):
    """Origins that rows are coded relative to: the means of their partitions."""

    partitions: PartitionArrays
    labels: Int32Array  # the partition of each row; -1 for none

    def of(self, rows: slice, dim: int) -> Float64Array:
        """The means of some rows, transformed."""
        return self.partitions.means(self.labels[rows], dim)
