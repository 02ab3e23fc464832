"""Of `farann/demo` and `farann/cli`: data, what is shown of them, the parser."""

from __future__ import annotations

from farann.cli.arguments import parser_of_commands as parser
from farann.demo.data import _DEMO_WORDS as words_asked
from farann.demo.data import load_films, load_glove, make_films, make_words
from farann.demo.page import picture, write
from farann.demo.words import Numpy, compare, verdict
