"""The example of two retrieval models, on made-up ratings in the place of MovieLens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tfrs_cases  # noqa: F401  skips where TensorFlow is missing

SCRIPT = Path(__file__).parent.parent / "examples" / "tfrs_two_towers.py"


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Two groups of users; each likes one half of the items and dislikes the other."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 40)[:1600], 40)
    stars = np.where((users + items) % 2 == 0, 5, 1)
    lines = ["user_id:token\titem_id:token\trating:float",
             *(f"u{u}\ti{i}\t{s}" for u, i, s in zip(users, items, stars, strict=True))]
    path = tmp_path / "ratings.inter"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("options", [[], ["--uniform-negatives", "16", "--logq"]])
def test_two_towers(ratings: Path, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--ratings", str(ratings), "--batch", "64", "--epochs", "20",
         *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=300, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,600 ratings by 60 users of 40 films" in done.stdout
    auc = next(line for line in done.stdout.splitlines() if "AUC" in line).split()
    by_likes, by_dislikes = (float(word) for word in auc if word[:2] in ("0.", "1."))
    assert by_likes > 0.9 and by_dislikes > 0.9
    assert done.stdout.rstrip().endswith("loading: True, and served without farann: True")
