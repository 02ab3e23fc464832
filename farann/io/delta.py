"""What changed between two states of an index, as the sections of a frame, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Int64Array, UInt8Array
from farann.contract import FormatError
from farann.io import index_file
from farann.io.index_file import Arrays, section
from farann.layout.added_rows import Added
from farann.store.groups import Groups
from farann.store.ids import IdMap, appended
from farann.store.labels import Labels
from farann.store.store import TAIL_ROOM, Store
from farann.tuning.table import Tunings


class Mark(NamedTuple):
    """What there is to know of a store to tell later what changed since; it keeps no rows."""

    build: object = None
    edits: int = 0
    n_slots: int = 0
    n_removed: int = 0
    mask: UInt8Array | None = None
    n_labels: int | None = None
    n_groups: int | None = None
    runs: tuple[npt.NDArray[np.int32], ...] = ()  # slots of each
    tables: tuple[dict[int, Any], dict[int, Any]] = ({}, {})

    def is_build_of(self, store: Store | None) -> bool:
        """Whether a store differs in rows that were added or removed alone."""
        return store is not None and self.build is store.build

    def has_rows_of(self, store: Store | None) -> bool:
        """Whether a store has the same rows, perhaps in another build."""
        return self.build is None if store is None else self.edits == store.edits


def mark_of(store: Store | None) -> Mark:
    """A mark of a store."""
    if store is None:
        return Mark()
    return Mark(store.build, store.edits, store.n_slots, store.n_removed, store.mask,
                None if store.labels is None else len(store.labels),
                None if store.groups is None else len(store.groups),
                tuple(_slots_of_runs(store.added)), _tables_of(store))


def _slots_of_runs(added: Added | None) -> list[npt.NDArray[np.int32]]:
    if added is None or added.codes is None or added.codes.slots is None:
        return []
    slots = added.codes.slots
    return [slots[run.start : run.stop] for run in added.runs]


def _tables_of(store: Store) -> tuple[dict[int, Any], dict[int, Any]]:
    return dict(store.tunings.by_k), dict(store.nearest_tunings.by_k)


def delta_of(old: Mark, new: Store | None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Metadata and arrays of what changed since a mark, none where nothing did; None where it takes
    a whole file to say it."""
    if new is None:
        return ({}, {}) if old.build is None else None
    if not old.is_build_of(new) or (old.n_labels is None) != (new.labels is None) or (
            old.n_groups is None) != (new.groups is None):
        return None
    count, n = new.n_slots, old.n_slots
    metadata, arrays = dict[str, Any](), dict[str, Any]()
    if count > n:
        arrays["rows"] = new.tail[n - new.n_base :]
        arrays["ids"] = new.ids.ids_of(np.arange(n, count, dtype=np.int64))
        if new.groups is not None and old.n_groups is not None:
            arrays["groups.numbers"] = new.groups.by_slot()[n:]
            arrays |= _names_since(old.n_groups, new.groups.names)
        if new.labels is not None and old.n_labels is not None:
            arrays |= _strings_since("labels", old.n_labels, new.labels)
    if len(removed := _removed_since(old, new)):
        arrays["removed"] = removed
    if new.added is not None and new.added.codes is not None:
        common = _runs_in_common(old, new.added)
        if common < len(new.added.runs):
            since = new.added._replace(runs=new.added.runs[common:])
            arrays |= index_file.sections_of_added(since, new.added.codes)
            metadata["runs"] = common
    if _tables_of(new) != old.tables:
        facts, guards = index_file.sections_of_tables(new)
        metadata |= facts
        arrays |= guards
    if arrays or metadata:
        metadata |= {"count": count, "next_id": new.ids.next}
    return metadata, arrays


def _removed_since(old: Mark, new: Store) -> Int64Array:
    if new.mask is None or new.n_removed == old.n_removed:
        return np.empty(0, np.int64)
    gone = new.mask == 0
    if old.mask is not None:
        gone[: len(old.mask)] &= old.mask != 0
    return np.flatnonzero(gone).astype(np.int64, copy=False)


def _runs_in_common(old: Mark, new: Added) -> int:
    """The number of first runs that are the same: those that were merged have other rows."""
    runs = _slots_of_runs(new)
    same = [np.array_equal(one, other) for one, other in zip(old.runs, runs, strict=False)]
    return [*same, False].index(False)


def _strings_since(name: str, n: int, labels: Labels) -> dict[str, Any]:
    if len(labels) == n:
        return {}
    some = labels.strings.of(np.arange(n, len(labels)))
    return {f"{name}.ends": some.ends.astype(np.uint64), f"{name}.bytes": some.octets}


def _names_since(n: int, names: Labels | IdMap) -> dict[str, Any]:
    if isinstance(names, Labels):
        return _strings_since("groups", n, names)
    if len(names) == n:
        return {}
    return {"groups.labels": names.ids_of(np.arange(n, len(names), dtype=np.int64))}


