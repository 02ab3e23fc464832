"""Options that layers pass on to an index."""

from __future__ import annotations

from typing import Any


def search_options(recall: float | None, epsilon: float | None) -> dict[str, Any]:
    """Those of `farann.Index.search_furthest` that were given, one at most."""
    if recall is not None and epsilon is not None:
        raise ValueError("recall, epsilon: expected one of them at most, got both")
    given = {"recall": recall, "epsilon": epsilon}
    return {name: value for name, value in given.items() if value is not None}


def index_options(cells: Any, codes: str) -> dict[str, Any]:
    """Those of `farann.Index` that a layer's configuration keeps."""
    return {"codes": codes} | ({} if cells is None else {"cells": cells})
