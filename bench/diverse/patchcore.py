"""PatchCore's coreset by anomalib and by farann to the end: python -m bench.diverse.patchcore

It needs anomalib with torch and timm. Rows are features of patches of Fashion-MNIST, as PatchCore
takes them from two layers of a ResNet-18, whose weights are random: trained ones can't be shipped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from bench import datasets
from farann.adapters.anomalib import KCenterGreedy


def features(n_images: int) -> Any:
    """Rows (64 n_images, 384) of a tensor: each is a patch with its neighbors."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    pixels = datasets.load("fashion-mnist-l2").rows()[:n_images].reshape(-1, 1, 28, 28) / 255
    images = torch.nn.functional.interpolate(torch.from_numpy(pixels), 64, mode="bilinear")
    model.train()
    with torch.no_grad():
        for batch in images.split(64):
            model(batch.expand(-1, 3, -1, -1))
    return torch.vstack(model.embedding_store)


def timed(kind: Callable[..., Any], rows: Any, ratio: float) -> tuple[list[int], float]:
    """Positions that are selected, and the CPU seconds of the process."""
    with threadpool_limits(1):
        began = time.process_time()
        picks = kind(embedding=rows, sampling_ratio=ratio).select_coreset_idxs()
        return picks, time.process_time() - began


def main() -> None:
    """Print a line a library: CPU seconds, and how far the furthest row is from the coreset."""
    from anomalib.models.components import KCenterGreedy as Theirs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=784)
    parser.add_argument("--ratio", type=float, default=0.1, help="anomalib's default: %(default)s")
    asked = parser.parse_args()
    rows = features(asked.images)
    wide = rows.numpy().astype(np.float64)
    print(f"{len(wide):,} rows of {wide.shape[1]}, {asked.ratio:.0%} of them")
    for name, kind in ("farann", KCenterGreedy), ("anomalib", Theirs):
        picks, seconds = timed(kind, rows, asked.ratio)
        radius = max(cdist(wide[start : start + 1000], wide[picks]).min(axis=1).max()
                     for start in range(0, len(wide), 1000))
        print(f"{name}: {len(picks):,} rows, {seconds:.1f} s, radius {radius:.4f}", flush=True)


if __name__ == "__main__":
    main()
