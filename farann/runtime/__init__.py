"""Running native work: instruction-set level, threads, batches cut into tasks, counted costs.

Builds and searches both use it. It imports `contract` and `results`; all folders above may import
it.
"""
