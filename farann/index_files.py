"""Files of an index: saving, loading, mapping, pickling."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from farann.contract import errors
from farann.contract.index_spec import IndexSpec
from farann.search.questions import Questions

if TYPE_CHECKING:
    from farann.store.store import Store


class Saved(Questions):
    """The part of `farann.Index` that files are made of."""

    __slots__ = ()

    # Set by `Index`.
    _lock: threading.Lock

    @classmethod
    def _with_settings(cls, settings: dict[str, Any]) -> Self:
        """An index without rows that was made like the one of a file."""
        raise NotImplementedError

    def _settings(self, store: Store | None) -> dict[str, Any]:
        """How this index was made, for a file."""
        raise NotImplementedError

    def _content(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Metadata and arrays of a file."""
        from farann.io import index_file  # only now, as with all files: it takes long

        store = self._store
        return index_file.sections_of(self._settings(store), store)

    @property
    def _spec(self) -> IndexSpec:
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file, which is replaced whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Notes
        -----
        The file holds the index as it was when `save` was called; searches and changes go on.
        """
        from farann.io import container

        container.write_file(path, *self._content())
        _tell("saved %r to %s", self, os.fsdecode(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read an index from a file.

        Parameters
        ----------
        path : str or path-like
        mmap : bool
            Map the rows instead of reading them: they are read when a search needs them, and
            may be larger than memory. They are not checked then, but that codes have each row once
            is; ``farann info --verify`` does. `close`, or a ``with`` block, lets go of the file.
            Nobody may write to it in place meanwhile. Where it was shortened, the next search that
            touches what is gone ends the process by SIGBUS, which Python can't catch; where it was
            overwritten, answers are wrong or the process crashes. To replace the file, as `save`
            does, is safe.

        Raises
        ------
        FormatError
            If the file is no index, is truncated or altered, or of a newer version.
        """
        from farann.io import container

        content = container.read_file(path, mmap=mmap)
        try:
            index = cls._restored(*content, checked=not mmap)
        except errors.FormatError as error:
            raise errors.FormatError(f"{os.fsdecode(path)}: {error}") from None
        _tell("loaded %r from %s%s", index, os.fsdecode(path), ", mapped" if mmap else "")
        return index

    def close(self) -> None:
        """Let go of the rows, and so of the file that they are mapped from.

        The file is unmapped when the last search that began before has ended, and the last filter
        and array of ids of the index is gone. Whatever is asked of a closed index is a ValueError;
        to close it again does nothing. ``with farann.Index.load(path, mmap=True) as index:`` closes
        it at the end of the block.
        """
        with self._lock:
            if not self.closed:
                del self._store

    def __enter__(self) -> Self:
        self._store  # noqa: B018 - raises where it is closed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from farann.io import container

        return _unpickled, (type(self), container.write_bytes(*self._content()), self._threads)

    @classmethod
    def _restored(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], *,
                  checked: bool) -> Self:
        from farann.io import index_file

        index_file.check_metadata(metadata)
        index = cls._with_settings(metadata)
        store = index_file.store_of(metadata, arrays, index._spec, checked=checked)
        if store is not None:
            index._store = store
        return index


def _tell(text: str, *values: object) -> None:
    from logging import getLogger  # which is there, once an index is

    getLogger("farann").debug(text, *values)


def _unpickled(kind: type[Saved], content: bytes, threads: int | None) -> Saved:
    from farann.io import container

    index = kind._restored(*container.read_bytes(content), checked=True)
    index._threads = threads
    return index
