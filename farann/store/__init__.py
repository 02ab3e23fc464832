"""The rows of an index by slot, their ids, and what is removed: the one place where it changes.

A `Store` never changes; a change makes another one. It imports `layout` and what is below; searches
and files may import it.
"""
