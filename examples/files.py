# /// script
# requires-python = ">=3.11"
# dependencies = ["farann", "numpy"]
# ///
"""Save an index, map it instead of reading it, pickle it, and see what a damaged file does."""

import pickle
import tempfile
from pathlib import Path

import numpy as np

import farann

rng = np.random.default_rng(2)
rows = rng.standard_normal((20_000, 48), dtype=np.float32)
queries = rng.standard_normal((5, 48), dtype=np.float32)

index = farann.Index(metric="dot")
index.add(rows)
index.build()
expected = index.search_furthest(queries, k=4).ids

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "rows.farann"
    index.save(path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB for {len(index):,} rows")

    # Reading checks every byte of the file.
    loaded = farann.Index.load(path)
    print("read:    ", loaded, "same answers:",
          bool((loaded.search_furthest(queries, k=4).ids == expected).all()))

    # Mapping takes no time and no memory of its own: rows are read when they are needed,
    # and processes that map the same file share them.
    mapped = farann.Index.load(path, mmap=True)
    same = bool((mapped.search_furthest(queries, k=4).ids == expected).all())
    print("mapped:  ", mapped, "same answers:", same)
    assert same
    del mapped  # Windows doesn't let a file go that is mapped

    # Pickles hold the same bytes; of use to multiprocessing and the like.
    copy = pickle.loads(pickle.dumps(index))
    print("pickled: ", copy, "same answers:",
          bool((copy.search_furthest(queries, k=4).ids == expected).all()))

    # One bit flips on its way from here to there.
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    try:
        farann.Index.load(path)
    except farann.FormatError as error:
        print("damaged: ", str(error).replace(folder, "..."))
    else:
        raise AssertionError("the damage went unnoticed")
