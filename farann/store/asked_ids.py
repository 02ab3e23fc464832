"""Ids as users give them, integers or strings, and as a store has them."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from farann._types import Ids, Int64Array
from farann.contract import checks
from farann.contract.strings import Strings, are_strings, packed, texts_of, to_strings

if TYPE_CHECKING:
    from farann.store.labels import Labels
    from farann.store.store import Store

# Checked, and not looked up yet.
Checked: TypeAlias = Int64Array | Strings


def checked(store: Store | None, name: str, value: Any, *, single: bool = False,
            copy: bool = True, padding: bool = False) -> Checked:
    """Ids of the kind that an index has; with `single` perhaps one, with `padding` perhaps None."""
    if _takes_strings(store, value):
        return to_strings(name, value, single=single, padding=padding)
    return checks.to_ids(name, value, single=single, copy=copy)


def numbers(store: Store | None, ids: Checked) -> Int64Array:
    """Ids as the store has them; -1 for strings that it hasn't."""
    labels = None if store is None else store.labels
    if isinstance(ids, Strings):
        return np.full(ids.n, -1, np.int64) if labels is None else labels.numbers_of(ids)
    # Of a filter that was made before there were rows.
    return ids if labels is None else np.full(len(ids), -1, np.int64)


def listed(store: Store, name: str, value: Any, n_queries: int,
           single: bool) -> tuple[Int64Array, Int64Array]:
    """Ids for each query, one query after the other, and where each query's begin."""
    if not _takes_strings(store, value):
        return checks.to_listed_ids(name, value, n_queries, single)
    lists, offsets = checks.converted(name, value, n_queries, single,
                                      partial(texts_of, padding=True))
    return numbers(store, packed(name, list(chain.from_iterable(lists)))), offsets


def known_slots(store: Store | None, ids: Ids, name: str = "ids") -> Int64Array:
    """Slots of ids that must be there."""
    wanted = checked(store, name, ids, single=True)
    known = numbers(store, wanted)
    slots = np.full(len(known), -1) if store is None else store.slots_of(known)
    unknown = np.flatnonzero(slots < 0)
    if len(unknown):
        first = int(unknown[0])
        what = repr(wanted.text(first)) if isinstance(wanted, Strings) else wanted[first]
        raise KeyError(f"{name}: {what} is not in the index")
    return slots


def new(ids: Any, n: int) -> Checked | None:
    """Check the ids of n rows to come: n of them, each once, integers or strings."""
    if ids is None or not are_strings(ids):
        return None if ids is None else checks.to_new_ids("ids", ids, n)
    strings = to_strings("ids", ids)
    if strings.n != n:
        raise ValueError(f"ids: expected {n} ids, one a row, got {strings.n}")
    from farann.store.labels import repeated

    twice = repeated(strings)
    if twice is not None:
        raise ValueError(f"ids: expected each id once, got {checks.shown(twice)} twice")
    return strings


def of_new_rows(store: Store, ids: Checked | None, n: int,
                replace: bool) -> tuple[Int64Array, Labels | None]:
    """Ids of n rows to come, and the labels of a store that has them, too; none may be in use
    unless they `replace` rows. A string that is known keeps its number."""
    labels = store.labels
    if isinstance(ids, Strings):
        if labels is None and store.ids.next:
            raise ValueError("ids: expected integers, as the index has integer ids, got strings")
        from farann.store.labels import Labels

        labels = labels or Labels()
        numbers = labels.numbers_of(ids)
    elif labels is not None and n:
        raise ValueError("ids: expected a string for each row, as the index has string ids, "
                         f"got {'none' if ids is None else 'integers'}")
    elif ids is None:
        return store.ids.default_ids(n), labels
    else:
        numbers = ids
    if not replace and len(taken := np.flatnonzero(store.slots_of(numbers) >= 0)):
        first = int(taken[0])
        what = checks.shown(ids.text(first)) if isinstance(ids, Strings) else numbers[first]
        raise ValueError(f"ids: expected ids that are not in use, got {what}; pass replace=True "
                         "to replace rows")
    if isinstance(ids, Strings) and labels is not None:
        fresh = numbers < 0
        numbers[fresh] = len(labels) + np.arange(np.count_nonzero(fresh))
        labels = labels.grown(ids if fresh.all() else ids.of(np.flatnonzero(fresh)))
    return numbers, labels


def _takes_strings(store: Store | None, value: Any) -> bool:
    """Whether ids have to be strings, or are, where the index has none yet."""
    if store is not None and store.labels is not None:
        return True
    return (store is None or store.ids.next == 0) and are_strings(value)
