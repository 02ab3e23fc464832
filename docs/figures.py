"""The figures of these pages, drawn from what farann answers: ``python docs/figures.py``.

They are kept in docs/figures, so that pages show them wherever the repository is.

Lines and letters are of a gray that can be read on light and on dark pages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import farann
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.demo import data

INK, SOFT, FAR, NEAR, PICK = "#7d8894", "#a9b3bd", "#e0662f", "#2f8de0", "#2da44e"


def metrics() -> Figure:
    """The ten rows furthest from one query, under each metric, on the same cloud."""
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((240, 2)) @ [[1.3, 0.5], [0, 0.8]] + [0.7, 0.4]).astype(np.float32)
    query = np.array([1.6, 1.1], np.float32)
    figure, axes = _panels(3)
    words = {"l2": "largest distance", "dot": "smallest dot product", "cosine": "smallest cosine"}
    for axis, (metric, title) in zip(axes, words.items(), strict=True):
        index = farann.Index(metric=metric)
        index.add(rows)
        ids = index.search_furthest(query, 10).ids
        axis.scatter(*rows.T, s=9, color=SOFT)
        axis.scatter(*rows[ids].T, s=26, color=FAR)
        axis.scatter(*query, s=60, color=NEAR, marker="*")
        axis.plot(0, 0, "+", color=INK)
        _plain(axis, f"{metric}: {title}")
    return figure


def ranges() -> Figure:
    """All rows beyond a radius around a query, and all rows within it."""
    rows = np.random.default_rng(4).standard_normal((300, 2)).astype(np.float32)
    query, radius = np.array([-0.4, -0.3], np.float32), 1.5
    index = farann.Index()
    index.add(rows)
    figure, axes = _panels(2)
    for axis, search, color in zip(axes, (index.search_beyond, index.search_within), (FAR, NEAR),
                                   strict=True):
        ids = search(query, radius).ids
        axis.scatter(*rows.T, s=9, color=SOFT)
        axis.scatter(*rows[ids].T, s=18, color=color)
        axis.scatter(*query, s=60, color=INK, marker="*")
        axis.add_patch(_circle(query, radius))
        _plain(axis, f"{search.__name__}: {len(ids)} rows")
    return figure


def diverse() -> Figure:
    """Rows unlike each other, and the circles within which they cover all others."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(-3, 3, (7, 2))
    rows = (centers[rng.integers(0, 7, 500)] + rng.normal(0, 0.45, (500, 2))).astype(np.float32)
    figure, axes = _panels(2)
    for axis, k in zip(axes, (6, 14), strict=True):
        chosen = farann.select_diverse(rows, k + 1)
        radius = float(chosen.scores[k])
        axis.scatter(*rows.T, s=7, color=SOFT)
        for row in rows[chosen.ids[:k]]:
            axis.add_patch(_circle(row, radius))
        axis.scatter(*rows[chosen.ids[:k]].T, s=26, color=PICK)
        _plain(axis, f"{k} rows, all others within {radius:.2f}")
    return figure


def contrast() -> Figure:
    """The rows most similar to a like, and those that a dislike leaves of them."""
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((420, 2)) * 1.2).astype(np.float32)
    like, dislike = np.array([1.0, 1.0], np.float32), np.array([-0.4, 1.6], np.float32)
    index = farann.Index(metric="cosine")
    index.add(rows)
    figure, axes = _panels(3)
    for axis, dislikes, weight in zip(axes, (None, dislike, dislike), (1.0, 1.0, 2.0), strict=True):
        ids = index.search_contrast(like, dislikes, 30, weight=weight).ids
        axis.scatter(*rows.T, s=9, color=SOFT)
        axis.scatter(*rows[ids].T, s=26, color=PICK)
        axis.scatter(*like, s=70, color=NEAR, marker="*")
        if dislikes is not None:
            axis.scatter(*dislike, s=60, color=FAR, marker="X")
        axis.plot(0, 0, "+", color=INK)
        _plain(axis, "a like" if dislikes is None else f"a like and a dislike, weight {weight:g}")
    return figure


