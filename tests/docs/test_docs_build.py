"""The documentation builds without warnings, and says what the library says."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import inside
import pytest

import farann

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("sphinx", "furo", "numpydoc", "myst_parser") if not find_spec(name)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the documentation was built in."""
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("html")
    paths = [str(ROOT), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html",
         "-t", "few", "-d", str(folder / "doctrees"), "docs", str(folder / "html")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1",
             "OPENBLAS_NUM_THREADS": "1"},  # on a busy machine others would spin
        timeout=1800,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_every_page_is_built(pages: Path) -> None:
    built = {page.relative_to(pages).with_suffix("") for page in pages.rglob("*.html")}
    docs = ROOT / "docs"
    assert {page.relative_to(docs).with_suffix("") for page in docs.rglob("*.md")} <= built


def test_language_models_are_told_of_all_pages(pages: Path) -> None:
    """llms.txt: pages of the sidebar, with their titles, by what they are for."""
    text = (pages / "llms.txt").read_text("utf-8")
    assert text.startswith("# farann\n\n> Furthest-neighbor search")
    links = re.findall(r"^- \[(.+)\]\(https://farann.github.io/farann/(.+)\)$", text, re.M)
    assert len(links) == len(set(links)) and ("Install", "install.html") in links
    told = {pages / name for _, name in links}
    assert all(page.exists() for page in told)
    docs = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").glob("*.md")}
    assert docs - {page.relative_to(pages).with_suffix(".md") for page in told} == {
        Path("index.md")}


def test_pages_of_the_gallery_have_notebooks(pages: Path) -> None:
    scripts = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))
    assert len(scripts) >= 8
    for script in scripts:
        page = pages / "auto_gallery" / f"{script.stem}.html"
        link = re.search(r'href="([^"]+\.ipynb)"', page.read_text("utf-8"))
        assert link is not None, script.name
        cells = json.loads((page.parent / link[1]).read_text("utf-8"))["cells"]
        assert "farann" in "".join(line for cell in cells for line in cell["source"])


def test_the_reference_has_all_public_names(pages: Path) -> None:
    """A page each, with types, which the first page of the reference leads to."""
    reference = (pages / "api.html").read_text("utf-8")
    methods = [name for name in dir(farann.Index()) if not name.startswith("_")]
    names = [name for name in farann.__all__ if name not in ("__version__", "metrics", "vectors")]
    for name in [*(f"Index.{method}" for method in methods), *names]:
        page = (pages / "api" / f"farann.{name}.html").read_text("utf-8")
        assert f'id="farann.{name}"' in page, name
        leads = reference if name in names else (pages / "api/farann.Index.html").read_text("utf-8")
        assert f"farann.{name}.html" in leads, name
    assert "ArrayLike" in (pages / "api" / "farann.Index.add.html").read_text("utf-8")


def test_the_table_has_all_questions(pages: Path) -> None:
    """It is made from the code: each question has a line, with what it takes."""
    text = (pages / "api.html").read_text("utf-8")
    lines = re.findall(r"<tr class=\"row-(?:odd|even)\"><td>.*?</tr>", text, re.S)
    told = [re.findall(r">([\w, ]+|✓)</(?:span|p)", line) for line in lines]
    asked = {name for owner in (farann.Index(), farann) for name in dir(owner)
             if name.startswith(("search_", "select_", "pairs_", "diameter"))}
    assert asked <= {line[0] for line in told if line}
    assert sum("unknown" in line for line in told) == 0
    assert all("href=" in line for line in lines if "✓" in line)


# By stem, as Sphinx searches: pages that have the word in a heading; other words are in their text.
IN_HEADINGS = {"opposit": "guide", "filter": "guide", "truth": "guide", "outlier": "guide",
               "replac": "keep", "duplic": "diverse", "contrast": "contrast", "dislik": "posneg",
               "recal": "approximate", "ground": "verify"}
IN_TEXT = {"farthest": "index", "dissimilar": "index", "mip": "index",
           "dedupl": "index", "mmr": "diverse", "probe": "approximate"}


