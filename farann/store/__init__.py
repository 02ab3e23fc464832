"""The rows of an index by slot, their ids, and which are removed.

A `Store` never changes; a change makes another one. The folder imports `layout` and those below;
searches and files may import it.
"""
