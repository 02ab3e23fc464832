"""An index as the sections of a file, and back; docs/format.md describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Int32Array, Int64Array, RowArray
from farann.contract import FormatError, checks
from farann.contract.index_spec import CODE_WIDTHS, IndexSpec
from farann.contract.row_types import STORED
from farann.io.container import ArrayChunks
from farann.io.guards import guards_from, guards_of
from farann.io.names import groups_from, labels_from, sections_of_groups, sections_of_labels
from farann.io.tunings import metadata_of, tunings_from
from farann.quantize.records import CodeArrays, CodeBounds, Layout, Native, PartitionArrays
from farann.store.ids import IdMap, distinct
from farann.store.labels import Labels, labels_left
from farann.store.live import Live
from farann.store.store import Store

_CHUNK_BYTES = 1 << 24  # bytes of rows that are taken at a time
# Files of earlier versions may have shortlists, which searches scanned first, or partitions that
# were scored as caps of a sphere. That is ignored, and `recall=` is measured anew, as tables that
# were measured with it promise too much.
_IGNORED = {"seeds.positions", "cells.inv_norms"}
# Section of a transform that earlier versions had.
_SCALING = "stretch"
# Prefix of the names of tables that were measured for the nearest rows.
_NEAREST = "nearest_"


def sections_of(live: Live) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of an index; removed rows are left out."""
    store, spec = live.store, live.spec
    metadata: dict[str, Any] = {
        "metric": spec.metric.name, "dim": None if store is None else store.dim,
        "codes": spec.codes, "cells": spec.cells, "keep_vectors": spec.vectors, "seed": spec.seed}
    if spec.row_type != "float32":  # such files are what they were before there were others
        metadata["dtype"] = spec.row_type
    if store is None:
        return metadata | {"count": 0, "next_id": 0, "built": False}, {}
    ids = store.ids if store.alive is None else store.ids.kept(store.live_slots())
    metadata |= {"count": len(store), "next_id": ids.next, "built": store.built}
    # Rows that are there as codes alone come first, and have no vectors to write.
    n_coded = 0 if store.n_coded is None else int(
        np.searchsorted(store.live_slots(), store.n_coded))
    n_rows = len(store) - n_coded
    arrays: dict[str, Any] = {}
    if n_rows or not n_coded:
        arrays["rows"] = ArrayChunks(store.base.dtype, (n_rows, store.dim), _chunks(store, n_coded))
    ids, labels = labels_left(ids, store.labels)
    if labels is not None:
        metadata["next_id"] = ids.next
        arrays |= sections_of_labels("labels", labels)
    groups = store.groups if store.alive is None else store.groups_of(store.live_slots())
    if groups is not None:
        arrays |= sections_of_groups(groups)
    by_slot = ids.by_slot()
    if by_slot is not None:
        arrays["ids"] = by_slot
    if store.built:
        arrays["centre"] = store.centre.astype(np.float32)
    layout = store.layout
    if n_coded:
        layout, arrays["codes.outlier_rows"] = store.kept()
        metadata["codes_recall"] = store.codes_recall
        metadata["coded"] = n_coded
    if layout is not None and (n_coded or len(store) == len(store.base) == store.n_slots):
        # Codes are of all rows or of none: what was added or removed since, `build` will code.
        arrays |= _of_layout(layout, _OURS, metadata)
        if store.exact is not None:
            arrays |= _of_layout(store.exact, _EXACT, metadata)
        arrays |= _of_tables(store, metadata)
    return metadata, arrays


def _of_tables(store: Store, metadata: dict[str, Any]) -> dict[str, Any]:
    """Arrays of what was measured of a layout; tables are put to the metadata."""
    arrays: dict[str, Any] = {}
    if store.for_nearest:
        metadata["for_nearest"] = True
    for prefix, of_layout in (("", store.tunings), (_NEAREST, store.nearest_tunings)):
        tunings = list(of_layout.by_k.values())
        if prefix and not tunings:  # such files are what they were before there were these
            continue
        metadata |= metadata_of(tunings, prefix)
        by_k, kept = guards_of(of_layout.guards, {t.k for t in tunings}, prefix)
        if by_k:
            metadata[f"{prefix}guards"] = by_k
            arrays |= kept
    return arrays


class _Names(NamedTuple):
    """The names of a layout's parts in a file."""

    codes: str
    bounds: str
    whole_bounds: str


_OURS = _Names("codes", "code_bounds", "whole_bounds")
_EXACT = _Names("exact", "exact_bounds", "exact_whole_bounds")


