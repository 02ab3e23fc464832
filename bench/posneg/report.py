"""A table of what `run` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .run import OUT, RANKER, K

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
    """The ranker beside other ways: AUC of shown items, lists of all items; and the advice."""
    text = []
    for key, what in (("auc", "AUC of shown items"), ("ndcg", f"nDCG@{K} of all items"),
                      ("disliked", f"disliked@{K} of all items")):
        text += [f"| {what} (splits) | best single way | ranker | gain over it | over the plain "
                 "average | over the items' record |", "|---|---|---:|---:|---:|---:|"]
        for line in (line for line in lines if key in line):
            found = line[key]
            mean, single = found["mean"], found["single"]
            gains = " | ".join(_gain(interval) for interval in found["gain"].values())
            text.append(f"| {line['title']} ({line['splits']}) | {mean[single]:.3f} ({single}) | "
                        f"{mean[RANKER]:.3f} | {gains} |")
        text.append("")
    text += ["| ratings | advice was right: all items | shown items | weights | calibration error "
             "| fit, s |", "|---|---:|---:|---:|---:|---:|"]
    for line in lines:
        right = [f"{sum(one[key]['right'] for one in line['advice'])} of {len(line['advice'])}"
                 for key in ("ndcg", "auc")]
        weights = [weight for split in line["weights"] for weight in split]
        text.append(f"| {line['title']} | {' | '.join(right)} | {min(weights):.2f} to "
                    f"{max(weights):.2f} | {line['calibration_error']:.3f} | "
                    f"{line['fit_seconds']:.1f} |")
    return text


def _signed(number: float) -> str:
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")


def _gain(interval: list[float]) -> str:
    mean, low, high = map(_signed, interval)
    return f"{mean} [{low}, {high}]"
