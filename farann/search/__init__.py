"""Questions to a store: which rows may be found, where a search ends, which queries are guarded.

A batch goes from `index` to `ask`, `plan`, `runtime.batches` and the core, as one `Question`.
`changes` is here, too, as builds measure searches. The folder imports `store` and those below.
"""
