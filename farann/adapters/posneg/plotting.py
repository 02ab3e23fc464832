"""Plots of what was evaluated, by matplotlib, which is imported only here."""

from __future__ import annotations

import html
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

from farann._types import Float64Array
from farann.io.files import replacing
from farann.io.vector_content import optional_package
from farann.metrics import Reliability

SUFFIXES = (".html", ".svg", ".png", ".pdf")


class Trade(NamedTuple):
    """What moves as what models of likes say counts for more or less, (n,) each.

    Attributes
    ----------
    weight : float64
        Of models of likes, against all that is known besides: 1 is models of likes alone, 0.5
        the ranker as it was fitted.
    ndcg, disliked : float64
        Means over users, as in `Row`.
    """

    weight: Float64Array
    ndcg: Float64Array
    disliked: Float64Array


def suffix_of(file: str | os.PathLike[str]) -> str:
    """The format that a plot's file asks for."""
    suffix = Path(file).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{os.fsdecode(file)}: unknown extension {suffix!r}; plots are written "
                         f"as {', '.join(SUFFIXES)}")
    return suffix


def write(file: str | os.PathLike[str], reliability: dict[str, Reliability], trade: Trade | None,
          k: int, text: str) -> None:
    """Draw both plots into a file, which is replaced whole or not; `text` goes into .html."""
    suffix = suffix_of(file)
    figure = optional_package("matplotlib.figure", os.fsdecode(file)).Figure(
        figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_reliability(left, reliability)
    _draw_trade(right, trade, k)
    content = io.BytesIO()
    figure.savefig(content, format="svg" if suffix == ".html" else suffix[1:])
    page = content.getvalue()
    if suffix == ".html":
        drawing = page[page.index(b"<svg") :].decode()
        page = (f"<!doctype html>\n<meta charset=utf-8>\n<title>Likes and dislikes</title>\n"
                f"{drawing}\n<pre>{html.escape(text)}</pre>\n").encode()
    with replacing(file) as stream:
        stream.write(page)


def _draw_reliability(axes: Any, reliability: dict[str, Reliability]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    for name, curve in reliability.items():
        line = axes.plot(curve.predicted, curve.observed, linewidth=1, label=name)[0]
        axes.scatter(curve.predicted, curve.observed, s=10 + 200 * curve.weight, alpha=0.7,
                     color=line.get_color())
    axes.set(xlabel="predicted chance of a like", ylabel="share that was liked", xlim=(0, 1),
             ylim=(0, 1), title="Reliability")
    axes.legend(frameon=False, fontsize="small")


def _draw_trade(axes: Any, trade: Trade | None, k: int) -> None:
    axes.set(xlabel=f"disliked@{k}", ylabel=f"nDCG@{k}", title="As the weight moves")
    if trade is None:
        axes.text(0.5, 0.5, "no weight to move", ha="center", transform=axes.transAxes)
        return
    axes.plot(trade.disliked, trade.ndcg, marker=".", color="0.6")
    marked = {0.0: "without models of likes", 0.5: "this ranker", 1.0: "models of likes alone"}
    for weight, ndcg, disliked in zip(*trade, strict=True):
        if float(weight) in marked:
            axes.plot([disliked], [ndcg], marker="o", linestyle="", label=marked[float(weight)])
    axes.legend(frameon=False, fontsize="small")
