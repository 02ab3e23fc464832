"""Questions about sets of vectors: the rows furthest from all of a set, diverse selections, pairs.

They rest on `search`. A row's key over a set is its smallest key over the members: each member's
key bounds it from above, so that what rules a row out for one member rules it out for the set.
"""
