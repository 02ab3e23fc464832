"""
Least similar sentences
=======================

Which sentence of a text has least in common with another? Any vectors of sentences will do; these are TF-IDF weights
of words in a few dimensions, so that nothing has to be downloaded.
"""

# sphinx_gallery_thumbnail_path = "_static/cards/metrics.svg"

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import farann

sentences = [
    "The cat sleeps on the warm stove.",
    "A kitten and a cat play on the stove.",
    "The dog chases the cat around the garden.",
    "Dogs and cats rarely share a garden.",
    "Interest rates rose and shares fell.",
    "The bank raised its interest rates again.",
    "Shares of the bank fell after the report.",
    "The report says that rates will rise.",
    "Add flour, butter and sugar, and stir.",
    "Bake the butter cake until it is golden.",
    "Sugar and butter make the cake heavy.",
    "Stir the flour into the warm butter.",
]
weights = TfidfVectorizer(stop_words="english").fit_transform(sentences)
vectors = TruncatedSVD(6, random_state=0).fit_transform(weights).astype("float32")

# %%
# Under cosine only directions count, so that long sentences have no advantage.

index = farann.Index(metric="cosine")
index.add(vectors)
for query in (0, 4, 8):
    hits = index.search_furthest(vectors[query], k=2)
    print(sentences[query])
    for score, row in zip(hits.scores, hits.ids, strict=True):
        print(f"  {score:+.2f}  {sentences[row]}")

# %%
# The two that have least in common of all:

furthest = index.diameter()
print(f"{furthest.score:+.2f}  ", "  |  ".join(sentences[i] for i in furthest.ids))
