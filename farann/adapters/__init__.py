"""Layers for other libraries; each module needs the library that it is named after.

Nothing here is imported by ``import farann``.
"""
