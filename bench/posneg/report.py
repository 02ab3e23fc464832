"""A table of what `run` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .run import OUT

Record = dict[str, Any]


def load(path: Path = OUT) -> list[Record]:
    """The latest line of each set.

    Raises
    ------
    FileNotFoundError
        Nothing was measured yet.
    """
    lines = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    return list({line["dataset"]: line for line in lines if line["kind"] == "set"}.values())


def write(path: Path = OUT) -> Path:
    """Write the tables in Markdown beside the results."""
    page = path.with_suffix(".md")
    page.write_text("\n".join(tables(load(path))) + "\n", encoding="utf-8")
    return page


def tables(lines: list[Record]) -> list[str]:
    """Who gains and by how much; what each model alone does; and all items."""
    text = ["| ratings (splits) | AUC: best single model | ranker | gain | over the splits | "
            "disliked@10 against it |", "|---|---|---:|---:|---:|---:|"]
    for line in lines:
        low, high = min(line["auc_by_split"]), max(line["auc_by_split"])
        text.append(f"| {line['title']} ({line['splits']}) | {line['auc_of'][1]:.3f} "
                    f"({line['single']}) | {line['auc_of'][0]:.3f} | {_gain(line['auc_gain'])} | "
                    f"{_signed(low)} to {_signed(high)} | {_gain(line['shown_disliked_gain'])} |")
    names = list(dict.fromkeys(name for line in lines for name in line["auc"]))
    text += ["", "| AUC | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    text += [f"| {line['title']} | " + " | ".join(
        f"{line['auc'][name][0]:.3f}" if name in line["auc"] else "" for name in names) + " |"
        for line in lines]
    text += ["", "| ratings | all items, against positive alone: nDCG@10 | disliked@10 | "
             "calibration error | fit, s |", "|---|---:|---:|---:|---:|"]
    return text + [f"| {line['title']} | {_change(line['all_ndcg_of'])} | "
                   f"{_change(line['all_disliked_of'])} | {line['calibration_error']:.3f} | "
                   f"{line['fit_seconds']:.1f} |" for line in lines]


def _signed(number: float) -> str:
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")


def _gain(interval: list[float]) -> str:
    mean, low, high = map(_signed, interval)
    return f"{mean} [{low}, {high}]"


def _change(pair: list[float]) -> str:
    return f"{100 * (pair[0] / pair[1] - 1):+.1f} %".replace("-", "\N{MINUS SIGN}")
