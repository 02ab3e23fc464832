"""Documents beside an index of their vectors: code that stores of other frameworks share."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from farann._types import Metric
from farann.adapters.metadata import Condition, GroupValues, condition
from farann.contract import FormatError, checks
from farann.extending import loaded_beside, options_of, rows_of, saved_beside
from farann.index import Index

T = TypeVar("T")
Filter = Callable[[T], bool] | Mapping[str, Any] | Condition[T]
_STALE_VALUES = 64  # values of removed documents that are kept, beside one a document
_SECTION = "documents"  # of the file of an index: JSON
_NO_CHANGES = np.frombuffer(b'{"put": {}, "drop": []}', np.uint8)


@contextlib.contextmanager
def installed_with(extra: str) -> Iterator[None]:
    """Add install advice to import errors raised in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'farann[{extra}]'",
                                  name=error.name) from None


def pool_of(k: int) -> int:
    """Most similar documents among which MMR chooses k: more of them lost right answers and brought
    no further parts of a topic (``python -m bench outcomes``)."""
    return max(20, 2 * k)


class Documents(Generic[T]):
    """Documents by their ids, and an index of the vectors that they have.

    Parameters
    ----------
    metadata_of : callable
        Gives the metadata of a document.
    metric : {"cosine", "dot", "l2"}
    group_by : str, optional
        A field of the metadata. Its values become groups of the index, so that a filter by it
        takes a pass over these values rather than over the documents.
    options
        Of `farann.Index`.

    Notes
    -----
    Any number of threads may search while others change documents. A changed document is found by
    its new vector a moment before its new content is returned. Documents are copied as they come
    in and as they are found, so that nobody changes the stored ones by accident.
    """

    def __init__(self, metadata_of: Callable[[T], Mapping[str, Any]], metric: Metric = "cosine",
                 group_by: str | None = None, **options: Any) -> None:
        self.index = Index(metric=metric, **options)
        self.group_by, self.options = group_by, options
        self.by_id: dict[str, T] = {}
        self._unsaved: dict[str, None] = {}  # ids of documents that changed since `save`
        self._metadata_of = metadata_of
        self.changing = threading.RLock()
        self._values: tuple[Index, GroupValues] | None = None  # of the index that has these groups

    def put(self, documents: Mapping[str, T], vectors: Mapping[str, Any]) -> None:
        """Add documents by their ids, or replace those that have the same ids.

        A document without a vector is kept, but no search finds it. TypeError for ids that aren't
        strings.
        """
        for id in documents:
            if not isinstance(id, str):
                raise TypeError(f"ids: expected strings, got {checks.shown(id)}")
        documents = {id: deepcopy(one) for id, one in documents.items()}
        with self.changing:
            self._unsaved.update(dict.fromkeys(documents))
            self._add(documents, vectors)
            self._unlist(documents.keys() - vectors.keys())
            self.by_id.update(documents)

    def _add(self, documents: Mapping[str, T], vectors: Mapping[str, Any]) -> None:
        """Put vectors of documents into the index, and into their groups."""
        values, groups = self._values_of(self.index), None
        if values is not None:
            labels = {id: values.label(self._metadata_of(one)) for id, one in documents.items()}
            groups = [labels[id] for id in vectors]
        if vectors:
            self.index.add(list(vectors.values()), list(vectors), groups=groups, replace=True)
        most = 2 * (len(self.by_id) + len(documents)) + _STALE_VALUES
        if values is not None and len(values) > most:
            self._values = None

    def _values_of(self, index: Index) -> GroupValues | None:
        """The values of the groups of an index, noted once; None where documents have no groups."""
        if self.group_by is None:
            return None
        known = self._values
        if known is None or known[0] is not index:
            with self.changing:
                values, by_id = GroupValues(self.group_by), self.by_id
                ids = index.ids.tolist()
                labels = dict(zip(ids, index.groups(ids).tolist(), strict=True)) if ids else {}
                for id, one in by_id.items():
                    values.label(self._metadata_of(one), labels.get(id))
                known = self._values = index, values
        return known[1]

    def get(self, ids: Iterable[str]) -> list[T]:
        """The documents that have these ids; other ids are ignored."""
        return [deepcopy(one) for one in map(self.by_id.get, ids) if one is not None]

    def vectors(self, ids: Iterable[str]) -> list[list[float] | None]:
        """The vectors of the documents that have these ids; None for those without one."""
        here, vectors = rows_of(self.index, list(ids))
        rows = iter(vectors.tolist())
        return [next(rows) if there else None for there in here.tolist()]

    def where(self, passes: Callable[[T], bool]) -> dict[str, T]:
        """The stored documents that pass, by their ids."""
        return {id: one for id, one in list(self.by_id.items()) if passes(one)}

    def passing(self, passes: Callable[[T], bool]) -> list[T]:
        """Copies of the documents that pass."""
        return [deepcopy(one) for one in self.where(passes).values()]

    def update(self, passes: Callable[[T], bool], change: Callable[[T], T]) -> int:
        """Change the documents that pass, but not their vectors; return how many they are."""
        with self.changing:
            changed = {id: change(one) for id, one in self.where(passes).items()}
            self._unsaved.update(dict.fromkeys(changed))
            values = self._values_of(self.index)
            if values is not None:  # those that come into another group are added again
                moved = [id for id, one in changed.items() if values.label(self._metadata_of(one))
                         != values.label(self._metadata_of(self.by_id[id]))]
                self._add(changed, {id: vector for id, vector in zip(
                    moved, self.vectors(moved), strict=True) if vector is not None})
            self.by_id.update(changed)
            return len(changed)

    def drop(self, ids: Iterable[str] | None) -> None:
        """Remove the documents that have these ids, all of them if None; others are ignored."""
        gone = set(self.by_id if ids is None else ids)
        with self.changing:
            self._unsaved.update(dict.fromkeys(gone))
            self._unlist(gone)
            for id in gone:
                self.by_id.pop(id, None)

    def drop_where(self, passes: Callable[[T], bool]) -> int:
        """Remove the documents that pass; return how many they are."""
        with self.changing:
            matches = self.where(passes)
            self.drop(matches)
            return len(matches)

    def restart(self) -> None:
        """Remove all documents, and let vectors of another dimension follow."""
        with self.changing:
            self.index = Index(None, self.index.metric, **options_of(self.index))
            self.by_id = {}

    def _unlist(self, ids: Iterable[str]) -> None:
        if there := [id for id in ids if id in self.index]:
            self.index.remove(there)

    def search(self, search: str, query: Any, k: int, filter: Filter[T] | None = None,
               **options: Any) -> list[tuple[T, float]]:
        """Documents and scores, best first, that a search of the index finds.

        Parameters
        ----------
        search : str
            The name of a method of `farann.Index`.
        query : array_like
            What that method takes first.
        k : int
        filter : callable or dict, optional
            Whether a document may be found; or from each of some fields of the metadata to the
            value, a list of the values, or a dict of operators and operands: see `condition`.
        options
            Of that method.
        """
        index = self.index
        if options.get("per_group") is not None and self.group_by is None:
            raise ValueError("per_group: expected a store with group_by=, the field of the "
                             "metadata whose values are groups")
        if filter is not None:
            options["allowed"] = self._allowed(index, filter)
        hits = getattr(index, search)(query, k=k, **options)
        scored = zip(map(self.by_id.get, hits.ids[hits.found]), hits.scores[hits.found].tolist(),
                    strict=True)
        return [(deepcopy(one), score) for one, score in scored if one is not None]

    def _allowed(self, index: Index, filter: Filter[T]) -> Any:
        if isinstance(filter, Mapping):
            filter = condition(filter, self._metadata_of, self.group_by)
        passes: Callable[[T], bool]
        if isinstance(filter, Condition):
            passes, labels = filter.passes, None
            if filter.of_group is not None and len(index):
                values = self._values_of(index)
                labels = None if values is None else values.passing(filter)
            if labels is not None:
                return index.filter(groups=labels)
        elif callable(filter):
            passes = filter
        else:
            raise TypeError("filter: expected a dict of fields, or a function of a document, got "
                            f"{checks.shown(filter)}")
        return [id for id, one in list(self.by_id.items()) if passes(one)]

    def similarity(self, score: float) -> float:
        """A score that is larger for more similar rows: 1 / (1 + distance) under l2."""
        return 1 / (1 + score) if self.index.metric == "l2" else score

    def save(self, path: str | os.PathLike[str], as_json: Callable[[T], Any]) -> None:
        """Bring a file up to date with the documents, wholly or not at all.

        What changed is appended to a file that was loaded, or saved to, before; if others have
        written to it since, and the first time, it is replaced. See `farann.Index.sync`.

        Raises
        ------
        TypeError
            If JSON doesn't hold the metadata of a document.
        """
        def sections(**content: Any) -> dict[str, npt.NDArray[Any]]:
            try:
                text = json.dumps(content, default=_without_numpy)
            except TypeError as error:
                raise TypeError(f"documents: {self._unlike_json(as_json)}: {error}") from None
            return {_SECTION: np.frombuffer(text.encode(), np.uint8)}

        def changes() -> dict[str, npt.NDArray[Any]]:
            put = {id: as_json(self.by_id[id]) for id in self._unsaved if id in self.by_id}
            drop = [id for id in self._unsaved if id not in self.by_id]
            return sections(put=put, drop=drop) if self._unsaved else {}

        with self.changing:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            saved_beside(self.index, path, lambda: sections(
                group_by=self.group_by,
                documents={id: as_json(one) for id, one in self.by_id.items()}), changes)
            self._unsaved.clear()

    def _unlike_json(self, as_json: Callable[[T], Any]) -> str:
        """The first document that JSON doesn't hold, and the field if that is all, for an error."""
        for id, one in self.by_id.items():
            for field, value in (*self._metadata_of(one).items(), ("", as_json(one))):
                try:
                    json.dumps(value, default=_without_numpy)
                except TypeError:
                    return repr(id) + f", field {field!r}" * (field != "")
        return "one"

    def load(self, path: str | os.PathLike[str], from_json: Callable[[Any], T], *,
             mmap: bool = False) -> None:
        """Replace all documents by those that `save` wrote; nothing of the file is run as code.

        Raises
        ------
        FormatError
            If the file is not one that `save` wrote.
        """
        index, (arrays, *frames) = loaded_beside(path, [_SECTION], mmap=mmap)
        try:
            content = json.loads(arrays[_SECTION].tobytes())
            group_by, documents = content["group_by"], dict(content["documents"])
            for frame in frames:
                changes = json.loads(frame.get(_SECTION, _NO_CHANGES).tobytes())
                documents |= changes["put"]
                for id in changes["drop"]:
                    documents.pop(id, None)
            by_id = {id: from_json(one) for id, one in documents.items()}
            if not isinstance(group_by, str | None):
                raise TypeError(f"group_by of {checks.shown(group_by)}")
            if group_by is not None and len(index):
                index.groups(index.ids[:1])  # raises if there are none
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise FormatError(f"{os.fsdecode(path)}: expected documents, got {error}") from None
        if not by_id.keys() >= set(index.ids.tolist()):
            raise FormatError(f"{os.fsdecode(path)}: the index has ids that no document has")
        self.index, self.group_by, self.by_id = index, group_by, by_id
        self.options, self._unsaved = _options_of(index), {}


def _without_numpy(value: Any) -> Any:
    """A scalar of numpy as JSON holds it."""
    if isinstance(value, np.generic) and not isinstance(plain := value.item(), np.generic):
        return plain
    raise TypeError(f"metadata: expected values that JSON holds, got {checks.shown(value)}")


def _options_of(index: Index) -> dict[str, Any]:
    """The options of an index that aren't the default ones, without its metric."""
    defaults = signature(Index).parameters
    return {name: value for name, value in options_of(index).items()
            if value != defaults[name].default}
