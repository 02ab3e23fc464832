"""Of `farann/io`: files of arrays, indexes as sections, and how files are replaced."""

from __future__ import annotations

from typing import Any

import farann
from farann.io import index_file as _index_file
from farann.io.container import (
    DTYPES,
    MAGIC,
    VERSION,
    ArrayChunks,
    read_bytes,
    read_file,
    read_table,
    verify_file,
    write_bytes,
    write_file,
)
from farann.io.files import _claim as claim
from farann.io.files import _remove_unlocked as remove_unlocked
from farann.io.files import _sweep as sweep
from farann.io.files import open_regular, replacing


def sections_of(index: farann.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of the file that an index would be saved to."""
    return _index_file.sections_of(index._live)
