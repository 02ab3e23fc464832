"""Rows, records and result files that the tests of the benchmark suite share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = dict[str, Any]
RATES = {"read_1": 3e10, "read_2": 5e10, "read_cache": 1e11, "flops_1": 1e11, "flops_2": 2e11}


def sample(seed: int, count: int, dim: int, offset: float = 0.0) -> NDArray[np.float32]:
    """Gaussian rows away from the origin."""
    random = np.random.default_rng(seed)
    return (random.standard_normal((count, dim)) + offset).astype(np.float32)


def a_record(algorithm: str, recall: float, us: float, **more: Any) -> Record:
    library = more.pop("library", algorithm)
    return {"kind": "result", "run": "1", "algorithm": algorithm, "title": algorithm.title(),
            "library": library, "baseline": False, "version": "1.0", "dataset": "made-l2",
            "dataset_title": "Made <rows>, l2", "metric": "l2", "rows": 1000, "dim": 8, "k": 10,
            "environment": {}, "variant": {}, "build": {}, "search": {}, "mode": "batch",
            "threads": 1, "queries": 100, "us": us, "us_all": [us, us * 1.1], "recall": recall,
            "same_order": recall, "rows_scanned": None, "build_seconds": 0.5, "index_bytes": 32000,
            "index_bytes_are": "reported", "peak_bytes": 1 << 26,
            "kernels": ["openblas 0.3 SkylakeX"], "claims_exact": recall == 1.0,
            "exact": recall == 1.0, **more}


def write_results(path: Path, *lines: Record, machine_name: str = "A CPU",
                  run_id: str = "1") -> Path:
    head = {
        "kind": "run",
        "run": run_id,
        "time": "2025-01-02T03:04:05+00:00",
        "command": f"python -m bench run --only '{run_id}'",
        "commit": "abc123",
        "machine": {"cpu": machine_name, "cores": 2, "flags": ["avx2"], "memory_bytes": 1 << 33,
                    "cache_bytes": 1 << 20, "system": "Linux x86_64", "python": "3.11",
                    "rates": RATES},
    }
    with open(path, "a", encoding="utf-8") as file:
        for line in (head, *lines):
            file.write(json.dumps(line) + "\n")
    return path
