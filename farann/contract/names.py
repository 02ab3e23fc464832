"""Errors for unknown keywords and attributes: each says what farann calls the same thing."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

# Names here, with what there is to say of them, and names of the same elsewhere or before.
_ELSEWHERE = {
    "k": "top_k topk n n_neighbors num_neighbors n_results n_items limit size",
    "queries": "query vector vectors embedding embeddings query_vector query_embeddings xq x X",
    "likes": "positive positives", "dislikes": "negative negatives",
    "like_ids": "positive_ids", "dislike_ids": "negative_ids",
    "rows": "vector vectors embedding embeddings data items points xb x X",
    "ids": "labels keys id indices neighbors",
    "scores": "score distances similarities",
    "per_group": "group_by group_size max_per_group group_limit collapse",
    "row_groups": "groups", "groups": "within classes group_by", "outside_groups": "outside",
    "allowed": "filter query_filter where filter_ids include only",
    "exclude": "excluded exclude_ids ignore skip",
    "diversity, which is 1 - lambda_mult": "lambda_mult lambda_param", "candidates": "fetch_k",
    "radius": "threshold score_threshold max_distance min_distance eps r thresh",
    "recall, the share of the true rows to find": "nprobe ef ef_search",
    "seconds": "timeout time_limit", "seed": "random_state random_seed",
    "threads": "n_jobs num_threads n_threads nthreads workers set_num_threads",
    "metric": "metric_type space distance distance_metric similarity",
    "dim": "d dims ndim dimension dimensions vector_size n_features",
    "cells": "nlist n_lists n_cells partitions",
    "progress": "verbose show_progress show_progress_bar", "replace": "update overwrite",
    "search_furthest, or search_nearest":
        "search query query_points find retrieve similarity_search kfn",
    "search_furthest": "furthest farthest search_farthest search_opposite dissimilar opposites",
    "search_furthest, with recall=": "nprobe ef set_ef",
    "search_nearest": "knn knn_query kneighbors nearest get_nns_by_vector search_knn",
    "search_nearest, with ids=": "get_nns_by_item",
    "search_nearest, as outliers are far from their 10th nearest row": "outliers",
    "search_beyond, or search_within": "range_search search_radius query_radius radius_neighbors",
    "search_contrast": "recommend discover contrast", "search_mmr, with scores=": "rerank",
    "search_mmr": "mmr select_mmr max_marginal_relevance_search",
    "select_diverse, or select_spaced": "select",
    "select_diverse": "diverse farthest_point_sampling fps k_center kcenter maxmin",
    "select_spaced": "search_spaced spaced nms non_maximum_suppression",
    "pairs_within": "duplicates near_duplicates find_duplicates dedupe deduplicate",
    "components": "clusters connected_components",
    "RangeHits": "BeyondHits", "merge": "merge_beyond",
    "Index, and its method add":
        "IndexFlat IndexFlatL2 IndexFlatIP IndexHNSWFlat IndexIVFFlat index_factory",
    "Index, and its argument threads": "set_num_threads omp_set_num_threads",
    "copy": "clone", "Index.load": "load load_index read_index restore",
    "sklearn.FurthestNeighbors": "FurthestNeighbors NearestNeighbors",
    "load": "load_index read_index restore view", "save": "save_index write_index write",
    "add": "fit partial_fit add_items add_item add_with_ids insert append extend",
    "add, with replace=True": "upsert update", "build": "train",
    "remove": "delete remove_ids mark_deleted discard",
    "reconstruct":
        "get get_items get_vector get_vectors get_item_vector fetch reconstruct_n vectors",
    "score": "get_distance predict predict_proba full_sort_predict",
    "rank": "recommend recommend_all full_sort_topk predict_rank",
    "evaluate": "diagnose auc_score precision_at_k ndcg_at_k",
    "fit": "fit_partial fit_transform train", "to_pandas": "df to_df to_dataframe",
    "to_dict": "to_list tolist to_records as_dict items",
    "len(index)": "ntotal count shape size element_count get_current_count"}
# Arguments of another question than the one that was asked.
_OF_ANOTHER = {"search_furthest": ("radius", "search_beyond"),
               "search_nearest": ("radius", "search_within"),
               "search_beyond": ("k", "search_furthest"),
               "search_within": ("k", "search_nearest")}


class Elsewhere:
    """An attribute's name in other libraries: reading it raises an error with the name here."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(self._text)


class Hinted(ABCMeta):
    """A class that doesn't list these names in `dir` and `help`."""  # abstract ones may inherit

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if hasattr(cls, name)]


def hint_at_methods(cls: type) -> None:
    """Make names of other libraries raise errors that name the method to use."""
    # `__getattr__` would take 2 % of a single search, as Python 3.11 looks it up for each name.
    known = {*vars(cls), "len(index)"}
    for name in " ".join(_ELSEWHERE.values()).split():
        if name not in known and (instead := _instead_of(name, known)):
            setattr(cls, name, Elsewhere(f"{cls.__name__} has no attribute {name!r}: {instead}"))


def hinted(function: Function) -> Function:
    """Make errors for keywords that a function doesn't take say what it calls the same, and those
    for too many arguments which of them have to be named."""
    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except TypeError:
            placed, known = _parameters_of(function)
            name = next((name for name in keywords if name not in known), None)
            if name is None and len(args) <= len(placed):
                raise
        called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        placed = [one for one in placed if one != "self"]
        if name is None:
            named = ", ".join(f"{one}=" for one in known[len(placed):])
            raise TypeError(f"{called}() takes {' and '.join(placed) or 'nothing'} without a name"
                            + f"; name others: {named}" * bool(named))
        instead = (like(name, known) or _other_question(name, called)
                   or f"expected one of {', '.join(known)}")
        raise TypeError(f"{called}() got an unexpected keyword {name!r}: {instead}")

    return cast(Function, call)


def _parameters_of(function: Callable[..., object]) -> tuple[list[str], list[str]]:
    """Names of parameters that have a place, and of all that have a name, without `self`."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return ([one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD],
            [one.name for one in parameters if one.name != "self"])


def _other_question(name: str, called: str) -> str:
    """The question that has such an argument; empty if none is known."""
    argument, question = _OF_ANOTHER.get(called, ("", ""))
    wanted = argument and name in (argument, *_ELSEWHERE[argument].split())
    return f"use Index.{question} with {argument}=" if wanted else ""


def like(name: str, known: Collection[str]) -> str:
    """A suggestion for an unknown name, from the known ones; empty if none is close."""
    import difflib

    close = difflib.get_close_matches(name, known, 1, 0.76)  # none for return_scores, index_type
    return _instead_of(name, known) or (f"use {close[0]}" if close else "")


def _instead_of(name: str, known: Collection[str]) -> str:
    """Advice on a name from other libraries; empty if it is unknown."""
    return next((f"use {ours}" for ours, others in _ELSEWHERE.items()
                 if name in others.split() and ours.partition(",")[0] in known), "")
