# /// script
# requires-python = ">=3.11"
# dependencies = ["farann[ray-serve]", "numpy", "ray", "starlette"]
# ///
"""A sharded index behind HTTP, with Ray Serve: batches, health, and a small client.

    pip install "farann[ray-serve]"
    python examples/ray_serve.py

Whoever reaches Ray's own ports may run code: run it in a network of your own.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from farann.adapters.ray import Cluster, ShardError, build


@serve.deployment(max_ongoing_requests=512, health_check_period_s=10)
class Furthest:
    """POST {"vector": [...], "k": 10} to /search; GET /health."""

    def __init__(self, uri: str, options: dict[str, Any]) -> None:
        self._cluster = Cluster(uri, ray_remote_args=options)

    def check_health(self) -> None:
        """Serve starts this replica again if it raises."""
        self._cluster.stats()

    @serve.batch(max_batch_size=256, batch_wait_timeout_s=0.005)
    async def _search(self, vectors: list[Any], ks: list[int]) -> list[dict[str, Any]]:
        """Requests that come at about the same time are one search."""
        hits = await asyncio.to_thread(self._cluster.search_furthest, np.array(vectors), max(ks))
        return [{"ids": ids[found][:k].tolist(), "scores": scores[found][:k].tolist()}
                for ids, scores, found, k in zip(hits.ids, hits.scores, hits.found, ks,
                                                 strict=True)]

    async def __call__(self, request: Request) -> JSONResponse:
        if request.url.path == "/health":
            stats = await asyncio.to_thread(self._cluster.stats)
            return JSONResponse({"rows": stats["rows"], "shards": len(stats["shards"])})
        try:  # here, so that a bad request is the error of no other
            body = await request.json()
            vector, k = np.array(body["vector"], np.float32), int(body.get("k", 10))
            if vector.shape != (self._cluster.manifest.dim,) or not np.isfinite(vector).all():
                raise ValueError(f"vector: expected {self._cluster.manifest.dim} numbers")
            if not 1 <= k <= 1000:
                raise ValueError(f"k: expected 1 to 1000, got {k}")
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        try:
            return JSONResponse(await self._search(vector, k))
        except ShardError as error:  # never part of an answer
            return JSONResponse({"error": str(error)}, status_code=503)


class Client:
    """Asks the server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def search(self, vector: Any, k: int = 10) -> Any:
        """Ids and scores of the rows furthest from a vector."""
        body = json.dumps({"vector": np.asarray(vector).tolist(), "k": k}).encode()
        return self._ask(urllib.request.Request(f"{self.url}/search", body,
                                                {"Content-Type": "application/json"}))

    def health(self) -> Any:
        """How many rows and shards there are."""
        return self._ask(urllib.request.Request(f"{self.url}/health"))

    def wait(self, tries: int = 240) -> None:
        """Until the server answers: Serve's proxy hears of it some time after `serve.run`."""
        for left in reversed(range(tries)):
            try:
                self.health()
                return
            except urllib.error.URLError:  # 404, or nobody listens
                if not left:
                    raise
                time.sleep(0.25)

    def _ask(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


def main(folder: str, port: int = 8000) -> None:
    """Build a small index in a folder, serve it, and ask."""
    rows = np.random.default_rng(0).standard_normal((20_000, 32), dtype=np.float32)
    np.save(Path(folder) / "rows.npy", rows)
    options = {"num_cpus": 0.5}
    manifest = build([Path(folder) / "rows.npy"], uri=f"{folder}/index", rows_per_shard=10_000,
                     ray_remote_args=options)
    print(f"{manifest.rows:,} rows in {len(manifest.shards)} shards")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    app = Furthest.options(ray_actor_options=options).bind(f"{folder}/index", options)
    serve.run(app, route_prefix="/")
    client = Client(f"http://127.0.0.1:{port}")
    client.wait()
    print("health:", client.health())
    for row in (0, 1, 2):
        print(f"furthest from row {row}:", client.search(rows[row], k=3)["ids"])
    serve.shutdown()


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    with tempfile.TemporaryDirectory() as scratch:
        main(scratch)