def test_words_that_people_search_for_are_found(pages: Path) -> None:
    text = (pages / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    for part, words in (("titleterms", IN_HEADINGS), ("terms", IN_TEXT)):
        for word, page in words.items():
            found = index[part][word]
            found = found if isinstance(found, list) else [found]
            assert page in {index["docnames"][number] for number in found}, word


def links_of(page: Path) -> list[str]:
    """Where links and pictures of a page lead."""
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", page.read_text("utf-8"))
    return [one or other for one, other in links]


@pytest.mark.parametrize("page", [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/[a-z]*.md"))], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To files and headings of the repository, so that pages can be read where it is hosted."""
    missing = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            missing.append(link)
    assert not missing


def test_pictures_of_pages_are_in_the_repository() -> None:
    done = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs a checkout")
    kept = {ROOT / name for name in done.stdout.splitlines()}
    for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        for link in links_of(page):
            if link.endswith((".svg", ".png")) and "://" not in link:
                assert (page.parent / link).resolve() in kept, (page.name, link)


def anchors_of(page: Path) -> set[str]:
    """The headings of a page, as links have them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_the_readme_is_short_and_renders_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its links are relative here, and absolute where an index shows it."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
    ours = ("github.com/farann/farann", "githubusercontent.com/farann/farann")
    assert not any(host in link for link in links_of(ROOT / "README.md") for host in ours)
    source, names = (ROOT / "setup.py").read_text("utf-8"), {"re": re, "Path": Path}
    exec(source[source.index("def readme") : source.index("\nsetup(")], names)
    monkeypatch.chdir(ROOT)
    shown: str = names["readme"]()  # type: ignore[operator]
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", shown)
    assert len(links) == len(links_of(ROOT / "README.md"))
    for link in (one or other for one, other in links):
        assert link.startswith("https://"), link
        if link.endswith((".png", ".svg")):
            assert link.startswith("https://raw.githubusercontent.com/"), link


def test_the_page_of_the_command_line_has_all_commands_and_options(pages: Path) -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    built = (pages / "cli.html").read_text("utf-8")
    (commands,) = (action for action in inside.demo.parser()._actions
                   if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        assert f"## farann {name}\n" in page
        section = built.partition(f'id="farann-{name}"')[2].partition("<section")[0]
        actions = command._actions
        if command._subparsers is not None:  # `posneg evaluate`
            actions = command._subparsers._group_actions[0].choices["evaluate"]._actions
        options = [option for action in actions for option in action.option_strings]
        assert [option for option in options if option not in section] == [], name


def test_the_page_of_the_format_names_sections_and_keys() -> None:
    """Those of files that are kept, which the page's own reader reads."""
    page = (ROOT / "docs" / "format.md").read_text("utf-8")
    blocks = re.findall(r"```.*?```", page, re.DOTALL)
    quoted = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "def read" in block)[len("```python"):-3], names)
    found: set[str] = set()
    for path in (ROOT / "tests" / "golden" / "format3").glob("*.farann"):
        sections = names["read"](path)
        metadata = sections.pop("metadata")
        found |= {*sections, *metadata}
        found |= {key for table in metadata.get("tunings", []) for key in table}
    assert {"rows", "codes.panels", "added.ends", "guards.0.axes", "predicted_thresholds"} <= found
    found = {re.sub(r"\.\d+\.", ".N.", name) for name in found}
    # "codes.…" are in a table of their own, and those of others are said to be as these.
    short = {re.sub("^(codes|added|nearest_guards.N)\\.", "", name) for name in found - quoted}
    assert short - quoted <= {"axes", "center", "points", "reaches", "scale"}


def named_in_the_map(text: str) -> list[str]:
    """Paths that the tree under "What is where" names, with stars for what is in angles."""
    tree = text.partition("## What is where")[2].partition("\n## ")[0]
    folders: list[tuple[int, str]] = []
    found = []
    for line in tree.splitlines():
        if not line.startswith("    "):
            continue
        entry, indent = line.strip(), len(line) - len(line.lstrip())
        folders = [folder for folder in folders if folder[0] < indent]
        before = "".join(name for _, name in folders)
        name = ""
        for part in re.split(r"  +", entry)[0].split(", "):
            # "metric.h, .c" are two files of one name.
            name = name.rpartition(".")[0] + part if part.startswith(".") else part.split(" ")[0]
            found.append(before + re.sub(r"<\w+>", "*", name))
        if name.endswith("/"):
            folders.append((indent, name))
    return found


def test_the_map_names_what_there_is() -> None:
    names = named_in_the_map((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert {"src_c/kernels/", "tests/inside/"} <= set(names)
    assert [name for name in names if not any(ROOT.glob(name))] == []


def test_the_map_is_made_from_docstrings() -> None:
    done = subprocess.run([sys.executable, "docs/module_map.py", "--check"], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (ROOT / "MODULES.md").read_text("utf-8")
    for name in ("index.py", "search.pyx", "metric.h", "codes_for_one-inl.h"):
        assert re.search(rf"^ +{name} +\w", text, re.M), name


def test_parts_of_a_map() -> None:
    text = """## What is where

    a/                    two words
      b.h, .c             three
      c/<level>.h         and
        d.py, e.py        more
    f.py
"""
    assert named_in_the_map(text) == ["a/", "a/b.h", "a/b.c", "a/c/*.h", "a/d.py", "a/e.py", "f.py"]


SOURCES = ("farann/**/*.py", "farann/**/*.py[xid]", "farann/**/*.pxd", "farann/**/*.pxi",
           "src_c/**/*.[ch]", "bench/*.py")


@cache
def words_of_the_code() -> set[str]:
    sources = {path for pattern in SOURCES for path in ROOT.glob(pattern)}
    return set(re.findall(r"\w+", "\n".join(
        [*(path.read_text("utf-8") for path in sources), *(path.stem for path in sources)])))


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "how-it-works").glob("*.md")), ids=lambda page: page.stem)
def test_names_in_tables_are_those_of_the_code(page: Path) -> None:
    """The last column of tables of letters has names of the code."""
    missing, there = [], words_of_the_code()
    inside_table = False
    for line in page.read_text("utf-8").splitlines():
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        if cells and cells[-1].strip() == "in the code":
            inside_table = True
        elif not cells:
            inside_table = False
        elif inside_table:
            quoted = re.findall(r"`([^`]+)`", cells[-1])
            missing += [word for code in quoted for word in re.findall(r"[^\W\d]\w*", code)
                        if word not in there]
    assert missing == []
