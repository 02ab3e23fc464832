"""Checks of arguments: each error names the argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence, Set, Sized
from functools import partial
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress, Rng, RowArray

# Most coordinates of a row, 64 MiB in float32: a few bytes of a file must not ask for more memory.
MOST_DIM = 1 << 24
# Most results of a call whose k is above the number of rows: 192 MiB of scores and ids.
MOST_PADDED = 1 << 24
MOST_THREADS = 4096  # most threads: more than any machine has CPUs; each takes memory
# Largest seed: the largest `secrets.randbits(128)`, which numpy recommends as a seed.
MOST_SEED = 2**128 - 1
_MOST_INT = 2**63 - 1
# Other libraries' names of the metrics, only where scores are the same.
_METRIC_ALIASES = {
    "euclidean": "l2", "ip": "dot", "inner_product": "dot", "innerproduct": "dot",
    "dot_product": "dot", "dotproduct": "dot", "cos": "cosine", "cosine_similarity": "cosine"}
# Distances that are a metric here of changed rows.
_CHANGED_METRICS = {
    "angular": "the arccosine of 'cosine'", "hamming": "the square of 'l2' between 0/1 rows",
    "mahalanobis": "'l2' of whitened rows", "hellinger": "'l2' of square roots",
    "haversine": "'cosine' of unit vectors", "sqeuclidean": "the square of 'l2'",
    "correlation": "1 - 'cosine' of rows less their means",
    "tanimoto": "searched for by 'dot', rows of each number of bits apart",
    "jaccard": "searched for by 'dot', rows of each number of bits apart"}
# The argument for ids of rows in the place of vectors.
_BY_ID = {"queries": "ids", "sets": "ids", "likes": "like_ids", "dislikes": "dislike_ids"}
_MOST_SHOWN = 100  # most characters of a value in an error message
# DLPack devices whose memory the CPU reads: its own, and memory pinned for CUDA or ROCm.
_CPU_DEVICES = (1, 3, 11)
_LOOKED_AT = 16  # objects of an array that are looked at to tell whether it holds rows


def shown(value: Any) -> str:
    """A value for an error message: short, and of any value."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to print numbers of more than 4300 digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def to_array(name: str, value: Any) -> npt.NDArray[Any]:
    """An array of an argument; ragged nests and values without numbers are refused.

    Rows may be a column of a frame, an array of arrays or a tensor on the CPU: see `Index.add`.
    """
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ndarray):
        if np.any(getattr(value, "mask", False)):
            raise ValueError(f"{name}: expected an array without masked values; write .filled(0), "
                             "say, or leave their rows out")
        array = np.asarray(value)
    else:
        array = _of_other(name, value)
    if array.dtype == object and array.ndim == 1 and len(array):
        return _stacked(name, array)
    return array


def plain_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """bfloat16, float8 and the like, as ml_dtypes has them, as float32; others as they are."""
    return array.astype(np.float32) if _is_small(array.dtype) else array


