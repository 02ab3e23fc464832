"""Errors for unknown keywords and attributes: each says what farann calls the same thing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

# Names here, with what there is to say of them, and names of the same elsewhere or before.
_ELSEWHERE = {
    "k": "top_k topk n n_neighbors num_neighbors n_results n_items limit size",
    "queries": "query vector vectors embedding embeddings query_vector query_embeddings xq x X",
    "likes": "positive positives",
    "dislikes": "negative negatives",
    "like_ids": "positive_ids",
    "dislike_ids": "negative_ids",
    "rows": "vector vectors embedding embeddings data items points xb x X",
    "ids": "labels keys id",
    "groups": "within classes",
    "outside_groups": "outside",
    "allowed": "filter where filter_ids include only",
    "exclude": "excluded exclude_ids ignore skip",
    "diversity, which is 1 - lambda_mult": "lambda_mult lambda_param",
    "candidates": "fetch_k",
    "radius": "threshold max_distance min_distance eps r thresh",
    "seconds": "timeout time_limit",
    "threads": "n_jobs num_threads n_threads nthreads workers",
    "metric": "metric_type space distance distance_metric similarity",
    "dim": "d dims ndim dimension dimensions vector_size n_features",
    "cells": "nlist n_lists n_cells partitions",
    "seed": "random_state random_seed",
    "progress": "verbose show_progress show_progress_bar",
    "search_furthest, or search_nearest": "search query find retrieve similarity_search kfn",
    "search_nearest": "knn knn_query kneighbors nearest get_nns_by_vector search_knn",
    "search_beyond, or search_within": "range_search search_radius query_radius radius_neighbors",
    "search_mmr": "mmr max_marginal_relevance_search",
    "RangeHits": "BeyondHits",
    "merge": "merge_beyond",
    "Index, and its method add": "IndexFlat IndexFlatL2 IndexFlatIP",
    "add": "fit partial_fit add_items add_item add_with_ids upsert insert append extend",
    "build": "train",
    "remove": "delete remove_ids mark_deleted discard",
    "reconstruct": "get get_items get_vectors fetch",
    "len(index)": "ntotal count shape",
}


class Elsewhere:
    """A name that others have for an attribute: asking for it is an error that says what to use."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(self._text)


def hint_at_methods(cls: type) -> None:
    """Have names of other libraries for what a class has lead there."""
    # `__getattr__` would take 2 % of a single search, as Python 3.11 looks it up for each name.
    known = {*vars(cls), "len(index)"}
    for name in " ".join(_ELSEWHERE.values()).split():
        if name not in known and (instead := _instead_of(name, known)):
            setattr(cls, name, Elsewhere(f"{cls.__name__} has no attribute {name!r}: {instead}"))


def unexpected(function: Callable[..., object], unknown: Mapping[str, object]) -> TypeError:
    """The error for keywords that a function doesn't take."""
    import inspect

    known = [name for name, parameter in inspect.signature(function).parameters.items()
             if name != "self" and parameter.kind is not parameter.VAR_KEYWORD]
    name = next(iter(unknown))
    instead = like(name, known) or f"expected one of {', '.join(known)}"
    return TypeError(f"{function.__name__}() got an unexpected keyword {name!r}: {instead}")


def like(name: str, known: Collection[str]) -> str:
    """What to use in the place of a name, of those that are known; nothing where none is."""
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return _instead_of(name, known) or (f"use {close[0]}" if close else "")


def _instead_of(name: str, known: Collection[str]) -> str:
    """What to use in the place of a name of other libraries, if that is known."""
    return next((f"use {ours}" for ours, others in _ELSEWHERE.items()
                 if name in others.split() and ours.partition(",")[0] in known), "")
