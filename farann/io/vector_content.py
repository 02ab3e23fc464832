"""Records that all vector formats share: a request, its content, and errors."""

from __future__ import annotations

import contextlib
import csv
import errno
import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reader = Callable[[int], Iterator[Array]]


class Content(NamedTuple):
    """An array in a file: shape, type, and how to read it in blocks of rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Reader
    whole: Array | None = None  # mapped into memory, where the file holds it as numpy does


class Fault(ValueError):
    """A fault of a file, described without the file's name."""


class TooLarge(Fault):
    """A fault: the file's content is larger than the limit."""


class Wanted(NamedTuple):
    """The array of a file that is looked for."""

    path: Path
    name: str | None  # None: the only one, or that called `default`
    default: str
    limit: int = 0  # most bytes of its numbers once unpacked
    without: tuple[str, ...] = ()  # columns that have ids or labels, and are no coordinates

    def choose(self, what: str, names: Iterable[str]) -> str:
        """The name of the array, of those that there are."""
        names = sorted(names)
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        if self.name in names:
            return str(self.name)
        if self.name is not None:
            raise Fault(f"no {what} is called {self.name!r}; there are: {listed or 'none'}")
        if len(names) == 1:
            return names[0]
        if self.default in names:
            return self.default
        if not names:
            raise Fault(f"holds no {what}")
        raise Fault(f"holds several: {listed}; say which as {self.path.name}:NAME")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the bytes of a file into a ValueError that names it."""
    try:
        yield
    except (Fault, csv.Error) as fault:
        raise ValueError(f"{path}: {fault}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected text in UTF-8") from None
    except ImportError:
        raise
    except Exception as error:
        # h5py and pyarrow raise OSError for damage, too; errors of the system have an errno. EINVAL
        # is damage as well: an offset before the file's beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{path}: damaged, or not a {path.suffix} file: {error}") from error


def check_size(size: int, limit: int, what: str = "numbers") -> None:
    """Refuse more bytes than the limit."""
    if size > limit:
        raise TooLarge(f"expected at most {limit} bytes of {what} once unpacked, got {size}")


def optional_package(module: str, path_or_suffix: Path | str) -> Any:
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{path_or_suffix}: this takes {package}, which can't be imported; "
                          f"install it with: pip install {package}") from error
