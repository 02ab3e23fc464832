"""Filters by metadata, and the values of the field that documents are grouped by."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
Metadata = Mapping[str, Any]
Passes = Callable[[Any], bool]  # of a document, metadata or a value

_MOST_LABEL = 256  # characters of a group's label; of longer ones the hash is kept
_UNHASHABLE = object()  # the values that no dict takes share this key


class Condition(NamedTuple, Generic[T]):
    """A filter of documents, and what is needed to apply it to groups.

    Attributes
    ----------
    passes : callable
        Whether a document may be found.
    of_group : callable, optional
        The same of metadata, for a filter that reads no other field than that of groups.
    choices : list, optional
        Values one of which the field has to be equal to.
    """

    passes: Callable[[T], bool]
    of_group: Callable[[Metadata], bool] | None = None
    choices: list[Any] | None = None


class GroupValues:
    """The values of one field of documents, each with the label of its group.

    A filter by that field is applied to the values rather than to all documents. So it finds the
    same with groups and without.

    Parameters
    ----------
    field : str
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._by_label: dict[str, Metadata] = {}
        self._labels_of: dict[Any, list[str]] = {}  # by value, to look up what a filter is equal to
        self._ambiguous = False  # whether different values have one label

    def __len__(self) -> int:
        return len(self._by_label)

    def label(self, metadata: Metadata, known: str | None = None) -> str:
        """Note the value of a document; return its label, by default one made of the value."""
        field = self._field
        own = {field: metadata[field]} if field in metadata else {}
        value = own.get(field)
        if known is None:
            known = repr(value) if own else ""
            if len(known) > _MOST_LABEL:
                known = hashlib.sha256(known.encode(errors="replace")).hexdigest()
        noted = self._by_label.get(known)
        if noted is None:
            # A tuple equals a list, which no dict finds.
            known_by_value = _is_hashable(value) and not isinstance(value, tuple)
            key = value if known_by_value else _UNHASHABLE
            self._by_label[known] = own
            self._labels_of.setdefault(key, []).append(known)
        elif len(own) != len(noted) or not _is_same(value, noted.get(field)):
            self._ambiguous = True
        return known

    def passing(self, condition: Condition[Any]) -> list[str] | None:
        """Labels of the groups that pass; None if documents have to be looked at one by one."""
        passes, choices = condition.of_group, condition.choices
        if passes is None or self._ambiguous:
            return None
        labels = list(self._by_label)
        if choices is not None and all(map(_is_hashable, choices)):
            labels = list({label for one in (*choices, _UNHASHABLE)
                           for label in tuple(self._labels_of.get(one, ()))})
        try:
            return [label for label in labels if passes(self._by_label[label])]
        except Exception:  # of a value that perhaps no document has any more
            return None


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each of some values once; 1, 1.0 and True are three values."""
    return list({_frozen(value): value for value in values}.values())


def _frozen(value: Any) -> Any:
    """A key that only values of the same types and content have."""
    if isinstance(value, Mapping):
        return type(value), frozenset((_frozen(key), _frozen(one)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return type(value), *map(_frozen, value)
    return type(value), value if _is_hashable(value) else id(value)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def condition(filter: Metadata, metadata_of: Callable[[T], Metadata],
              group_by: str | None = None) -> Condition[T]:
    """The condition that a dict stands for; ValueError if it isn't a filter."""
    passes = _compiled(filter)
    if group_by is None or list(filter) != [group_by]:
        return Condition(lambda one: passes(metadata_of(one)))
    labels, choices = filter[group_by], None
    if not isinstance(labels, Mapping):
        # A list equals nothing that can be looked up.
        choices = [*(_choices(labels) or ()), *([] if isinstance(labels, list) else [labels])]
    return Condition(lambda one: passes(metadata_of(one)), passes, choices)


