"""An index as the sections of a file, and back; docs/format.md describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from math import inf, isfinite, isinf, isnan, nan
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Int32Array, Int64Array, RowArray, UInt8Array
from farann.contract import FormatError, checks
from farann.contract.index_spec import IndexSpec
from farann.contract.strings import SPARE
from farann.io.container import ArrayChunks
from farann.layout.added_rows import Added, own, parts, shared
from farann.quantize.records import CodeArrays, Layout, PartitionArrays
from farann.runtime import paging
from farann.runtime.pool import default_isa
from farann.store.groups import Groups
from farann.store.ids import IdMap, distinct
from farann.store.labels import Labels
from farann.store.live import Live
from farann.store.store import Store
from farann.tuning.guard import Guard, GuardArrays, KeyArrays
from farann.tuning.table import Measured, Tuning, Tunings

# Metadata: arguments of `Index`, counts with their largest values, flags.
_SETTINGS = ("dim", "metric", "dtype", "codes", "cells", "keep_vectors", "seed")
_MOST = {"count": 2**48 - 1, "base": 2**48 - 1, "next_id": 2**63, "coded": 2**48 - 1}
_FLAGS = ("built", "for_nearest")
_NEAREST = "nearest_"  # prefix of the names of tables that were measured for the nearest rows
# JSON has neither infinity, the effort of exact search, nor NaN, an unknown value: null is used.
_NULLS = {"rows": inf, "deviations": inf, "predicted_thresholds": nan, "late": nan,
          "late_spread": nan}
_COLUMNS = ("rows", "deviations", "recalls", "costs", "predicted_thresholds", "single_costs",
            "late", "late_spread")

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


def sections_of(live: Live) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of an index as it is: removed rows are marked."""
    store, spec = live.store, live.spec
    metadata: dict[str, Any] = {
        "metric": spec.metric.name, "dim": None if store is None else store.dim,
        "dtype": spec.row_type, "codes": spec.codes, "cells": spec.cells,
        "keep_vectors": spec.vectors, "seed": spec.seed, "count": 0, "base": 0, "next_id": 0,
        "built": False, "coded": 0, "codes_recall": None, "for_nearest": False}
    if store is None:
        return metadata, {}
    ids, count, n_coded = store.ids, store.n_slots, store.n_coded or 0
    metadata |= {"count": count, "base": store.n_base if store.built else count,
                 "next_id": ids.next, "built": store.built, "coded": n_coded}
    arrays: dict[str, Any] = {}
    # Rows that are there as codes alone come first, and have no vectors to write.
    if count > n_coded or not n_coded:
        arrays["rows"] = ArrayChunks(store.base.dtype, (count - n_coded, store.dim),
                                     [store.tail] if n_coded else _rows_in_order(store))
    if store.n_removed and store.mask is not None:
        arrays["removed"] = np.flatnonzero(store.mask == 0).astype(np.int64, copy=False)
    if store.labels is not None:
        arrays |= _sections_of_labels("labels", store.labels)
    if store.groups is not None:
        arrays |= _sections_of_groups(store.groups)
    by_slot = ids.by_slot()
    if by_slot is not None:
        arrays["ids"] = by_slot
    if store.built:
        arrays["center"] = store.center.astype(np.float32)
    if n_coded:
        arrays["codes.outlier_rows"] = store.base
        metadata["codes_recall"] = store.codes_recall
    if store.layout is not None:
        arrays |= _sections_of_codes(store, store.layout)
        metadata["for_nearest"] = store.for_nearest
        facts, guards = sections_of_tables(store)
        return metadata | facts, arrays | guards
    return metadata, arrays


def shared_sections_of(live: Live) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The same for another index in memory: arrays that are in one piece are shared, and as they
    can't be written to, what is added to either goes elsewhere."""
    metadata, sections = sections_of(live)
    arrays = dict[str, npt.NDArray[Any]]()
    for name, section in sections.items():
        whole = section
        if isinstance(section, ArrayChunks):
            chunks = [chunk for chunk in section.chunks if len(chunk)]
            whole = chunks[0] if len(chunks) == 1 else np.concatenate(
                [np.empty((0, *section.shape[1:]), section.dtype), *chunks])
        arrays[name] = whole.view()
        arrays[name].flags.writeable = False
    return metadata, arrays