def _of_layout(layout: Layout, names: _Names, metadata: dict[str, Any]) -> dict[str, Any]:
    """Arrays of a layout; values that are none are put to the metadata."""
    codes, partitions = layout
    arrays = codes.sections(names.codes)
    metadata[names.bounds] = list(codes.bounds)
    if codes.whole_bounds is not None:
        metadata[names.whole_bounds] = list(codes.whole_bounds)
    if partitions is not None:
        arrays |= partitions.sections("cells")
        metadata["cell_unit"] = partitions.step
        if partitions.relative:
            metadata["relative"] = True
    return arrays


def _chunks(store: Store, first: int) -> Iterator[RowArray]:
    step = max(1, _CHUNK_BYTES // (store.base.itemsize * store.dim))
    live = store.live_slots() if store.alive is not None else None
    n = len(store)
    for start in range(first, n, step):
        stop = min(start + step, n)
        if live is None and stop <= len(store.base):
            yield store.base[start:stop]
            continue
        slots = live[start:stop] if live is not None else np.arange(start, stop, dtype=np.int64)
        yield store.stored(slots)


def settings_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The settings to make an index like that of a file."""
    check_metadata(metadata)
    kept = ("dim", "metric", "codes", "cells", "keep_vectors", "seed")
    return {name: metadata[name] for name in kept} | {"dtype": metadata.get("dtype", "float32")}


def store_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], spec: IndexSpec,
             *, checked: bool) -> Store | None:
    """The rows that a file holds; `checked` reads them all for NaN and the like."""
    dim, count = metadata["dim"], metadata["count"]
    if dim is None:
        if count or arrays:
            raise FormatError("the file has rows but no dimension")
        return None
    if "rows" not in arrays and count == 0:
        if arrays:
            raise FormatError("the file has sections but no rows")
        return None
    n_coded = metadata.get("coded", 0)
    store = _rows_of(metadata, arrays, spec, checked)
    made = _layout_of(metadata, arrays, n_coded or count, dim, _OURS)
    if made is not None:
        store.layout, native = made
        _check_layout(store, n_coded)
    if n_coded:
        _restore_coded(store, metadata, arrays)
    if made is not None:
        store.exact, native_exact = _exact_of(metadata, arrays, count, store)
        _restore_tables(store, metadata, arrays)
        store.keep_native(native, native_exact)
    return store


def _restore_tables(store: Store, metadata: Mapping[str, Any],
                    arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Restore the tables that were measured for the furthest and for the nearest rows."""
    for_nearest, spec = metadata.get("for_nearest", False), store.spec
    if not isinstance(for_nearest, bool):
        raise FormatError(f"metadata: 'for_nearest' can't be {checks.shown(for_nearest)}")
    store.for_nearest = for_nearest
    for prefix, of_layout in (("", store.tunings), (_NEAREST, store.nearest_tunings)):
        of_layout.removed_before = store.n_removed
        tables = tunings_from(metadata, store.partitions is not None, prefix)
        guards = guards_from(metadata, arrays, tables, store.dim, spec, prefix)
        if _IGNORED.isdisjoint(arrays):
            of_layout.by_k, of_layout.guards = tables, guards


def _rows_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], spec: IndexSpec,
             checked: bool) -> Store:
    """The rows, their ids and center, without a layout."""
    dim, count, n_coded = metadata["dim"], metadata["count"], metadata.get("coded", 0)
    rows = np.empty((0, dim), spec.stored)
    if "rows" in arrays or n_coded < count:
        rows = _section(arrays, "rows", spec.stored, (count - n_coded, dim))
    ids = _section(arrays, "ids", np.int64, (count,)) if "ids" in arrays else None
    if ids is not None and count and (ids.min() < 0 or len(distinct(ids)) < count):
        raise FormatError("the ids are negative or not unique")
    bad = _core.first_bad_row(rows, spec.metric.normalized) if checked else -1
    if bad >= 0:
        raise FormatError(f"row {bad} is not a finite vector")
    store = Store(dim, spec)
    store.labels = _labels_of(metadata, arrays, ids, checked)
    store.groups = groups_from(arrays, count)
    store.ids, store.built = IdMap.restored(ids, count, metadata["next_id"]), metadata["built"]
    if n_coded:
        store.n_coded, store._tail, store._n_tail = n_coded, rows, len(rows)
    else:
        store.base = rows
    if store.built:
        centre = _section(arrays, "centre", np.float32, (dim,))
        store.centre = centre.astype(np.float64)  # whose squares don't overflow
        if not np.isfinite(centre).all() or (
                spec.metric.normalized and np.linalg.norm(store.centre) > 1.001):
            raise FormatError("the centre is not one of these rows")
    return store