def _compiled(filter: Metadata) -> Passes:
    """A function of metadata that says whether all fields of a filter pass."""
    if not isinstance(filter, Mapping):
        raise ValueError(f"filter: expected a dict of fields, got {filter!r}")
    parts = [_logical(field, test) if str(field).startswith("$") else _of_field(field, test)
             for field, test in filter.items()]
    return lambda metadata: all(part(metadata) for part in parts)


def _logical(name: str, filters: Any) -> Passes:
    if name == "$not":
        inner = _compiled(filters)
        return lambda metadata: not inner(metadata)
    if name not in ("$and", "$or"):
        raise ValueError(f"filter: expected $and, $or, $not or a field, got {name!r}; other "
                         "filters are written as a function of a document")
    if not isinstance(filters, list | tuple) or not filters:
        raise ValueError(f"filter: expected a list of filters for {name}, got {filters!r}")
    inner_ones, every = [_compiled(one) for one in filters], all if name == "$and" else any
    return lambda metadata: every(one(metadata) for one in inner_ones)


def _of_field(field: str, condition: Any) -> Passes:
    test = _of_value(condition)
    return lambda metadata: test(metadata.get(field))


def _of_value(condition: Any) -> Passes:
    """A function of a field's value: equal to what is asked, one of it, or by operators."""
    if not isinstance(condition, Mapping):
        choices = _choices(condition)
        if choices is None:
            return lambda value: _holds(operator.eq, value, condition)
        return lambda value: _is_one_of(value, choices) or _holds(operator.eq, value, condition)
    if not condition:
        raise ValueError(f"filter: expected one of {', '.join(_OPERATORS)}, got an empty dict")
    tests = [_by_operator(name, operand) for name, operand in condition.items()]
    return lambda value: all(test(value) for test in tests)


def _by_operator(name: str, operand: Any) -> Passes:
    if name == "$not":
        inner = _of_value(operand)
        return lambda value: not inner(value)
    if name in _COMPARISONS:
        compare, wanted = _COMPARISONS[name]
        return lambda value: _holds(compare, value, operand) == wanted
    if name not in ("$in", "$nin"):
        raise ValueError(f"filter: expected one of {', '.join(_OPERATORS)}, got {name!r}; "
                         "other filters are written as a function of a document")
    choices = _choices(operand)
    if choices is None:
        raise ValueError(f"filter: expected a list of values for {name}, got {operand!r}")
    return lambda value: _is_one_of(value, choices) == (name == "$in")


# Each with the answer that passes: where values can't be compared, $ne passes, and no other.
_COMPARISONS: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "$eq": (operator.eq, True), "$ne": (operator.eq, False),
    "$gt": (operator.gt, True), "$gte": (operator.ge, True),
    "$lt": (operator.lt, True), "$lte": (operator.le, True)}
_OPERATORS = (*_COMPARISONS, "$in", "$nin", "$not")


def _choices(condition: Any) -> list[Any] | None:
    """The values of a list, set, array or the like; None for what is one value."""
    if isinstance(condition, str | bytes | Mapping) or not isinstance(condition, Iterable):
        return None
    tolist = getattr(condition, "tolist", None)  # of arrays, whose rows can't be compared
    values = condition if tolist is None else tolist()
    return list(values) if isinstance(values, Iterable) else None


def _is_one_of(value: Any, choices: list[Any]) -> bool:
    return any(_holds(operator.eq, value, one) for one in choices)


def _holds(compare: Callable[[Any, Any], Any], value: Any, other: Any) -> bool:
    """Whether a comparison holds; it doesn't between what can't be compared."""
    try:
        return bool(compare(_lists(value), _lists(other)))
    except (TypeError, ValueError):
        return False


def _lists(value: Any) -> Any:
    """A value with lists for tuples, as it comes back from a file."""
    return [*map(_lists, value)] if isinstance(value, list | tuple) else value


def _is_same(value: Any, other: Any) -> bool:
    """Whether no filter tells two values with one repr apart."""
    if value is other:
        return True
    both_nan = _holds(operator.ne, value, value) and _holds(operator.ne, other, other)
    return type(value) is type(other) and (both_nan or _holds(operator.eq, value, other))
