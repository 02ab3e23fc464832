# /// script
# requires-python = ">=3.11"
# dependencies = ["farann", "numpy"]
# ///
"""Recommend what is least like a user's taste, but nothing seen and only what is in stock.

Also shows ids of one's own, a search beyond a radius, and how an index changes.
"""

import numpy as np

import farann

rng = np.random.default_rng(1)
tastes = rng.standard_normal((3, 16), dtype=np.float32)  # three users
books = rng.standard_normal((2_000, 16), dtype=np.float32)
numbers = 10_000 + rng.permutation(2_000)  # the shop's own numbers

index = farann.Index(metric="cosine")
index.add(books, ids=numbers)


def show(title: str, hits: farann.Hits) -> None:
    """Print the books found for each user."""
    print(title)
    for user, (scores, ids) in enumerate(zip(hits.scores, hits.ids, strict=True)):
        found = ", ".join(f"{id} ({score:+.2f})" for score, id in zip(scores, ids, strict=True))
        print(f"  user {user}: {found}")


furthest = index.search_furthest(tastes, k=3)
show("Least like each user's taste, with the cosine:", furthest)

# Each user has a list of their own, of any length. Unknown ids would be ignored.
seen = [furthest.ids[0, :2], furthest.ids[1, :1], []]
unseen = index.search_furthest(tastes, k=3, exclude=seen)
show("\nWithout what users 0 and 1 have seen:", unseen)
assert not np.isin(unseen.ids[0], furthest.ids[0, :2]).any()

# One list for all users, as ids or as a mask in the order of index.ids.
in_stock = index.ids % 2 == 0
available = index.search_furthest(tastes, k=3, exclude=seen, allowed=in_stock)
show("\nOf these, only what is in stock (even numbers):", available)
assert (available.ids % 2 == 0).all()

# Not the k furthest, but all that are further than a limit.
beyond = index.search_beyond(tastes, radius=-0.7)
print("\nBooks with a cosine below -0.7:", np.diff(beyond.offsets), "for the three users")

# A book is sold out, another comes in. The index follows at once.
sold_out = int(available.ids[0, 0])
index.remove([sold_out])
index.add(-tastes[:1], ids=[99])  # the very opposite of user 0
show("\nAfter a sale and a delivery:", index.search_furthest(tastes, k=3))
print(f"\n{sold_out} in the index: {sold_out in index}; 99 in the index: {99 in index}")
assert index.search_furthest(tastes[0], k=1).ids[0] == 99
