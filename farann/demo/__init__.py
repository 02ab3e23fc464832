"""What ``farann demo`` shows: words, images or movies, each on one self-contained page.

`words`, `images` and `movies` have a function ``run`` each; `data` finds what they show, `page`
makes HTML of it, and `beside_numpy` times farann and numpy on the same queries.
"""

from farann.demo.data import common_words

__all__ = ["common_words"]
