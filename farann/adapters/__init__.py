"""Adapters for other libraries; each module imports the library that it is for.

Nothing here is imported by ``import farann``.
"""
