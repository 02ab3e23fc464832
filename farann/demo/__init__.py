"""The demos of ``farann demo``: words, images or movies, each on one self-contained page.

`words`, `images` and `movies` have a function ``run`` each; `data` finds what they show, `page`
makes HTML of it, and `words` times farann and numpy on the same queries, too.
"""

from farann.demo.data import common_words

__all__ = ["common_words"]
