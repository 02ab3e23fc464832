"""The mechanisms that can be switched off, and the lines of code that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import farann.layout.build as build
import farann.layout.transform_choice as transform_choice
import farann.native.codes as native_codes
import farann.tuning.measure as measure
from farann.layout.cost_model import CostModel

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("farann/*.py", "farann/native/*.pyx", "farann/native/*.pxd", "src_c/**/*.c",
            "src_c/**/*.h",
            *(f"farann/{folder}/*.py" for folder in (
                "io", "layout", "quantize", "runtime", "search", "store", "tuning")))
_NEVER = 1 << 62  # bytes, or rows, that nothing has


def _none(*_: Any, **__: Any) -> None:
    return None


@dataclass(frozen=True)
class Mechanism:
    """One thing that makes searches faster, which a patch leaves out of builds and searches.

    `words` is what its lines of code are told by, a regular expression; `options` are those of an
    index that has it.
    """

    name: str
    title: str
    patches: tuple[tuple[Any, str, Any], ...]
    words: str
    options: tuple[tuple[str, Any], ...] = ()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Build, or search, without it."""
        patchers = [mock.patch.object(where, what, other) for where, what, other in self.patches]
        for patcher in patchers:
            patcher.start()
        try:
            yield
        finally:
            for patcher in reversed(patchers):
                patcher.stop()

    @property
    def lines(self) -> int:
        """Lines of code, without those that are empty or comments alone, that name it."""
        found = re.compile(self.words, re.IGNORECASE)
        return sum(1 for pattern in _SOURCES for path in sorted(_ROOT.glob(pattern))
                   for line in path.read_text(encoding="utf-8").splitlines()
                   if found.search(line) and not line.strip().startswith(("#", "//", "/*", "*")))


def _without_mean_query(of: Any, query_vectors: Any,
                        plain: Callable[..., Any] = CostModel.key_bounds_pay) -> tuple[bool, None]:
    with mock.patch.object(CostModel, "mean_query", _none):
        return plain(of, query_vectors)[0], None


MECHANISMS = (
    Mechanism("pca-filter", "first look along few directions",
              ((build, "pca_filter_for", _none),), r"basis|first_look|code_along"),
    Mechanism("hubs", "whole codes of the first rows beside a first look",
              ((native_codes, "HUB_ROWS", 0),), r"hub"),
    Mechanism("lead", "what rows are along the mean query",
              ((CostModel, "key_bounds_pay", _without_mean_query),), r"\blead|reach_along"),
    Mechanism("norm-pruning", "rows by what they may reach",
              ((CostModel, "key_bounds_pay", lambda *_: (False, None)),), r"reach|longest"),
    Mechanism("stretch", "scaling along the mean query",
              ((transform_choice, "mean_direction_scaling_for", _none),), r"stretch|shrink|shrunk"),
    Mechanism("axes", "codes along principal axes alone",
              ((transform_choice, "pca_axes_for", _none),), r"\baxes\b|outside"),
    Mechanism("high-first", "upper halves of codes first, for single queries",
              ((native_codes, "CACHED_BYTES", _NEVER),), r"halves_first|CACHED_BYTES"),
    Mechanism("expected", "thresholds that are predicted",
              ((measure.Searches, "predicted_threshold", lambda *_: float("nan")),),
              r"expected|predicted_threshold|surprises", (("cells", "auto"),)),
    Mechanism("row-major", "8-bit codes as rows lie, where these are all that is kept",
              ((build, "_FEW_DIMENSIONS", 0),), r"as_rows_lie|_FEW_DIMENSIONS",
              (("keep_vectors", False),)),
)


def chosen(names: list[str] | None) -> list[Mechanism]:
    """All mechanisms, or those of some names; ValueError for others."""
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    for name in names or []:
        if name not in known:
            raise ValueError(f"--only must be of {', '.join(known)}, got {name!r}")
    return [known[name] for name in names or known]