def _labels_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]],
               ids: Int64Array | None, checked: bool) -> Labels | None:
    """The strings that rows are called by, if they are."""
    count = metadata["count"]
    labels = labels_from("labels", arrays, count, checked)
    if labels is not None and (
            metadata["next_id"] != count or (ids is not None and count and ids.max() >= count)):
        raise FormatError("the ids are not numbers of labels")
    return labels


def _check_layout(store: Store, n_coded: int) -> None:
    """FormatError unless the layout is of the kind that such an index has."""
    assert store.layout is not None
    (codes, partitions), spec = store.layout, store.spec
    if (codes.squares is None) != (not spec.metric.adds_squared_norm):
        raise FormatError("the codes are not those of this metric: l2 has squares, others none")
    if codes.pca_filter is None and (codes.low_nibbles is None) != (spec.width.low_bits == 0):
        raise FormatError(f"section 'codes.lower' doesn't fit codes of {spec.width.bits} bits")
    if partitions is not None and (partitions.squares is None) != (codes.squares is None):
        raise FormatError("the cells are not those of these codes: only one has squares")
    if partitions is not None and partitions.relative and not (n_coded and spec.width.is_coarse):
        raise FormatError("metadata: 'relative' is for 4-bit codes without vectors")


def _restore_coded(store: Store, metadata: Mapping[str, Any],
                   arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Restore a store that has codes but no vectors."""
    codes = store.codes
    if (codes is None or codes.pca_filter is not None or codes.pca_axes is not None
            or codes.max_norm is not None or not store.built):
        raise FormatError("there are neither vectors nor codes of all coordinates")
    if (codes.squares is None) == store.spec.metric.adds_squared_norm:
        raise FormatError("section 'codes.squares' doesn't fit the metric")
    store.base = _section(arrays, "codes.outlier_rows", store.spec.stored,
                          (len(codes.outliers), store.dim))
    bad = _core.first_bad_row(store.base, store.spec.metric.normalized)
    if bad >= 0:
        raise FormatError(f"row {codes.outliers[bad]} is not a finite vector")
    recall = metadata.get("codes_recall")
    if recall is not None and not (isinstance(recall, float) and 0.0 <= recall <= 1.0):
        raise FormatError(f"metadata: 'codes_recall' can't be {checks.shown(recall)}")
    store.codes_recall = recall


def _exact_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], count: int,
              store: Store) -> tuple[Layout | None, Native | None]:
    """The layout that exact searches have for themselves, and the same as the core has it."""
    made = _layout_of(metadata, arrays, count, store.dim, _EXACT)
    if made is None:
        return None, None
    codes, ours = made[0].codes, store.codes
    if (ours is None or store.partitions is None or store.n_coded is not None
            or (codes.squares is None) != (ours.squares is None)
            or codes.transform.n_coded != ours.transform.n_coded
            or codes.n_directions != ours.n_directions
            or (codes.pca_filter is None
                and (codes.low_nibbles is None) != (ours.low_nibbles is None))):
        raise FormatError("the codes for exact searches don't fit the others")
    return made


def _layout_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], count: int,
               dim: int, names: _Names) -> tuple[Layout, Native] | None:
    """The layout of `count` rows, and the same as the core has it."""
    if names.bounds not in metadata:
        return None
    bounds = _bounds(metadata, names.bounds)
    if bounds is None:
        raise FormatError(f"metadata: {names.bounds!r} can't be None")
    if f"{names.codes}.{_SCALING}" in arrays:
        raise FormatError(f"section '{names.codes}.{_SCALING}' is of a version before 0.1.0, whose "
                          "codes this one can't read: build the index again")
    codes = CodeArrays.from_sections(names.codes, arrays, bounds=bounds,
                                     whole_bounds=_bounds(metadata, names.whole_bounds))
    with _refusing("the codes are not those of these rows"):
        of_core = codes.native(count, dim)
    if codes.slots is not None and not _covers(codes.slots, codes.outliers, count):
        raise FormatError("the codes are not one of each row")
    partitions, partitions_of_core = _partitions_of(metadata, arrays, codes, of_core) if (
        names is _OURS) else (None, None)
    return Layout(codes, partitions), Native(of_core, partitions_of_core)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """FormatError where the core finds that parts don't fit."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise FormatError(f"{what}: {error}") from None


def _covers(slots: Int32Array, outliers: Int64Array, count: int) -> bool:
    """Whether slots (-1 for none) and outliers, all in range, are each of `count` rows once.

    A row that is missing would never be found. This takes a byte a row, and of a mapped file it
    reads the slots, which the core has read before.
    """
    there = slots[slots >= 0]
    if len(there) + len(outliers) != count:  # before there is memory for what a file claims
        return False
    seen = np.zeros(count, np.bool_)
    seen[there] = seen[outliers] = True
    return bool(seen.all())


def _partitions_of(metadata: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]],
                   codes: CodeArrays,
                   of_core: _core.Codes) -> tuple[PartitionArrays | None, _core.Partitions | None]:
    relative = metadata.get("relative", False)
    if not isinstance(relative, bool) or (relative and "cell_unit" not in metadata):
        raise FormatError(f"metadata: 'relative' can't be {checks.shown(relative)}")
    if "cell_unit" not in metadata:
        return None, None
    unit = metadata["cell_unit"]
    if not isinstance(unit, float):
        raise FormatError(f"metadata: 'cell_unit' can't be {checks.shown(unit)}")
    partitions = PartitionArrays.from_sections("cells", arrays, step=unit, relative=relative)
    with _refusing("the cells are not those of these codes"):
        made = partitions.native(codes)
    if partitions.starts[-1] < of_core.n_filled:
        raise FormatError("the cells are not those of these codes: they leave rows out")
    return partitions, made


