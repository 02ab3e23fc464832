"""What recommenders need; each module asks for the library that it is made for.

Nothing here is imported by ``import farann``.
"""
