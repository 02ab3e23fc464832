"""Vectors in Parquet files: rows as lists, or as one column for each coordinate."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.io.vector_content import Array, Content, Fault, check_size, choose, optional_package


def look_at_parquet(path: Path, name: str | None, default: str, limit: int) -> Content:
    """Find a column of lists, or columns of numbers."""
    parquet = optional_package("pyarrow.parquet", path)
    types = importlib.import_module("pyarrow.types")

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind))

    def is_list(kind: Any) -> bool:
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(listed) and is_number(kind.value_type)

    with parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        kinds = {field.name: field.type for field in file.schema_arrow}
        lists = [column for column, kind in kinds.items() if is_list(kind)]
        if name is not None and name in kinds and is_number(kinds[name]):
            columns = [name]
        elif name is None and kinds and all(map(is_number, kinds.values())):
            columns = list(kinds)
        else:
            columns = [choose(path, "column of lists of numbers", lists, name, default)]
        plain = columns[0] not in lists
        numbers = [kinds[column] if plain else kinds[column].value_type for column in columns]
        dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in numbers))
        _check_column_sizes(file.metadata, columns, dtype.itemsize, limit)
        dim = len(columns) if plain else _length_of_lists(file, columns[0])

    def read(step: int) -> Iterator[Array]:
        done = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(step, columns=columns):
                parts = [batch.column(column) for column in columns]
                if not plain:
                    yield _lists_to_rows(parts[0], dim, done)
                elif any(part.null_count for part in parts):
                    raise Fault(f"a value is missing in rows {done} to {done + len(batch) - 1}")
                else:
                    yield np.column_stack([p.to_numpy(zero_copy_only=False) for p in parts])
                done += len(batch)

    return Content((rows, dim), dtype, read)


def _check_column_sizes(metadata: Any, columns: list[str], itemsize: int, limit: int) -> None:
    """Check what unpacking columns takes, before even the length of a list is looked up."""
    count = pages = 0
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        for position in range(chunks.num_columns):
            chunk = chunks.column(position)
            if any(chunk.path_in_schema == c or chunk.path_in_schema.startswith(c + ".")
                   for c in columns):
                count += chunk.num_values
                pages += chunk.total_uncompressed_size
    check_size(max(count * itemsize, pages), limit)


def _length_of_lists(file: Any, column: str) -> int:
    """The length that a column's type says, or that the first list has."""
    fixed: int | None = getattr(file.schema_arrow.field(column).type, "list_size", None)
    if fixed is not None:
        return fixed
    for batch in file.iter_batches(1, columns=[column]):
        first = batch.column(0)[0]
        return len(first) if first.is_valid else 0
    return 0


def _lists_to_rows(column: Any, dim: int, start: int) -> Array:
    """Make an array (n, dim) of an Arrow array of lists, all of length dim."""
    lengths = importlib.import_module("pyarrow.compute").list_value_length(column)
    lengths = lengths.fill_null(-1).to_numpy(zero_copy_only=False)
    wrong = lengths != dim
    if wrong.any():
        row = int(wrong.argmax())
        got = "none" if lengths[row] < 0 else f"{lengths[row]}"
        raise Fault(f"row {start + row}: expected {dim} numbers, got {got}")
    values = column.flatten()
    if values.null_count:
        row = int(values.is_null().to_numpy(zero_copy_only=False).argmax()) // dim
        raise Fault(f"row {start + row}: a value is missing")
    numbers: Array = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, dim)


def write_parquet(stream: IO[bytes], array: Array, name: str | None) -> None:
    """Write rows as a column of lists."""
    parquet = optional_package("pyarrow.parquet", ".parquet")
    arrow = optional_package("pyarrow", ".parquet")
    flat = arrow.array(np.ascontiguousarray(array).ravel())
    rows = arrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
    parquet.write_table(arrow.table({name or "vectors": rows}), stream)
