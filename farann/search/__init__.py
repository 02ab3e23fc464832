"""Questions to a store: which rows may be found, where a search ends, which queries are guarded.

It imports `store` and what is below, `io` not; `index` imports it.
"""
