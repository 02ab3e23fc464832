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
from farann.contract import FormatError, checks
from farann.index import Index
from farann.io import synced

T = TypeVar("T")
Filter = Callable[[T], bool] | Mapping[str, Any]
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


class Documents(Generic[T]):
    """Documents by their ids, and an index of the vectors that they have.

    Parameters
    ----------
    metadata_of : callable
        Gives the metadata of a document.
    metric : {"cosine", "dot", "l2"}
    group_by : str, optional
        A field of the metadata. Its values become groups of the index, so that a filter by it
        takes no pass over the documents.
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
        self._changing = threading.Lock()

    def put(self, documents: Mapping[str, T], vectors: Mapping[str, Any]) -> None:
        """Add documents by their ids, or replace those that have the same ids.

        A document without a vector is kept, but no search finds it. TypeError for ids that aren't
        strings.
        """
        for id in documents:
            if not isinstance(id, str):
                raise TypeError(f"ids: expected strings, got {checks.shown(id)}")
        documents = {id: deepcopy(one) for id, one in documents.items()}
        groups = None if self.group_by is None else [
            self._label(documents[id], self.group_by) for id in vectors]
        with self._changing:
            self._unsaved.update(dict.fromkeys(documents))
            if vectors:
                self.index.add(list(vectors.values()), list(vectors), groups=groups, replace=True)
            self._unlist(documents.keys() - vectors.keys())
            self.by_id.update(documents)

    def _label(self, one: T, field: str) -> str:
        return _label(self._metadata_of(one).get(field))

    def get(self, ids: Iterable[str]) -> list[T]:
        """The documents that have these ids; other ids are ignored."""
        return [deepcopy(one) for one in map(self.by_id.get, ids) if one is not None]

    def passing(self, filter: Callable[[T], bool]) -> list[T]:
        """The documents for which a function is true."""
        return [deepcopy(one) for one in list(self.by_id.values()) if filter(one)]

    def drop(self, ids: Iterable[str] | None) -> None:
        """Remove the documents that have these ids, all of them if None; others are ignored."""
        gone = set(self.by_id if ids is None else ids)
        with self._changing:
            self._unsaved.update(dict.fromkeys(gone))
            self._unlist(gone)
            for id in gone:
                self.by_id.pop(id, None)

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
            value, or a list of the values, that it may have.
        options
            Of that method.
        """
        if filter is not None:
            options["allowed"] = self._allowed(filter)
        hits = getattr(self.index, search)(query, k, **options)
        found = zip(map(self.by_id.get, hits.ids[hits.found]), hits.scores[hits.found].tolist(),
                    strict=True)
        return [(deepcopy(one), score) for one, score in found if one is not None]

    def _allowed(self, filter: Filter[T]) -> Any:
        if callable(filter):
            return [id for id, one in list(self.by_id.items()) if filter(one)]
        for field, value in filter.items():
            if field.startswith("$") or isinstance(value, Mapping):
                raise ValueError(f"filter: expected fields with a value or a list of values, got "
                                 f"{field!r}: {value!r}; operators such as '$gt' are written as a "
                                 "function of a document")
        wanted = {field: [_label(one) for one in (value if isinstance(value, list) else [value])]
                  for field, value in filter.items()}
        if list(wanted) == [self.group_by] and len(self.index):
            return self.index.filter(groups=wanted.popitem()[1])
        return self._allowed(lambda one: all(
            self._label(one, field) in labels for field, labels in wanted.items()))

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
            return {_SECTION: np.frombuffer(json.dumps(content).encode(), np.uint8)}

        def changes() -> dict[str, npt.NDArray[Any]]:
            put = {id: as_json(self.by_id[id]) for id in self._unsaved if id in self.by_id}
            drop = [id for id in self._unsaved if id not in self.by_id]
            return sections(put=put, drop=drop) if self._unsaved else {}

        with self._changing:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            synced.sync(self.index._live, path, synced.Beside(lambda: sections(
                group_by=self.group_by,
                documents={id: as_json(one) for id, one in self.by_id.items()}), changes),
                over=True)
            self._unsaved.clear()

    def load(self, path: str | os.PathLike[str], from_json: Callable[[Any], T], *,
             mmap: bool = False) -> None:
        """Replace all documents by those that `save` wrote; nothing of the file is run as code.

        Raises
        ------
        FormatError
            If the file is not one that `save` wrote.
        """
        index, (arrays, *frames) = Index._loaded(path, mmap=mmap, read=[_SECTION])
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


def _options_of(index: Index) -> dict[str, Any]:
    """The options of an index that aren't the default ones, without its metric."""
    spec, defaults = index._live.spec, signature(Index).parameters
    options = {"dtype": spec.row_type, "codes": spec.codes, "cells": spec.cells,
               "keep_vectors": spec.vectors, "seed": spec.seed}
    return {name: value for name, value in options.items() if value != defaults[name].default}


def _label(value: Any) -> str:
    """Text that is the same for values that are equal, such as 1, 1.0 and True."""
    if isinstance(value, bool | float) and float(value).is_integer():
        value = int(value)
    return repr(value)
