"""Errors for unknown keywords and attributes: each says what farann calls the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

# Names here, with what there is to say of them, and names of the same elsewhere or before.
_ELSEWHERE = {
    "k": "top_k topk n n_neighbors num_neighbors n_results n_items limit size",
    "queries": "query vector vectors embedding embeddings query_vector query_embeddings xq x X",
    "rows": "vector vectors embedding embeddings data items points xb x X",
    "ids": "labels keys id",
    "groups": "within classes",
    "outside_groups": "outside",
    "allowed": "filter where filter_ids include only",
    "exclude": "excluded exclude_ids ignore skip",
    "diversity, which is 1 - lambda_mult": "lambda_mult lambda_param",
    "candidates": "fetch_k n_candidates",
    "radius": "threshold max_distance min_distance eps r thresh",
    "recall": "target_recall accuracy",
    "epsilon": "eps",
    "seconds": "timeout time_limit",
    "threads": "n_jobs num_threads n_threads nthreads workers",
    "metric": "metric_type space distance distance_metric similarity",
    "dim": "d dims ndim dimension dimensions vector_size n_features",
    "cells": "nlist n_lists n_cells partitions",
    "seed": "random_state random_seed",
    "progress": "verbose show_progress show_progress_bar",
}


def unexpected(function: Callable[..., object], unknown: Mapping[str, object]) -> TypeError:
    """The error for keywords that a function doesn't take."""
    import inspect

    known = [name for name, parameter in inspect.signature(function).parameters.items()
             if name != "self" and parameter.kind is not parameter.VAR_KEYWORD]
    name = next(iter(unknown))
    return TypeError(f"{function.__name__}() got an unexpected keyword {name!r}: "
                     f"{_instead_of(name, known)}")


def _instead_of(name: str, known: Iterable[str]) -> str:
    """What to use in the place of a name, of those that are known."""
    import difflib

    for said, others in _ELSEWHERE.items():
        if name in others.split() and said.partition(",")[0] in known:
            return f"use {said}"
    close = difflib.get_close_matches(name, known, 1)
    return f"use {close[0]}" if close else f"expected one of {', '.join(known)}"
