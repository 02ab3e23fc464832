"""``farann demo images``: pictures least and most like others, and pictures unlike each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import farann
from farann.demo import data, page
from farann.demo.data import Pictures
from farann.demo.page import say

__all__ = ["run"]

PICTURES = 8  # answers shown a query
UNLIKE = 30  # pictures shown that are unlike each other


def run(output: Path) -> bool:
    """Show the pictures, on a page too, and tell whether answers are those of numpy in float64."""
    found = data.load_fashion()
    if isinstance(found, str):
        say(f"No Fashion-MNIST: {found}.")
        say("These are scikit-learn's digits instead.")
        found = data.load_digits()
    say(found.about)
    index = farann.Index(metric="cosine", dtype="uint8")
    index.add(found.rows)
    asked = _first_of_each(found)
    furthest = index.search_furthest(found.rows[asked], PICTURES)
    nearest = index.search_nearest(found.rows[asked], PICTURES, exclude=[[row] for row in asked])
    strips = []
    say("\nLeast like each, by cosine of the pixels")
    for row, query in enumerate(asked):
        names = [found.labels[i] for i in furthest.ids[row]]
        say(f"  {found.labels[query]:<12} {', '.join(dict.fromkeys(names))}"[:80])
        strips.append(page.beside(
            _picture(found, query),
            "<p class=far>least like it</p>", _pictures(found, furthest, row),
            "<p class=near>most like it</p>", _pictures(found, nearest, row)))
    chosen = index.select_diverse(UNLIKE)
    sections = [page.section("Least and most like each", *strips), page.section(
        f"{UNLIKE} pictures unlike each other",
        page.paragraph("Each is the one furthest from all before it."),
        page.cells(_picture(found, i) for i in chosen.ids))]
    cosine, one, other = index.diameter()
    say(f"\nThe two pictures least alike: {found.labels[one]} and {found.labels[other]}, "
        f"cosine {cosine:.3f}")
    sections.append(page.section("The two least alike", page.cells(
        [_picture(found, one), _picture(found, other)])))
    right = _agrees(found.rows, asked, furthest)
    say(f"Ids {'agree' if right else 'DISAGREE'} with numpy in float64: "
        f"{furthest.ids.size} looked at.")
    page.write(output, "Pictures least like others", found.about, sections)
    return right


def _first_of_each(pictures: Pictures) -> list[int]:
    """The first picture of each kind."""
    kinds = {label: row for row, label in reversed(list(enumerate(pictures.labels)))}
    return sorted(kinds.values())


def _picture(pictures: Pictures, row: int, note: str = "") -> str:
    pixels = pictures.rows[row].reshape(pictures.height, -1)
    return page.picture(pixels, pictures.labels[row], note)


def _pictures(pictures: Pictures, hits: farann.Hits, row: int) -> str:
    return page.cells(_picture(pictures, i, f"{score:.2f}")
                      for score, i in zip(hits.scores[row], hits.ids[row], strict=True))


def _agrees(rows: NDArray[np.uint8], asked: list[int], hits: farann.Hits) -> bool:
    """Whether float64 finds no row less like a query than those of an answer, nor others."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    right = True
    for query, ids in zip(asked, hits.ids, strict=True):
        products = np.concatenate([part.astype(np.float64) @ rows[query].astype(np.float64)
                                   for part in np.array_split(rows, 1 + len(rows) // 5_000)])
        cosines = products / norms / norms[query]
        best = np.sort(cosines)[: len(ids)]
        right &= bool(np.allclose(cosines[ids], best, rtol=1e-12))
    return right