def spaced() -> Figure:
    """The best-scored rows, and the best of which no two are nearer than a radius."""
    rng = np.random.default_rng(8)
    rows = rng.uniform(-3, 3, (500, 2)).astype(np.float32)
    scores = np.exp(-np.square(rows - [1.2, 0.8]).sum(axis=1)) + 0.5 * np.exp(
        -np.square(rows + [1.5, 1.0]).sum(axis=1)) + rng.normal(0, 0.03, 500)
    index = farann.Index()
    index.add(rows)
    found = index.select_spaced(scores, k=25)
    assert found.radius is not None
    figure, axes = _panels(2)
    best = np.argsort(-scores)[:25]
    for axis, ids, title in zip(axes, (best, found.ids), (
            "25 best scores", f"25 best, none nearer than {found.radius:.2f}"), strict=True):
        # A path for each size would take 600 kB.
        axis.scatter(*rows.T, s=np.clip(20 * scores, 3, None), color=SOFT, rasterized=True)
        axis.scatter(*rows[ids].T, s=26, color=PICK)
        for row in rows[ids] if ids is found.ids else ():
            axis.add_patch(_circle(row, found.radius / 2))
        _plain(axis, title)
    return figure


def per_group() -> Figure:
    """The six rows nearest to a query, and the nearest of which no two share a group."""
    rng = np.random.default_rng(9)
    centers = [0.3, 0.2], [1.5, 1.1], [-1.2, 0.9], [0.1, -1.5], [2.0, -0.9], [-1.9, -0.9]
    labels = np.arange(90) % 6
    rows = (np.array(centers)[labels] + rng.normal(0, 0.35, (90, 2))).astype(np.float32)
    query = np.array([0.4, 0.1], np.float32)
    index = farann.Index()
    index.add(rows, groups=labels)
    figure, axes = _panels(2)
    for axis, most in zip(axes, (6, 1), strict=True):
        ids = index.search_nearest(query, 6, per_group=most).ids
        axis.scatter(*rows.T, s=14, c=labels, cmap="Set2")
        axis.scatter(*rows[ids].T, s=48, facecolors="none", edgecolors=INK)
        axis.scatter(*query, s=60, color=NEAR, marker="*")
        _plain(axis, f"6 nearest, per_group={most}")
    return figure


def pairs() -> Figure:
    """All pairs of rows within a radius, as lines between them."""
    from matplotlib.collections import LineCollection

    rng = np.random.default_rng(6)
    rows = np.concatenate([rng.uniform(-3, 3, (150, 2)), np.repeat(
        rng.uniform(-3, 3, (12, 2)), 5, axis=0) + rng.normal(0, 0.06, (60, 2))]).astype(np.float32)
    index = farann.Index()
    index.add(rows)
    found = index.pairs_within(0.25)
    figure, (axis,) = _panels(1)
    axis.add_collection(LineCollection([*rows[found.ids]], colors=NEAR, linewidths=0.9))
    axis.scatter(*rows.T, s=9, color=SOFT)
    axis.scatter(*rows[np.unique(found.ids)].T, s=12, color=NEAR)
    _plain(axis, f"{len(found.ids)} pairs of 210 rows are within .25")
    return figure


def likes() -> Figure:
    """Items by what two models say of them, and the ten best of a ranker."""
    rng = np.random.default_rng(5)
    users, liked_items, disliked_items = (
        rng.standard_normal((size, 6)).astype(np.float32) for size in (300, 400, 400))
    who, what = rng.integers(0, 300, 6000), rng.integers(0, 400, 6000)
    likes, dislikes = ((users[who] * items[what]).sum(axis=1)
                       for items in (liked_items, disliked_items))
    liked = rng.random(6000) < 1 / (1 + np.exp(0.8 * dislikes - likes))
    ranker = FusionRanker([SignedModel(liked_items, users, 1),
                           SignedModel(disliked_items, users, -1)])
    best = ranker.fit(who, what, liked).rank(0, 10, among="shown").ids
    positive, negative = liked_items @ users[0], disliked_items @ users[0]
    figure, (axis,) = _panels(1)
    axis.scatter(negative, positive, s=9, color=SOFT)
    axis.scatter(negative[best], positive[best], s=30, color=PICK)
    axis.axhline(np.median(positive), color=INK, linewidth=0.6)
    axis.axvline(np.median(negative), color=INK, linewidth=0.6)
    _plain(axis, "likes and dislikes: ten best of one user")
    axis.set_xlabel("score of the model of dislikes", color=INK, fontsize=8)
    axis.set_ylabel("score of the model of likes", color=INK, fontsize=8)
    return figure


