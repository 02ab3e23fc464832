"""
Data larger than memory
=======================

Rows can stay in their file while an index is built and searched. Memory holds their codes, a byte a number, or less.
"""

# sphinx_gallery_thumbnail_path = "_static/cards/diverse.svg"

import tempfile
from pathlib import Path

import numpy as np

import farann
import farann.vectors

folder = tempfile.TemporaryDirectory()
rows_file, index_file = Path(folder.name, "rows.npy"), Path(folder.name, "rows.farann")

# %%
# A file of rows, written block by block. This one is small, so that the page is built quickly.

rng = np.random.default_rng(0)
rows = np.lib.format.open_memmap(rows_file, "w+", np.float32, (50_000, 64))
for start in range(0, len(rows), 10_000):
    rows[start : start + 10_000] = rng.standard_normal((10_000, 64)) * np.exp(-np.arange(64) / 8)
rows.flush()

# %%
# ``copy=False`` takes the mapped rows as they are; ``farann build rows.npy -o rows.farann`` does the same.

index = farann.Index(metric="l2")
index.add(farann.vectors.open_vectors(rows_file).map(), copy=False)
index.build().save(index_file)

# %%
# Another process maps the index. Of the rows it reads only those that codes can't rule out.

index = farann.Index.load(index_file, mmap=True)
queries = rng.standard_normal((5, 64)).astype(np.float32)
hits = index.search_furthest(queries, k=3, return_stats=True)
print(hits.ids)
print(f"rows whose numbers were read, of 5 x 50,000: {hits.stats.rows_rescored}")
print({part: f"{size / 1e6:.1f} MB" for part, size in index.stats()["bytes"].items() if size})
index.close()
folder.cleanup()
