"""The mechanisms that can be switched off."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

_NEVER = 1 << 62  # bytes, or rows, that nothing has

Patch = tuple[Any, str, Any]  # a module or class, a name in it, and what takes its place


def _none(*_: Any, **__: Any) -> None:
    return None


@dataclass(frozen=True)
class Mechanism:
    """One thing that makes searches faster, and how to do without it.

    Parameters
    ----------
    name, title : str
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


def _nothing_predicted(*_: Any) -> Generator[None, None, float]:
    """The search of a threshold in pieces, without any."""
    yield from ()
    return float("nan")


def _as_numbered(answers: Any, n: int, least: int = 2) -> Any:
    """No rows that answer several queries."""
    return np.empty(0, np.int64)


_AUTO, _ALONE = (("cells", "auto"),), (("keep_vectors", False),)
_COARSE = (*_ALONE, ("codes", "int4"))

MECHANISMS = (
    # Levels: how rows are scored.
    Mechanism("codes", "8-bit codes of rows",
              ((build, "make_codes", lambda *_, **__: build.Made()),)),
    Mechanism("pca-filter", "first look along few directions",
              ((sampling, "pca_filter_for", _none),)),
    Mechanism("hubs", "whole codes of the first rows beside a first look",
              ((native_codes, "HUB_ROWS", 0),)),
    Mechanism("high-nibbles", "upper halves of codes first, for single queries", native=True),
    Mechanism("level-choice", "single queries begin with the level that sample queries choose",
              ((build, "choose_for_singles", lambda _, made, *__: made),), question="single"),
    Mechanism("joined-nibbles", "halves of codes put together for batches", native=True,
              counts=False),
    Mechanism("single-tiles", "kernels for one query where there are few", native=True,
              question="few"),
    Mechanism("row-major", "8-bit codes as rows lie, where these are all that is kept",
              ((build, "_FEW_DIMENSIONS", 0),), options=_ALONE),
    Mechanism("kept-vectors", "vectors of rows that answer many queries beside 4-bit codes",
              ((build, "_ROWS_A_VECTOR", _NEVER),), options=_COARSE),
    Mechanism("rounding", "4-bit codes rounded for likely queries", ((build, "shape_of", _none),),
              options=_COARSE),
    Mechanism("first-rows", "all of the first rows scored, for a threshold", native=True),
    Mechanism("selecting", "the k best selected from many scores", native=True,
              question="large-k"),
    Mechanism("key-scan", "exact keys of all rows where these tie", native=True),
    Mechanism("zero-columns", "columns left out that are 0 in all queries", native=True),
    Mechanism("integer-keys", "exact keys by float32 where numbers are whole", native=True,
              question="single"),
    Mechanism("best-first", "keys of the k best rows before those of others", native=True),
    Mechanism("code-noise", "what codes are off taken for noise, for recall=", native=True),
    # Bounds: which rows need no score.
    Mechanism("norm-pruning", "queries left out that no later row can answer", native=True),
    Mechanism("key-bounds", "rows by what they may reach",
              ((CostModel, "key_bounds_pay", lambda *_: (False, None)),)),
    Mechanism("square-bounds", "rows without negative numbers by length from the origin",
              ((CostModel, "squares_pay", lambda *_: False),)),
    Mechanism("mean-query", "what rows are along the mean query",
              ((sampling, "mean_query_of", _none),)),
    Mechanism("ceilings", "keys that no row is above", native=True),
    Mechanism("predicted-threshold", "k-th keys predicted from partitions",
              ((measure.Searches, "predicted_threshold", _nothing_predicted),), options=_AUTO),
    # What rows go through before they are coded.
    Mechanism("pca-axes", "codes along principal axes alone",
              ((sampling, "pca_axes_for", _none),)),
    Mechanism("outliers", "rows that are too long for the scale of others have none",
              ((scalar, "_MOST_LEFT_OUT", 0),)),
    # How codes are laid out.
    Mechanism("answers-first", "rows that answer many sample queries come first",
              ((build, "answering", _as_numbered),)),
    Mechanism("parts-by-size", "of rows that come first parts are in one order by size",
              ((build, "_HUBS_A_PART", _NEVER),)),
    Mechanism("partitions", "partitions of rows that are alike",
              ((build, "number_of_partitions", lambda *_: 0),), options=_AUTO),
    Mechanism("judged-layouts", "partitions only where they pay",
              ((build, "_better", lambda _, made, *__: made),), options=_AUTO),
    Mechanism("added-runs", "codes of rows that were added since the build",
              ((added_rows, "LEAST_RUN", _NEVER),), question="added"),
    Mechanism("merged-runs", "runs of a size become one",
              ((added_rows.Added, "_kept_beside", lambda self, n: self.runs),), question="added"),
    # Judges: which levels pay.
    Mechanism("cost-judge", "codes given up where much passes", native=True),
    Mechanism("code-trials", "batches without codes after those that gave them up",
              ((batches, "_trials_of", lambda *_: CodeTrials()),), question="small-batches"),
    Mechanism("single-judge", "single queries without codes after those that gave them up",
              native=True, question="single"),
    Mechanism("nibble-judge", "upper halves not read first where much passes", native=True),
    Mechanism("first-in-float32", "first rows in float32 where codes can't tell them apart",
              native=True),
    Mechanism("early-filters", "filters before whole codes where many rows are left out",
              native=True, question="masked"),
    Mechanism("listed-rows", "rows listed where a filter leaves few",
              ((filters, "_list_pays", lambda *_, **made: False),), question="listed"),
    # Single queries, and threads.
    Mechanism("kept-singles", "memory kept from one single query to the next",
              ((batches, "single", _none),), question="single"),
    Mechanism("long-blocks", "longer blocks for single queries", native=True, question="single"),
    Mechanism("parts-of-rows", "few queries cut along the rows for threads",
              ((batches, "_FEW_A_THREAD", 0), (batches, "_FEW_FLOATS_A_THREAD", 0)),
              options=(("threads", 2),), question="few"),
    Mechanism("small-tasks", "batches on few rows in smaller tasks",
              ((batches, "_QUERIES_OF_FEW_ROWS", batches._QUERIES_A_TASK),),
              question="small-rows"),
    # recall=.
    Mechanism("guard", "exact answers to queries that are unlike the sample",
              ((guard.Guard, "unlike", _none),), question="unlike"),
    Mechanism("extended-searches", "more rows for queries whose answers come late",
              ((StopRule, "extends_beyond", None),), question="unlike"),
    Mechanism("lateness", "exact answers where these come late, or found less than usual",
              ((StopRule, "watch", None),), options=_AUTO, question="unlike"),
    # Sets, selections, pairs.
    Mechanism("member-order", "members first that rule out most", native=True, question="sets"),
    Mechanism("shrinking-blocks", "rows packed anew where half of a block is left out",
              native=True, question="selection"),
    Mechanism("mmr-floor", "a guess at what the next picks are worth",
              ((mmr.Ranker, "likely", lambda *_: -float("inf")),), question="mmr"),
    Mechanism("reaches", "pairs by what their rows may reach",
              ((pairs, "_most", lambda *_: float("inf")),), question="diameter"),
)


def chosen(names: list[str] | None) -> list[Mechanism]:
    """All mechanisms, or those of some names; ValueError for others."""
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    for name in names or []:
        if name not in known:
            raise ValueError(f"--only must be of {', '.join(known)}, got {name!r}")
    return [known[name] for name in names or known]
