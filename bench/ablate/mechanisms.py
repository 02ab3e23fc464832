"""The mechanisms that can be switched off, and the files whose code they are."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import farann.diverse.mmr as mmr
import farann.diverse.pairs as pairs
import farann.layout.added_rows as added_rows
import farann.layout.build as build
import farann.layout.sampling as sampling
import farann.native.codes as native_codes
import farann.quantize.scalar as scalar
import farann.runtime.batches as batches
import farann.search.filters as filters
import farann.tuning.guard as guard
import farann.tuning.measure as measure
from farann._core import CodeTrials
from farann.contract.stop_rule import StopRule
from farann.layout.sampling import CostModel
from farann.native import kernels

_ROOT = Path(__file__).resolve().parents[2]
_NEVER = 1 << 62  # bytes, or rows, that nothing has
# Of a function or class in Python or Cython, or in C.
_DEFINITION = (r"^( *)(?:cdef |cpdef |def |class |(?:static |WORD )?(?!return)[\w]+ \*?(?={0}\())"
               r"(?:.*[ *])?{0}[(:]")

Patch = tuple[Any, str, Any]  # a module or class, a name in it, and what takes its place


def _none(*_: Any, **__: Any) -> None:
    return None


@dataclass(frozen=True)
class Mechanism:
    """One thing that makes searches faster, and how to do without it.

    Parameters
    ----------
    name, title : str
    where : tuple of str
        What would go with it: patterns of files, as in "farann/native/guard.*", each with the
        names of functions if these alone are its code, as in "farann/layout/build.py: _better".
    patches : tuple
        What takes its place in Python.
    native : bool
        Whether the core leaves it out, by its name.
    options : tuple
        Of an index that has it.
    question : str
        What it is for, one of `questions.QUESTIONS`.
    counts : bool
        Whether what searches count tells of it; else time alone does.
    """

    name: str
    title: str
    where: tuple[str, ...]
    patches: tuple[Patch, ...] = ()
    native: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    question: str = "search"
    counts: bool = True

    @contextmanager
    def off(self) -> Iterator[None]:
        """Build, or search, without it."""
        patchers = [mock.patch.object(*patch) for patch in self.patches]
        for patcher in patchers:
            patcher.start()
        if self.native:
            kernels.leave_out(self.name)
        try:
            yield
        finally:
            kernels.leave_out()
            for patcher in reversed(patchers):
                patcher.stop()

    @property
    def lines(self) -> int:
        """Lines of code, without those that are empty or comments alone."""
        return sum(_lines(place) for place in self.where)


def _lines(place: str) -> int:
    pattern, _, names = place.partition(": ")
    paths = [path for path in sorted(_ROOT.glob(pattern))
             if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".h") or "src_c" in path.parts]
    if not paths:
        raise ValueError(f"no file {pattern!r}")
    texts = [path.read_text(encoding="utf-8").splitlines() for path in paths]
    if names:
        texts = [_function(text, name, place) for text in texts for name in names.split()]
    return sum(1 for text in texts for line in text
               if line.strip() and not line.strip().startswith(("#", "//", "/*", "*")))


def _function(lines: list[str], name: str, place: str) -> list[str]:
    """The lines of a function: those that are indented further than its first one, or close it."""
    found = re.compile(_DEFINITION.format(re.escape(name)))
    for start, line in enumerate(lines):
        match = found.match(line)
        if match:
            end = start + 1
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith(
                    match[1] + " ")):
                end += 1
            return lines[start:end]
    raise ValueError(f"no function {name!r} in {place!r}")


def _nothing_predicted(*_: Any) -> Generator[None, None, float]:
    """The search of a threshold in pieces, without any."""
    yield from ()
    return float("nan")


def _as_numbered(answers: Any, n: int, least: int = 2) -> Any:
    """No rows that answer several queries."""
    return np.empty(0, np.int64)


_NATIVE = "farann/native/"
_AUTO, _ALONE = (("cells", "auto"),), (("keep_vectors", False),)
_COARSE = (*_ALONE, ("codes", "int4"))

MECHANISMS = (
    # Levels: how rows are scored.
    Mechanism("codes", "8-bit codes of rows",
              ("src_c/kernels/code*-inl.h", _NATIVE + "codes.p*",
               _NATIVE + "query_batch.pyx: CodedQueries", "farann/layout/coding.py"),
              ((build, "make_codes", lambda *_, **__: build.Made()),)),
    Mechanism("pca-filter", "first look along few directions",
              ("farann/quantize/pca_filter.py", _NATIVE + "codes.pyx: take_whole",
               _NATIVE + "query_batch.pyx: encode_for_pca_filter"),
              ((build, "pca_filter_for", _none),)),
    Mechanism("hubs", "whole codes of the first rows beside a first look",
              (_NATIVE + "codes.pyx: take_hubs",),
              ((native_codes, "HUB_ROWS", 0),)),
    Mechanism("high-nibbles", "upper halves of codes first, for single queries",
              ("src_c/kernels/codes_for_one-inl.h",
               _NATIVE + "levels.pyx: NibbleLevel"), native=True),
    Mechanism("level-choice", "single queries begin with the level that sample queries choose",
              ("farann/layout/build.py: choose_for_singles",),
              ((build, "choose_for_singles", lambda _, made, *__: made),), question="single"),
    Mechanism("joined-nibbles", "halves of codes put together for batches",
              (_NATIVE + "levels.pyx: take_rows",), native=True, counts=False),
    Mechanism("single-tiles", "kernels for one query where there are few",
              ("src_c/kernels/codes_for_one-inl.h",), native=True, question="few"),
    Mechanism("row-major", "8-bit codes as rows lie, where these are all that is kept",
              (_NATIVE + "levels.pyx: DecodedLevel",), ((build, "_FEW_DIMENSIONS", 0),),
              options=_ALONE),
    Mechanism("kept-vectors", "vectors of rows that answer many queries beside 4-bit codes",
              (_NATIVE + "task.pyx: add_outliers",), ((build, "_ROWS_A_VECTOR", _NEVER),),
              options=_COARSE),
    Mechanism("rounding", "4-bit codes rounded for likely queries",
              ("farann/quantize/scalar.py: Coarse shape_of",),
              ((build, "shape_of", _none),), options=_COARSE),
    Mechanism("first-rows", "all of the first rows scored, for a threshold",
              (_NATIVE + "task.pyx: rows_to_score",), native=True),
    Mechanism("selecting", "the k best selected from many scores",
              (_NATIVE + "collector.pyx: select at_least",), native=True,
              question="large-k"),
    Mechanism("key-scan", "exact keys of all rows where these tie",
              (_NATIVE + "row_levels.pyx: KeyLevel",
               "src_c/kernels/keys-inl.h: sum_lane sum_key_panel append_keys scan_keys"),
              native=True),
    Mechanism("zero-columns", "columns left out that are 0 in all queries",
              (_NATIVE + "row_levels.pyx: take_columns",), native=True),
    Mechanism("integer-keys", "exact keys by float32 where numbers are whole",
              (_NATIVE + "bounds.pyx: IntegerKeys make_room largest_sum",), native=True,
              question="single"),
    Mechanism("best-first", "keys of the k best rows before those of others",
              (_NATIVE + "collector.pyx: rerank_best",), native=True),
    Mechanism("code-noise", "what codes are off taken for noise, for recall=",
              (_NATIVE + "query_batch.pyx: encode",), native=True),
    # Bounds: which rows need no score.
    Mechanism("norm-pruning", "queries left out that no later row can answer",
              (_NATIVE + "bounds.pyx: NormBound lie_by_norm",), native=True),
    Mechanism("key-bounds", "rows by what they may reach",
              ("farann/layout/sampling.py: key_bounds_pay ruled_out",
               "farann/layout/coding.py: by_key_bound key_bounds"),
              ((CostModel, "key_bounds_pay", lambda *_: (False, None)),)),
    Mechanism("square-bounds", "rows without negative numbers by length from the origin",
              ("farann/layout/sampling.py: squares_pay", "farann/layout/coding.py: RowLengths",
               "src_c/metric.c: farann_negative_norm"),
              ((CostModel, "squares_pay", lambda *_: False),)),
    Mechanism("mean-query", "what rows are along the mean query",
              ("farann/layout/sampling.py: mean_query_of ruled_out_along MeanQueryDirection "
               "along_and_across",),
              ((build, "mean_query_of", _none),)),
    Mechanism("ceilings", "keys that no row is above",
              (_NATIVE + "bounds.pyx: CeilingBound of_query nothing_negative of_axis least_id",),
              native=True),
    Mechanism("predicted-threshold", "k-th keys predicted from partitions",
              (_NATIVE + "probing.pyx: mean_of_best deviation_of",
               _NATIVE + "collector.pyx: forget_unkept", _NATIVE + "measuring.pyx: surprises"),
              ((measure.Searches, "predicted_threshold", _nothing_predicted),),
              options=_AUTO),
    # What rows go through before they are coded.
    Mechanism("pca-axes", "codes along principal axes alone",
              ("farann/layout/sampling.py: pca_axes_for",
               "farann/quantize/transform.py: directions some_of"),
              ((sampling, "pca_axes_for", _none),)),
    Mechanism("outliers", "rows that are too long for the scale of others have none",
              (_NATIVE + "task.pyx: add_outliers",), ((scalar, "_MOST_LEFT_OUT", 0),)),
    # How codes are laid out.
    Mechanism("answers-first", "rows that answer many sample queries come first",
              ("farann/layout/coding.py: answering",), ((build, "answering", _as_numbered),)),
    Mechanism("parts-by-size", "of rows that come first parts are in one order by size",
              ("farann/layout/coding.py: by_size_in_parts",), ((build, "_HUBS_A_PART", _NEVER),)),
    Mechanism("partitions", "partitions of rows that are alike",
              (_NATIVE + "codes.pyx: Partitions",
               _NATIVE + "probing.pyx: PartitionMeans PartitionSource probed_partitions",
               "farann/layout/partitions.py"),
              ((build, "number_of_partitions", lambda *_: 0),), options=_AUTO),
    Mechanism("judged-layouts", "partitions only where they pay",
              ("farann/layout/build.py: _better",),
              ((build, "_better", lambda _, made, *__: made),), options=_AUTO),
    Mechanism("asking-ahead", "memory asked for a partition early",
              (_NATIVE + "levels.pyx: ask_for",), native=True, options=_AUTO,
              counts=False),
    Mechanism("added-runs", "codes of rows that were added since the build",
              ("farann/layout/added_rows.py", _NATIVE + "sources.pyx: RunSource added_runs"),
              ((added_rows, "LEAST_RUN", _NEVER),), question="added"),
    Mechanism("merged-runs", "runs of a size become one",
              ("farann/layout/added_rows.py: _kept_beside",),
              ((added_rows.Added, "_kept_beside", lambda self, n: self.runs),), question="added"),
    # Judges: which levels pay.
    Mechanism("cost-judge", "codes given up where much passes",
              (_NATIVE + "judge.pyx: look predict_cost too_costly charge fails",), native=True),
    Mechanism("code-trials", "batches without codes after those that gave them up",
              (_NATIVE + "judge.pyx: CodeTrials",),
              ((batches, "_trials_of", lambda *_: CodeTrials()),), question="small-batches"),
    Mechanism("single-judge", "single queries without codes after those that gave them up",
              (_NATIVE + "judge.pyx: note",), native=True, question="single"),
    Mechanism("nibble-judge", "upper halves not read first where much passes",
              (_NATIVE + "judge.pyx: note",), native=True),
    Mechanism("first-in-float32", "first rows in float32 where codes can't tell them apart",
              (_NATIVE + "search.pyx: climb scan_from",), native=True),
    Mechanism("early-filters", "filters before whole codes where many rows are left out",
              ("src_c/select.c: farann_candidates_drop",), native=True, question="masked"),
    Mechanism("listed-rows", "rows listed where a filter leaves few",
              ("farann/search/filters.py: _list_pays",),
              ((filters, "_list_pays", lambda *_, **made: False),), question="listed"),
    # Single queries, and threads.
    Mechanism("kept-singles", "memory kept from one single query to the next",
              (_NATIVE + "single.*", "farann/search/singles.py"),
              ((batches, "single", _none),), question="single"),
    Mechanism("long-blocks", "longer blocks for single queries",
              (_NATIVE + "task.pyx: most_code_rows",), native=True,
              question="single"),
    Mechanism("parts-of-rows", "few queries cut along the rows for threads",
              ("farann/runtime/batches.py: _in_parts", _NATIVE + "task.pyx: search_only"),
              ((batches, "_FEW_A_THREAD", 0), (batches, "_FEW_FLOATS_A_THREAD", 0)),
              options=(("threads", 2),), question="few"),
    Mechanism("small-tasks", "batches on few rows in smaller tasks", (
        "farann/runtime/batches.py: _run",), (
        (batches, "_QUERIES_OF_FEW_ROWS", batches._QUERIES_A_TASK),), question="small-rows"),
    # recall=.
    Mechanism("guard", "exact answers to queries that are unlike the sample",
              ("farann/tuning/guard.py", _NATIVE + "guard.*"),
              ((guard.Guard, "unlike", _none),), question="unlike"),
    Mechanism("extended-searches", "more rows for queries whose answers come late",
              (_NATIVE + "probing.pyx: LateSource late_rows",),
              ((StopRule, "extends_beyond", None),), question="unlike"),
    Mechanism("lateness", "exact answers where these come late, or found less than usual",
              (_NATIVE + "probing.pyx: Lateness place_of places_of",
               "farann/search/plan.py: _guarded"),
              ((StopRule, "watch", None),), options=_AUTO, question="unlike"),
    # Sets, selections, pairs.
    Mechanism("member-order", "members first that rule out most",
              (_NATIVE + "sets.pyx: sort_members",), native=True, question="sets"),
    Mechanism("shrinking-blocks", "rows packed anew where half of a block is left out",
              (_NATIVE + "picks.pyx: keep_above",), native=True, question="selection"),
    Mechanism("mmr-floor", "a guess at what the next picks are worth",
              ("farann/diverse/mmr.py: sample_of unit_rows likely",),
              ((mmr.Ranker, "likely", lambda *_: -float("inf")),), question="mmr"),
    Mechanism("reaches", "pairs by what their rows may reach",
              ("farann/diverse/pairs.py: _reaches _most",),
              ((pairs, "_most", lambda *_: float("inf")),), question="diameter"),
)


def chosen(names: list[str] | None) -> list[Mechanism]:
    """All mechanisms, or those of some names; ValueError for others."""
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    for name in names or []:
        if name not in known:
            raise ValueError(f"--only must be of {', '.join(known)}, got {name!r}")
    return [known[name] for name in names or known]
