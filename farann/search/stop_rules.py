"""What ends a search: which limits an index can answer, and how the core is told."""

from __future__ import annotations

from typing import Any

from farann.contract.checks import Limits
from farann.tuning import measure


def check_exact(what: str, vectors: bool, instead: str) -> None:
    """Refuse what needs the vectors, if they were dropped."""
    if not vectors:
        raise ValueError(f"{what} needs the vectors, and keep_vectors=False dropped them: "
                         f"{instead}")


def check_limits(limits: Limits | None, vectors: bool) -> None:
    """Refuse searches whose answers would be exact, or within epsilon."""
    if limits is None or limits.epsilon is not None:
        what = "exact search" if limits is None else "epsilon: a guarantee"
        check_exact(what, vectors, "give recall=, or budget=")


def check_nearest(limits: Limits | None, vectors: bool, mirrored: bool) -> None:
    """Refuse searches for the nearest rows that an index can't answer.

    `mirrored`: they are the furthest of the query times -1.
    """
    if mirrored:
        if not vectors:
            check_limits(limits, vectors)
        return
    check_exact("search_nearest", vectors, "under l2 only the furthest rows can be searched for")
    if limits is not None and limits.budget is not None:
        raise ValueError("budget: under l2 the nearest rows are always searched for exactly; leave "
                         "it out, or use metric='cosine' for vectors of one length")


def search_options(limits: Limits, n_rows: int, with_partitions: bool) -> dict[str, Any] | None:
    """How the core is told where to stop; None: the table of `tune` says it."""
    everything = {"effort": float("inf")}
    if not with_partitions:
        return everything | {"budget": limits.budget or 0}
    if limits.budget is not None:
        return everything if limits.budget >= n_rows else {
            "effort": measure.MOST_DEVIATIONS, "budget": limits.budget}
    return everything if limits.recall == 1.0 else None