def _is_small(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def what_is(array: npt.NDArray[Any]) -> str:
    """The content of an array without numbers, and advice, for an error message."""
    some = array.flat if array.dtype == object else ()
    if array.dtype.kind in "UT" or any(isinstance(one, str) for one in some):
        return "strings"
    if array.dtype.kind == "S" or any(isinstance(one, bytes) for one in some):
        return "bytes; decode them to strings first"
    if array.ndim == 0:
        return shown(array.item())
    if array.dtype != object:
        return f"an array of {array.dtype}" + (
            "; make it 0 and 1 by .astype('uint8')" if array.dtype == np.bool_ else "")
    if array.ndim == 2 and len(array) and any(_is_row(cell) for cell in array[0]):
        return ("a table whose cells are arrays; pass the column of vectors alone, such as "
                'np.stack(table["embedding"])')
    if array.ndim == 2:
        return "an array of Python objects; if they are numbers, write .astype(float)"
    return f"objects such as {shown(array.flat[0])}" if array.size else "an array of Python objects"


def _of_other(name: str, value: Any) -> npt.NDArray[Any]:
    """Make an array of an object that is none."""
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(f"{name}: expected a dense array, got a sparse {type(value).__name__}; "
                        "write .toarray()")
    if hasattr(value, "__next__"):
        raise TypeError(f"{name}: expected an array, got a {type(value).__name__}; write list(...)")
    if type(value).__module__.partition(".")[0] == "torch":
        value = _plain_tensor(name, value)
    if _may_be_list_column(value):
        from farann.contract.arrow import list_column

        try:
            rows = list_column(name, value)
        except ImportError:  # copied as objects then
            rows = None
        if rows is not None:
            return rows
    convert: Callable[[Any], npt.NDArray[Any]] = np.asarray
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        device = value.__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else 1
        if device not in _CPU_DEVICES:
            raise TypeError(f"{name}: expected a tensor on the CPU, got one elsewhere (device type "
                            f"{int(device)} of DLPack); copy it to the CPU first")
        convert = np.from_dlpack
    return _converted(name, value, convert)


def _converted(name: str, value: Any,
               convert: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Convert an object to an array, or say why it can't be."""
    if isinstance(value, (list, tuple)) and _has_text(value):
        # Of objects: numpy would make room for the longest string in each place.
        convert = partial(np.array, dtype=object)
    try:
        return convert(value)
    except (TypeError, OverflowError) as error:  # dates among numbers, say
        raise TypeError(f"{name}: expected an array of numbers, got {shown(value)}") from error
    except ValueError as error:
        raise ValueError(_ragged(name, value)) from error
    except (RuntimeError, BufferError) as error:  # of tensors that have to be moved first
        raise TypeError(f"{name}: expected an array that numpy can read, got a "
                        f"{type(value).__name__}: {error}") from error


def _has_text(value: Sequence[Any], most: int = 3) -> bool:
    """Whether lists, at most `most` deep, have strings or bytes in them."""
    kinds = set(map(type, value))
    if any(issubclass(kind, (str, bytes)) for kind in kinds):
        return True
    return most > 1 and not kinds.isdisjoint((list, tuple)) and any(
        _has_text(one, most - 1) for one in value if isinstance(one, (list, tuple)))


def _may_be_list_column(value: Any) -> bool:
    """Whether it is worth asking by the Arrow interface: pandas converts whole frames for that."""
    is_arrow = hasattr(value, "__arrow_c_array__") or hasattr(value, "__arrow_c_stream__")
    numpy_has_it = isinstance(getattr(value, "dtype", None), np.dtype)
    return is_arrow and not numpy_has_it and getattr(value, "ndim", 1) == 1


def _plain_tensor(name: str, value: Any) -> Any:
    """A tensor of torch as numpy can read it."""
    device = getattr(value, "device", None)
    if device is not None and device.type != "cpu":
        raise TypeError(f"{name}: expected a tensor on the CPU, got one on {device}; write .cpu()")
    if getattr(value, "is_sparse", False):
        raise TypeError(f"{name}: expected a dense tensor, got a sparse one; write .to_dense()")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    # numpy has no bfloat16 and no float8.
    if any(text in str(getattr(value, "dtype", "")) for text in ("bfloat16", "float8")):
        value = value.float()
    return value


def _stacked(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stack an array of rows into one array; an array without rows is returned unchanged."""
    if not any(_is_row(row) for row in array[:_LOOKED_AT]):
        return array
    lengths = np.fromiter((len(row) if _is_row(row) else -1 for row in array), np.int64, len(array))
    if (lengths != lengths[0]).any():
        raise ValueError(_ragged(name, array))
    rows = [row if isinstance(row, (list, tuple, np.ndarray)) else to_array(name, row)
            for row in array]
    try:
        return np.asarray(rows)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected rows of numbers of equal length, got ragged data"
                         ) from error


def _is_row(row: Any) -> bool:
    """Whether an object could be a vector."""
    return hasattr(row, "__len__") and hasattr(row, "__getitem__") and not isinstance(
        row, (str, bytes, dict)) and getattr(row, "shape", (0,)) != ()


def _ragged(name: str, rows: Any) -> str:
    """The error for rows of unequal length."""
    expected = f"{name}: expected rows of equal length, got "
    if isinstance(rows, (list, tuple, np.ndarray)) and any(map(_is_row, rows)):
        for i, row in enumerate(rows):
            if not _is_row(row):
                return f"{expected}{shown(row)} in row {i}; drop or fill it first"
            if len(row) != len(rows[0]):
                return f"{expected}{len(rows[0])} numbers in row 0 and {len(row)} in row {i}"
    return f"{expected}ragged data"


def to_numbers(name: str, value: Any) -> Float64Array:
    """Check an array of real numbers, of any shape, and give it as a float64 copy."""
    array = plain_numbers(to_array(name, value))
    if array.size and array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got {what_is(array)}")
    with np.errstate(over="ignore"):  # infinity is for the caller to judge
        return array.astype(np.float64)


def to_choice(name: str, value: Any, choices: Sequence[Any], also: Iterable[str] = ()) -> Any:
    """Check one of several names, or None if that is one; errors also guess among `also`."""
    is_text = isinstance(value, str)
    if any(value is choice or (is_text and value == choice) for choice in choices):
        return value
    near: list[str] = []
    if is_text and len(value) <= _MOST_SHOWN:
        from difflib import get_close_matches

        known = [one for one in (*choices, *also) if isinstance(one, str)]
        near = [one for one in get_close_matches(value.lower(), known, 1, 0.5)
                if _digitless(one) != _digitless(value.lower())]  # l1 isn't l2
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, "
                     f"got {shown(value)}{meant}")


def _digitless(name: str) -> str:
    return "".join(one for one in name if not one.isdigit())


def to_metric(value: Any) -> str:
    """Check the name of a metric, in any case, or one that others have for it."""
    name = value.lower() if isinstance(value, str) else None
    if name not in _core.METRICS:
        name = _METRIC_ALIASES.get(str(name).replace(" ", "_").replace("-", "_"))
    changed = _CHANGED_METRICS.get(value.lower()) if isinstance(value, str) else None
    if changed is not None:
        raise ValueError(f"metric: expected one of 'l2', 'dot', 'cosine', got {value!r}, which is "
                         f"{changed}: see Other metrics in the documentation")
    return name or str(to_choice("metric", value, _core.METRICS, _METRIC_ALIASES))


def to_dim(value: Any) -> int:
    """Check the dimension of an index, which is often taken for something else."""
    if isinstance(value, str):
        raise TypeError(f"dim: expected an int, got {shown(value)}; the metric goes by its name: "
                        f"Index(metric={shown(value)})")
    if hasattr(value, "__len__") or getattr(value, "shape", ()) != ():
        raise TypeError(f"dim: expected an int, got a {type(value).__name__}; rows go to add: "
                        "index = farann.Index(); index.add(rows)")
    return to_int("dim", value, 1, MOST_DIM)


def to_vectors(name: str, value: Any, dim: int | None, *, normalized: bool,
               single: bool) -> Float32Array:
    """Check vectors and give them as C-contiguous float32, (n, dim).

    `dim`: what is expected, None takes any. `normalized`: zero vectors are refused, as they have no
    direction. `single`: one vector, (dim,), is accepted, too.
    """
    array = to_matrix(name, value, dim, single=single)
    vectors = as_float32(array)
    check_rows(name, vectors, normalized, original=array)
    return vectors


def as_float32(array: npt.NDArray[Any]) -> Float32Array:
    """Numbers rounded to float32, in C order; an array that is so already is not copied."""
    if array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore", under="ignore"):
        return np.require(plain_numbers(array), np.float32, ["C", "A"])


def check_rows(name: str, rows: RowArray, normalized: bool, first: int = 0,
               original: npt.NDArray[Any] | None = None) -> None:
    """Refuse NaN and infinity, and for `normalized` rows zero vectors.

    `first`: the number of the first row in what errors say. `original`: rows as they came.
    """
    bad = _core.first_bad_row(rows, normalized)
    if bad < 0:
        return
    row = _core.widened(rows[bad : bad + 1])[0]
    if np.isnan(row).any():
        what = "expected finite numbers, got NaN"
    elif not np.isinf(row).any():
        what = "cosine needs vectors with a direction, got a zero vector"
    elif original is None or np.isinf(plain_numbers(original[bad])).any():
        what = "expected finite numbers, got infinity"
    else:
        what = "expected numbers that float32 can hold, got one too large"
    raise ValueError(f"{name}: {what} in row {first + bad}")


def to_queries(value: Any, dim: int | None, *, normalized: bool) -> tuple[Float32Array, bool]:
    """Check queries as `to_vectors` does, and tell whether it was a single one."""
    array = to_array("queries", value)  # a column of lists has two dimensions
    vectors = to_vectors("queries", array, dim, normalized=normalized, single=True)
    return vectors, array.ndim == 1 and len(vectors) == 1


def to_matrix(name: str, value: Any, dim: int | None, *, single: bool) -> npt.NDArray[Any]:
    """Check that rows or queries are numbers, (n, dim), of numpy's types or those that
    `plain_numbers` knows; the parameters are as in `to_vectors`."""
    array = to_array(name, value)
    instead = _BY_ID.get(name.partition("[")[0])
    if array.dtype.kind not in "fiu" and not _is_small(array.dtype):
        by_id = instead is not None and what_is(array) == "strings"
        raise TypeError(f"{name}: expected real numbers, got {what_is(array)}"
                        + f"; ids of rows go to {instead}=" * by_id)
    shape = "(dim,) or (n, dim)" if single else "(n, dim)"
    if array.ndim == 1 and single:
        array = array[np.newaxis]
    if array.ndim != 2:
        if array.size == 0 and array.ndim == 1 and dim is not None:
            array = array.reshape(0, dim)
        else:
            asked = instead is not None and array.ndim == 0 and array.dtype.kind in "iu"
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}"
                             + f"; is it k={array}, or {instead}={array}?" * asked
                             + "; write [...] around one vector" * (array.ndim == 1))
    if dim is not None and array.shape[1] != dim:
        if array.shape == (1, 0):  # an empty list
            return np.empty((0, dim), np.float32)
        raise ValueError(f"{name}: expected vectors of dimension {dim}, got {array.shape[1]}")
    if not 1 <= array.shape[1] <= MOST_DIM:
        raise ValueError(f"{name}: expected vectors of dimension 1 to {MOST_DIM}, "
                         f"got {array.shape}")
    return array


def to_ids(name: str, value: Any, *, single: bool = False, copy: bool = True,
           what: str = "integer ids") -> Int64Array:
    """Check ids, or with `single` perhaps one id, and give them as a contiguous int64 array, (n,);
    without `copy` perhaps the given one, to read only."""
    values = to_array(name, list(value) if isinstance(value, Set) else value)
    array = values[np.newaxis] if single and values.ndim == 0 else values
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected {what}, got {what_is(values)}")
    if array.ndim != 1:
        around = "; write [...] around one id" if array.ndim == 0 else ""
        raise ValueError(f"{name}: expected shape (n,), got {array.shape}{around}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected {what} that int64 can hold, got {array.max()}")
    return array.astype(np.int64) if copy else np.ascontiguousarray(array, np.int64)


def is_single_id(value: Any) -> bool:
    """Whether it is an id by itself, and not several."""
    return not isinstance(value, (list, tuple, Set)) and np.ndim(value) == 0


def to_new_ids(name: str, value: Any, n: int) -> Int64Array:
    """Check the ids of n rows to come: n of them, none negative, none twice."""
    ids = to_ids(name, value)
    if len(ids) != n:
        raise ValueError(f"{name}: expected {n} ids, one a row, got {len(ids)}")
    if n and ids.min() < 0:
        raise ValueError(f"{name}: expected ids of 0 or more, got {ids.min()}")
    if n > 1 and not (np.diff(ids) > 0).all():
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise ValueError(f"{name}: expected each id once, got {twice[0]} twice")
    return ids


def to_int(name: str, value: Any, smallest: int, largest: int = _MOST_INT) -> int:
    """Check a whole number."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {shown(value)}") from None
    if number < smallest:
        raise ValueError(f"{name}: expected {smallest} or more, got {shown(number)}")
    if number > largest:
        raise ValueError(f"{name}: expected at most {largest}, got {shown(number)}")
    return number


def to_seed(seed: Any, rng: Rng = None) -> int:
    """The seed that is given as such, or that a generator gives, which is one step further then."""
    number = to_int("seed", seed, 0, MOST_SEED)
    if rng is None:
        return number
    if number:
        raise ValueError("rng: expected one of seed and rng, got both")
    if isinstance(rng, np.random.Generator | np.random.BitGenerator | np.random.SeedSequence):
        return int(np.random.default_rng(rng).integers(_MOST_INT))
    if isinstance(rng, np.random.RandomState):
        raise TypeError("rng: expected an integer or a numpy.random.Generator, got a RandomState; "
                        "write rng=np.random.default_rng(seed)")
    return to_int("rng", rng, 0, MOST_SEED)


def to_cells(value: Any) -> int | str | None:
    """Check a number of partitions, "auto" or None."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    try:
        return to_int("cells", value, 1)
    except (TypeError, ValueError) as error:
        raise type(error)(f"cells: expected None, 'auto', or an int from 1 to {_MOST_INT}, "
                          f"got {shown(value)}") from None


def to_threads(value: Any) -> int | None:
    """Check a number of threads; None stands for the default, -1 for as many as there are CPUs."""
    if value is None or (type(value) is int and value == -1):
        return value
    return to_int("threads", value, 1, MOST_THREADS)


def to_progress(value: Any) -> Progress:
    """Check `progress`: whether a bar is shown, or the function that is called."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not callable(value):
        raise TypeError(f"progress: expected True, False or a function of what is done, how much "
                        f"of it and of how much, got {shown(value)}")
    return value  # type: ignore[no-any-return]


def check_padding(k: int, n_queries: int, n_rows: int) -> None:
    """Refuse a k above the number of rows if a call would pad to over `MOST_PADDED` results."""
    if k > n_rows and k * max(n_queries, 1) > MOST_PADDED:
        most = max(n_rows, MOST_PADDED // max(n_queries, 1))
        raise ValueError(f"k: expected at most {most} for {n_queries} queries of {n_rows} rows, "
                         f"as a call pads to at most {MOST_PADDED} results, got {k}")


def check_flag(name: str, value: object) -> None:
    """Refuse values other than True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")


def to_float(name: str, value: Any) -> float:
    """Check a number that is not NaN."""
    # Truth, complex numbers, text and dates are no numbers, though `float` takes some of them.
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    if isinstance(value, (bool, str, bytes, bytearray)) or kind in "bcSUmM" or (
            getattr(value, "ndim", 0) != 0):
        raise TypeError(f"{name}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number that float64 can hold, "
                         f"got {shown(value)}") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {shown(value)}") from None
    if number != number:
        raise ValueError(f"{name}: expected a number, got NaN")
    return number


def to_radii(name: str, value: Any, n_queries: int) -> Float64Array:
    """Check a number for all of n queries, or one for each; none is NaN."""
    array = to_array(name, value)
    if array.ndim == 0 or array.dtype == np.bool_:  # truth is refused
        return np.full(n_queries, to_float(name, value))
    return to_one_each(name, array, n_queries, "a number, or one for each query")


def to_one_each(name: str, value: Any, n: int, expected: str) -> Float64Array:
    """Check n numbers, none of which is NaN; `expected` describes them in errors."""
    numbers = to_numbers(name, value)
    if numbers.shape != (n,):
        raise ValueError(f"{name}: expected {expected}, shape ({n},), got {numbers.shape}")
    if np.isnan(numbers).any():
        raise ValueError(f"{name}: expected numbers, got NaN at {int(np.isnan(numbers).argmax())}")
    return numbers


def to_finite(name: str, value: Any, least: float = -inf, most: float = inf, *,
              above: bool = False) -> float:
    """Check a finite number from `least`, or with `above` beyond it, to `most`."""
    number = to_float(name, value)
    if abs(number) == inf:
        raise ValueError(f"{name}: expected a finite number, got {number}")
    if number > most or number < least or (above and number == least):
        wanted = f"above {least:g}" + f", at most {most:g}" * (most < inf)
        if not above:
            wanted = f"of {least:g} or more" if most == inf else f"from {least:g} to {most:g}"
        percent = f"; {number:g} % is {number / 100:g}" if most == 1.0 < number <= 100.0 else ""
        raise ValueError(f"{name}: expected a number {wanted}, got {number}{percent}")
    return number


def to_listed_ids(name: str, value: Any, n_queries: int,
                  single: bool = False) -> tuple[Int64Array, Int64Array]:
    """Check ids per query: a matrix padded with -1, a sequence of arrays, or for one query ids.
    They come one query after the other, perhaps as the given array, with where each one's begin."""
    if isinstance(value, np.ndarray) and value.dtype != object and not single:
        if value.ndim != 2 or len(value) != n_queries:
            raise ValueError(f"{name}: expected shape ({n_queries}, m), got {value.shape}")
        ids = to_ids(name, value.reshape(-1), copy=False)
        return ids, np.arange(n_queries + 1) * value.shape[1]
    lists, offsets = converted(name, value, n_queries, single, partial(to_ids, copy=False))
    return np.concatenate([np.empty(0, np.int64), *lists]), offsets


def converted(name: str, value: Any, n_queries: int, single: bool,
              convert: Callable[[str, Any], Any]) -> tuple[list[Any], Int64Array]:
    """Convert the ids of each query, and tell where each one's begin among all."""
    lists = [convert(name, value)] if single else [
        np.empty(0, np.int64) if is_nothing(ids) else convert(f"{name}[{i}]", ids)
        for i, ids in enumerate(to_lists(name, value, n_queries))]
    return lists, np.cumsum([0, *map(len, lists)], dtype=np.int64)


def is_nothing(value: Any, most: int = 3, *, padding: bool = True) -> bool:
    """Whether there are no ids or labels: an empty container of any type, with `padding` None, or
    containers of nothing else, at most `most` deep."""
    if value is None:
        return padding
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.ravel().tolist()
    if isinstance(value, (list, tuple, Set)):
        return most > 0 and all(is_nothing(one, most - 1, padding=padding) for one in value)
    if isinstance(value, (str, bytes)):
        return False
    try:
        shape = getattr(value, "shape", None)
        return len(value) == 0 if shape is None else 0 in tuple(shape)
    except (TypeError, ValueError):  # numbers and the like; tensors of unknown rank
        return False


def is_flat(value: Any) -> bool:
    """Whether ids are for all queries alike: a set, or a sequence of ids rather than of arrays."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.ndim == 1
    if isinstance(value, Set):
        return True
    try:
        first = next((one for one in value if one is not None), None)
    except TypeError:
        return False
    if first is None:
        return not isinstance(value, Sized) or len(value) > 0  # a generator, or padding alone
    return is_single_id(first)


def to_lists(name: str, value: Any, n_queries: int) -> Sequence[Any]:
    """Check that there is something for each query."""
    try:
        count = len(value)
    except TypeError:
        raise TypeError(f"{name}: expected ids for each query, got {shown(value)}") from None
    if count != n_queries:
        raise ValueError(f"{name}: expected ids for each of {n_queries} queries, got {count}")
    return value  # type: ignore[no-any-return]
