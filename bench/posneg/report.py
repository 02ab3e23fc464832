"""Tables and figures of what `run` and `scale` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import methods
from .run import LISTS, OUT

Record = dict[str, Any]
_SHOWN = [("shown_ndcg", "nDCG@10"), ("shown_disliked", "disliked@10"), ("auc", "AUC"),
          ("ece", "calibration error")]
_ALL = [("all_ndcg", "nDCG@10, all items"), ("all_disliked", "disliked@10, all items")]
# Rows of the short tables: what the page on likes and dislikes speaks of.
_SHORT = [methods.POSITIVE, "negative only", methods.NAIVE, LISTS, methods.DEFAULT, "weight 0.5",
          "weight 0.9", "weight 1", "no item prior", "no item prior, weight 0.9", "isotonic",
          "Platt, per-query zmuv", "none, per-query min-max", "convex", "reciprocal rank",
          "inverse square rank", "veto at 0.5", methods.SIGNED, "biases only",
          "fusion of two", "fusion of three, refitted", methods.ORACLE]


def load(path: Path = OUT) -> list[Record]:
    """The latest of each line.

    Raises
    ------
    FileNotFoundError
        Nothing was measured yet.
    """
    latest: dict[tuple[Any, ...], Record] = {}
    for text in path.read_text("utf-8").splitlines():
        line = json.loads(text)
        keys = ["kind", "dataset", "model", "method", "part"]
        keys += ["weight"] if line["kind"] == "weight" else []
        latest[tuple(line.get(key) for key in keys)] = line
    return list(latest.values())


def write(path: Path = OUT) -> list[Path]:
    """Write a Markdown table and the figures beside the results.

    Returns
    -------
    list of Path
        What was written.
    """
    lines = load(path)
    page = path.with_suffix(".md")
    page.write_text("\n".join(tables(lines)) + "\n", encoding="utf-8")
    return [page, *(figures(lines, path.parent) if _configurations(lines) else [])]


def _configurations(lines: list[Record]) -> list[tuple[str, str, str]]:
    return list(dict.fromkeys((line["dataset"], line["model"], line["title"])
                              for line in lines if line["kind"] == "method"))


def tables(lines: list[Record]) -> list[str]:
    """One Markdown table for each data set and model, and one of what the claims rest on."""
    text = _sets([line for line in lines if line["kind"] == "set"])
    if not _configurations(lines):
        return text
    for dataset, model, title in _configurations(lines):
        mine = [line for line in lines
                if line.get("dataset") == dataset and line.get("model") == model]
        times = {line["method"]: line["us"] for line in mine if line["kind"] == "time"}
        columns = _SHOWN + _ALL
        text += [f"### {title}, {model}", "",
                 "| method | " + " | ".join(name for _, name in columns) + " | µs a query |",
                 "|---|" + "---:|" * (len(columns) + 1)]
        for line in (line for line in mine if line["kind"] == "method"):
            cells = [_interval(line.get(key)) for key, _ in columns]
            us = times.get(line["method"])
            cells.append("" if us is None else f"{us:,.0f}")
            text.append(f"| {_emphasized(line['method'])} | " + " | ".join(cells) + " |")
        text.append("")
    text += ["### The default against other ways", "",
             "Differences on the same users, with 95% intervals by bootstrap over users.", "",
             "| data, model | against | nDCG@10 | disliked@10 | AUC | nDCG@10, all items | "
             "disliked@10, all items |", "|---|---|---:|---:|---:|---:|---:|"]
    for dataset, model, title in _configurations(lines):
        line = next(line for line in lines if line["kind"] == "method"
                    and (line["dataset"], line["model"]) == (dataset, model)
                    and line["method"] == methods.DEFAULT)
        for other, name in methods.RIVALS.items():
            cells = [_interval(line.get(f"{key}_vs_{other}"), signed=True)
                     for key in ("shown_ndcg", "shown_disliked", "auc", "all_ndcg",
                                 "all_disliked")]
            text.append(f"| {title}, {model} | {name} | " + " | ".join(cells) + " |")
    return text + _means(lines)


def _sets(lines: list[Record]) -> list[str]:
    """Fusions against single models: one table a set."""
    text: list[str] = []
    for dataset, model in dict.fromkeys((line["dataset"], line["model"]) for line in lines):
        mine = {line["method"]: line for line in lines
                if (line["dataset"], line["model"]) == (dataset, model)}
        first = next(iter(mine.values()))
        text += [f"### {first['title']}, {model}", "",
                 f"{first['likes']:,} likes, {first['dislikes']:,} dislikes, {first['neutral']:,} "
                 f"neutral left out; {first['splits']} splits; the best signed model is "
                 f"{first['best']}.", "",
                 "| items shown | AUC | against the best signed | over the splits | disliked@10 | "
                 "against the best signed | over the splits | relative to positive only | "
                 "way to the oracle | nDCG@10 | calibration error | all items: nDCG@10 | "
                 "disliked@10 |",
                 "|---|" + "---:|" * 12]
        base, oracle = (mine[name]["shown_disliked"][0] for name in (methods.POSITIVE,
                                                                      methods.ORACLE))
        for name, line in mine.items():
            below = line["shown_disliked"][0]
            left = f" (left out: {', '.join(line['dropped'])})" if line["dropped"] else ""
            text.append(f"| {name}{left} | " + " | ".join([
                _mean(line["auc"], 3), _interval(line["auc_vs_best"], signed=True, digits=3),
                _range(line["auc_by_split"]), _mean(line["shown_disliked"], 4),
                _interval(line["shown_disliked_vs_best"], signed=True),
                _range(line["shown_disliked_by_split"]),
                _percent(below / base - 1 if base else float("nan"), "+.0f"),
                _percent((base - below) / (base - oracle) if base > oracle else float("nan"),
                         ".0f"),
                _mean(line["shown_ndcg"], 4), _mean(line["ece"], 3),
                _mean(line["all_ndcg"], 4), _mean(line["all_disliked"], 4)]) + " |")
        text.append("")
    return text


def _means(lines: list[Record]) -> list[str]:
    """Short tables, without intervals."""
    text = ["", "### Means over users and splits", ""]
    for dataset, model, title in _configurations(lines):
        found = {line["method"]: line for line in lines if line["kind"] == "method"
                 and (line["dataset"], line["model"]) == (dataset, model)}
        text += [f"**{title}, {model}**", "", "| | nDCG@10 | disliked@10 | AUC | calibration error "
                 "| all items: nDCG@10 | disliked@10 |", "|---|" + "---:|" * 6]
        for name in _SHORT:
            if name in found:
                cells = [_mean(found[name].get(key), 3 if key == "auc" else 4)
                         for key, _ in _SHOWN + _ALL]
                text.append(f"| {_emphasized(name)} | " + " | ".join(cells) + " |")
        text.append("")
    return text


def _emphasized(name: str) -> str:
    return f"**{name}**" if name == methods.DEFAULT else name


def _mean(value: list[float] | None, digits: int) -> str:
    return "" if value is None or value[0] != value[0] else f"{value[0]:.{digits}f}"


def _percent(share: float, form: str) -> str:
    return "" if share != share else f"{format(100 * share, form)} %".replace("-", "−")


def _range(values: list[float]) -> str:
    low, high = (format(number, "+.3f").replace("-", "−") for number in (min(values), max(values)))
    return f"{low} to {high}"


def _interval(value: list[float] | None, *, signed: bool = False, digits: int = 4) -> str:
    if value is None or value[0] != value[0]:
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    mean, low, high = (format(number, form).replace("-", "−") for number in value)
    return f"{mean} [{low}, {high}]"


def figures(lines: list[Record], folder: Path) -> list[Path]:
    """Reliability diagrams, and what the weight does to both models alone, one file each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    configurations = _configurations(lines)
    written = []
    plots = (("reliability", _draw_reliability), ("weight", _draw_weight))
    for kind, draw in plots:
        figure, axes = plt.subplots(2, 2, figsize=(10, 8.5), squeeze=False,
                                    layout="constrained")
        for axis, (dataset, model, title) in zip(axes.flat, configurations, strict=False):
            draw(axis, [line for line in lines if line["kind"] == kind
                        and (line["dataset"], line["model"]) == (dataset, model)])
            axis.set_title(f"{title}, {model}")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        path = folder / f"posneg-{kind}.png"
        figure.savefig(path, dpi=130)
        plt.close(figure)
        written.append(path)
    return written