def _rows_in_order(store: Store) -> Iterator[RowArray]:
    """All rows; those in a mapped file are read from beginning to end."""
    with paging.in_order(store.base, then=store.reading):
        yield store.base
    yield store.tail


def _sections_of_codes(store: Store, layout: Layout) -> dict[str, Any]:
    """Sections of the codes of the base, and of those of added rows."""
    sections: dict[str, Any] = layout.codes.sections("codes")
    if layout.partitions is not None:
        sections |= layout.partitions.sections("partitions")
    if store.exact is not None:
        sections |= store.exact.codes.sections("exact")
    if store.added is not None and store.added.codes is not None:
        sections |= sections_of_added(store.added, store.added.codes)
    return sections


def sections_of_added(added: Added, codes: CodeArrays) -> dict[str, Any]:
    """Codes of added rows, run by run; those that were merged into others are left out."""
    runs, ends = added.runs, np.cumsum([run.n for run in added.runs], dtype=np.int64)
    sections: dict[str, Any] = {name: array for name, array in codes.sections("added").items()
                                if name.endswith("bounds")}
    for name, values, step in parts(codes):
        sections[f"added.{name}"] = ArrayChunks(
            values.dtype, (int(ends[-1]) // step, *values.shape[1:]),
            [values[run.start // step : run.stop // step] for run in runs])
    return sections | {"added.ends": ends}


def _sections_of_labels(name: str, labels: Labels) -> dict[str, Any]:
    """Sections of strings."""
    ends, octets, _ = labels.strings
    used = len(octets) - SPARE  # behind them may be others, of a later index
    return {f"{name}.ends": ends, f"{name}.bytes": ArrayChunks(np.uint8, octets.shape, [
        octets[:used], np.zeros(SPARE, np.uint8)])}


def _sections_of_groups(groups: Groups) -> dict[str, Any]:
    """Sections of the groups of all rows."""
    sections: dict[str, Any] = {"groups.numbers": groups.by_slot()}
    if isinstance(groups.names, Labels):
        return sections | _sections_of_labels("groups", groups.names)
    return sections | {"groups.labels": groups.labels_of(np.arange(len(groups), dtype=np.int64))}


def settings_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The settings to make an index like that of a file, unchecked; all other metadata is checked.
    """
    metadata = {"base": _n_base(metadata), **metadata}
    for key in (*_SETTINGS, *_MOST, *_FLAGS, "codes_recall"):
        if key not in metadata:
            raise FormatError(f"metadata: {key!r} is missing")
    recall = metadata["codes_recall"]
    fits = {key: type(metadata[key]) is int and 0 <= metadata[key] <= most
            for key, most in _MOST.items()}
    fits |= {key: isinstance(metadata[key], bool) for key in _FLAGS}
    fits["codes_recall"] = recall is None or (isinstance(recall, float) and 0.0 <= recall <= 1.0)
    for key, does in fits.items():
        if not does:
            raise FormatError(f"metadata: {key!r} is {checks.shown(metadata[key])}, which "
                              "this version of farann does not know")
    if metadata["coded"] > (0 if metadata["keep_vectors"] is True else metadata["count"]):
        raise FormatError("metadata: 'coded' rows don't fit 'count' and 'keep_vectors'")
    if metadata["base"] > metadata["count"] or (
            metadata["coded"] and metadata["base"] != metadata["coded"]):
        raise FormatError("metadata: 'base' rows don't fit 'count' and 'coded'")
    return {name: metadata[name] for name in _SETTINGS}


def store_of(metadata: Mapping[str, Any], arrays: Arrays, spec: IndexSpec, *,
             checked: bool) -> Store | None:
    """The rows that a file holds; `checked` reads them all for NaN and the like."""
    dim, count, n_coded = metadata["dim"], metadata["count"], metadata["coded"]
    if dim is None:
        if count or arrays:
            raise FormatError("the file has rows but no dimension")
        return None
    if "rows" not in arrays and count == 0:
        if arrays:
            raise FormatError("the file has sections but no rows")
        return None
    store, n_base = _rows_of(metadata, arrays, spec, checked), _n_base(metadata)
    store.layout = _layout_of("codes", arrays, n_base, n_coded, dim, spec)
    if n_coded:
        _restore_coded(store, metadata, arrays)
    store.added = _added_from(arrays, store)
    if store.layout is not None:
        store.exact = _layout_of("exact", arrays, n_base, n_coded, dim, spec)
        widths = {(layout.codes.transform.n_coded, layout.codes.n_directions)
                  for layout in (store.layout, store.exact) if layout is not None}
        if store.exact is not None and (n_coded or store.partitions is None or len(widths) > 1):
            raise FormatError("the codes for exact searches don't fit the others")
        store.for_nearest = metadata["for_nearest"]
        restore_tables(store, metadata, arrays)
        paging.advise(store.base, store.reading)
        if store.layout.codes.whole is not None:  # read where a PCA filter leaves rows
            paging.advise(store.layout.codes.whole, paging.RANDOM)
    return store


def _n_base(metadata: Mapping[str, Any]) -> Any:
    """Rows of the last build; files of format 2 don't say, as they have codes of all rows or none.
    """
    return metadata.get("base", metadata.get("coded") or metadata.get("count"))


def _rows_of(metadata: Mapping[str, Any], arrays: Arrays, spec: IndexSpec, checked: bool) -> Store:
    """The rows, their ids and center, without a layout."""
    dim, count, n_coded = metadata["dim"], metadata["count"], metadata["coded"]
    rows = np.empty((0, dim), spec.stored)
    if "rows" in arrays or n_coded < count:
        rows = section(arrays, "rows", spec.stored, (count - n_coded, dim))
    bad = _core.first_bad_row(rows, spec.metric.normalized) if checked else -1
    if bad >= 0:
        raise FormatError(f"row {bad} is not a finite vector")
    store = Store(dim, spec)
    store.mask = _mask_from(arrays, count)
    store.n_removed = 0 if store.mask is None else count - int(np.count_nonzero(store.mask))
    ids = section(arrays, "ids", np.int64, (count,)) if "ids" in arrays else None
    if ids is not None and count and (ids.min() < 0 or _hides_rows(ids, store.mask)):
        raise FormatError("the ids are negative or not unique")
    store.labels = labels_from("labels", arrays, None, checked)
    if store.labels is not None and not (
            metadata["next_id"] == len(store.labels)
            and (count if ids is None else int(ids.max(initial=-1)) + 1) <= len(store.labels)):
        raise FormatError("the ids are not numbers of labels")
    store.groups = _groups_from(arrays, count)
    store.ids, store.built = IdMap.restored(ids, count, metadata["next_id"]), metadata["built"]
    if n_coded:
        store.n_coded, store._tail, store._n_tail = n_coded, rows, len(rows)
    else:
        n_base = _n_base(metadata)
        store.base, store._tail, store._n_tail = rows[:n_base], rows[n_base:], count - n_base
    if store.built:
        center = section(arrays, "center", np.float32, (dim,))
        store.center = center.astype(np.float64)  # whose squares don't overflow
        if not np.isfinite(center).all() or (
                spec.metric.normalized and np.linalg.norm(store.center) > 1.001):
            raise FormatError("the center is not one of these rows")
    return store


def _mask_from(arrays: Arrays, count: int) -> UInt8Array | None:
    """A byte for each of `count` rows, 0 for those that are removed; None where none is."""
    if "removed" not in arrays:
        return None
    live = np.ones(count, np.uint8)
    live[removed_from(arrays, count)] = 0
    return live


def removed_from(arrays: Arrays, count: int) -> Int64Array:
    """Numbers of removed rows, of which there are some."""
    removed: Int64Array = section(arrays, "removed", np.int64, (None,))
    if not len(removed) or removed[0] < 0 or removed[-1] >= count or (
            removed[1:] <= removed[:-1]).any():
        raise FormatError("section 'removed': expected ascending numbers of rows")
    return removed


def _hides_rows(ids: Int64Array, live: UInt8Array | None) -> bool:
    """Whether a later row has the id of one that isn't removed."""
    order = ids.argsort(kind="stable")
    earlier = order[:-1][ids[order[1:]] == ids[order[:-1]]]
    return bool(len(earlier) and (live is None or live[earlier].any()))


def labels_from(name: str, arrays: Arrays, count: int | None, checked: bool) -> Labels | None:
    """Strings, as many as `count` says if it does; None where there are none."""
    if not _has(arrays, name):
        return None
    octets = section(arrays, f"{name}.bytes", np.uint8, (None,))
    ends = section(arrays, f"{name}.ends", (np.uint32, np.uint64), (count,))
    return Labels.restored(ends, octets, checked=checked, name=name)


def _groups_from(arrays: Arrays, count: int) -> Groups | None:
    """The groups of `count` rows; None where rows have none."""
    if not _has(arrays, "groups"):
        return None
    numbers = section(arrays, "groups.numbers", np.int32, (count,))
    names: Labels | IdMap | None = None
    if "groups.labels" in arrays:
        names = with_integers(IdMap(), arrays)
    elif "groups.bytes" in arrays:
        names = labels_from("groups", arrays, None, True)
    if names is None:
        raise FormatError("the labels of groups are missing")
    check_groups(numbers, names)
    return Groups(names, numbers, count)


def with_integers(names: IdMap, arrays: Arrays) -> IdMap:
    """Labels of groups that are integers, with those of a file."""
    labels = section(arrays, "groups.labels", np.int64, (None,))
    if (names.slots_of(labels, None) >= 0).any() or len(distinct(labels)) < len(labels):
        raise FormatError("section 'groups.labels': a label comes twice")
    return names.grown(labels)


def check_groups(numbers: Int32Array, names: Labels | IdMap) -> None:
    """Refuse numbers of groups that have no label."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(names)):
        raise FormatError("section 'groups.numbers': there is no group with such a number")


def _layout_of(of: str, arrays: Arrays, count: int, n_coded: int, dim: int,
               spec: IndexSpec) -> Layout | None:
    """The layout of `count` rows, of the kind that such an index has; None where there is none."""
    if not _has(arrays, of):
        return None
    codes, partitions = CodeArrays.from_sections(of, arrays), None
    if of == "codes" and _has(arrays, "partitions"):
        partitions = PartitionArrays.from_sections("partitions", arrays)
    layout = Layout(codes, partitions)
    try:
        native_codes, _ = layout.native(count, dim)
    except (TypeError, ValueError) as error:
        raise FormatError(f"the codes are not those of these rows: {error}") from None
    if codes.slots is not None and not _covers(codes.slots, codes.outliers, count):
        raise FormatError("the codes are not one of each row")
    if partitions is not None and partitions.starts[-1] < native_codes.n_filled:
        raise FormatError("the partitions are not those of these codes: they leave rows out")
    of_l2 = spec.metric.adds_squared_norm
    if (codes.squares is not None) != of_l2 or (codes.max_square is not None and not of_l2):
        raise FormatError("the codes are not those of this metric: l2 has squares, others none")
    if codes.pca_filter is None and (codes.low_nibbles is None) != (spec.width.low_bits == 0):
        raise FormatError(f"section '{of}.low_nibbles' doesn't fit codes of {spec.width.bits} bits")
    if partitions is not None and (partitions.squares is None) != (codes.squares is None):
        raise FormatError("the partitions are not those of these codes: only one has squares")
    if partitions is not None and partitions.relative and not (n_coded and spec.width.is_coarse):
        raise FormatError("section 'partitions.relative' is for 4-bit codes without vectors")
    return layout


def _added_from(arrays: Arrays, store: Store) -> Added | None:
    """Codes of added rows; None where there are none."""
    base = store.codes
    if base is None or store.n_coded is not None:
        if _has(arrays, "added"):
            raise FormatError("there are codes of added rows, but not of the others")
        return None
    # As after `Store.with_rows`: rows without codes wait for them.
    waiting = np.arange(len(store.tail), dtype=np.int64)
    if not _has(arrays, "added"):
        return Added(waiting=waiting) if len(waiting) else None
    return with_runs(Added(), arrays, base, store, store.n_slots)


def with_runs(before: Added, arrays: Arrays, base: CodeArrays, store: Store, count: int) -> Added:
    """Codes of the added rows of a store that is to have `count` slots, with the runs of a file."""
    ends, names = section(arrays, "added.ends", np.int64, (None,)), own(base, store.spec)
    if names != {name[6:] for name in arrays if name.startswith("added.")} - {"ends"}:
        raise FormatError("the codes of added rows are not as those of the others")
    codes = replace(CodeArrays.from_sections("added", {
        **arrays, "added.signs": base.signs, "added.outliers": np.empty(0, np.int64)}),
        **shared(base))
    try:
        added = before.with_runs(codes, ends, store.n_base, count - store.n_base)
        assert added.codes is not None
        added.codes.made(partial(_core.Codes, in_runs=True), count, store.dim)
    except (TypeError, ValueError) as error:
        raise FormatError(f"the codes of added rows are not those of these rows: {error}") from None
    return added


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


def _restore_coded(store: Store, metadata: Mapping[str, Any], arrays: Arrays) -> None:
    """Restore a store that has codes but no vectors."""
    codes = store.codes
    if (codes is None or codes.pca_filter is not None or codes.pca_axes is not None
            or codes.max_norm is not None or codes.max_square is not None or not store.built):
        raise FormatError("there are neither vectors nor codes of all coordinates")
    store.base = section(arrays, "codes.outlier_rows", store.spec.stored,
                          (len(codes.outliers), store.dim))
    bad = _core.first_bad_row(store.base, store.spec.metric.normalized)
    if bad >= 0:
        raise FormatError(f"row {codes.outliers[bad]} is not a finite vector")
    store.codes_recall = metadata["codes_recall"]


def _has(arrays: Arrays, of: str) -> bool:
    return any(name.startswith(f"{of}.") for name in arrays)


def section(arrays: Arrays, name: str, dtype: Any,
             shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """An array of a type, or one of several, and of a shape, in which None is any length."""
    array, dtypes = arrays.get(name), dtype if isinstance(dtype, tuple) else (dtype,)
    if array is None:
        raise FormatError(f"section {name!r} is missing")
    if array.dtype not in dtypes or array.ndim != len(shape) or any(
            n not in (None, wanted) for n, wanted in zip(shape, array.shape, strict=True)):
        kinds = " or ".join(np.dtype(one).name for one in dtypes)
        raise FormatError(f"section {name!r}: expected {kinds} {shape}, "
                          f"got {array.dtype} {array.shape}")
    return array


# ---- tables of `Index.tune` ----


def sections_of_tables(store: Store) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """All tables of a store, as metadata and sections."""
    metadata, sections = dict[str, Any](), dict[str, npt.NDArray[Any]]()
    for prefix, tunings in (("", store.tunings), (_NEAREST, store.nearest_tunings)):
        metadata[f"{prefix}tunings"], guards = _sections_of_tables(tunings, prefix)
        sections |= guards
    return metadata, sections


def restore_tables(store: Store, metadata: Mapping[str, Any], arrays: Arrays) -> None:
    """Give a new store the tables of a file."""
    for prefix, tunings in (("", store.tunings), (_NEAREST, store.nearest_tunings)):
        _restore_tables(tunings, metadata, arrays, prefix, store)


def _sections_of_tables(tunings: Tunings, prefix: str) -> tuple[
        list[dict[str, Any]], dict[str, npt.NDArray[Any]]]:
    """Tables as metadata, each with the number of its guard, and the sections of the guards."""
    measured = list(tunings.by_k.values())  # searches may add to them meanwhile
    different = list(dict.fromkeys(one.guard for one in measured if one.guard))
    tables = [{name: _plain(value) for name, value in one.tuning._asdict().items()
               if value or name != "usual"}  # tables of older files have none
              | ({"guard": different.index(one.guard)} if one.guard else {}) for one in measured]
    sections: dict[str, npt.NDArray[Any]] = {}
    for number, guard in enumerate(different):
        sections |= guard.arrays.sections(f"{prefix}guards.{number}")
        if guard.keys is not None:
            sections |= guard.keys.sections(f"{prefix}keys.{number}")
    return tables, sections


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value if isfinite(value) else None


def _restore_tables(tunings: Tunings, metadata: Mapping[str, Any], arrays: Arrays, prefix: str,
                    store: Store) -> None:
    """Restore tables and guards; FormatError for what no index could have written."""
    guard_of = cache(lambda number: _guard_of(prefix, number, arrays, store))
    key = f"{prefix}tunings"
    try:
        for fields in metadata.get(key, []):
            tuning, number = _tuning_of(fields, store.partitions is not None), fields.get("guard")
            if tuning.k in tunings.by_k or not (number is None or type(number) is int):
                raise ValueError(number)
            tunings.by_k[tuning.k] = Measured(tuning, None if number is None else guard_of(number))
    except FormatError:
        raise
    except (TypeError, ValueError, OverflowError, KeyError, IndexError, AttributeError):
        raise FormatError(f"metadata: {key!r} can't be {checks.shown(metadata[key])}") from None


def _guard_of(prefix: str, number: int, arrays: Arrays, store: Store) -> Guard:
    name, of_keys, keys = f"{prefix}guards.{number}", f"{prefix}keys.{number}", None
    if _has(arrays, of_keys):  # not in files of older versions
        keys = KeyArrays.from_sections(of_keys, arrays)
    try:
        if keys is not None and keys.axes.shape[1] != store.dim:
            raise ValueError(f"{of_keys!r} has another dimension")
        return Guard(GuardArrays.from_sections(name, arrays), store.dim,
                     store.spec.metric.scale_free, default_isa(), keys)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{name!r} is no guard of this index: {error}") from None


def _tuning_of(fields: Mapping[str, Any], partitioned: bool) -> Tuning:
    """A table, whose columns have a number for each effort, or none at all."""
    columns = {name: tuple(float(_NULLS[name] if value is None else value)
                           for value in fields[name]) for name in _COLUMNS}
    tuning = Tuning(fields["k"], target=checks.to_float("target", fields["target"]),
                    sampled=fields["sampled"], extends=fields["extends"], **columns,
                    usual=tuple(tuple(inf if value is None else float(value) for value in line)
                                for line in fields.get("usual", ())))  # not in older files
    efforts, n = tuning.efforts, len(tuning.efforts)
    if not (type(tuning.k) is int and 1 <= tuning.k < 2**63 and 0.0 <= tuning.target <= 1.0
            and not (tuning.rows if partitioned else tuning.deviations)
            and efforts[0] >= 0.0 and efforts[-1] == inf
            and all(a < b for a, b in pairwise(efforts))
            and len(tuning.recalls) == len(tuning.costs) == n
            and tuning.recalls[-1] == 1.0 and all(0.0 <= v <= 1.0 for v in tuning.recalls)
            and all(0.0 <= v < inf for name in ("costs", "single_costs") for v in columns[name])
            # Unknown where codes of a sample query tell nothing.
            and all(isnan(v) or 0.0 <= v < inf for name in ("late", "late_spread")
                    for v in columns[name])
            and all(len(columns[name]) in (0, n) for name in _COLUMNS[4:])
            and not any(map(isinf, tuning.predicted_thresholds))
            and len(tuning.late) == len(tuning.late_spread)
            and len(tuning.usual) in (0, n) and all(
                len(line) == 12 and not any(map(isnan, line)) and all(
                    line[i] > 0.0 if i % 2 else isfinite(line[i]) for i in range(12))
                for line in tuning.usual[:-1])
            and type(tuning.sampled) is int and bool(tuning.late) <= tuning.sampled < 2**31
            and isinstance(tuning.extends, bool)
            and not (tuning.extends and (partitioned or not tuning.late))):
        raise ValueError(tuning.k)
    return tuning
