"""Plots of what was evaluated, by matplotlib, which is imported only here."""

from __future__ import annotations

import html
import io
import os
from pathlib import Path
from typing import Any

from farann.io.files import replacing
from farann.io.vector_content import optional_package
from farann.metrics import Interval, Reliability

SUFFIXES = (".html", ".svg", ".png", ".pdf")


def suffix_of(file: str | os.PathLike[str]) -> str:
    """Check the format that a plot's file asks for."""
    suffix = Path(file).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{os.fsdecode(file)}: unknown extension {suffix!r}; plots are written "
                         f"as {', '.join(SUFFIXES)}")
    return suffix


def write(file: str | os.PathLike[str], auc: dict[str, Interval],
          reliability: dict[str, Reliability], text: str) -> None:
    """Draw both plots into a file, which is replaced whole or not; `text` goes into .html."""
    suffix = suffix_of(file)
    figure = optional_package("matplotlib.figure", os.fsdecode(file)).Figure(
        figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_auc(left, auc)
    _draw_reliability(right, reliability)
    content = io.BytesIO()
    figure.savefig(content, format="svg" if suffix == ".html" else suffix[1:])
    page = content.getvalue()
    if suffix == ".html":
        drawing = page[page.index(b"<svg") :].decode()
        page = (f"<!doctype html>\n<meta charset=utf-8>\n<title>Likes and dislikes</title>\n"
                f"{drawing}\n<pre>{html.escape(text)}</pre>\n").encode()
    with replacing(file) as stream:
        stream.write(page)


def _draw_auc(axes: Any, auc: dict[str, Interval]) -> None:
    for place, value in enumerate(reversed(auc.values())):
        axes.plot([value.low, value.high], [place, place], color="0.6")
        axes.plot([value.mean], [place], marker="o", color="C0")
    axes.axvline(0.5, color="0.8", linewidth=1, zorder=0)
    axes.set_yticks(range(len(auc)), list(reversed(auc)))
    axes.set(xlabel="AUC within users, 95 % intervals", title="Which way of ranking")


def _draw_reliability(axes: Any, reliability: dict[str, Reliability]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    for name, curve in reliability.items():
        line = axes.plot(curve.predicted, curve.observed, linewidth=1, label=name)[0]
        axes.scatter(curve.predicted, curve.observed, s=10 + 200 * curve.weight, alpha=0.7,
                     color=line.get_color())
    axes.set(xlabel="predicted chance of a like", ylabel="share that was liked", xlim=(0, 1),
             ylim=(0, 1), title="Reliability")
    axes.legend(frameon=False, fontsize="small")