def _draw_reliability(axis: Any, lines: list[Record]) -> None:
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    names = {"fused": "P(like), fused", "positive": "P(like), positive model",
             "negative": "P(dislike), negative model"}
    for line, marker, color in zip(lines, "osd", ("C0", "C1", "C2"), strict=False):
        sizes = [15 + 250 * weight for weight in line["weight"]]
        axis.plot(line["predicted"], line["observed"], linewidth=1, color=color)
        axis.scatter(line["predicted"], line["observed"], s=sizes, marker=marker, alpha=0.7,
                     color=color)
        axis.plot([], [], marker=marker, color=color, label=names[line["part"]])
    axis.set(xlabel="predicted", ylabel="observed", xlim=(0, 1), ylim=(0, 1))


def _draw_weight(axis: Any, lines: list[Record]) -> None:
    lines = sorted(lines, key=lambda line: line["weight"])
    weights = [line["weight"] for line in lines]
    styles = {"shown_disliked": ("C3", "-", "disliked@10, items shown"),
              "all_disliked": ("C3", "--", "disliked@10, all items"),
              "shown_ndcg": ("C0", "-", "nDCG@10, items shown"),
              "all_ndcg": ("C0", "--", "nDCG@10, all items")}
    # Each against what the positive model alone gives, as their sizes differ.
    for key, (color, style, label) in styles.items():
        base = lines[-1][key]
        axis.plot(weights, [line[key] / base for line in lines], color=color, linestyle=style,
                  label=label)
    axis.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    axis.set(xlabel="weight of the positive model", ylabel="relative to the positive model alone",
             ylim=(0, None))