def _bounds(metadata: Mapping[str, Any], name: str) -> CodeBounds | None:
    bounds = metadata.get(name)
    if bounds is None:
        return None
    if not (isinstance(bounds, list)
            and len(bounds) in (CodeBounds._fields.index("outside"), len(CodeBounds._fields))
            and all(isinstance(bound, float) for bound in bounds)):
        raise FormatError(f"metadata: {name!r} can't be {checks.shown(bounds)}")
    return CodeBounds(*bounds)


def _section(arrays: Mapping[str, npt.NDArray[Any]], name: str, dtype: Any,
             shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = arrays.get(name)
    if array is None:
        raise FormatError(f"section {name!r} is missing")
    if array.dtype != dtype or array.shape != shape:
        raise FormatError(f"section {name!r}: expected {np.dtype(dtype)} {shape}, "
                          f"got {array.dtype} {array.shape}")
    return array


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that no index could have written."""
    expected: dict[str, Any] = {
        "metric": lambda v: v in _core.METRICS,
        "dim": lambda v: v is None or (_is_int(v) and 1 <= v <= checks.MOST_DIM),
        "count": lambda v: _is_int(v) and 0 <= v < 2**48,
        "next_id": lambda v: _is_int(v) and 0 <= v <= 2**63,
        "codes": lambda v: v in CODE_WIDTHS,
        "cells": lambda v: v is None or v == "auto" or (
            _is_int(v) and 1 <= v < 2**63),
        "keep_vectors": lambda v: isinstance(v, bool),
        "seed": lambda v: _is_int(v) and 0 <= v <= checks.MOST_SEED,
        "built": lambda v: isinstance(v, bool),
    }
    for key, fits in expected.items():
        if key not in metadata:
            raise FormatError(f"metadata: {key!r} is missing")
        if not isinstance(metadata[key], (str, int, bool, type(None))) or not fits(metadata[key]):
            raise FormatError(f"metadata: {key!r} is {checks.shown(metadata[key])}, which "
                              "this version of farann does not know")
    if "dtype" in metadata and (not isinstance(metadata["dtype"], str)
                                or metadata["dtype"] not in STORED):
        raise FormatError(f"metadata: 'dtype' is {checks.shown(metadata['dtype'])}, which this "
                          "version of farann does not know")
    if metadata["cells"] is not None and metadata["codes"] == "float32":
        raise FormatError("metadata: there can't be cells without codes")
    coded = metadata.get("coded", 0)
    if not (_is_int(coded) and 0 <= coded <= metadata["count"]):
        raise FormatError(f"metadata: 'coded' can't be {checks.shown(coded)}")
    if (not metadata["keep_vectors"] and metadata["codes"] == "float32") or (
            coded and metadata["keep_vectors"]):
        raise FormatError("metadata: 'keep_vectors' doesn't fit the codes")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
