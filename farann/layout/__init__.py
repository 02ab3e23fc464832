"""Layouts of codes: order of rows, partitions, and which of these pay.

`build` has the steps of `Index.build`; `added_rows` and `recoding` code what comes later. It
imports `tuning`, `quantize`, `runtime` and `contract`; `store` and what is above it may import it.
"""