# ---- back ----


def applied(store: Store | None, metadata: Mapping[str, Any], arrays: Arrays) -> Store | None:
    """A store with the changes of a frame; FormatError for what no index could have written."""
    if not metadata:  # something beside the index changed
        return store
    count, next_id = metadata.get("count"), metadata.get("next_id")
    if store is None or type(count) is not int or type(next_id) is not int or not (
            store.n_slots <= count < 2**48 and store.ids.next <= next_id <= 2**63):
        raise FormatError("'count' or 'next_id' are not those of an index")
    n, live, changes = store.n_slots, store.mask, dict[str, Any]()
    if count > n:  # before there is memory for what is said of them
        section(arrays, "rows", store.spec.stored, (count - n, store.dim))
    if live is not None or "removed" in arrays:
        live = np.append(np.ones(n, np.uint8) if live is None else live,
                          np.ones(count - n, np.uint8))
    if "removed" in arrays and live is not None:
        removed = index_file.removed_from(arrays, count)
        if not live[removed].all():
            raise FormatError("section 'removed': a row is removed twice")
        live[removed] = 0
        changes["n_removed"] = store.n_removed + len(removed)
    if count > n:
        changes |= _with_rows(store, count, next_id, arrays, live)
        if store.codes is not None and store.n_coded is None:
            added = store.added or Added()
            new = np.arange(n, count, dtype=np.int64) - store.n_base
            changes["added"] = added._replace(waiting=np.concatenate([added.waiting, new]))
    if "runs" in metadata:
        changes["added"] = _with_runs(store, metadata["runs"], arrays, count)
    changed = store.changed(mask=live, **changes)
    if {"tunings", "nearest_tunings"} & metadata.keys() and store.layout is not None:
        changed.tunings, changed.nearest_tunings = Tunings(), Tunings()
        index_file.restore_tables(changed, metadata, arrays)
    return changed


def _with_rows(store: Store, count: int, next_id: int, arrays: Arrays,
               live: UInt8Array | None) -> dict[str, Any]:
    n, n_new = store.n_slots, count - store.n_slots
    rows = arrays["rows"]
    bad = _core.first_bad_row(rows, store.spec.metric.normalized)
    if bad >= 0:
        raise FormatError(f"row {n + bad} is not a finite vector")
    numbers = section(arrays, "ids", np.int64, (n_new,))
    labels = store.labels
    if labels is not None:
        labels = _longer("labels", labels, arrays)
    if numbers.min() < 0 or numbers.max() >= (next_id if labels is None else len(labels)) or (
            labels is not None and next_id != len(labels)):
        raise FormatError("section 'ids': expected ids below 'next_id'")
    ids = store.ids.grown(numbers)
    ids.next = next_id
    # Each row that is not removed is the last one with its id, and the only one.
    of_new = np.arange(n, count, dtype=np.int64)
    here = of_new if live is None else of_new[live[n:] != 0]
    before = store.ids.slots_of(numbers, None if live is None else live[:n])
    if (before >= 0).any() or (ids.slots_of(ids.ids_of(here), None) != here).any():
        raise FormatError("the ids are not unique")
    changes: dict[str, Any] = {
        "ids": ids, "labels": labels, "_n_tail": store._n_tail + n_new,
        "_tail": appended(store._tail, store._n_tail, rows, TAIL_ROOM, least=0)}
    if store.groups is not None:
        changes["groups"] = _with_groups(store.groups, arrays, n_new)
    return changes


def _with_groups(groups: Groups, arrays: Arrays, n_new: int) -> Groups:
    names = groups.names
    if isinstance(names, Labels):
        names = _longer("groups", names, arrays)
    elif "groups.labels" in arrays:
        names = index_file.with_integers(names, arrays)
    numbers = section(arrays, "groups.numbers", np.int32, (n_new,))
    index_file.check_groups(numbers, names)
    return groups.longer(names, numbers)


def _longer(name: str, labels: Labels, arrays: Arrays) -> Labels:
    """Labels with those of a frame."""
    if f"{name}.ends" not in arrays:
        return labels
    more = index_file.labels_from(name, arrays, None, True)
    assert more is not None
    if (labels.numbers_of(more.strings) >= 0).any():
        raise FormatError(f"section '{name}.bytes': a string is there already")
    return labels.grown(more.strings)


def _with_runs(store: Store, common: Any, arrays: Arrays, count: int) -> Added:
    before, base = store.added or Added(), store.codes
    if base is None or store.n_coded is not None or (
            type(common) is not int or not 0 <= common <= len(before.runs)):
        raise FormatError("'runs' are not those of an index")
    return index_file.with_runs(before._replace(runs=before.runs[:common]), arrays, base, store,
                                count)
