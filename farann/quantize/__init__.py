"""Vectors as codes: the transform before coding, 8 and 4 bits, projections, k-means, decoding.

`records` says what a layout consists of. It imports `runtime` and `contract`; it knows nothing of
searches, slots or files.
"""