def partitions() -> Figure:
    """Which partitions a search has to look into: those that may reach past the tenth row."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(2)
    rows = rng.uniform(-1, 1, (900, 2)) * [1.6, 1]
    query = np.array([-0.9, -0.5])
    cells = KMeans(24, n_init=1, random_state=0).fit(rows)
    distances = np.linalg.norm(rows - query, axis=1)
    tenth = np.sort(distances)[-10]
    spread = np.linalg.norm(rows - cells.cluster_centers_[cells.labels_], axis=1)
    reach = [spread[cells.labels_ == cell].max() for cell in range(24)]
    bound = np.linalg.norm(cells.cluster_centers_ - query, axis=1) + reach
    probed = bound[cells.labels_] >= tenth
    figure, (axis,) = _panels(1)
    axis.scatter(*rows[~probed].T, s=7, color=SOFT)
    axis.scatter(*rows[probed].T, s=9, color=NEAR)
    axis.scatter(*rows[np.argsort(-distances)[:10]].T, s=28, color=FAR)
    axis.scatter(*query, s=60, color=NEAR, marker="*")
    axis.add_patch(_circle(query, tenth))
    _plain(axis, f"{len(set(cells.labels_[probed]))} of 24 partitions may reach past the tenth row")
    axis.set(adjustable="box", xlim=(-1.75, 1.75), ylim=(-1.15, 1.15))
    return figure


def least_like() -> Figure | None:
    """A picture of each kind of Fashion-MNIST, and the four least like it; None without these."""
    try:
        pictures = data.load_fashion()
    except ImportError:
        return None
    rows = pictures.rows.astype(np.float32)
    rows -= rows.mean(axis=0)
    index = farann.Index(metric="cosine")
    index.add(rows)
    shown = sorted(pictures.labels.index(label) for label in set(pictures.labels))
    hits = index.search_furthest(rows[shown], 4)
    figure = Figure(figsize=(10, 5.4))
    grid = figure.subplots(5, 10, gridspec_kw={"wspace": 0.08, "hspace": 0.08})
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.945)
    for column, row, ids in zip(grid.T, shown, hits.ids, strict=True):
        for axis, one in zip(column, [row, *ids], strict=True):
            axis.imshow(pictures.rows[one].reshape(28, 28), cmap="gray")
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set(color=NEAR if one == row else FAR, linewidth=2.5 if one == row else 1)
        column[0].set_title(pictures.labels[row], color=INK, fontsize=9, pad=3)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "metrics": metrics, "ranges": ranges, "diverse": diverse, "contrast": contrast,
    "spaced": spaced, "per-group": per_group, "pairs": pairs, "likes": likes,
    "partitions": partitions,
}


def draw(folder: Path) -> None:
    """Write all figures to a folder, as SVG, and pictures of pictures as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    # The same figure has the same bytes, and text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "farann", "svg.fonttype": "none"}):
        for name, make in FIGURES.items():
            make().savefig(folder / f"{name}.svg", transparent=True, dpi=150,
                           metadata={"Date": None})
    pictures = least_like()
    if pictures is not None:
        pictures.savefig(folder / "least-like.png", dpi=100, transparent=True,
                         metadata={"Software": None}, pil_kwargs={"optimize": True})


def _panels(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(3.3 * count if count > 1 else 4.4, 3.1), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, count))


def _plain(axis: Any, title: str) -> None:
    axis.set_title(title, color=INK, fontsize=9)
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color(SOFT)


def _circle(center: Any, radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle(tuple(map(float, center)), radius, fill=False, color=INK, linewidth=0.6)


if __name__ == "__main__":
    draw(Path(__file__).parent / "figures")
