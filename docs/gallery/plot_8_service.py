"""
A small HTTP service
====================

Searches release the GIL and any number of threads may search one index, so that a server of threads is enough. This
one is of the standard library; with another framework the middle stays the same.
"""

# sphinx_gallery_thumbnail_path = "_static/logo-light.svg"

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

import farann

index = farann.Index(metric="cosine")
index.add(np.random.default_rng(0).standard_normal((10_000, 32), dtype=np.float32))
index.build()


class Service(BaseHTTPRequestHandler):
    """``POST /furthest`` with {"query": [...], "k": 3}."""

    def do_POST(self):
        """Answer a query, or say what is wrong with it."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hits = index.search_furthest(asked["query"], k=asked.get("k", 10), threads=1)
            status, answer = 200, {"ids": hits.ids.tolist(), "scores": hits.scores.tolist()}
        except (KeyError, TypeError, ValueError) as error:  # bad input has words that help
            status, answer = 400, {"error": str(error)}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        """Say nothing on the terminal."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()

# %%
# A client:


def ask(**question):
    """What the service answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/furthest",
                                     json.dumps(question).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


print(ask(query=[1.0] * 32, k=3))
print(ask(query=[1.0, 2.0]))
server.shutdown()
server.server_close()
