"""The one seam through which tests look at privates: of the package, and of its objects.

`core` and the modules below are those of the package, by names that stay when they move: tests
patch their constants there. What tests call or read beside them has a name or a function here.
`test_seam.py` sees to it that no other test file reaches into the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import farann
import farann._core as core
import farann.adapters.posneg.factorization as factorization
import farann.adapters.posneg.regression as posneg_regression
import farann.adapters.ray.building as sharding
import farann.cli.commands as commands
import farann.contract.arrow as arrow
import farann.diverse.greedy as greedy
import farann.diverse.mmr as mmr
import farann.diverse.mmr_floor as mmr_floor
import farann.diverse.pairs as pairs
import farann.io.container as container
import farann.io.files as files
import farann.io.index_file as index_file
import farann.io.vector_formats as vector_formats
import farann.layout.added_rows as added_rows
import farann.layout.build as build
import farann.layout.coding as coding
import farann.layout.cost_model as cost_model
import farann.layout.partitions as partitions
import farann.layout.sampling as sampling
import farann.layout.transform_choice as transform_choice
import farann.native as native
import farann.native.codes as native_codes
import farann.quantize.decoding as decoding
import farann.quantize.kmeans as kmeans
import farann.quantize.pca_filter as pca_filter
import farann.quantize.projection as projection
import farann.quantize.query_sample as query_sample
import farann.quantize.scalar as scalar
import farann.quantize.transform as transform
import farann.runtime.batches as batches
import farann.runtime.cost as cost
import farann.runtime.pool as pool
import farann.runtime.process as process
import farann.runtime.progress as progress
import farann.search.ask as ask
import farann.search.filters as filters
import farann.search.tables as tables
import farann.store.labels as string_labels
import farann.store.samples as samples
import farann.tuning.guard as guard
import farann.tuning.measure as measure
from farann.adapters.posneg import FusionRanker
from farann.adapters.posneg.regression import Learned
from farann.adapters.ray.selecting import Selecting as Gathering
from farann.adapters.ray.shard import Shard
from farann.adapters.ray.storage import Storage
from farann.cli.arguments import parser_of_commands as parser
from farann.contract import FormatError
from farann.contract.index_spec import CODE_WIDTHS, CodeWidth, IndexSpec, traits_of
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.contract.strings import packed
from farann.demo import data as demo_data
from farann.demo import images as demo_images
from farann.demo import movies as demo_movies
from farann.demo import page as demo_page
from farann.demo import words as demo_numpy
from farann.demo.data import _ASKED as words_asked
from farann.diverse.centroid import RowSum
from farann.io.container import (
    ArrayChunks,
    read_bytes,
    read_file,
    verify_file,
    write_bytes,
    write_file,
)
from farann.io.files import _claim as claim
from farann.io.files import _remove_unlocked as remove_unlocked
from farann.io.files import _sweep as sweep
from farann.io.files import open_regular, replacing
from farann.io.sections import DTYPES, MAGIC, read_table
from farann.layout.added_rows import Added, Run
from farann.layout.coding import ORDER_K, Sizes
from farann.layout.partitions import _FEWER_PER_ROOT as FEWER_PER_ROOT
from farann.native.process import MECHANISMS, leave_out
from farann.quantize.kmeans import _labels as labels
from farann.quantize.projection import Projection
from farann.quantize.records import CodeArrays, CodeBounds, Layout
from farann.quantize.scalar import centred, measure_rows
from farann.quantize.transform import Transform, rotation_signs
from farann.results import Hits, share_found
from farann.runtime.batches import _QUERY_BYTES as QUERY_BYTES
from farann.runtime.batches import _TASK_BYTES as TASK_BYTES
from farann.runtime.batches import _is_long as is_long
from farann.runtime.cost import cost_of
from farann.runtime.pool import _forget_executors as forget_executors
from farann.search.changes import laid_out
from farann.store.depths import Answers
from farann.store.groups import Groups
from farann.store.ids import IdMap
from farann.store.labels import Labels
from farann.store.store import Store
from farann.tuning.plans import Measured, Tunings
from farann.tuning.table import missing_at

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


def forget_code_trials(index: farann.Index) -> None:
    """Let the next batch begin with codes, whatever came of them before."""
    snapshot_of(index).code_trials.clear()


def use_level(index: farann.Index, level: str) -> None:
    """Let an index search at another level than it was made for."""
    index._live.isa = level


def force_level(level: str) -> None:
    """Let new indexes use a level, as the variable FARANN_ISA does."""
    pool._forced = level


# ---- searches ----


def work_of(task: core.Task) -> farann.SearchStats:
    """What a task did."""
    return farann.SearchStats(1, *task.did())


def selection_of(index: farann.Index, most: int) -> core.Greedy:
    """A selection of so many rows after the row in slot 0."""
    store = store_of(index)
    snapshot = greedy.snapshot_of(store, index.isa)
    return core.Greedy(snapshot, core.Filter(snapshot), np.zeros(1, np.int64), most)


# ---- indexes ----


def store_of(index: farann.Index) -> Store:
    """What an index holds now."""
    store = index._live.store
    assert store is not None
    return store


def groups_of(index: farann.Index) -> Groups:
    """The groups of an index that has some."""
    groups = store_of(index).groups
    assert groups is not None
    return groups


def sample_queries(index: farann.Index, most: int) -> npt.NDArray[np.float32]:
    """Queries that an index would be tuned with."""
    return samples.sample_queries(store_of(index), most)[0]


def put(index: farann.Index, **parts: Any) -> None:
    """Let an index hold other parts of its layout: `codes`, `partitions`."""
    store = store_of(index)
    was = None if store.layout is None else store.layout._asdict()
    index._live.store = store.changed(layout=Layout(**{**(was or {}), **parts}))


def snapshot_of(index: farann.Index) -> core.Snapshot:
    """What searches of an index see; it is built first, as searches do."""
    store = laid_out(index._live)
    assert store is not None
    return store.view(index.isa).snapshot


def is_locked(index: farann.Index) -> bool:
    """Whether a change is being made."""
    return index._live._lock.locked()


def restore(index: farann.Index, store: Store) -> None:
    """Put an index back to what it held before."""
    index._live.store = store


def sections_of(index: farann.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of the file that an index would be saved to."""
    return index_file.sections_of(index._live)


def index_from(content: bytes) -> farann.Index:
    """The index of a file's bytes."""
    return farann.Index._restored(*container.read_bytes(content), checked=True)


def arrow_structs(schema: object, array: object) -> tuple[Any, Any]:
    """The structs in two capsules of the Arrow interface, to be changed."""
    return (arrow._Schema.from_address(arrow._pointer_in(schema, b"arrow_schema")),
            arrow._Array.from_address(arrow._pointer_in(array, b"arrow_array")))


# ---- the process ----


def blas_users() -> int:
    """How many threads hold BLAS to one thread."""
    return len(process._users)


def blas_limited() -> bool:
    """Whether BLAS is held to one thread."""
    return bool(process._limited)


# ---- rankers and layers ----


def learned_by(ranker: FusionRanker) -> Learned:
    """What a fitted ranker knows."""
    assert ranker._state is not None
    return ranker._state.learned


def index_options(layer: Any) -> dict[str, Any]:
    """Options with which a layer makes its index."""
    options: dict[str, Any] = layer._how.of_index
    return options
