"""Running native work: instruction-set level, threads, batches cut into tasks, counted costs.

Builds and searches alike come through here. It imports `contract` and `results`; all folders above
may import it.
"""
