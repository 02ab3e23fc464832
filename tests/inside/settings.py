"""Constants and functions of the package that tests replace: ``setattr(settings, name, value)``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import farann._core as core
from farann.adapters.posneg import learning
from farann.cli import commands
from farann.demo import data, movies, words
from farann.diverse import contrast, mmr, pairs
from farann.io import container, files, frames, index_file, synced, vector_formats
from farann.layout import added_rows, build, coding, partitions, sampling
from farann.native import codes
from farann.quantize import kmeans, pca_filter, scalar, transform
from farann.runtime import batches, cost, paging, pool
from farann.search import ask, filters, plan, singles, tables
from farann.tuning import guard, measure

# Where each is kept; in several modules where these import it from another.
_PLACES: dict[str, tuple[str, tuple[ModuleType | type, ...]]] = {
    "SingleSearch": ("SingleSearch", (core,)),
    "Task": ("Task", (core,)),
    "advise_mapping": ("_advise", (paging,)),
    "cached_code_bytes": ("CACHED_BYTES", (codes,)),
    "choose_for_singles": ("choose_for_singles", (build,)),
    "claim": ("_claim", (files,)),
    "code_added_rows": ("code_like", (coding,)),
    "coded_query_cost": ("_CODED_QUERY", (cost,)),
    "choose_pca_filter": ("choose", (pca_filter,)),
    "costs_by_recall": ("costs_by_recall", (build,)),
    "comparing": ("_COMPARING", (guard,)),
    "demo_times": ("TIMES", (words,)),
    "tables_batches": ("batches", (tables,)),
    "distinct": ("distinct", (filters,)),
    "encode_metadata": ("encode_metadata", (container,)),
    "fashion_parts": ("_FASHION_PARTS", (data,)),
    "fewest_built_rows": ("LEAST_SAMPLE", (build, sampling)),
    "fewest_partitioned_rows": ("_FEWEST_PARTITIONED", (partitions,)),
    "files_fcntl": ("fcntl", (files,)),
    "files_open": ("open", (files,)),
    "files_os": ("os", (files,)),
    "films": ("_FILMS", (data,)),
    "first_bad_row": ("first_bad_row", (core,)),
    "first_pair_queries": ("_FIRST_QUERIES", (pairs,)),
    "first_pool": ("_FIRST_POOL", (mmr,)),
    "forced_level": ("_forced", (pool,)),
    "found_cost": ("FOUND", (batches, singles)),
    "guard_far": ("_FAR_BEYOND", (guard,)),
    "guard_part": ("_TESTED_AT_ONCE", (guard,)),
    "hub_rows": ("HUB_ROWS", (codes,)),
    "index_of_commands": ("Index", (commands,)),
    "is_long": ("_is_long", (batches,)),
    "kmeans_at_once": ("_MOST_AT_ONCE", (kmeans,)),
    "kept_work": ("KEPT_WORK", (singles,)),
    "kmeans_compared": ("_MOST_COMPARED", (kmeans,)),
    "leading_share": ("_LEADING_SHARE", (batches,)),
    "likely_floor": ("likely", (mmr.Ranker,)),
    "frames_fcntl": ("fcntl", (frames,)),
    "frames_open": ("open", (frames,)),
    "least_frames": ("_LEAST_FRAMES", (synced,)),
    "least_run": ("LEAST_RUN", (added_rows,)),
    "lines_a_batch": ("QUERIES_A_CALL", (commands,)),
    "long_work": ("_LONG_WORK", (batches,)),
    "most_frames": ("_MOST_FRAMES", (synced,)),
    "main_directions": ("_MAIN_DIRECTIONS", (transform,)),
    "memory": ("memory", (paging,)),
    "measure_in_pieces": ("in_pieces", (measure,)),
    "most_joined_rows": ("_MOST_JOINED_ROWS", (pairs,)),
    "least_work_of_parts": ("_LEAST_WORK_OF_PARTS", (batches,)),
    "member_work": ("_MEMBER_WORK", (contrast,)),
    "most_listed": ("_MOST_LISTED", (filters,)),
    "most_ordered": ("MOST_ORDERED", (coding,)),
    "most_regression_steps": ("_MOST_STEPS", (learning,)),
    "most_rotated_rows": ("_MOST_TURNED", (sampling,)),
    "most_together": ("MOST_TOGETHER", (singles,)),
    "most_sections": ("_MAX_SECTIONS", (container,)),
    "pair_rows_at_once": ("_PAIR_ROWS_AT_ONCE", (pairs,)),
    "part_keys": ("_PART_KEYS", (batches,)),
    "part_work": ("_PART_WORK", (batches,)),
    "parts_a_thread": ("_PARTS_A_THREAD", (batches,)),
    "pca_filter_largest_share": ("_LARGEST_SHARE", (pca_filter,)),
    "pca_filter_worth_it": ("_WORTH_IT", (pca_filter,)),
    "read_table": ("read_table", (container,)),
    "row_costs": ("row_costs", (batches,)),
    "rows_a_part": ("_PART_ROWS", (batches,)),
    "run_all": ("run_all", (pool,)),
    "sample_of": ("sample_of", (sampling,)),
    "sampled_rows": ("_SAMPLED", (scalar,)),
    "share_found": ("share_found", (measure,)),
    "sections_of": ("sections_of", (index_file,)),
    "shares_found": ("shares_found", (plan,)),
    "slow_long_work": ("_SLOW_LONG_WORK", (batches,)),
    "small_work": ("LEAST_SHARED", (batches, singles)),
    "small_work_of_few": ("LEAST_SHARED_BY_FEW", (cost,)),
    "sync_folder": ("_sync_folder", (files,)),
    "tail_covers": ("_covers", (index_file,)),
    "top": ("top", (batches,)),
    "top_of_search": ("_top", (ask,)),
    "usual_file_bytes": ("USUAL_BYTES", (vector_formats,)),
}


class Settings:
    """The values of these places."""

    __slots__ = ()  # without a dictionary of its own monkeypatch asks for values, and sets them

    def __getattr__(self, name: str) -> Any:
        attribute, modules = _place(name)
        return getattr(modules[0], attribute)

    def __setattr__(self, name: str, value: Any) -> None:
        attribute, modules = _place(name)
        for module in modules:
            setattr(module, attribute, value)

    def __delattr__(self, name: str) -> None:
        """For what a module found among the builtins."""
        attribute, modules = _place(name)
        for module in modules:
            delattr(module, attribute)


def _place(name: str) -> tuple[str, tuple[ModuleType | type, ...]]:
    if name not in _PLACES:
        raise AttributeError(f"no setting {name!r}")
    return _PLACES[name]


settings = Settings()
