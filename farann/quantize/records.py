"""Records of a layout: codes of rows, partitions. Each knows its own sections of a file.

A new array of one of them is a field here, which the core reads by its name and a file keeps under
it; nothing else lists them. The rows of codes lie in panels of 16, in whole bytes or in nibbles of
two groups each, where `farann_pack_codes` in src_c/quantize.c puts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from farann.contract import FormatError
from farann.quantize.transform import Projection, Transform

Made = TypeVar("Made")


class CodeBounds(NamedTuple):
    """Bounds for all coded rows z with the inverse scale w, codes c, low nibbles l of c + 128.

    Of rows that are relative to means, the first two are bounds on what is left of them.
    """

    residual: float  # |w z - c|
    length: float    # |w z|
    low_nibble_norm: float   # |l - 7.5|
    norm: float      # |z|
    rest_step: float = 0.0  # step of the norm in the last group; 0: it holds coordinates
    outside: float = 0.0    # the largest |z'|, the part outside the axes
    outside_length: float = 0.0  # |w z'|
    outside_usual: float = 0.0  # |z'|, the root of its mean square

    def or_larger(self, others: CodeBounds) -> CodeBounds:
        """Bounds for the rows of both."""
        return CodeBounds(*np.maximum(self, others).tolist())


def section(dtype: Any, ndim: int, of: Callable[..., Any] | None = None) -> Mapping[str, Any]:
    """A mark of fields that files keep as sections; `of` makes the value from the array."""
    return MappingProxyType({"dtype": np.dtype(dtype), "ndim": ndim, "of": of})


def _bounds(array: Float64Array) -> CodeBounds:
    if len(array) != len(CodeBounds._fields):
        raise ValueError(f"expected {len(CodeBounds._fields)} bounds, got {len(array)}")
    return CodeBounds(*array.tolist())


def one(array: npt.NDArray[Any]) -> Any:
    """The value of a section that holds one; ValueError otherwise."""
    (value,) = array.tolist()
    return value


def _flag(array: npt.NDArray[Any]) -> bool:
    return bool(one(array))


def _cost(array: npt.NDArray[Any]) -> float:
    cost: float = one(array)
    if not 0.0 <= cost < np.inf:
        raise ValueError(f"expected a cost of at least 0, got {cost}")
    return cost


class Record:
    """Arrays, and a few values, by name; read-only."""

    @classmethod
    def from_sections(cls, of: str, sections: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The record whose fields are sections named `of` and by the field.

        FormatError if one is missing, or is none of these.
        """
        parts: dict[str, Any] = {}
        for part in fields(cls):  # type: ignore[arg-type]
            name, kind = f"{of}.{part.name}", part.metadata
            array = sections.get(name)
            if array is None:
                if part.default is MISSING:
                    raise FormatError(f"section '{name}' is missing")
                continue
            if array.dtype != kind["dtype"] or array.ndim != kind["ndim"]:
                raise FormatError(f"section '{name}': expected {kind['dtype']} in {kind['ndim']} "
                                  f"dimensions, got {array.dtype} {array.shape}")
            try:
                parts[part.name] = array if kind["of"] is None else kind["of"](array)
            except ValueError as error:
                raise FormatError(f"section '{name}': {error}") from None
        return cls(**parts)

    def sections(self, of: str) -> dict[str, npt.NDArray[Any]]:
        """The fields as a file has them."""
        values = {part: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]
        return {f"{of}.{part.name}": np.atleast_1d(np.asarray(
            value.directions if isinstance(value, Projection) else value, part.metadata["dtype"]))
            for part, value in values.items() if value is not None}

    def made(self, kind: Callable[..., Made], *arguments: Any) -> Made:
        """The core's object of these arrays, made once: they always go with the same rows."""
        if "_made" not in self.__dict__:
            self.__dict__["_made"] = kind(*arguments, self)
        made: Made = self.__dict__["_made"]
        return made

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(array.nbytes) for array in self.sections("").values())


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class CodeArrays(Record):
    """Codes of rows in an order; docs/format.md says what each array holds."""

    panels: UInt8Array = field(metadata=section(np.uint8, 2))
    low_nibbles: UInt8Array | None = field(default=None, metadata=section(np.uint8, 2))
    inv_scale: Float32Array = field(metadata=section(np.float32, 1))
    low_nibble_norm: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    squares: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    signs: npt.NDArray[np.int8] = field(metadata=section(np.int8, 2))
    slots: Int32Array | None = field(default=None, metadata=section(np.int32, 1))
    outliers: Int64Array = field(metadata=section(np.int64, 1))
    bounds: CodeBounds = field(metadata=section(np.float64, 1, _bounds))
    pca_filter: Projection | None = field(default=None, metadata=section(np.float64, 2, Projection))
    whole: UInt8Array | None = field(default=None, metadata=section(np.uint8, 2))
    whole_inv_scale: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    whole_squares: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    whole_bounds: CodeBounds | None = field(default=None, metadata=section(np.float64, 1, _bounds))
    # The largest |z| of each panel, or norm across the mean query direction.
    max_norm: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    # In its place under l2, for rows without negative numbers: |x|^2 of each panel at most.
    max_square: Float64Array | None = field(default=None, metadata=section(np.float64, 1))
    # A direction that query vectors have in common, and of each panel the most along it.
    mean_query_direction: Projection | None = field(
        default=None, metadata=section(np.float64, 2, Projection))
    max_along: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    # The transform of rows before they are coded, see `Transform`.
    pca_axes: Projection | None = field(default=None, metadata=section(np.float64, 2, Projection))
    # The first level of single exact queries, see `build.choose_for_singles`: whole codes instead
    # of high nibbles; float32, while they wait for fewer bytes than this (`cost.bytes_waited_for`).
    whole_codes_first: bool = field(default=False, metadata=section(np.uint8, 1, _flag))
    float32_below: float = field(default=0.0, metadata=section(np.float64, 1, _cost))

    @property
    def transform(self) -> Transform:
        """The transform of rows before they were coded."""
        return Transform(self.signs, self.pca_axes)

    @property
    def n_directions(self) -> int:
        """Directions of the PCA filter; 0 where there is none."""
        return 0 if self.pca_filter is None else len(self.pca_filter)

    @property
    def largest(self) -> float:
        """The largest |coordinate| that these codes were made for."""
        inv_scale = self.inv_scale if self.whole_inv_scale is None else self.whole_inv_scale
        return 127.0 / float(inv_scale.min())

    def bytes_at(self, positions: Int64Array) -> UInt8Array:
        """Codes + 128 at some positions of nibbles, (n, 8 * pairs); low nibbles 0 where they
        aren't kept."""
        pairs = self.panels.shape[1] // 4
        panel, row = positions // 16, positions % 16
        high = self.panels.reshape(-1, pairs, 16, 4)[panel, :, row]
        halves = np.stack([high & 15, high >> 4], axis=2) << 4
        if self.low_nibbles is not None:
            own = self.low_nibbles.reshape(-1, 4, pairs, 4, 4)[panel, row // 4, :, row % 4]
            halves |= np.stack([own & 15, own >> 4], axis=2)
        codes: UInt8Array = halves.reshape(len(positions), 8 * pairs).astype(np.uint8, copy=False)
        return codes


def empty_halves(n_positions: int, width: int) -> tuple[UInt8Array, UInt8Array]:
    """Empty panels of high nibbles and of low ones, for codes of `width` bytes."""
    shape = (n_positions, 4 * -(-width // 8))
    return np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class PartitionArrays(Record):
    """Partitions of codes; docs/format.md says what each array holds."""

    starts: Int64Array = field(metadata=section(np.int64, 1))
    panels: UInt8Array = field(metadata=section(np.uint8, 2))
    inv_scale: Float32Array = field(metadata=section(np.float32, 1))
    squares: Float32Array | None = field(default=None, metadata=section(np.float32, 1))
    step: float = field(metadata=section(np.float64, 1, one))
    # Whether codes are those of rows less the mean of their partition.
    relative: bool = field(metadata=section(np.uint8, 1, _flag))

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


class Layout(NamedTuple):
    """Codes of all rows of a base, with scales, squares and error bounds."""

    codes: CodeArrays
    partitions: PartitionArrays | None = None

    def native(self, n_rows: int, dim: int) -> tuple[_core.Codes, _core.Partitions | None]:
        """The core's layout; ValueError or TypeError if its parts don't fit."""
        arrays, parts = self
        codes = arrays.made(_core.Codes, n_rows, dim)
        return codes, None if parts is None else parts.made(
            _core.Partitions, arrays.transform.n_coded, len(arrays.panels))


class Origins(NamedTuple):
    """Origins that rows are coded relative to: the means of their partitions."""

    partitions: PartitionArrays
    labels: Int32Array  # the partition of each row; -1 for none

    def of(self, rows: slice, dim: int) -> Float64Array:
        """The means of some rows, transformed."""
        return self.partitions.means(self.labels[rows], dim)
