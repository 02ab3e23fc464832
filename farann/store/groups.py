"""The groups of rows, and their labels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Int32Array, Int64Array
from farann.contract import checks
from farann.contract.strings import are_strings, packed, texts_of
from farann.store.ids import IdMap, appended, distinct
from farann.store.labels import Labels

# Labels of groups as they come, checked: integers, or strings.
GroupLabels: TypeAlias = Int64Array | list[str]

_MOST_GROUPS = np.iinfo(np.int32).max


class Groups:
    """The group of each slot, by number, and the labels of groups. Immutable: `grown` and `subset`
    make others, which share unchanged arrays."""

    def __init__(self, names: IdMap | Labels, numbers: Int32Array | None = None,
                 count: int = 0) -> None:
        self.names = names  # integers are kept as ids are
        # By slot, with spare room at the end.
        self._numbers = np.empty(0, np.int32) if numbers is None else numbers
        self._count = count
        # Slots group by group, and where each group's begin. Made when they are first asked for;
        # two threads may make the same, and either will do.
        self._members: tuple[npt.NDArray[Any], Int64Array] | None = None

    def __len__(self) -> int:
        """The number of groups, some perhaps without rows."""
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        members = self._members
        return (self._numbers.nbytes + self.names.nbytes
                + (0 if members is None else members[0].nbytes + members[1].nbytes))

    def by_slot(self) -> Int32Array:
        """The number of each slot's group."""
        return self._numbers[: self._count]

    def labels_of(self, numbers: Int64Array) -> npt.NDArray[Any]:
        """Labels of some groups, by their numbers."""
        names = self.names
        return names.texts(numbers) if isinstance(names, Labels) else names.ids_of(numbers)

    def numbers_of(self, name: str, labels: GroupLabels) -> Int64Array:
        """Numbers of the groups with some labels; -1 where there is none. TypeError for labels of
        the other kind."""
        names = self.names
        if len(labels) == 0:  # of either kind
            return np.empty(0, np.int64)
        if isinstance(labels, list) and isinstance(names, Labels):
            texts = list(dict.fromkeys(labels))
            by_text = dict(zip(texts, names.numbers_of(packed(name, texts)).tolist(), strict=True))
            return np.fromiter((by_text[text] for text in labels), np.int64, len(labels))
        if not isinstance(labels, list) and isinstance(names, IdMap):
            return names.slots_of(labels, None)
        kinds = ("integers", "strings") if isinstance(labels, list) else ("strings", "integers")
        raise TypeError(f"{name}: expected {kinds[0]}, as the labels of the index's groups are, "
                        f"got {kinds[1]}")

    def slots_of(self, number: int) -> Int64Array:
        """Slots of the rows in a group, ascending, with those that are removed."""
        order, starts = self._by_group()
        return order[starts[number] : starts[number + 1]].astype(np.int64)

    def _by_group(self) -> tuple[npt.NDArray[Any], Int64Array]:
        made = self._members
        if made is None:
            numbers = self.by_slot()
            order = np.argsort(numbers, kind="stable")
            counts = np.bincount(numbers, minlength=len(self))
            made = self._members = (order.astype(np.int32) if self._count < _MOST_GROUPS else order,
                                    np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        return made

    def largest(self, numbers: Int32Array) -> int:
        """Rows of the largest of some groups."""
        return int(np.diff(self._by_group()[1])[numbers[numbers >= 0]].max(initial=0))

    def most(self, k: int, per_group: int) -> int:
        """Rows that can be found, at least 1 and at most k, with at most `per_group` of a group."""
        if len(self) >= k:
            return k
        sizes = np.diff(self._by_group()[1])
        return max(1, min(k, int(np.minimum(sizes, per_group).sum())))

    def grown(self, name: str, labels: GroupLabels) -> Groups:
        """Add rows in the groups with these labels, old or new; self stays valid."""
        numbers, names = self.numbers_of(name, labels), self.names
        if len(numbers) and numbers.min() < 0:
            new = np.flatnonzero(numbers < 0)
            if isinstance(labels, list) and isinstance(names, Labels):
                names = names.grown(packed(name, list(dict.fromkeys(labels[i] for i in new))))
            elif not isinstance(labels, list) and isinstance(names, IdMap):
                names = names.grown(distinct(labels[new]))
            numbers = Groups(names).numbers_of(name, labels)
        if len(names) > _MOST_GROUPS:
            raise ValueError(f"{name}: expected at most {_MOST_GROUPS} different labels")
        return self.longer(names, numbers)

    def longer(self, names: IdMap | Labels, numbers: npt.NDArray[Any]) -> Groups:
        """Add rows in the groups with these numbers among all names, old and new ones."""
        return Groups(names, appended(self._numbers, self._count, numbers),
                      self._count + len(numbers))

    def subset(self, slots: Int64Array) -> Groups:
        """Keep these slots alone, in this order; groups without rows are dropped."""
        numbers = self.by_slot()[slots]
        used = np.bincount(numbers, minlength=len(self)) > 0
        names = self.names
        if not used.all():
            left = np.flatnonzero(used).astype(np.int64, copy=False)
            names = names.subset(left)
            numbers = (np.cumsum(used) - 1).astype(np.int32)[numbers]
        return Groups(names, numbers, len(numbers))


def to_labels(name: str, value: Any) -> GroupLabels:
    """Check labels of groups: integers, or strings; perhaps one alone."""
    if isinstance(value, str):
        return [value]
    if are_strings(value):
        return [str(text) for text in texts_of(name, value, padding=False)]
    return checks.to_ids(name, value, single=True, what="integer or string labels")


def of_new_rows(groups: Groups | None, n_before: int, labels: GroupLabels | None, n: int,
                name: str = "groups") -> Groups | None:
    """The groups of an index with n more rows: all rows have one, or none has."""
    if labels is None:
        if groups is not None and n:
            raise ValueError("groups: expected a label for each row, as the index has groups, got "
                             "none")
        return groups
    if len(labels) != n:
        raise ValueError(f"{name}: expected {n} labels, one a row, got {len(labels)}")
    if groups is None:
        if n_before:
            raise ValueError("groups: expected none, as the index has rows without groups; give "
                             "groups from the first rows on")
        groups = Groups(Labels() if isinstance(labels, list) else IdMap())
    return groups.grown("groups", labels)
