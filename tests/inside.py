"""The one seam through which tests look at privates: of the package, and of its objects.

`core` and the modules below are those of the package, by names that stay when they move: tests
patch their constants there. What tests call or read beside them has a name or a function here.
`test_seam.py` sees to it that no other test file reaches into the package.
"""

from __future__ import annotations

from typing import Any

import farann
import farann._added as added
import farann._asked as asked
import farann._basis as basis
import farann._builder as builder
import farann._cells as cells
import farann._codes as codes
import farann._commands as commands
import farann._core as core
import farann._cost as cost
import farann._depths as depths
import farann._dispatch as dispatch
import farann._files as files
import farann._filters as filters
import farann._format as format
import farann._guard as guard
import farann._kmeans as kmeans
import farann._layout as layout
import farann._parallel as parallel
import farann._persistence as persistence
import farann._process as process
import farann._quantized as quantized
import farann._rotation as rotation
import farann._search as search
import farann._seeds as seeds
import farann._tasks as tasks
import farann._turning as turning
import farann._typical as typical
import farann._vector_formats as vector_formats
import farann.adapters._posneg_file as posneg_file
import farann.adapters._retrieval as retrieval
import farann.native as native
import farann.native.codes as native_codes
from farann._added import Added, Run
from farann._builder import Sizes
from farann._codes import centred, measure_rows
from farann._cost import cost_of
from farann._depths import Answers
from farann._files import _claim as claim
from farann._files import _remove_unlocked as remove_unlocked
from farann._files import _sweep as sweep
from farann._files import open_regular, replacing
from farann._format import _DTYPES as DTYPES
from farann._format import (
    ArrayChunks,
    FormatError,
    read_bytes,
    read_file,
    verify_file,
    write_bytes,
    write_file,
)
from farann._format import _read_table as read_table
from farann._guard import _repeat as repeat_late
from farann._ids import IdMap
from farann._kind import Kind
from farann._kmeans import _labels as labels
from farann._layout import _ORDER_K as ORDER_K
from farann._metric import traits_of
from farann._records import CodeArrays, CodeBounds, Layout, SeedArrays
from farann._results import Hits, share_found
from farann._rotation import Turn, rotation_signs
from farann._search import _QUERY_BYTES as QUERY_BYTES
from farann._search import _TASK_BYTES as TASK_BYTES
from farann._search import _is_long as is_long
from farann._store import Store
from farann._tasks import _forget_executors as forget_executors
from farann._tunings import Measured, Tunings
from farann.adapters._calibration import (
    Calibration,
    Linear,
    Steps,
    fit_weights_within_users,
    item_log_odds,
)
from farann.adapters._fusion import FUSIONS, RANK_FUSIONS, SCORE_FUSIONS
from farann.adapters._scoring import Model
from farann.cli import _parser as parser
from farann.demo import _Numpy as DemoNumpy
from farann.demo import _try as demo_try

# ---- levels ----

_only: tuple[str, ...] | None = None


def levels() -> tuple[str, ...]:
    """The instruction-set levels to test, slowest first: all that the core has on this CPU."""
    return core.isa_levels() if _only is None else _only


def largest_code(level: str) -> int:
    """Of a query's codes, in magnitude: what the products of bytes of a level allow."""
    return core.largest_query_code(level)


def only_level(level: str) -> None:
    """Test at this level alone (pytest --one-level)."""
    global _only
    _only = (level,)


def use_level(index: farann.Index, level: str) -> None:
    """Let an index search at another level than it was made for."""
    index._isa = level


def force_level(level: str) -> None:
    """Let new indexes use a level, as the variable FARANN_ISA does."""
    dispatch._forced = level


# ---- indexes ----


def store_of(index: farann.Index) -> Store:
    """What an index holds now."""
    assert index._store is not None
    return index._store


def put(index: farann.Index, **parts: Any) -> None:
    """Let an index hold other parts of its layout: `codes`, `cells`, `seeds`."""
    store = store_of(index)
    was = None if store.layout is None else store.layout._asdict()
    index._store = store.changed(layout=Layout(**{**(was or {}), **parts}))


def snapshot_of(index: farann.Index) -> core.Snapshot:
    """What searches of an index see; it is built first, as searches do."""
    store = index._laid_out()
    assert store is not None
    return store.view(index.isa).snapshot


def restore(index: farann.Index, store: Store) -> None:
    """Put an index back to what it held before."""
    index._store = store


def sections_of(index: farann.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of the file that an index would be saved to."""
    return index._content()


# ---- the process ----


def blas_users() -> int:
    """How many threads hold BLAS to one thread."""
    return len(process._users)


def blas_limited() -> bool:
    """Whether BLAS is held to one thread."""
    return bool(process._limited)


# ---- rankers and layers ----


def pair_of(ranker: Any) -> Any:
    """Both models of a ranker."""
    return ranker._pair


def model_of(ranker: Any) -> Model | None:
    """What a ranker has fitted."""
    model: Model | None = ranker._model
    return model


def put_model(ranker: Any, model: Model | None) -> None:
    """Let a ranker rank by this model."""
    ranker._model = model


def fusion_of(ranker: Any) -> Any:
    """How a ranker makes one score of two."""
    return ranker._fusion


def weight_of(ranker: Any) -> Any:
    """What a ranker was given as weight, or "fit"."""
    return ranker._weight


def veto_of(ranker: Any) -> float | None:
    """The probability from which a ranker leaves items out."""
    veto: float | None = ranker._veto
    return veto


def normalization_of(ranker: Any) -> str | None:
    """How a ranker normalizes similarities."""
    normalize: str | None = ranker._normalize
    return normalize


def index_options(layer: Any) -> dict[str, Any]:
    """Options with which a layer makes its index."""
    options: dict[str, Any] = layer._index_options
    return options


def fused_layers() -> Any:
    """The module of layers of two models, which needs TensorFlow."""
    import farann.adapters.tfrs._fused as fused

    return fused
